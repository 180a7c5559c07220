"""Boxes are drawn as torchvision draws them; pixels end up where they belong."""

import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl.augment.geometry import (
    CenterCrop,
    Flip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeShorter,
    Rotate90,
    VerticalFlip,
    crop_padded,
    mirror,
    turn,
)
from jax_rcl.augment.resample import resized_crop

KEY = jax.random.key(0)
IMAGE = jnp.asarray(np.random.default_rng(0).random((6, 6, 3)), jnp.float32)


def draws(draw, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return [np.asarray(x) for x in jax.jit(jax.vmap(draw))(keys)]


def torchvision_box(rng, height, width, area, aspect):
    """The algorithm of torchvision's RandomResizedCrop, one box at a time."""
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, height - h), rng.randint(0, width - w), h, w
    if width / height < aspect[0]:
        w, h = width, round(width / aspect[0])
    elif width / height > aspect[1]:
        w, h = round(height * aspect[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


# In the third shape about 7 of 10 boxes are the central one; in the last, where every
# box drawn is too large for the bounds of its aspect ratio, all are.
@pytest.mark.parametrize(
    ("shape", "area", "aspect"),
    [
        ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((64, 40), (0.2, 1.0), (0.5, 2.0)),
        ((10, 100), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((90, 8), (0.5, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_boxes_are_distributed_as_in_torchvision(shape, area, aspect):
    operation = RandomResizedCrop(32, area=area, aspect=aspect)
    top, left, height, width = draws(lambda key: operation.box(key, *shape), 3000)
    rng = random.Random(1)
    expected = [torchvision_box(rng, *shape, area, aspect) for _ in range(3000)]
    top_, left_, height_, width_ = np.array(expected).T
    for ours, theirs in [
        (height * width, height_ * width_),
        (np.log(width / height), np.log(width_ / height_)),
        (top, top_),
        (left, left_),
        (top + height, top_ + height_),
        (left + width, left_ + width_),
    ]:
        assert stats.ks_2samp(ours, theirs, method="asymp").pvalue > 1e-3
    assert (height > 0).all() and (width > 0).all()
    assert (top >= 0).all() and (top + height <= shape[0]).all()
    assert (left >= 0).all() and (left + width <= shape[1]).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((90, 8), (39, 0, 11, 8)), ((8, 90), (0, 39, 8, 11)), ((1, 100), (0, 49, 1, 1))],
)
def test_the_fallback_is_the_largest_central_box(shape, expected):
    operation = RandomResizedCrop(32, area=(0.9, 1.0))
    box = jax.jit(lambda key: operation.box(key, *shape))(KEY)
    assert tuple(int(x) for x in box) == expected


def test_the_fallback_is_never_empty():
    assert RandomResizedCrop(8, aspect=(4.0, 5.0)).central_sides(9, 1) == (1, 1)


def test_all_places_of_a_box_are_equally_likely():
    operation = RandomResizedCrop(4, area=(0.25, 0.25), aspect=(1.0, 1.0))
    top, left, height, width = draws(lambda key: operation.box(key, 8, 8), 5000)
    assert set(height) == set(width) == {4}
    counts = np.histogram2d(top, left, bins=np.arange(-0.5, 5))[0]
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_the_whole_area_is_the_image():
    operation = jax.jit(RandomResizedCrop(6, area=(1.0, 1.0), aspect=(1.0, 1.0)))
    np.testing.assert_allclose(operation(KEY, IMAGE), IMAGE, atol=1e-6)


def test_a_random_box_may_be_resized_bicubically():
    operation = RandomResizedCrop(8, area=(0.3, 0.6), interpolation="bicubic")
    box = operation.box(KEY, 6, 6)
    expected = resized_crop(
        IMAGE, *box, size=8, antialias=True, interpolation="bicubic"
    )
    found = operation(KEY, IMAGE)
    np.testing.assert_array_equal(found, expected)
    linear = RandomResizedCrop(8, area=(0.3, 0.6))(KEY, IMAGE)
    assert np.abs(found - linear).max() > 0.01


def test_random_crop_cuts_from_the_padded_image():
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
    cut = crop_padded(IMAGE, jnp.int32(1), jnp.int32(4), size=5, padding=2)
    np.testing.assert_array_equal(cut, padded[1:6, 4:9])
    operation = RandomCrop(5, padding=2)
    top, left = operation.place(KEY, 6, 6)
    np.testing.assert_array_equal(
        operation(KEY, IMAGE), padded[top : top + 5, left : left + 5]
    )


def test_random_crop_takes_all_places_equally_often():
    operation = RandomCrop(6, padding=2)
    top, left = draws(lambda key: operation.place(key, 6, 7), 6000)
    counts = np.histogram2d(top, left, bins=(np.arange(-0.5, 5), np.arange(-0.5, 6)))
    assert counts[0].sum() == 6000
    assert stats.chisquare(counts[0].ravel()).pvalue > 1e-3


def test_random_crop_without_room_is_the_identity():
    np.testing.assert_array_equal(RandomCrop(6)(KEY, IMAGE), IMAGE)


def test_random_crop_refuses_an_image_that_is_too_small():
    with pytest.raises(ValueError, match=r"RandomCrop.size 9.*6 x 6.*padding 1"):
        RandomCrop(9, padding=1)(KEY, IMAGE)


def test_flip_exchanges_left_and_right():
    np.testing.assert_array_equal(mirror(IMAGE, True), np.flip(IMAGE, axis=1))
    np.testing.assert_array_equal(mirror(IMAGE, False), IMAGE)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_flip_happens_with_its_probability(probability):
    operation = Flip(probability)
    (results,) = draws(lambda key: (operation(key, IMAGE),), 2000)
    happened = int((results[:, 0, 0, 0] != IMAGE[0, 0, 0]).sum())
    assert stats.binomtest(happened, 2000, probability).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_vertical_flip_exchanges_top_and_bottom_with_its_probability(probability):
    operation = VerticalFlip(probability)
    (results,) = draws(lambda key: (operation(key, IMAGE),), 1000)
    image = np.asarray(IMAGE)
    mirrored = (results == image[::-1]).all((1, 2, 3))
    assert (mirrored | (results == image).all((1, 2, 3))).all()
    assert stats.binomtest(int(mirrored.sum()), 1000, probability).pvalue > 1e-3


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns_are_those_of_numpy(turns):
    np.testing.assert_array_equal(turn(IMAGE, jnp.int32(turns)), np.rot90(IMAGE, turns))


def test_quarter_turns_are_equally_likely():
    (results,) = draws(lambda key: (Rotate90()(key, IMAGE),), 2000)
    counts = [(results == np.rot90(IMAGE, k)).all((1, 2, 3)).sum() for k in range(4)]
    assert sum(counts) == 2000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_quarter_turns_need_a_square():
    with pytest.raises(ValueError, match="6 x 5"):
        Rotate90()(KEY, IMAGE[:, :5])


def test_resize_gives_a_square():
    assert jax.eval_shape(Resize(4), KEY, IMAGE[:, :3]).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((30, 40), (15, 20)), ((47, 30), (23, 15)), ((9, 9), (15, 15))],
)
def test_resize_shorter_keeps_proportions_and_rounds_down(shape, expected):
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    assert jax.eval_shape(ResizeShorter(15), KEY, image).shape == (*expected, 3)


# (6 - 3) / 2 and (8 - 3) / 2 are halves: both are rounded to 2.
@pytest.mark.parametrize(("side", "top"), [(3, 0), (5, 1), (6, 2), (8, 2)])
def test_center_crop_rounds_as_torchvision(side, top):
    image = jnp.arange(side, dtype=jnp.float32)[:, None, None] * jnp.ones((1, 4, 3))
    result = CenterCrop(3)(KEY, image)
    assert result.shape == (3, 3, 3)
    assert result[:, 0, 0].tolist() == [top, top + 1, top + 2]


def test_center_crop_refuses_an_image_that_is_too_small():
    with pytest.raises(
        ValueError, match=r"CenterCrop.size 7.*6 x 6.*ResizeShorter\(7\)"
    ):
        CenterCrop(7)(KEY, IMAGE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomResizedCrop(0), "RandomResizedCrop.size 0 "),
        (lambda: RandomResizedCrop(8, area=(0.0, 1.0)), r"area \(0.0, 1.0\)"),
        (lambda: RandomResizedCrop(8, area=(0.5, 0.2)), r"area \(0.5, 0.2\)"),
        (lambda: RandomResizedCrop(8, area=(0.5, 1.2)), r"area \(0.5, 1.2\)"),
        (lambda: RandomResizedCrop(8, aspect=(0.0, 1.0)), r"aspect \(0.0, 1.0\)"),
        (lambda: RandomResizedCrop(8, aspect=(2.0, 1.0)), r"aspect \(2.0, 1.0\)"),
        (lambda: RandomCrop(-1), "RandomCrop.size -1 "),
        (lambda: RandomCrop(8, padding=-1), "RandomCrop.padding -1 "),
        (lambda: Flip(1.5), r"Flip.probability 1.5 must lie in \[0, 1\]"),
        (lambda: VerticalFlip(-0.5), "VerticalFlip.probability -0.5 must lie"),
        (lambda: Resize(0), "Resize.size 0 "),
        (lambda: ResizeShorter(0), "ResizeShorter.size 0 "),
        (lambda: CenterCrop(0), "CenterCrop.size 0 "),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()
