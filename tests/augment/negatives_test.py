"""Mosaics are made of whole patches of the image; views stay as they are without."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy import stats

from jax_rcl import core, parallel
from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.geometry import (
    CenterCrop,
    Flip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
)
from jax_rcl.augment.negatives import (
    MIRRORED,
    TRANSPOSED,
    UPSIDE_DOWN,
    Negatives,
    PatchMosaic,
    TextureNegatives,
    cells,
    patch_mosaic,
)

KEY = jax.random.key(0)
BYTES = np.random.default_rng(0).integers(0, 256, (8, 12, 10, 3), np.uint8)
TEXTURES = np.random.default_rng(1).integers(0, 256, (8, 9, 9, 3), np.uint8)


def random_keys(count):
    """Keys from numbers of the host: to split one is a program for each count."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    return jax.random.wrap_key_data(numbers)


def places(height, width):
    """An image of which each pixel says where it is: row · width + column."""
    return np.arange(height * width, dtype=np.float32).reshape(height, width, 1)


def by_hand(image, side, tops, lefts, orientations=None):
    """The mosaic, patch by patch."""
    h, w, c = image.shape
    canvas = np.zeros((h + side, w + side, c), np.float32)
    for i in range(-(-h // side)):
        for j in range(-(-w // side)):
            top, left = tops[i, j], lefts[i, j]
            patch = image[top : top + side, left : left + side]
            orientation = 0 if orientations is None else orientations[i, j]
            patch = patch.swapaxes(0, 1) if orientation & TRANSPOSED else patch
            patch = patch[::-1] if orientation & UPSIDE_DOWN else patch
            patch = patch[:, ::-1] if orientation & MIRRORED else patch
            canvas[i * side : (i + 1) * side, j * side : (j + 1) * side] = patch
    return canvas[:h, :w]


@pytest.mark.parametrize("symmetries", ["none", "flips", "flips and turns"])
@pytest.mark.parametrize("side", [2, 3, 5, 10])
def test_a_mosaic_is_made_of_patches(symmetries, side):
    random = np.random.default_rng(side)
    image = random.random((12, 10, 3)).astype(np.float32)
    grid = cells(12, 2), cells(10, 2)
    tops = random.integers(0, 12 - side + 1, grid, np.int32)
    lefts = random.integers(0, 10 - side + 1, grid, np.int32)
    most = {"none": 1, "flips": 4, "flips and turns": 8}[symmetries]
    orientations = random.integers(0, most, grid, np.int32)
    given = (tops, lefts, None if symmetries == "none" else orientations)
    result = MOSAIC(image, np.int32(side), *given)
    np.testing.assert_array_equal(result, by_hand(image, side, *given))


MOSAIC = jax.jit(patch_mosaic)


@pytest.mark.parametrize(("side", "count"), [(16, 15), (32, 8), (56, 5), (72, 4)])
def test_there_is_one_more_cell_than_fits(side, count):
    assert cells(224, side) == count


def test_a_mosaic_is_what_was_drawn_and_the_release_omits_last_row_and_column():
    operation = PatchMosaic((2, 9), offsets="released", symmetries="flips and turns")

    def both(key, image):
        return operation(key, image), operation.draw(key, 24, 20)

    image, both = places(24, 20), jax.jit(jax.vmap(both, (0, None)))
    mosaics, drawn = jax.device_get(both(random_keys(50), image))
    for mosaic, side, *given in zip(mosaics, *drawn, strict=True):
        np.testing.assert_array_equal(mosaic, by_hand(image, side, *given))
    rows, columns = np.divmod(mosaics.astype(int), 20)
    assert rows.min() == 0 and rows.max() == 22
    assert columns.min() == 0 and columns.max() == 18


@pytest.mark.parametrize(
    ("offsets", "symmetries", "orientations"),
    [("all", "flips", 4), ("released", "flips and turns", 8)],
)
def test_all_draws_are_uniform(offsets, symmetries, orientations):
    operation = PatchMosaic((3, 6), offsets=offsets, symmetries=symmetries)
    draw = jax.jit(jax.vmap(lambda key: operation.draw(key, 12, 9)))
    side, tops, lefts, turns = map(np.asarray, draw(random_keys(1500)))
    assert tops.shape == lefts.shape == turns.shape == (1500, 5, 4)
    counts = np.bincount(side)
    assert len(counts) == 7 and counts[:3].sum() == 0
    assert stats.chisquare(counts[3:]).pvalue > 1e-3
    for s in range(3, 7):
        room = np.array([12 - s + 1, 9 - s + 1]) - (offsets == "released")
        # Rows and columns are independent, hence all pairs of them equally likely.
        pairs = tops[side == s] * room[1] + lefts[side == s]
        counts = np.bincount(pairs.ravel())
        assert len(counts) == room.prod()
        assert stats.chisquare(counts).pvalue > 1e-4
    counts = np.bincount(turns.ravel())
    assert len(counts) == orientations and stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("operation", "shape", "message"),
    [
        (PatchMosaic((16, 72)), (64, 80, 3), r"\(16, 72\) .* 64 x 80.*64 at most\."),
        (
            PatchMosaic((4, 8), offsets="released"),
            (8, 8, 3),
            r'\(4, 8\) .* 8 x 8.*7 at most, one less .*offsets="released"',
        ),
    ],
)
def test_patches_must_fit_into_the_image(operation, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(operation, KEY, np.zeros(shape, np.float32))
    jax.eval_shape(operation, KEY, np.zeros((73, 73, 3), np.float32))


def test_sides_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"PatchMosaic.side \(72, 16\) .* \(16, 72\)"):
        PatchMosaic((72, 16))


@dataclasses.dataclass(frozen=True)
class Noise:
    """Uniform noise instead of the image: shows which key was used."""

    def __call__(self, key, image):
        return jax.random.uniform(key, image.shape)


@dataclasses.dataclass(frozen=True)
class Negate:
    """A stand-in for a texture of the image."""

    def __call__(self, key, image):
        return 1 - image


def added(augment, clock, batch):
    """What the augmentation adds to the batch."""
    result = augment(clock, batch)
    return {name: images for name, images in result.items() if name not in batch}


@functools.cache
def program(augment, devices):
    mesh = parallel.make_mesh(jax.devices()[:devices])

    def step(clock, batch):
        return jax.tree.map(parallel.gather_constant, added(augment, clock, batch))

    return jax.jit(parallel.data_parallel(step, mesh)), mesh


def augmented(augment, devices, images=BYTES, textures=TEXTURES):
    step, mesh = program(augment, devices)
    clock = core.Clock(jax.random.key(3), np.int32(0), np.float32(0.0))
    batch = parallel.put({"image": images, "texture": textures}, mesh)
    return jax.device_get(step(clock, batch))


VIEWS = Views(Chain((RandomCrop(6), Flip())))
MOSAICS = Negatives(VIEWS, PatchMosaic((2, 5), symmetries="flips and turns"), count=2)
MADE = TextureNegatives(VIEWS, Negate())
NOISE = Negatives(Views(Noise(), count=3), Noise(), count=4)
NOISY_TEXTURES = TextureNegatives(Views(Chain(()), count=3), Noise())


def everything(clock, batch):
    """All of them by one program: compilation is most of the time."""
    return {
        "plain": VIEWS(clock, batch)["views"],
        "mosaics": added(MOSAICS, clock, batch),
        "made": added(MADE, clock, batch),
        "noise": added(NOISE, clock, batch),
        "noisy textures": NOISY_TEXTURES(clock, batch)["negatives"],
    }


def pixels(image):
    return set(map(tuple, np.rint(255 * image).reshape(-1, 3).astype(int)))


def test_negatives_are_mosaics_of_the_query_and_leave_the_views_alone():
    results = augmented(everything, 1)
    result = results["mosaics"]
    assert result["views"].shape == (8, 2, 6, 6, 3)
    assert result["negatives"].shape == (8, 2, 6, 6, 3)
    np.testing.assert_array_equal(result["views"], results["plain"])
    foreign = 0
    for views, negatives in zip(result["views"], result["negatives"], strict=True):
        query, key = map(pixels, views)
        for negative in map(pixels, negatives):
            assert negative <= query
            foreign += not negative <= key
        assert (negatives[0] != negatives[1]).any()
    assert foreign > 8  # of 16; some views of one image are almost the same


def test_textures_are_made_of_the_image_on_the_device():
    results = augmented(everything, 1)
    result = results["made"]
    np.testing.assert_array_equal(result["views"], results["plain"])
    negated = 1 - result["views"][:, 0]
    np.testing.assert_allclose(result["negatives"][:, 0], negated, rtol=0, atol=1e-6)


def both_kinds(clock, batch):
    return {
        "mosaics": added(MOSAICS, clock, batch),
        "noisy textures": NOISY_TEXTURES(clock, batch)["negatives"],
    }


def test_nothing_depends_on_the_number_of_devices():
    one, eight = augmented(everything, 1), augmented(both_kinds, 8)
    jax.tree.map(
        np.testing.assert_array_equal, {name: one[name] for name in eight}, eight
    )


def test_all_draws_are_independent():
    # Texture negatives draw what their query draws; only making the texture is extra.
    result = augmented(everything, 1)
    noise, textures = result["noise"], result["noisy textures"]
    drawn = [*noise["views"], *noise["negatives"], *textures]
    drawn = np.concatenate(drawn).reshape(8 * (3 + 4 + 1), -1)
    assert len(np.unique(drawn[:, :8], axis=0)) == len(drawn)


def test_negatives_keep_the_shape_of_the_query():
    with pytest.raises(ValueError, match=r"Resize\(size=4.*\(6, 6, 3\).*\(4, 4, 3\)"):
        augmented(Negatives(VIEWS, Resize(4)), 1)


RESIZED = TextureNegatives(Views(Chain((RandomResizedCrop(6), Flip()))))


def resized(clock, batch):
    """Negatives of the textures, and of the images as if they were textures."""
    images = RESIZED(clock, {**batch, "texture": batch["image"]})["negatives"]
    return {**RESIZED(clock, batch), "same": images}


def test_a_texture_is_augmented_as_its_query_and_shares_scale_and_flip_of_its_crop():
    def ramp(side):
        across = np.linspace(0, 255, side).round().astype(np.uint8)
        return np.tile(across[None, None, :, None], (8, side, 1, 3))

    images, textures = ramp(90), ramp(60)
    images[..., 2] = np.random.default_rng(2).integers(0, 256, (8, 90, 90), np.uint8)
    result = augmented(resized, 1, images, textures)
    # A texture of the size of the image is augmented bit for bit as the query.
    assert result["same"].shape == (8, 1, 6, 6, 3)
    np.testing.assert_array_equal(result["same"][:, 0], result["views"][:, 0])
    assert (result["views"][:, 0] != result["views"][:, 1]).any((1, 2, 3)).all()
    # A crop of a ramp is a ramp; its slope is its share of the width, and has its sign.
    views, negatives = (
        result[name][..., 0].mean(-2) @ np.linspace(-1, 1, 6, dtype=np.float32)
        for name in ("views", "negatives")
    )
    np.testing.assert_allclose(negatives[:, 0], views[:, 0], atol=0.1)
    assert np.abs(views[:, 1] - views[:, 0]).min() > 0.1
    assert views.min() < 0 < views.max()


def test_views_of_textures_must_have_the_shape_of_views():
    with pytest.raises(ValueError, match=r"\(12, 10, 3\), but textures .*\(9, 9, 3\)"):
        augmented(TextureNegatives(Views(Flip())), 1)
    with pytest.raises(ValueError, match=r"\(6, 6, 3\), but textures .*\(6, 6, 1\)"):
        augmented(TextureNegatives(VIEWS), 1, textures=TEXTURES[..., :1])


def test_textures_of_whole_images_cannot_be_made_of_crops():
    augment = TextureNegatives(Views(Flip()), CenterCrop(4))
    batch = {"image": jax.device_put(np.zeros((8, 2, 6, 6, 3), np.uint8))}
    with pytest.raises(ValueError, match=r"whole images.*crops.*WithTexture, or cut"):
        augment.textures(random_keys(8), batch)


def test_a_batch_without_textures_is_refused():
    augment = TextureNegatives(Views(CenterCrop(4)))
    mesh = parallel.make_mesh(jax.devices()[:1])
    clock = core.Clock(jax.random.key(0), np.int32(0), np.float32(0.0))
    step = parallel.data_parallel(
        lambda clock, batch: parallel.mean(augment(clock, batch)["negatives"]), mesh
    )
    batch = {"image": BYTES, "label": np.zeros(8, np.int32)}
    with pytest.raises(ValueError, match=r"'texture', .* has image, label.*Quilting"):
        jax.eval_shape(step, clock, batch)
