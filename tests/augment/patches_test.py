"""Squares are cut out where they belong; patches change each by itself."""

import jax
import numpy as np
import pytest
from scipy import stats

from jax_rcl.augment.geometry import RandomCrop, Rotate90
from jax_rcl.augment.patches import Cutout, Patches, cut_out, grid_of
from jax_rcl.augment.tone import Invert

KEY = jax.random.key(0)
IMAGE = np.float32(np.random.default_rng(0).random((12, 8, 3)))


def random_keys(count):
    """Keys from numbers of the host: to split one is a program for each count."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    return jax.random.wrap_key_data(numbers)


def patches_of(image, size):
    h, w, c = image.shape
    cut = np.asarray(image).reshape(h // size, size, w // size, size, c)
    return cut.swapaxes(1, 2).reshape(-1, size, size, c)


@pytest.mark.parametrize(
    ("top", "left", "side"), [(2, 3, 4), (-2, 6, 5), (10, -1, 20), (5, 5, 0)]
)
def test_a_square_is_painted_as_far_as_it_lies_inside(top, left, side):
    color = np.float32([0.1, 0.2, 0.3])
    expected = np.array(IMAGE)
    rows = slice(max(top, 0), max(top + side, 0))
    expected[rows, max(left, 0) : max(left + side, 0)] = color
    result = jax.jit(cut_out)(IMAGE, top, left, side, color)
    np.testing.assert_array_equal(result, expected)


def test_cutout_sides_are_uniform_and_centres_anywhere():
    operation = Cutout((0, 6))
    draw = jax.jit(jax.vmap(lambda key: operation.square(key, 12, 8)))
    top, left, side = jax.device_get(draw(random_keys(6000)))
    assert stats.chisquare(np.bincount(side, minlength=7)).pvalue > 1e-3
    row, column = top + side // 2, left + side // 2
    counts = np.bincount(row * 8 + column, minlength=96)
    assert len(counts) == 96 and stats.chisquare(counts).pvalue > 1e-3


def test_cutout_paints_its_square_in_its_colour():
    operation = Cutout((5, 5), fill=(1.0, 0.5, 0.0))
    both = jax.jit(lambda *x: (operation(*x), operation.square(x[0], 12, 8)))
    result, square = jax.device_get(both(KEY, IMAGE))
    expected = jax.jit(cut_out)(IMAGE, *square, np.float32([1.0, 0.5, 0.0]))
    np.testing.assert_array_equal(result, expected)
    assert square[2] == 5 and (result != IMAGE).any()


def test_cutout_of_gray_images_takes_the_mean_colour():
    result = jax.jit(Cutout((30, 30)))(KEY, IMAGE[..., :1])
    np.testing.assert_allclose(result, 121 / 255, atol=0.5 / 255)
    with pytest.raises(ValueError, match="2 channels"):
        jax.eval_shape(Cutout((1, 1)), KEY, IMAGE[..., :2])


def test_all_patches_are_changed_with_probability_one_and_none_with_zero():
    @jax.jit
    def both(*given):
        return [Patches(Invert(), 4, probability)(*given) for probability in (1.0, 0.0)]

    every, none = both(KEY, IMAGE)
    np.testing.assert_array_equal(every, 1 - IMAGE)
    np.testing.assert_array_equal(none, IMAGE)


def test_each_patch_is_changed_by_itself():
    invert = jax.jit(jax.vmap(Patches(Invert(), 4), (0, None)))
    results = np.asarray(invert(random_keys(2000), IMAGE))
    changed = (results != IMAGE[None]).reshape(2000, 3, 4, 2, 4, 3)
    assert (changed.all((2, 4, 5)) == changed.any((2, 4, 5))).all()
    changed = changed.any((2, 4, 5)).reshape(2000, 6)
    for column in changed.T:
        assert stats.binomtest(int(column.sum()), 2000, 0.3).pvalue > 1e-4
    correlations = np.corrcoef(changed.T.astype(float)) - np.eye(6)
    assert np.abs(correlations).max() < 0.1


def test_patches_have_keys_of_their_own():
    image = np.tile(IMAGE[:4, :4], (6, 6, 1))
    result = patches_of(jax.jit(Patches(Rotate90(), 4, 1.0))(KEY, image), 4)
    turned = [np.rot90(IMAGE[:4, :4], turns) for turns in range(4)]
    counts = [(result == x).all((1, 2, 3)).sum() for x in turned]
    assert sum(counts) == 36 and min(counts) > 0


def test_a_cutout_of_twice_the_size_covers_its_patch():
    operation = Patches(Cutout((8, 8), fill=(0.0, 0.0, 0.0)), 4, 1.0)
    cover = jax.jit(jax.vmap(operation, (0, None)))
    assert not np.asarray(cover(random_keys(50), IMAGE + 0.1)).any()


def test_patches_must_cover_the_image_and_keep_their_shape():
    assert grid_of(12, 8, 4) == (3, 2)
    with pytest.raises(ValueError, match=r"5 x 5 .* 12 x 8.*divide both"):
        jax.eval_shape(Patches(Invert(), 5), KEY, IMAGE)
    with pytest.raises(ValueError, match="keep the shape"):
        jax.eval_shape(Patches(RandomCrop(2), 4), KEY, IMAGE)


def test_sides_and_colours_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"Cutout.side \(3, 2\) must be two.*0, 20"):
        Cutout((3, 2))
    with pytest.raises(ValueError, match=r"Cutout.fill .*\[0, 1\]"):
        Cutout((1, 1), fill=(0.0, 0.0, 2.0))
