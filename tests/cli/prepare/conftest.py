"""Commands make the library's log speak; here it is as quiet after each as before."""

import logging

import pytest


@pytest.fixture(autouse=True)
def quiet():
    logger = logging.getLogger("jax_rcl")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
