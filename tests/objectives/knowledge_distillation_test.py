"""Knowledge distillation: which image each side sees, and what is compared."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.losses import distillation
from jax_rcl.networks.heads import Linear
from jax_rcl.objectives.knowledge_distillation import (
    FROM_CLASSIFIER,
    KnowledgeDistillation,
)


class Pixels(nn.Module):
    """All pixels of an image, as they are."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(len(images), -1)


OBJECTIVE = KnowledgeDistillation(Pixels(), Linear(3), temperature=2.0, weight=0.7)


def batch():
    random = np.random.default_rng(0)
    clean, distorted = random.uniform(size=(2, 8, 2, 2, 1)).astype(np.float32)
    label = random.integers(0, 3, 8).astype(np.int32)
    return {k: jnp.asarray(x) for k, x in locals().items() if k != "random"}


def logits(params, images):
    out = jax.device_get(params["out"])
    return np.asarray(images).reshape(len(images), -1) @ out["kernel"] + out["bias"]


def test_the_teacher_sees_clean_images_and_the_student_distorted_ones():
    given = batch()
    variables = jax.jit(OBJECTIVE.init)(jax.random.key(0), given)
    clock = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))

    def whole(variables, given):
        found = OBJECTIVE.loss(variables, given, clock)
        return parallel.mean((found.value, found.metrics))

    mesh = parallel.make_mesh(jax.devices()[:2])
    value, metrics = jax.jit(parallel.data_parallel(whole, mesh))(variables, given)
    own = logits(variables.params["head"], given["distorted"])
    theirs = logits(variables.frozen["teacher"]["head"]["params"], given["clean"])
    formula = functools.partial(
        distillation.knowledge_distillation, temperature=2.0, weight=0.7
    )
    expected = jax.jit(formula)(own, theirs, given["label"])
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)
    own, theirs = own.argmax(axis=1), theirs.argmax(axis=1)
    shares = {
        "top1": own == given["label"],
        "teacher_top1": theirs == given["label"],
        "agreement": own == theirs,
    }
    for name, right in shares.items():
        np.testing.assert_allclose(metrics[name], right.mean(), rtol=1e-6)


def test_what_evaluators_see_is_the_student():
    given = batch()
    variables = jax.jit(OBJECTIVE.init)(jax.random.key(0), given)
    found = OBJECTIVE.encode(variables, given["clean"])
    own = logits(variables.params["head"], given["clean"])
    np.testing.assert_allclose(found["logits"], own, rtol=1e-5, atol=1e-6)


def test_a_rule_from_a_classifier_fills_student_and_teacher():
    variables = jax.eval_shape(OBJECTIVE.init, jax.random.key(0), batch())
    for place in FROM_CLASSIFIER:
        tree = getattr(variables, place.partition("/")[0])
        for name in place.split("/")[1:]:
            tree = tree[name]
        assert isinstance(tree, dict), place


def test_a_number_out_of_its_range_is_refused():
    with pytest.raises(ValueError, match=r"weight 1.5 must be in \[0, 1\]"):
        KnowledgeDistillation(Pixels(), Linear(3), weight=1.5)
    with pytest.raises(ValueError, match=r"temperature 0.0 must be above 0"):
        KnowledgeDistillation(Pixels(), Linear(3), temperature=0.0)
