"""Levels are checked before they are data; strength follows the epochs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.augment.color import ColorJitter
from jax_rcl.augment.compose import Chain, Maybe, OneOf
from jax_rcl.augment.distortions.levels import Curriculum, Leveled, Scaled, at_strength
from jax_rcl.augment.distortions.mixtures import Fixed
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, RandomMask, SquareMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.augment.geometry import Flip

KEY = jax.random.key(0)
IMAGE = jnp.asarray(np.random.default_rng(0).random((12, 9, 3)), jnp.float32)
MASK, NOISE = RandomMask((0.5, 0.9)), GaussianNoise((0.1, 0.3))
JITTER = ColorJitter(0.4, 0.4, 0.2, 0.1)
LEVELED = [
    MASK,
    SquareMask((2, 7), "random"),
    NOISE,
    GaussianBlur(5, (1.0, 3.0)),
    Fixed(MASK),
    Fixed(NOISE, 3),
]
COMPOSED = [
    Chain((Flip(), MASK, NOISE)),
    Maybe(NOISE, 0.5),
    OneOf((Flip(), NOISE)),
]


@dataclasses.dataclass(frozen=True)
class Strength:
    """Returns the strength instead of the image, 1 where there is none."""

    def __call__(self, key, image):
        return self.at_strength(key, image, 1.0)

    def at_strength(self, key, image, strength):
        return jnp.full_like(image, strength)


def name_of(operation):
    return type(operation).__name__


@pytest.mark.parametrize("distortion", LEVELED, ids=name_of)
def test_a_distortion_with_a_level_says_so(distortion):
    assert isinstance(distortion, Leveled) and isinstance(distortion, Scaled)
    assert distortion.name and distortion.name == distortion.name.strip()
    assert not isinstance(JITTER, Scaled) and not isinstance(Chain(()), Leveled)


@functools.cache
def drawn_and_set():
    """Drawn levels, and what is made at them as data and as numbers that are known."""

    @jax.jit
    def draw(image):
        levels = [distortion.level(KEY) for distortion in LEVELED]
        pairs = zip(LEVELED, levels, strict=True)
        return levels, [distortion.at(KEY, image, level) for distortion, level in pairs]

    levels, results = jax.device_get(draw(IMAGE))

    @jax.jit
    def known(image):
        pairs = zip(LEVELED, levels, strict=True)
        return [distortion.at(KEY, image, level) for distortion, level in pairs]

    return results, known(IMAGE)


@pytest.mark.parametrize(
    "place", range(len(LEVELED)), ids=lambda i: name_of(LEVELED[i])
)
def test_a_drawn_level_is_one_that_may_be_set(place):
    drawn, known = (results[place] for results in drawn_and_set())
    assert drawn.shape == IMAGE.shape and drawn.dtype == np.float32
    # Known beforehand, it is checked, and the same happens.
    np.testing.assert_allclose(known, drawn, atol=1e-6)


OPERATIONS = [*LEVELED, *COMPOSED]


@functools.cache
def plain_and_by_strength():
    """Operations as they are, and at strengths 0, 0.3, 0.6 and 1, by one program."""

    @jax.jit
    def scaled(image, strength):
        plain = [x(KEY, image) for x in OPERATIONS]
        return plain, [x.at_strength(KEY, image, strength) for x in OPERATIONS]

    strengths = np.float32([0.0, 0.3, 0.6, 1.0])
    results = [jax.device_get(scaled(IMAGE, strength)) for strength in strengths]
    return results[0][0], [by_strength for _, by_strength in results]


@pytest.mark.parametrize(
    "place", range(len(OPERATIONS)), ids=lambda i: name_of(OPERATIONS[i])
)
def test_strength_goes_from_nothing_to_the_operation_itself(place):
    whole, by_strength = plain_and_by_strength()
    nothing, weak, middle, full = (results[place] for results in by_strength)
    np.testing.assert_allclose(full, whole[place], atol=1e-6)
    if place < len(LEVELED):
        np.testing.assert_allclose(nothing, IMAGE, rtol=0, atol=1e-6)
        changes = [np.square(x - IMAGE).sum() for x in (weak, middle, full)]
        assert changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("operation", [*OPERATIONS, Flip()], ids=name_of)
def test_without_a_strength_an_operation_is_itself(operation):
    asked = jax.make_jaxpr(lambda key, x: at_strength(operation, key, x, None))
    assert str(asked(KEY, IMAGE)) == str(jax.make_jaxpr(operation)(KEY, IMAGE))


def test_what_has_no_level_ignores_the_strength():
    @functools.partial(jax.jit, static_argnums=0)
    def weak_and_plain(operation, image):
        return at_strength(operation, KEY, image, 0.1), operation(KEY, image)

    for operation in (Flip(), Fixed(Flip(1.0))):
        np.testing.assert_array_equal(*weak_and_plain(operation, IMAGE))


@pytest.mark.parametrize(
    "operation",
    [
        Strength(),
        Chain((Flip(), Strength())),
        Maybe(Strength(), 1.0),
        OneOf((Strength(), Strength())),
    ],
    ids=name_of,
)
def test_strength_reaches_what_an_operation_holds(operation):
    @functools.partial(jax.jit, static_argnums=0)
    def both(outer, image):
        return at_strength(outer, KEY, image, 0.25), outer(KEY, image)

    for outer in (operation, Chain((Maybe(OneOf((operation,)), 1.0),))):
        weak, whole = both(outer, IMAGE)
        assert (weak == 0.25).all() and (whole == 1.0).all()


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.1), (1, 0.263142), (5, 0.668909), (10, 0.878198), (24, 0.992593)],
)
def test_strength_rises_with_the_epochs(epoch, expected):
    curriculum = Curriculum(25)
    assert curriculum((epoch + 0.01) / 25) == pytest.approx(expected, abs=1e-6)
    assert curriculum((epoch + 0.99) / 25) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("epochs", "steps"), [(25, 495), (7, 3), (100, 13), (1, 9)])
def test_an_epoch_begins_with_its_first_step(epochs, steps):
    total = epochs * steps
    step = np.arange(total)
    progress = step.astype(np.float32) / np.float32(total)
    strength = jax.jit(jax.vmap(Curriculum(epochs, 0.2, 3.0)))(progress)
    expected = 0.2 + 0.8 * (1 - np.exp(-(step // steps) / 3.0))
    np.testing.assert_allclose(strength, expected, atol=1e-6)


def test_a_curriculum_may_begin_at_its_end():
    assert Curriculum(3, start=1.0)(0.0) == 1.0


def test_a_curriculum_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"Curriculum.time 0.0 must be above 0"):
        Curriculum(1, time=0.0)


LEVELS = [
    (MASK, 1.0, r"level 1.0 of random mask must be a share.*\[0, 1\)"),
    (MASK, -0.1, "level -0.1 of random mask"),
    (MASK, 0.99999999, r"level 0.99999999 of random mask"),
    (MASK, float("nan"), "level nan of random mask"),
    (MASK, (0.5, 0.9), r"level \(0.5, 0.9\) of random mask"),
    (MASK, (), r"level \(\) of random mask"),
    (NOISE, -0.1, "level -0.1 of Gaussian noise must be .* at least 0"),
    (NOISE, float("inf"), "level inf of Gaussian noise"),
    (NOISE, 1e39, r"level 1e\+39 of Gaussian noise"),
    (SquareMask((2, 7)), 2.5, "level 2.5 of square mask must be a whole number"),
    (SquareMask((2, 7)), -1, "level -1 of square mask"),
    (GaussianBlur(5), (4, 1.0), r"level \(4, 1.0\) of Gaussian blur must be .* odd"),
    (GaussianBlur(5), (-3, 1.0), r"level \(-3, 1.0\) of Gaussian blur"),
    (GaussianBlur(5), (3, 0.0), r"level \(3, 0.0\) of Gaussian blur .* above 0"),
    (GaussianBlur(5), 0, r"level 0 of Gaussian blur"),
    (GaussianBlur(5), (), r"level \(\) of Gaussian blur"),
    (GaussianBlur(5), (3, 1.0, 1.0), r"level \(3, 1.0, 1.0\) of Gaussian blur"),
    (Fixed(MASK), 1.5, "level 1.5 of random mask"),
]


@pytest.mark.parametrize(("distortion", "level", "message"), LEVELS)
def test_a_level_out_of_range_is_refused_before_it_is_data(distortion, level, message):
    with pytest.raises(ValueError, match=message):
        distortion.checked(level)


@pytest.mark.parametrize(
    ("distortion", "level", "message"),
    [
        (
            SquareMask((2, 2)),
            9,
            "an image smaller than the square mask: 12 x 9.*length 9",
        ),
        (
            GaussianBlur(5),
            (19, 1.0),
            "kernel_size 19 .*12 x 9 has too few.*=17 or less",
        ),
        (Fixed(SquareMask((2, 2))), 30, "an image smaller than the square mask"),
    ],
)
def test_a_level_too_large_for_the_images_is_refused(distortion, level, message):
    data = distortion.checked(level)
    with pytest.raises(ValueError, match=message):
        distortion.checked(level, (12, 9))
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda image: distortion.at(KEY, image, data))(IMAGE)


@pytest.mark.parametrize(
    ("distortion", "level", "expected"),
    [
        (MASK, 0.0, [0.0, 0.0]),
        (MASK, (0.5,), [0.5, 0.0]),
        (NOISE, 2, [2.0]),
        (SquareMask((2, 7)), 0, [0.0]),
        (SquareMask((2, 7)), 50.0, [50.0]),
        (GaussianBlur(5), 2.5, [5.0, 2.5]),
        (GaussianBlur(5), (21, 5.0), [21.0, 5.0]),
        (Fixed(NOISE), 0.5, [0.5]),
    ],
)
def test_a_level_becomes_float32(distortion, level, expected):
    data = distortion.checked(level)
    assert data.dtype == np.float32 and data.tolist() == expected
