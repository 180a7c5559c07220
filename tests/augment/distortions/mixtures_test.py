"""Mixtures draw as often as the paper's code says; what is fixed is really fixed."""

import jax
import numpy as np
import pytest
from scipy import stats

from jax_rcl import core, parallel
from jax_rcl.augment.color import ColorJitter
from jax_rcl.augment.compose import Chain, Maybe, OneOf, Pair
from jax_rcl.augment.distortions.mixtures import ByStrength, Fixed, mixture
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, RandomMask, SquareMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.augment.geometry import Flip

KEY = jax.random.key(0)
# Keys from numbers of the host: to split one is a program for each count.
KEYS = jax.random.wrap_key_data(
    np.random.default_rng(1).integers(0, 2**32, (1000, 2), np.uint32)
)
MASK = RandomMask((0.2, 0.8))

# A board of single pixels, which blur levels, and, out of its reach, a flat colour.
BOARD = np.indices((12, 12)).sum(axis=0) % 2 * 0.5 + 0.25
FLAT = np.broadcast_to(np.float32([0.3, 0.5, 0.7]), (12, 24, 3))
SCENE = np.float32(
    np.concatenate([np.repeat(BOARD[..., None], 3, axis=2), FLAT], axis=1)
)


def seen(number):
    """Which of jitter, blur, noise and mask show in each of many draws."""
    draw = jax.jit(jax.vmap(mixture(number), (0, None)))
    results = np.asarray(draw(KEYS, SCENE))
    board, flat = results[:, :, :12], results[:, :, -12:]
    hidden = (flat == 0).all(axis=3)
    spread = np.stack(
        [x[~h].std(axis=0).max() for x, h in zip(flat, hidden, strict=True)]
    )
    noise, mask = spread > 0.01, hidden.any(axis=(1, 2))
    shown = np.abs(np.diff(board, axis=2)).max(axis=(1, 2, 3))
    color = np.stack([x[~h].mean(axis=0) for x, h in zip(flat, hidden, strict=True)])
    return {
        "jitter": np.abs(color - np.float32([0.3, 0.5, 0.7])).max(axis=1) > 1e-4,
        "blur": shown < 0.05,
        "noise": noise,
        "mask": mask,
    }


def happens(flags, probability):
    """Whether a frequency is one that this probability gives."""
    return stats.binomtest(int(flags.sum()), len(flags), probability).pvalue > 1e-3


@pytest.mark.slow  # mixture 3 is one in kind
def test_mixture_1_applies_each_by_itself():
    found = seen(1)
    noise, mask = found["noise"], found["mask"]
    assert happens(noise, 0.4) and happens(mask, 0.1) and happens(noise & mask, 0.04)
    # Where neither noise nor mask is in the way, the other two show.
    jitter, blur = (found[name][~noise & ~mask] for name in ("jitter", "blur"))
    assert happens(jitter, 0.5) and happens(blur, 0.4) and happens(jitter & blur, 0.2)


@pytest.mark.slow  # mixture 3 is one in kind
def test_mixture_2_applies_at_most_one():
    found = seen(2)
    noise, mask = found["noise"], found["mask"]
    clear = ~noise & ~mask
    jitter, blur = (found[name] & clear for name in ("jitter", "blur"))
    for flags, weight in ((jitter, 0.5), (blur, 0.4), (noise, 0.4), (mask, 0.1)):
        assert happens(flags, 0.6 * weight / 1.4)
    assert not (noise & mask).any() and not (jitter & blur).any()
    assert happens(clear & ~jitter & ~blur, 0.4)


def test_mixture_3_blurs_and_then_adds_noise():
    found = seen(3)
    noise, blur = found["noise"], found["blur"]
    assert happens(noise, 0.8) and happens(blur[~noise], 0.8)
    assert not found["mask"].any()


@pytest.mark.slow  # mixture 3 is one in kind
def test_mixture_4_applies_blur_or_noise():
    found = seen(4)
    noise = found["noise"]
    blur = found["blur"] & ~noise
    assert happens(noise, 0.3) and happens(blur, 0.3) and not found["mask"].any()
    assert happens(~noise & ~blur, 0.4)


def test_mixtures_have_the_levels_of_the_paper():
    jitter, mask = ColorJitter(0.4, 0.4, 0.2, 0.1), RandomMask((0.25, 0.5))
    blur, noise = GaussianBlur(23, (1.0, 5.0)), GaussianNoise((0.1, 0.5))
    first = (Maybe(jitter, 0.5), Maybe(blur, 0.4), Maybe(noise, 0.4), Maybe(mask, 0.1))
    assert mixture(1) == Chain(first)
    assert mixture(2) == Maybe(
        OneOf((jitter, blur, noise, mask), (0.5, 0.4, 0.4, 0.1)), 0.6
    )
    wide = GaussianNoise((0.05, 0.5))
    assert mixture(3) == Chain((Maybe(blur, 0.8), Maybe(wide, 0.8)))
    assert mixture(4) == Maybe(OneOf((blur, noise)), 0.6)


def test_there_are_four_mixtures():
    with pytest.raises(ValueError, match="mixture 5 must be one of 1, 2, 3 and 4"):
        mixture(5)


FIXED = [
    Fixed(MASK),
    Fixed(GaussianNoise((0.1, 0.3)), 7),
    Fixed(SquareMask((2, 5), "random")),
    Fixed(Maybe(MASK, 0.5), 1),
]


@jax.jit
def fix(key, image):
    return [fixed(key, image) for fixed in FIXED]


def test_what_is_fixed_is_the_same_for_all_keys_images_calls_and_defaults():
    image = np.ones((9, 8, 3), np.float32)
    first, again = fix(KEYS[0], image), fix(KEYS[1], image)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    with jax.default_prng_impl("rbg"):
        other = jax.jit(FIXED[0])(jax.random.key(5), image)
    np.testing.assert_array_equal(other, first[0])


def test_other_seeds_fix_something_else_and_each_the_same_in_every_process():
    ones, mask = np.ones((3, 4, 1), np.float32), RandomMask((0.5, 0.5))

    @jax.jit
    def masks(key, ones):
        return [Fixed(mask, seed)(key, ones) for seed in range(4)]

    drawn = [np.asarray(x)[..., 0].tolist() for x in masks(KEY, ones)]
    assert drawn[3] == [[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]]
    assert len({str(x) for x in drawn}) == 4


def test_a_fixed_mask_is_the_same_on_all_devices():
    mesh = parallel.make_mesh(jax.devices()[:4])
    pair = Pair(Chain(()), FIXED[0])

    def step(clock, batch):
        return parallel.gather_constant(pair(clock, batch)["distorted"])

    clock = core.Clock(KEY, np.int32(0), np.float32(0.0))
    batch = parallel.put({"image": np.ones((4, 9, 8, 3), np.float32)}, mesh)
    masks = np.asarray(jax.jit(parallel.data_parallel(step, mesh))(clock, batch))
    one = np.asarray(fix(KEY, np.ones((9, 8, 3), np.float32))[0])
    np.testing.assert_array_equal(masks, np.broadcast_to(one, masks.shape))
    assert 0 < one.mean() < 1


def test_a_fixed_mask_keeps_its_levels():
    fixed = Fixed(RandomMask((0.5, 0.5)), 2)
    ones = np.ones((10, 10, 1), np.float32)

    @jax.jit
    def make(key, other, level, ones):
        whole = fixed.at(key, ones, fixed.level(KEY))
        known = fixed.known(other, ones, level)
        return whole, fixed(key, ones), fixed.at(key, ones, level), known

    results = make(KEYS[0], KEYS[3], fixed.checked(0.25), ones)
    whole, itself, less, known = jax.device_get(results)
    np.testing.assert_array_equal(whole, itself)
    assert (less == 0).sum() == 25 and (less >= whole).all()
    np.testing.assert_array_equal(known, less == 1)
    assert fixed.name == "fixed random mask"


def test_what_has_no_level_has_none_when_fixed():
    fixed = Fixed(Flip())
    for ask in (lambda: fixed.checked(0.5), lambda: fixed.level(KEY)):
        with pytest.raises(ValueError, match=r"Fixed.operation Flip\(.*has no level"):
            ask()
    assert hasattr(Fixed(MASK), "known") and not hasattr(fixed, "known")
    assert not hasattr(Fixed(GaussianNoise((0.1, 0.1))), "known")
    with pytest.raises(AttributeError, match="Fixed has no attribute 'rate'"):
        _ = Fixed(MASK).rate


def test_what_is_fixed_compares_by_value_and_has_a_seed_from_0():
    assert Fixed(MASK, 1) == Fixed(RandomMask((0.2, 0.8)), 1) != Fixed(MASK)
    assert hash(Fixed(MASK)) == hash(Fixed(MASK, 0))
    with pytest.raises(ValueError, match=r"Fixed\.seed -1 must be at least 0"):
        Fixed(MASK, -1)


def test_by_strength_1_is_the_operation_as_it_is():
    operations = (MASK, mixture(4), Flip())

    @jax.jit
    def make(key, scene, level):
        graded = [ByStrength(operation) for operation in operations]
        return [
            (x.at(key, scene, level), x(key, scene), x.operation(key, scene))
            for x in graded
        ]

    for full, called, itself in make(KEYS[3], SCENE, ByStrength(MASK).checked(1)):
        np.testing.assert_allclose(full, itself, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(called, itself)


def test_by_strength_0_nothing_is_hidden_and_half_hides_half():
    graded = ByStrength(RandomMask((0.8, 0.8)))
    at, ones = jax.jit(graded.at), np.ones((10, 10, 1), np.float32)
    results = [np.asarray(at(KEY, ones, graded.checked(x))) for x in (0, 0.5, 1)]
    assert [(result == 0).sum() for result in results] == [0, 40, 80]
    assert graded.name == "random mask by strength"


@pytest.mark.parametrize("level", [-0.1, 1.1, (0.5, 0.5), float("nan")])
def test_a_strength_out_of_its_range_is_refused(level):
    with pytest.raises(ValueError, match=r"must be a share .*, in \[0, 1\]"):
        ByStrength(MASK).checked(level)
