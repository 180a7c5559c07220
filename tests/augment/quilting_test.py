"""Textures are copies of two squares, of blocks that fit, joined along minimal cuts."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl import parallel
from jax_rcl.augment.quilting import LEVELS, Quilting, minimum_cut

KEY = jax.random.key(0)
BYTES = np.random.default_rng(0).integers(0, 256, (4, 20, 16, 3), np.uint8)
IMAGES = np.float32(BYTES / 255.0)
QUILTING = Quilting(15, patch=12, block=6, overlap=3, candidates=200)
TEXTURE = jax.jit(QUILTING)


def random_keys(count):
    """Keys from numbers of the host: to split one is a program for each count."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    return jax.random.wrap_key_data(numbers)


def paths(rows, columns):
    for path in itertools.product(range(columns), repeat=rows):
        if np.abs(np.diff(path)).max(initial=0) <= 1:
            yield np.array(path)


def price(costs, path):
    return np.asarray(costs)[np.arange(len(path)), np.asarray(path)].sum()


@pytest.mark.parametrize("shape", [(1, 4), (6, 1), (6, 4)])
def test_no_way_is_cheaper_than_the_cut(shape):
    random = np.random.default_rng(1)
    # Small numbers, so that there are ties as well.
    costs = random.integers(0, 10, (30, *shape)).astype(np.int32)
    cuts = np.asarray(jax.jit(jax.vmap(minimum_cut))(costs))
    assert cuts.shape == (30, shape[0])
    assert np.abs(np.diff(cuts, axis=1)).max(initial=0) <= 1
    everywhere = np.array(list(paths(*shape)))
    prices = costs[:, np.arange(shape[0]), everywhere].sum(axis=-1)
    found = [price(table, cut) for table, cut in zip(costs, cuts, strict=True)]
    np.testing.assert_array_equal(found, prices.min(axis=1))


def test_a_cut_follows_what_costs_nothing():
    way = np.array([2, 3, 3, 2, 1, 0, 0])
    costs = np.full((7, 4), 195_075, np.int32)
    costs[np.arange(7), way] = 0
    np.testing.assert_array_equal(jax.jit(minimum_cut)(costs), way)


def test_every_pixel_is_one_of_the_middle_square_or_of_one_other():
    # Each pixel has a brightness of its own, which says where it is from.
    brightness = np.random.default_rng(5).permutation(320)
    image = np.repeat(np.float32(brightness / 320).reshape(20, 16, 1), 3, axis=2)
    for seed in range(5):
        result = np.asarray(TEXTURE(jax.random.key(seed), image))
        assert result.shape == (15, 15, 3) and result.dtype == np.float32
        source = np.argsort(brightness)[np.round(result[..., 0] * 320).astype(int)]
        row, column = np.divmod(source, 16)
        np.testing.assert_array_equal(image[row, column], result)
        middle = (row >= 4) & (row < 16) & (column >= 2) & (column < 14)
        for other in (row[~middle], column[~middle]):
            assert other.size == 0 or np.ptp(other) < 12
        assert len(np.unique(source)) > 60  # more than one block


def test_squares_are_the_middle_and_any_other():
    image = np.arange(320, dtype=np.float32).reshape(20, 16, 1)
    squares = jax.jit(jax.vmap(QUILTING.examples, (0, None)))(random_keys(1000), image)
    squares = np.asarray(squares)
    grid = np.arange(320).reshape(20, 16)
    np.testing.assert_array_equal(squares[7, 0, ..., 0], grid[4:16, 2:14])
    top, left = np.divmod(squares[:, 1, 0, 0, 0].astype(int), 16)
    np.testing.assert_array_equal(
        squares[7, 1, ..., 0], grid[top[7] : top[7] + 12, left[7] : left[7] + 12]
    )
    counts = np.bincount(top * 5 + left)
    assert len(counts) == 45 and stats.chisquare(counts).pvalue > 1e-3


def test_blocks_continue_what_they_cover():
    # Each row has a brightness of its own, so that a block fits only in its own rows.
    rows = np.random.default_rng(2).random((20, 1, 1)).astype(np.float32)
    image = np.broadcast_to(rows, (20, 16, 3))
    result = np.asarray(TEXTURE(KEY, image))
    assert np.ptp(result, axis=1).max() == 0
    first = int(np.flatnonzero(rows == result[0, 0, 0])[0])
    np.testing.assert_array_equal(result[:6, 0, 0], rows[first : first + 6, 0, 0])


def test_a_constant_image_gives_itself():
    image = np.full((20, 16, 3), 0.3, np.float32)
    np.testing.assert_array_equal(TEXTURE(KEY, image), image[:15, :15])


def every_block(quilting, pixels):
    """First pixels of all blocks, and the blocks [k, block, block, c]."""
    block, p = quilting.sides()[0], quilting.patch
    squares = pixels.reshape(2, p, p, -1)
    starts, blocks = [], []
    for which in range(2):
        for top, left in itertools.product(range(p - block + 1), repeat=2):
            starts.append((which * p + top) * p + left)
            blocks.append(squares[which, top : top + block, left : left + block])
    return np.array(starts), np.array(blocks)


SMALL = Quilting(8, patch=6, block=4, overlap=2, candidates=400)
PIXELS = np.random.default_rng(3).integers(0, LEVELS + 1, (72, 3)).astype(np.int32)
COVERED = np.random.default_rng(4).integers(0, 72, (4, 4)).astype(np.int32)


@functools.cache
def choose(tolerance):
    """First pixels of the blocks chosen with 400 keys."""
    quilting = dataclasses.replace(SMALL, tolerance=tolerance)
    batch = jax.jit(jax.vmap(quilting.choose, (0, None, None, None)))
    return functools.partial(batch, random_keys(400), PIXELS, COVERED)


@pytest.mark.parametrize("laid", [(False, True), (True, False), (True, True)])
@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_a_block_is_as_good_as_the_best_within_the_tolerance(laid, tolerance):
    chosen = np.unique(choose(tolerance)(np.array(laid)))
    starts, blocks = every_block(SMALL, PIXELS)
    y, x = np.mgrid[:4, :4]
    counts = (laid[0] & (y < 2)) | (laid[1] & (x < 2))
    square = ((blocks - PIXELS[COVERED]) ** 2).sum(-1)
    errors = (square * counts).sum((1, 2))
    # 400 draws of 18 blocks leave none out, but for one time in 10^8.
    expected = starts[errors <= (1 + tolerance) * errors.min()]
    np.testing.assert_array_equal(chosen, np.sort(expected))


def test_the_first_block_is_any():
    chosen = choose(0.0)(np.array([False, False]))
    starts, _ = every_block(SMALL, PIXELS)
    found, counts = np.unique(chosen, return_counts=True)
    np.testing.assert_array_equal(found, np.sort(starts))
    assert stats.chisquare(counts).pvalue > 1e-3


JOINED = jax.jit(SMALL.join)


@pytest.mark.parametrize(
    "laid", [(False, False), (False, True), (True, False), (True, True)]
)
def test_blocks_are_joined_along_the_cheapest_seams(laid):
    chosen = 7
    joined = np.asarray(JOINED(PIXELS, COVERED, np.int32(chosen), np.array(laid)))
    y, x = np.mgrid[:4, :4]
    new = chosen + 6 * y + x
    costs = ((PIXELS[new] - PIXELS[COVERED]) ** 2).sum(-1)
    stays = np.zeros((4, 4), bool)
    if laid[1]:
        cut = min(paths(4, 2), key=lambda path: price(costs[:, :2], path))
        stays |= x < cut[:, None]
    if laid[0]:
        cut = min(paths(4, 2), key=lambda path: price(costs[:2].T, path))
        stays |= y < cut[None, :]
    np.testing.assert_array_equal(joined, np.where(stays, COVERED, new))


def test_a_texture_is_the_same_alone_and_in_a_batch_over_devices():
    mesh = parallel.make_mesh(jax.devices()[:2])

    def step(key, images):
        keys = parallel.example_keys(key, len(images))
        return parallel.gather_constant(jax.vmap(QUILTING)(keys, images))

    step = jax.jit(parallel.data_parallel(step, mesh))
    together = np.asarray(step(KEY, parallel.put(IMAGES, mesh)))
    for i, image in enumerate(IMAGES):
        alone = TEXTURE(jax.random.fold_in(KEY, i), image)
        np.testing.assert_array_equal(together[i], alone)


def test_the_key_decides_and_nothing_is_compiled_anew():
    first, again = TEXTURE(KEY, IMAGES[0]), TEXTURE(KEY, IMAGES[0])
    np.testing.assert_array_equal(first, again)
    other = TEXTURE(jax.random.key(1), IMAGES[0])
    assert (np.asarray(first) != np.asarray(other)).any()
    assert TEXTURE._cache_size() == 1


def test_sides_follow_the_patch():
    assert Quilting(224).sides() == (32, 8)
    assert Quilting(64, patch=32).sides() == (10, 2)
    assert Quilting(64, patch=32, block=16, overlap=5).sides() == (16, 5)


def test_a_result_may_be_smaller_than_a_block():
    result = jax.eval_shape(Quilting(4, patch=12, block=6), KEY, IMAGES[0])
    assert result.shape == (4, 4, 3)


def test_images_must_hold_the_squares():
    with pytest.raises(
        ValueError, match=r"Quilting.patch 96 must fit .* 20 x 16; write patch=16"
    ):
        jax.eval_shape(Quilting(224), KEY, IMAGES[0])


def test_differences_must_fit_into_32_bits():
    with pytest.raises(ValueError, match=r"block 200 with overlap 100 .* 3 channels"):
        jax.eval_shape(
            Quilting(300, patch=200, block=200, overlap=100),
            KEY,
            jnp.zeros((200, 200, 3)),
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": 97}, "block 97 and patch 96 must be .* block <= patch"),
        ({"block": 1}, "block 1 and patch 96 must be 1 <= overlap < block"),
        ({"overlap": 32}, "Quilting.overlap 32, block 32 .* overlap < block"),
        ({"overlap": 0}, "Quilting.overlap 0, block 32 .*quarter of the"),
        ({"tolerance": -0.1}, "Quilting.tolerance -0.1 must be at least 0 and finite"),
    ],
)
def test_constructors_name_field_value_and_constraint(fields, message):
    with pytest.raises(ValueError, match=message):
        Quilting(**{"size": 224, **fields})
