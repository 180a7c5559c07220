"""Levels are checked before they are data; strength follows the epochs."""

import dataclasses

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
    Maybe(MASK, 0.5),
    OneOf((Flip(), MASK, NOISE)),
]


@dataclasses.dataclass(frozen=True)
class Told:
    """Gives the strength in the place of the image, 1 where there is none."""

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
    assert not isinstance(JITTER, Leveled) and not isinstance(Chain(()), Leveled)


@pytest.mark.parametrize("distortion", LEVELED, ids=name_of)
def test_a_drawn_level_is_one_that_may_be_set(distortion):
    level = jax.jit(distortion.level)(KEY)
    result = jax.jit(distortion.at)(KEY, IMAGE, level)
    assert result.shape == IMAGE.shape and result.dtype == jnp.float32
    # Known beforehand, it is checked, and the same happens.
    known = np.asarray(level)
    alike = jax.jit(lambda image: distortion.at(KEY, image, known))(IMAGE)
    np.testing.assert_allclose(alike, result, atol=1e-6)


@pytest.mark.parametrize("operation", [*LEVELED, *COMPOSED], ids=name_of)
def test_full_strength_is_the_operation_itself(operation):
    def both(image, strength):
        plain = at_strength(operation, KEY, image, None)
        full = operation.at_strength(KEY, image, strength)
        return operation(KEY, image), plain, full

    whole, plain, full = jax.jit(both)(IMAGE, jnp.float32(1.0))
    np.testing.assert_array_equal(whole, plain)
    np.testing.assert_allclose(full, whole, atol=1e-6)


@pytest.mark.parametrize("distortion", LEVELED, ids=name_of)
def test_without_strength_nothing_happens(distortion):
    result = jax.jit(distortion.at_strength)(KEY, IMAGE, jnp.float32(0.0))
    np.testing.assert_allclose(result, IMAGE, rtol=0, atol=1e-6)


@pytest.mark.parametrize("distortion", LEVELED, ids=name_of)
def test_less_strength_is_less_distortion(distortion):
    def change(strength):
        changed = distortion.at_strength(KEY, IMAGE, strength)
        return jnp.square(changed - IMAGE).sum()

    weak, middle, full = jax.jit(jax.vmap(change))(jnp.array([0.3, 0.6, 1.0]))
    assert weak < middle < full


def test_what_has_no_level_ignores_the_strength():
    for operation in (JITTER, Flip(), Fixed(JITTER)):
        weak, full = jax.jit(
            lambda image, operation=operation: (
                at_strength(operation, KEY, image, 0.1),
                operation(KEY, image),
            )
        )(IMAGE)
        np.testing.assert_array_equal(weak, full)


@pytest.mark.parametrize(
    "operation",
    [Told(), Chain((Flip(), Told())), Maybe(Told(), 1.0), OneOf((Told(), Told()))],
    ids=name_of,
)
def test_strength_reaches_what_an_operation_holds(operation):
    for outer in (operation, Chain((Maybe(OneOf((operation,)), 1.0),))):
        assert (at_strength(outer, KEY, IMAGE, 0.25) == 0.25).all()
        assert (outer(KEY, IMAGE) == 1.0).all()


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curriculum(0), "Curriculum.epochs 0 must be at least 1"),
        (
            lambda: Curriculum(1, start=1.5),
            r"Curriculum.start 1.5 must lie in \[0, 1\]",
        ),
        (lambda: Curriculum(1, time=0.0), "Curriculum.time 0.0 must be above 0"),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()


LEVELS = [
    (MASK, 1.0, r"level 1.0 of random mask must be .*\[0, 1\)"),
    (MASK, -0.1, "level -0.1 of random mask"),
    (MASK, 0.99999999, r"level 0.99999999 of random mask"),
    (MASK, float("nan"), "level nan of random mask"),
    (MASK, (0.5, 0.9), r"level \(0.5, 0.9\) of random mask"),
    (MASK, (), r"level \(\) of random mask"),
    (NOISE, -0.1, "level -0.1 of Gaussian noise must be .* 0 or more"),
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
