"""Boxes are drawn as torchvision draws them; pixels end up where they belong."""

import functools
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import stats

from jax_rcl.augment.geometry import (
    CenterCrop,
    Flip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeAndPad,
    ResizeShorter,
    Rotate90,
    VerticalFlip,
)
from jax_rcl.augment.resample import resized_crop

KEY = jax.random.key(0)
IMAGE = np.float32(np.random.default_rng(0).random((6, 6, 3)))


def draws(draw, count, *images):
    """Draws with keys from numbers of the host: to split one is another program."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    keys = jax.random.wrap_key_data(numbers)
    draw = jax.jit(jax.vmap(draw, (0, *[None] * len(images))))
    return [np.asarray(x) for x in draw(keys, *images)]


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


# In the third shape about 7 of 10 boxes are the central one.
@pytest.mark.parametrize(
    ("shape", "area", "aspect"),
    [
        ((32, 32), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((64, 40), (0.2, 1.0), (0.5, 2.0)),
        ((10, 100), (0.08, 1.0), (3 / 4, 4 / 3)),
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


def test_the_fallback_is_the_largest_central_box():
    operation = RandomResizedCrop(32, area=(0.9, 1.0))
    shapes = {(90, 8): (39, 0, 11, 8), (8, 90): (0, 39, 8, 11), (1, 100): (0, 49, 1, 1)}
    boxes = jax.jit(lambda key: [operation.box(key, *shape) for shape in shapes])(KEY)
    for box, expected in zip(boxes, shapes.values(), strict=True):
        assert tuple(int(x) for x in box) == expected


def test_the_fallback_is_never_empty():
    assert RandomResizedCrop(8, aspect=(4.0, 5.0)).central_sides(9, 1) == (1, 1)


def test_all_places_of_a_box_are_equally_likely():
    operation = RandomResizedCrop(4, area=(0.25, 0.25), aspect=(1.0, 1.0))
    top, left, height, width = draws(lambda key: operation.box(key, 8, 8), 5000)
    assert set(height) == set(width) == {4}
    counts = np.histogram2d(top, left, bins=np.arange(-0.5, 5))[0]
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_a_random_box_may_be_resized_bicubically_and_the_whole_is_the_image():
    operation = RandomResizedCrop(8, area=(0.3, 0.6), interpolation="bicubic")
    whole = RandomResizedCrop(6, area=(1.0, 1.0), aspect=(1.0, 1.0))

    @jax.jit
    def make(key, image):
        box = operation.box(key, 6, 6)
        cut = functools.partial(resized_crop, image, *box, size=8, antialias=True)
        cuts = cut(interpolation="bicubic"), cut()
        return *cuts, operation(key, image), whole(key, image)

    cubic, linear, found, same = jax.device_get(make(KEY, IMAGE))
    np.testing.assert_array_equal(found, cubic)
    assert np.abs(found - linear).max() > 0.01
    np.testing.assert_allclose(same, IMAGE, atol=1e-6)


def test_random_crop_cuts_from_the_padded_image():
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)))
    operation = RandomCrop(5, padding=2)
    both = jax.jit(lambda *x: (operation(*x), operation.place(x[0], 6, 6)))
    result, (top, left) = jax.device_get(both(KEY, IMAGE))
    np.testing.assert_array_equal(result, padded[top : top + 5, left : left + 5])


def test_random_crop_takes_all_places_equally_often():
    operation = RandomCrop(6, padding=2)
    top, left = draws(lambda key: operation.place(key, 6, 7), 6000)
    counts = np.histogram2d(top, left, bins=(np.arange(-0.5, 5), np.arange(-0.5, 6)))
    assert counts[0].sum() == 6000
    assert stats.chisquare(counts[0].ravel()).pvalue > 1e-3


def test_random_crop_without_room_is_the_identity():
    np.testing.assert_array_equal(jax.jit(RandomCrop(6))(KEY, IMAGE), IMAGE)


def test_random_crop_refuses_an_image_that_is_too_small():
    with pytest.raises(ValueError, match=r"RandomCrop.size 9.*6 x 6.*padding 1"):
        jax.eval_shape(RandomCrop(9, padding=1), KEY, IMAGE)


def test_flips_happen_with_their_probability():
    probabilities = (0.0, 0.3, 1.0)
    flips = [kind(p) for kind in (Flip, VerticalFlip) for p in probabilities]
    results = draws(lambda *x: [flip(*x) for flip in flips], 2000, IMAGE)
    image = IMAGE
    for place, result in enumerate(results):
        changed = image[:, ::-1] if place < 3 else image[::-1]
        happened = (result == changed).all((1, 2, 3))
        assert (happened | (result == image).all((1, 2, 3))).all()
        probability = probabilities[place % 3]
        assert stats.binomtest(int(happened.sum()), 2000, probability).pvalue > 1e-3


def test_quarter_turns_are_those_of_numpy_all_equally_likely():
    (results,) = draws(lambda *x: (Rotate90()(*x),), 2000, IMAGE)
    counts = [(results == np.rot90(IMAGE, k)).all((1, 2, 3)).sum() for k in range(4)]
    assert sum(counts) == 2000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_quarter_turns_need_a_square():
    with pytest.raises(ValueError, match="6 x 5"):
        jax.eval_shape(Rotate90(), KEY, IMAGE[:, :5])


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
    rows = np.arange(side, dtype=np.float32)[:, None, None]
    image = np.broadcast_to(rows, (side, 4, 3))
    result = np.asarray(jax.jit(CenterCrop(3))(KEY, image))
    assert result.shape == (3, 3, 3)
    assert result[:, 0, 0].tolist() == [top, top + 1, top + 2]


def test_center_crop_refuses_an_image_that_is_too_small():
    with pytest.raises(
        ValueError, match=r"CenterCrop.size 7.*6 x 6.*ResizeShorter\(7\)"
    ):
        jax.eval_shape(CenterCrop(7), KEY, IMAGE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RandomResizedCrop(8, area=(0.5, 1.2)),
            r"RandomResizedCrop.area \(0.5, 1.2\) must be two .*0 < low .*high <= 1",
        ),
        (lambda: ResizeAndPad(0, 8), "ResizeAndPad.height 0 must be at least 1"),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()


PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)


@pytest.mark.parametrize(
    ("shape", "frame"),
    [
        ((30, 50), (16, 16)),
        ((30, 17), (16, 16)),
        ((30, 50), (41, 29)),
        ((20, 20), (9, 12)),
        ((30, 50), (9, 15)),
    ],
)
def test_a_frame_is_filled_as_by_pil(shape, frame):
    pixels = PIXELS[: shape[0], : shape[1]]
    expected = ImageOps.pad(
        Image.fromarray(pixels), frame[::-1], Image.Resampling.BILINEAR
    )
    operation = jax.jit(ResizeAndPad(*frame))
    result = np.asarray(operation(KEY, np.float32(pixels / 255.0)))
    assert result.shape == (*frame, 3)
    np.testing.assert_allclose(255 * result, np.asarray(expected), rtol=0, atol=1.01)


def test_a_thin_image_keeps_a_pixel_in_its_frame():
    assert ResizeAndPad(8, 8).inner(1, 100) == (1, 8)
    assert ResizeAndPad(8, 8).inner(100, 1) == (8, 1)
