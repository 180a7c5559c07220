"""What tests of training share."""

import jax
import pytest


@pytest.fixture
def compiled():
    """One entry for each program that is compiled from here on."""
    found = []

    def listen(event, seconds, **facts):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)
