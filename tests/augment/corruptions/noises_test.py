"""Noises are distributed as those of the scripts that made the two public sets.

`golden/corruptions_noise_blur.npz` holds what `imagecorruptions` 1.1.2 (224) and
`make_cifar_c.py` of hendrycks/robustness (32) make of two pictures:

- `image224` [64, 48, 3], `image32` [32, 32, 3]: parts of scikit-image's `chelsea`.
- `<blur><calibration>` [5, h, w, 3]: results, one for each severity, cut to 8 bits.
- `motion_blur<calibration>_angle` [5]: the angle that was drawn, in degrees.
- `glass_blur<calibration>_offsets` [5, 3, 2, h, w]: rows and columns drawn for up to
  three rounds.
- `<noise><calibration>_quantiles` [5, 41]: of the values of 400 (224) or 600 (32)
  results, 150 for `glass_blur`, in 0 ... 255.
- `<noise><calibration>_numbers` [5, 5]: their mean, the deviation from the mean of each
  pixel, in [0, 1], and the correlation of that with the next column, row and channel.
"""

import pathlib

import jax
import numpy as np
import pytest
from scipy import stats

from jax_rcl.augment.corruptions import noises
from jax_rcl.augment.corruptions.noises import poisson
from jax_rcl.augment.corruptions.table import EXTRA, FUNCTIONS, LEVELS, STANDARD

GOLDEN = np.load(
    pathlib.Path(__file__).parents[2] / "golden" / "corruptions_noise_blur.npz"
)
KEY = jax.random.key(0)
PUBLISHED = (*STANDARD, *EXTRA[:4])
NAMES = [name for name in PUBLISHED if FUNCTIONS[name] in noises.LEVELS]
CASES = [(name, side) for name in NAMES for side in (224, 32)]


def five(name, side, count):
    """Results [5, count, h, w, 3] for all severities by one compiled program."""
    image = GOLDEN[f"image{side}"].astype(np.float32) / 255
    program = jax.jit(jax.vmap(FUNCTIONS[name], (0, None, None)))
    levels = np.asarray(LEVELS[name][side], np.float32)
    # Keys from numbers of the host: to split one is a program for each count.
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**32, (5, count, 2), np.uint32)
    keys = map(jax.random.wrap_key_data, numbers)
    results = [program(*x) for x in zip(keys, [image] * 5, levels, strict=True)]
    assert program._cache_size() == 1
    return np.stack(results)


def numbers(results):
    mean = results.mean(axis=0)
    error = results.astype(np.float64) - mean
    variance = np.square(error).mean()
    pairs = (
        (error[:, :, 1:], error[:, :, :-1]),
        (error[:, 1:], error[:, :-1]),
        (error[..., 0], error[..., 1]),
    )
    related = [(a * b).mean() / variance for a, b in pairs]
    return np.array([results.mean(), np.sqrt(variance), *related])


@pytest.mark.parametrize(("name", "side"), CASES)
def test_noise_is_distributed_as_the_published_one(name, side):
    count = 40 if side == 224 else 120
    for s, results in enumerate(five(name, side, count)):
        assert results.dtype == np.float32
        assert results.min() >= 0 and results.max() <= 1
        # The reference is cut to 8 bits; a little more, so that whole levels stay.
        levels = np.floor(results * 255 + 1e-3)
        mean, deviation, *related = GOLDEN[f"{name}{side}_numbers"][s]
        found = numbers(levels / 255)
        assert abs(found[0] - mean) < 5e-4 + 4 * deviation / np.sqrt(levels.size)
        # The mean of so many takes a part of the deviation away.
        found[1] *= np.sqrt(count / (count - 1))
        tolerance = 0.03 if name == "impulse_noise" else 0.01  # rare and great
        assert found[1] == pytest.approx(deviation, rel=tolerance)
        np.testing.assert_allclose(found[2:], related, rtol=0, atol=0.015)
        # A quantile may lie in the gap between two numbers of photons or at the jump
        # to 0 and 1: by probabilities, not by values.
        expected, places = GOLDEN[f"{name}{side}_quantiles"][s], np.linspace(0, 1, 41)
        ordered = np.sort(levels, axis=None)
        below = np.searchsorted(ordered, expected, "left") / levels.size
        up_to = np.searchsorted(ordered, expected, "right") / levels.size
        assert (below < places + 0.01).all() and (up_to > places - 0.01).all()


@pytest.mark.parametrize("mean", [0.3, 9.99, 10.01, 60.0, 500.0])
def test_photons_are_poisson_distributed(mean):
    counts = np.asarray(jax.jit(poisson)(KEY, np.full(100_000, mean, np.float32)))
    assert (counts == np.round(counts)).all() and counts.min() >= 0
    top = int(mean + 3 * np.sqrt(mean) + 2)
    probability = stats.poisson.pmf(np.arange(top), mean)
    probability = np.append(probability, max(1 - probability.sum(), 0))
    found = np.bincount(np.minimum(counts, top).astype(int), minlength=top + 1)
    seen = probability * counts.size > 5
    assert found[~seen].sum() < 100
    expected = probability[seen] / probability[seen].sum() * found[seen].sum()
    assert stats.chisquare(found[seen], expected).pvalue > 1e-3


def test_where_nothing_is_expected_nothing_is_counted():
    counts = jax.jit(poisson)(KEY, np.zeros(100_000, np.float32))
    assert not np.asarray(counts).any()


def test_impulses_are_black_and_white_alike_and_leave_the_rest():
    image = np.full((100, 100, 3), 0.4, np.float32)
    result = jax.jit(FUNCTIONS["impulse_noise"])(KEY, image, np.float32([0.2]))
    values, counts = np.unique(result, return_counts=True)
    np.testing.assert_allclose(values, [0, 0.4, 1])
    assert stats.chisquare(counts, [3000, 24000, 3000]).pvalue > 1e-3
