"""Contrastive methods compare every view with all views of the global batch."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.losses import contrastive
from jax_rcl.networks.heads import Linear
from jax_rcl.objectives.applying import view_metrics
from jax_rcl.objectives.supcon import SimCLR, SupCon

N = 8


class Pixels(nn.Module):
    """All pixels of an image, as they are."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(len(images), -1)


NETWORKS = (Pixels(), Linear(4))
CLOCK = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))


def batch(views=2):
    random = np.random.default_rng(0)
    return {
        "views": random.uniform(size=(N, views, 3, 3, 1)).astype(np.float32),
        "label": np.array([0, 1, 2, 0, 1, 2, 0, 3], np.int32),
    }


@functools.cache
def variables():
    one = {name: jnp.asarray(x[:1]) for name, x in batch().items()}
    return jax.jit(SupCon(*NETWORKS).init)(jax.random.key(0), one)


@functools.cache
def program(objective):
    def one(variables, clock, batch):
        return objective.loss(variables, batch, clock).value

    mesh = parallel.make_mesh(jax.devices()[:2])
    return jax.jit(parallel.over_shares(one, mesh, whole=2))


def losses(objective, batch):
    """The loss of every view, [n·v]."""
    needed = {name: batch[name] for name in objective.needs}
    return np.asarray(program(objective)(variables(), CLOCK, needed))


def by_hand(batch, labels, **settings):
    """The formula on one device, of flat views with these labels."""
    images, v = batch["views"].reshape(-1, 9), batch["views"].shape[1]
    layer = jax.device_get(variables().params["projector"]["out"])
    z = images @ layer["kernel"] + layer["bias"]
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    formula = functools.partial(contrastive.supcon, **settings)

    @jax.jit
    def value(z, ids, labels):
        known = {"row_ids": ids, "column_ids": ids}
        known |= {"row_labels": labels, "column_labels": labels}
        return formula(z, z, **known)

    return np.asarray(value(z, np.arange(len(z)), np.repeat(labels, v)))


@pytest.mark.parametrize(
    ("views", "settings"),
    [
        (2, {"temperature": 0.1, "positives": "out", "block": None}),
        (3, {"temperature": 0.5, "positives": "in", "block": 5}),
    ],
)
def test_supcon_is_its_formula_on_all_views(views, settings):
    own = batch(views)
    found = losses(SupCon(*NETWORKS, **settings), own)
    expected = by_hand(own, own["label"], **settings)
    assert found.shape == (N * views,)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=1e-5)


def test_simclr_is_the_formula_of_a_world_where_each_example_is_a_class():
    own = batch()
    found = losses(SimCLR(*NETWORKS, temperature=0.3, block=5), own)
    expected = by_hand(own, np.arange(N), temperature=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_supcon_needs_labels_and_simclr_does_not():
    assert SimCLR(*NETWORKS).needs == {"views"}
    assert SupCon(*NETWORKS).needs == {"views", "label"}


def test_the_mean_inside_the_logarithm_is_another_and_no_larger_loss():
    own = batch()
    outside = losses(SupCon(*NETWORKS, positives="out"), own)
    inside = losses(SupCon(*NETWORKS, positives="in"), own)
    assert (inside <= outside + 1e-5).all()
    assert (inside < outside - 1e-3).any()


def test_encode_names_features_and_embedding():
    images = jnp.asarray(batch()["views"][:, 0])
    found = SupCon(*NETWORKS).encode(variables(), images)
    assert {name: x.shape for name, x in found.items()} == {
        "features": (N, 9),
        "embedding": (N, 4),
    }


# Metrics.


def metrics(z, devices=2):
    """Alignment of every view and spread of all, of embeddings [n, v, d]."""

    def one(z):
        found = view_metrics(z)
        return {**found, "spread": jnp.broadcast_to(found["spread"], len(z))}

    mesh = parallel.make_mesh(jax.devices()[:devices])
    mapped = jax.jit(parallel.over_shares(one, mesh, whole=0))
    return jax.device_get(mapped(np.asarray(z, np.float32)))


def test_views_that_agree_are_aligned_and_one_point_has_no_spread():
    same = np.tile(np.array([1.0, 2.0, 2.0]), (N, 2, 1))
    found = metrics(same * np.arange(1, N + 1)[:, None, None])
    np.testing.assert_allclose(found["alignment"], np.zeros((N, 2)), atol=1e-6)
    np.testing.assert_allclose(found["spread"], np.zeros(N), atol=1e-6)


def test_views_that_agree_within_examples_alone_spread_over_the_sphere():
    directions = np.concatenate([np.eye(4), -np.eye(4)])[:, None]
    found = metrics(np.repeat(directions, 2, axis=1))
    np.testing.assert_allclose(found["alignment"], np.zeros((N, 2)), atol=1e-6)
    np.testing.assert_allclose(found["spread"], np.ones(N), rtol=1e-6)


def test_the_alignment_of_two_views_is_a_quarter_of_their_squared_distance():
    z = np.random.default_rng(2).normal(size=(N, 2, 4))
    unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
    quarter = np.sum((unit[:, 0] - unit[:, 1]) ** 2, axis=-1) / 4
    found = metrics(z)
    np.testing.assert_allclose(found["alignment"], np.stack([quarter] * 2, 1), 1e-4)
    mean = unit.mean(axis=(0, 1))
    np.testing.assert_allclose(found["spread"], np.full(N, 1 - mean @ mean), rtol=1e-5)
    apart = np.stack([z[:, 0], -z[:, 0]], axis=1)
    np.testing.assert_allclose(metrics(apart)["alignment"], np.ones((N, 2)), rtol=1e-5)


# Settings.


@pytest.mark.parametrize("kind", [SupCon, SimCLR])
def test_a_setting_that_cannot_be_is_named(kind):
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match=rf"temperature {temperature} must be abo"):
            kind(*NETWORKS, temperature=temperature)
    with pytest.raises(ValueError, match=rf"{kind.__name__}.block 0 must be at least"):
        kind(*NETWORKS, block=0)
