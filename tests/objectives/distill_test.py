"""Distillation: which image each side sees, what is compared, what is frozen."""

import copy
import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.networks.norms import normalized
from jax_rcl.objectives.distill import FROM_ONE_RUN, Distill

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "rclip.npz")
NAMES = sorted({name.rpartition("/")[0] for name in GOLDEN.files})


class Pixels(nn.Module):
    """All pixels of an image, each times a parameter."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(len(images), -1)
        return x * self.param("scale", nn.initializers.ones, (1, 1))


class Normed(nn.Module):
    """All pixels, normalised by statistics of the batch or by those that were kept."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(len(images), -1)
        return normalized(x, "sync", train=train, name="norm")


def pair(name=NAMES[0]):
    """A golden batch as images: the teacher's are clean, the student's distorted."""
    sides = {"clean": "teacher", "distorted": "student"}
    rows = {side: GOLDEN[f"{name}/{key}"] for side, key in sides.items()}
    return {
        side: jnp.asarray(x.reshape(len(x), 4, -1, 1), jnp.float32)
        for side, x in rows.items()
    }


@functools.cache
def formula(kind, devices):
    """The loss of this kind by its temperature, so that one program has all of them."""
    clock = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))
    own = Distill(Pixels(), loss_type=kind)

    def whole(given, batch):
        variables, temperature = given
        objective = copy.copy(own)
        object.__setattr__(objective, "temperature", temperature)
        return parallel.mean(objective.loss(variables, batch, clock).value)

    variables = jax.jit(own.init)(jax.random.key(0), pair())
    mesh = parallel.make_mesh(jax.devices()[:devices])
    run = jax.jit(parallel.data_parallel(whole, mesh))
    return lambda temperature, batch: run((variables, jnp.float32(temperature)), batch)


@functools.cache
def program(objective, devices):
    clock = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))

    def whole(variables, batch):
        found = objective.loss(variables, batch, clock)
        return parallel.mean((found.value, found.metrics)), found.memory

    mesh = parallel.make_mesh(jax.devices()[:devices])
    return jax.jit(parallel.data_parallel(whole, mesh))


def outcome(objective, batch, variables=None, devices=2):
    if variables is None:
        variables = jax.jit(objective.init)(jax.random.key(0), batch)
    (value, metrics), memory = program(objective, devices)(variables, batch)
    return value, metrics, memory


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("s0")])
def test_its_loss_is_that_of_the_released_code_of_the_same_name(name, devices):
    kind = name.removeprefix("rclip_").rpartition("_tau")[0]
    temperature = float(name.rpartition("_tau")[2].partition("_s")[0])
    batch = pair(name)
    value = formula(kind, devices)(temperature, batch)
    # The released mean of `clip` is divided by the batch once more.
    factor = 1 / len(batch["clean"]) if kind == "clip" else 1.0
    np.testing.assert_allclose(factor * value, GOLDEN[f"{name}/loss"], rtol=1e-5)


def test_the_released_loss_clip_is_averaged_twice():
    (name,) = [n for n in NAMES if n.startswith("rclip_clip_tau0.1_s0")]
    batch = pair(name)
    released = Distill(Pixels(), loss_type="clip", averaged="twice")
    value, _, _ = outcome(released, batch)
    np.testing.assert_allclose(value, GOLDEN[f"{name}/loss"], rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"averaged \"twice\" is for loss_type=\"clip\""
    ):
        Distill(Pixels(), averaged="twice")


def test_metrics_say_how_near_the_student_is():
    batch = pair()
    same = {"clean": batch["clean"], "distorted": batch["clean"]}
    _, metrics, _ = outcome(Distill(Pixels()), same)
    np.testing.assert_allclose(metrics["cosine"], 1, rtol=1e-6)
    assert metrics["found"] == 1
    assert 0 < metrics["spread"] < 1
    _, metrics, _ = outcome(Distill(Pixels()), batch)
    assert metrics["cosine"] < 0.9 and metrics["found"] < 1


def test_a_teacher_normalises_by_what_it_learned_unless_it_is_asked_for_the_batch():
    batch = pair()
    clean = np.asarray(batch["clean"]).reshape(len(batch["clean"]), -1)
    expected = {
        "inference": clean / np.sqrt(1 + 1e-5),
        "batch": (clean - clean.mean(axis=0)) / np.sqrt(clean.var(axis=0) + 1e-5),
    }
    for teacher_norm, target in expected.items():
        known = {"loss_type": "mse", "teacher_norm": teacher_norm}
        objective = Distill(Pixels(), Normed(), **known)
        value, _, _ = outcome(objective, batch)
        student = np.asarray(batch["distorted"]).reshape(target.shape)
        np.testing.assert_allclose(value, np.mean((student - target) ** 2), rtol=1e-5)


def test_the_student_keeps_statistics_of_distorted_images_and_the_teacher_none():
    batch, objective = pair(), Distill(Normed(), loss_type="mse", teacher_norm="batch")
    variables = jax.jit(objective.init)(jax.random.key(0), batch)
    _, _, memory = outcome(objective, batch, variables)
    distorted = np.asarray(batch["distorted"]).reshape(len(batch["distorted"]), -1)
    kept = memory["encoder"]["norm"]["mean"]
    np.testing.assert_allclose(kept, 0.1 * distorted.mean(axis=0), atol=1e-6)
    assert set(memory) == {"encoder"}


def test_features_are_the_students():
    batch, objective = pair(), Distill(Pixels())
    variables = jax.jit(objective.init)(jax.random.key(0), batch)
    moved = variables.replace(params={"encoder": {"scale": jnp.full((1, 1), 3.0)}})
    found = objective.encode(moved, batch["clean"])
    np.testing.assert_allclose(
        found["features"], 3 * batch["clean"].reshape(len(batch["clean"]), -1)
    )
    assert set(found) == {"features"}


def test_logits_are_cosines_with_the_classes_that_are_kept():
    batch, objective = pair(), Distill(Pixels(), classes=3)
    variables = jax.jit(objective.init)(jax.random.key(0), batch)
    assert variables.frozen["classes"].shape == (3, 16)
    found = objective.encode(variables, batch["clean"])
    features = np.asarray(found["features"])
    classes = np.asarray(variables.frozen["classes"])
    rows, columns = (np.linalg.norm(x, axis=1) for x in (features, classes))
    cosines = features @ classes.T / np.outer(rows, columns)
    np.testing.assert_allclose(found["logits"], cosines, rtol=1e-4, atol=1e-6)
    value, _, _ = outcome(objective, batch, variables)
    other = variables.replace(frozen=variables.frozen | {"classes": jnp.ones((3, 16))})
    assert outcome(objective, batch, other)[0] == value


def test_a_rule_from_one_run_fills_student_and_teacher():
    variables = jax.eval_shape(Distill(Normed()).init, jax.random.key(0), pair())
    for place in FROM_ONE_RUN:
        part, *names = place.split("/")
        tree = getattr(variables, part)
        for name in names:
            tree = tree[name]
        assert jax.tree.leaves(tree)


def test_student_and_teacher_of_different_widths_are_refused():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return images.reshape(len(images), -1)[:, ::2]

    with pytest.raises(ValueError, match=r"gives \[16\] .* teacher \[8\]"):
        Distill(Pixels(), Half()).init(jax.random.key(0), pair())


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"block": 0}, {"classes": 0}], ids=str
)
def test_a_number_out_of_its_range_is_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=rf"Distill\.{name} {value} must be"):
        Distill(Pixels(), **wrong)
