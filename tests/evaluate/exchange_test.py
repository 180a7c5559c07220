"""Exchanging embeddings within classes: what losses notice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.evaluate import exchange


@dataclasses.dataclass(frozen=True)
class Attraction:
    """Mean squared distance of the first view from all second ones of its class."""

    def __call__(self, first, second, labels):
        same = (labels[:, None] == labels[None, :]).astype(first.dtype)
        square = ((first[:, None] - second[None]) ** 2).sum(axis=-1)
        return (same * square).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class ByPlace:
    """A loss that knows which image is which."""

    def __call__(self, first, second, labels):
        del second, labels
        weights = jnp.arange(len(first), dtype=first.dtype)
        return (weights * first[:, 0]).mean()


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Adds noise."""

    def __call__(self, key, image):
        return image + jax.random.normal(key, image.shape)


LABELS = np.array([2, 0, 2, 1, 0, 2, 0, 2])


def test_every_row_goes_to_another_of_its_class():
    moved = exchange.permute_within_classes(LABELS, seed=0)
    np.testing.assert_array_equal(np.sort(moved), np.arange(8))
    np.testing.assert_array_equal(LABELS[moved], LABELS)
    assert moved[3] == 3
    others = LABELS != 1
    assert (moved != np.arange(8))[others].all()
    np.testing.assert_array_equal(
        moved, exchange.permute_within_classes(LABELS, seed=0)
    )
    assert (moved != exchange.permute_within_classes(LABELS, seed=1)).any()


def test_only_a_loss_that_knows_the_images_gains():
    first, second = np.random.default_rng(0).normal(size=(2, 8, 3))
    moved = exchange.permute_within_classes(LABELS, seed=0)
    gap = exchange.term_gap(Attraction(), first, second, LABELS, moved)
    assert gap == pytest.approx(0, abs=1e-5)
    gap = exchange.term_gap(ByPlace(), first, second, LABELS, moved)
    expected = np.arange(8) @ (first[moved, 0] - first[:, 0]) / 8
    assert gap == pytest.approx(expected, rel=1e-5)
    assert abs(gap) > 0.01


def test_views_belong_to_the_image_and_not_to_the_batch(blobs):
    source = blobs(11)
    rows = np.array([1, 4, 5, 9, 10])

    def views(size, seed=0):
        parts = exchange.two_views(source, rows, Jitter(), size, seed=seed)
        return np.concatenate([np.asarray(x[:count]) for x, count in parts])

    whole = views(5)
    assert whole.shape == (5, 2, 3, 3, 1)
    np.testing.assert_allclose(views(2), whole, atol=1e-6)
    assert (whole[:, 0] != whole[:, 1]).all()
    assert (views(5, seed=1) != whole).all()
    noise = whole - source.images[rows][:, None] / 255
    assert abs(noise.mean()) < 0.3 and 0.6 < noise.std() < 1.4
