"""Workdirs as training leaves them, made without training."""

import jax
import numpy as np

from jax_rcl.checkpoint import STATES, VARIABLES, Checkpoints
from jax_rcl.train.claim import claim
from jax_rcl.train.run import Run


def begun(config, workdir, *, step=2, seed=0, **fields):
    """The workdir of a run whose variables were drawn, not trained.

    `fields` replace those of the config.
    """
    with config.unlocked():
        for name, value in fields.items():
            config[name] = value
    run = Run.prepare(config, workdir)
    claim(run)
    save(workdir, step, drawn(run, seed))
    return workdir


def drawn(run, seed=0):
    """Values of the shapes of a run's variables: variances and the like in [0, 1)."""
    random = np.random.default_rng(seed)
    found = jax.tree.map(
        lambda x: random.random(x.shape).astype(x.dtype), run.plan.variables
    )
    # Around zero, so that features have the size of the images.
    params = jax.tree.map(lambda x: x - np.float32(0.5), found.params)
    return found.replace(params=params)


def save(workdir, step, variables):
    """Writes the checkpoint of a step."""
    arrays = {"params": variables.params, "memory": variables.memory}
    with Checkpoints(workdir / STATES, keep=1) as checkpoints:
        checkpoints.save(step, {VARIABLES: arrays}, {"frozen": {}, "total_steps": 2})
