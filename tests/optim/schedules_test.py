"""Schedules against their curves."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.optim import schedules


def rates(
    schedule: schedules.Schedule,
    peak=0.3,
    total_steps=40,
    steps_per_epoch=4,
    until=None,
):
    rate = schedule.build(
        peak, total_steps=total_steps, steps_per_epoch=steps_per_epoch
    )
    return np.asarray(jax.jit(jax.vmap(rate))(jnp.arange(until or total_steps)))


def test_constant_is_the_peak():
    np.testing.assert_allclose(rates(schedules.Constant()), 0.3)


def test_a_warm_up_is_a_line_from_zero_to_the_peak():
    got = rates(schedules.Constant(warmup_epochs=2.5))
    expected = [0.3 * min(1, step / 10) for step in range(40)]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_cosine_goes_from_the_end_of_the_warm_up_to_the_end_of_the_run(warmup):
    got = rates(schedules.Cosine(warmup_epochs=warmup, final=0.01), until=45)
    start = round(4 * warmup)

    def expected(step):
        if step < start:
            return 0.3 * step / start
        done = min(1, (step - start) / (40 - start))
        return 0.01 + (0.3 - 0.01) * (1 + math.cos(math.pi * done)) / 2

    np.testing.assert_allclose(got, [expected(s) for s in range(45)], rtol=1e-5)
    np.testing.assert_allclose(got[40:], 0.01, rtol=1e-6)


def test_epoch_cosine_is_constant_within_an_epoch():
    got = rates(schedules.EpochCosine(final=1e-3)).reshape(10, 4)
    expected = [1e-3 + 0.299 * (1 + math.cos(math.pi * e / 10)) / 2 for e in range(10)]
    np.testing.assert_allclose(
        got, np.tile(np.asarray(expected)[:, None], 4), rtol=1e-5
    )


def test_epoch_cosine_rises_again_like_pytorch_beyond_its_period():
    """PyTorch steps from rate to rate; its recursion has the period 2·T_max."""
    period, final, rate, expected = 3, 0.02, 0.3, []
    for epoch in range(1, 11):
        expected.append(rate)
        if (epoch - 1 - period) % (2 * period) == 0:
            rate += (0.3 - final) * (1 - math.cos(math.pi / period)) / 2
        else:
            here, before = (
                1 + math.cos(math.pi * e / period) for e in (epoch, epoch - 1)
            )
            rate = here / before * (rate - final) + final
    schedule = schedules.EpochCosine(period=3.0, final=0.02, beyond="rise")
    np.testing.assert_allclose(rates(schedule)[::4], expected, rtol=1e-5)


def test_the_released_cosine_of_600_epochs_goes_down_and_up_three_times():
    cosine = schedules.EpochCosine(period=100.0, beyond="rise")
    steps = 351
    rate = cosine.build(3e-4, total_steps=600 * steps, steps_per_epoch=steps)
    epochs = [0, 50, 100, 150, 200, 300, 400, 500, 599]
    expected = [3e-4, 1.5e-4, 0, 1.5e-4, 3e-4, 0, 3e-4, 0, 3e-4]
    for place in (0, steps - 1):
        got = [float(rate(epoch * steps + place)) for epoch in epochs]
        np.testing.assert_allclose(got[:-1], expected[:-1], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(got[-1], expected[-1], rtol=1e-3)


def test_epoch_cosine_with_a_short_period_stays_at_the_end_unless_told_to_rise():
    got = rates(schedules.EpochCosine(period=2.5, final=0.02))[::4]
    risen = rates(schedules.EpochCosine(period=2.5, final=0.02, beyond="rise"))[::4]
    np.testing.assert_allclose(got[:3], risen[:3])
    np.testing.assert_allclose(got[3:], 0.02, rtol=1e-6)
    np.testing.assert_allclose(risen[5], 0.3, rtol=1e-6)


def test_epoch_cosine_changes_at_the_first_update_of_an_epoch_in_long_runs_too():
    steps = 40_000
    rate = schedules.EpochCosine().build(
        1.0, total_steps=2000 * steps, steps_per_epoch=steps
    )
    last, first = (float(rate(jnp.int32(1000 * steps + i))) for i in (-1, 0))
    np.testing.assert_allclose(
        last, (1 + math.cos(math.pi * 999 / 2000)) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(first, 0.5, rtol=1e-5)


def test_multi_step_falls_at_the_start_of_its_epochs():
    got = rates(schedules.MultiStep((3, 7), factor=0.1, warmup_epochs=1.0))
    expected = [
        0.3 * min(1, s / 4) * 0.1 ** sum(s // 4 >= e for e in (3, 7)) for s in range(40)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match="is 40 updates; it must be shorter"):
        rates(schedules.Cosine(warmup_epochs=10.0))


def scales(plateau, losses, updates_per_epoch):
    """What the update of each of the losses is multiplied by."""
    transformation = plateau.build(updates_per_epoch)
    one = {"w": jnp.ones(2)}

    def step(state, loss):
        moved, state = transformation.update(one, state, value=loss)
        return state, moved["w"][0]

    losses = jnp.asarray(losses, jnp.float32)
    with jax.numpy_dtype_promotion("standard"):  # as optimizers do around optax
        return np.asarray(jax.lax.scan(step, transformation.init(one), losses)[1])


def pytorch_plateau(means, factor, patience, threshold):
    """The scale after each epoch, by PyTorch's recursion for mode="min"."""
    best, bad, scale, found = math.inf, 0, 1.0, []
    for mean in means:
        if mean < best * (1 - threshold):
            best, bad = mean, 0
        else:
            bad += 1
        if bad > patience:
            scale, bad = scale * factor, 0
        found.append(scale)
    return found


@pytest.mark.parametrize("patience", [0, 2])
def test_a_plateau_is_that_of_pytorch_on_the_mean_loss_of_an_epoch(patience):
    losses = 1 + np.random.default_rng(0).normal(size=(30, 4)) * 0.1
    losses[:6] += np.arange(6, 0, -1)[:, None]
    plateau = schedules.Plateau(0.5, patience=patience, threshold=0.01)
    got = scales(plateau, losses.ravel(), 4).reshape(30, 4)
    expected = pytorch_plateau(losses.mean(axis=1), 0.5, patience, 0.01)
    assert len(set(expected)) > 3
    before = np.array([1.0, *expected[:-1]])  # of all updates of the next epoch
    np.testing.assert_allclose(got, np.tile(before[:, None], 4), rtol=1e-6)


def test_a_loss_that_rises_below_zero_is_no_improvement_by_a_threshold_of_one():
    rising = -2 + 1e-3 * np.arange(5)
    one = schedules.Plateau(0.5, patience=1, threshold=1e-2, relative_to="one")
    np.testing.assert_allclose(scales(one, rising, 1), [1, 1, 1, 0.5, 0.5])
    falling = -2 - 2e-2 * np.arange(5)
    np.testing.assert_allclose(scales(one, falling, 1), 1)
    best = schedules.Plateau(0.5, patience=1, threshold=1e-2)  # as PyTorch and optax
    np.testing.assert_allclose(scales(best, rising, 1), 1)
