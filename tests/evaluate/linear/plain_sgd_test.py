"""SGD for many weight decays against loops that train one classifier at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.evaluate.linear.plain_sgd import (
    PlainSgd,
    epoch_order,
    initial_parameters,
    sgd_grid,
)

DECAYS = (0.0, 1.0, 0.01)
SETTINGS = PlainSgd(batch=8, epochs=70)
SEED = 3  # no loss is nearer than a thousandth to where a plateau begins


def data():
    """Features [23, 3], labels of three classes, two parts of the rows."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 23)
    x = random.normal(size=(3, 3))[labels] + random.normal(size=(23, 3))
    parts = np.stack([np.arange(23) > 6, np.ones(23, bool)])
    return x.astype(np.float32), labels.astype(np.int32), parts


@pytest.fixture(scope="module")
def found():
    """Everything is trained once."""
    x, labels, parts = data()
    return sgd_grid(
        jnp.asarray(x),
        labels,
        parts,
        classes=3,
        weight_decays=DECAYS,
        settings=SETTINGS,
        seed=SEED,
    )


def batches_of(part):
    """The start of a part, and a function that gives the batches of an epoch."""
    rows = jnp.asarray(data()[2][part])
    key = jax.random.split(jax.random.key(SEED), 2)[part]
    order = jax.jit(epoch_order)

    def batches(epoch):
        own = np.asarray(order(key, epoch, rows))[: rows.sum()]
        return [own[i : i + 8] for i in range(0, len(own), 8)]

    start = [np.asarray(a, np.float64) for a in initial_parameters(key, 3, 3)]
    return start, batches


def trained(part, decay):
    """Weights, bias, whether the losses became flat, learning rates met on the way."""
    x, labels, _ = data()
    (weights, bias), batches = batches_of(part)
    velocities = [np.zeros_like(weights), np.zeros_like(bias)]
    rate, lowest, waited, losses, rates = 0.1, np.inf, 0, [], set()
    for epoch in range(SETTINGS.epochs):
        own = []
        for rows in batches(epoch):
            scores = x[rows] @ weights + bias
            odds = np.exp(scores - scores.max(axis=1, keepdims=True))
            shares = odds / odds.sum(axis=1, keepdims=True)
            own.append(-np.log(shares[np.arange(len(rows)), labels[rows]]).mean())
            residuals = (shares - np.eye(3)[labels[rows]]) / len(rows)
            slopes = x[rows].T @ residuals, residuals.sum(axis=0)
            for place, (value, slope) in enumerate(
                zip((weights, bias), slopes, strict=True)
            ):
                velocities[place] = 0.9 * velocities[place] + slope + decay * value
            weights = weights - rate * velocities[0]
            bias = bias - rate * velocities[1]
        losses.append(np.mean(own))
        rates.add(rate)
        if losses[-1] < lowest * (1 - 1e-4):
            lowest, waited = losses[-1], 0
        else:
            waited += 1
        if waited > 10:
            rate, waited = 0.1 * rate, 0
        last = np.array(losses[-10:])
        if epoch + 1 > 20 and abs(last - last.mean()).max() < 1e-4:
            return weights, bias, True, rates
    return weights, bias, False, rates


@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("place", range(3))
def test_agrees_with_a_loop(found, part, place):
    weights, bias, flat, _ = trained(part, DECAYS[place])
    np.testing.assert_allclose(found.weights[part, place], weights, atol=1e-4)
    np.testing.assert_allclose(found.bias[part, place], bias, atol=1e-4)
    assert found.converged[part, place] == flat


def test_the_loops_meet_plateaus_and_both_ends():
    ends = [trained(part, decay)[2:] for part in range(2) for decay in DECAYS]
    assert {flat for flat, _ in ends} == {True, False}
    assert max(len(rates) for _, rates in ends) >= 3


def test_agrees_with_pytorch(found):
    torch = pytest.importorskip("torch")
    place = 2  # which meets two plateaus, and an end before the last epoch
    x, labels, _ = data()
    x, labels = torch.from_numpy(x), torch.from_numpy(labels).long()
    (weights, bias), batches = batches_of(0)
    layer = torch.nn.Linear(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights.T))
        layer.bias.copy_(torch.from_numpy(bias))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": DECAYS[place]}
    optimizer = torch.optim.SGD(layer.parameters(), **settings)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min")
    losses = []
    for epoch in range(SETTINGS.epochs):
        own = []
        for rows in batches(epoch):
            rows = torch.from_numpy(rows.copy())
            loss = torch.nn.functional.cross_entropy(layer(x[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            own.append(loss.item())
        losses.append(np.mean(own))
        plateau.step(losses[-1])
        last = np.array(losses[-10:])
        if epoch + 1 > 20 and abs(last - last.mean()).max() < 1e-4:
            break
    expected = layer.weight.detach().numpy().T
    np.testing.assert_allclose(found.weights[0, place], expected, atol=1e-4)


def test_orders_show_every_row_of_the_part_first_and_change_with_the_epoch():
    rows = jnp.asarray(data()[2][0])
    first, second = (
        np.asarray(epoch_order(jax.random.key(0), i, rows)) for i in (0, 1)
    )
    for order in (first, second):
        assert set(order[: rows.sum()]) == set(np.flatnonzero(rows))
        assert sorted(order) == list(range(23))
    assert (first != second).any()


def test_starts_are_those_of_a_linear_layer_of_pytorch():
    weights, bias = initial_parameters(jax.random.key(0), 100, 50)
    for values in (weights, bias):
        assert abs(values).max() <= 0.1
        assert abs(values).max() > 0.09
        assert np.std(values) == pytest.approx(0.1 / np.sqrt(3), rel=0.2)


def test_a_training_that_diverges_ends_and_says_so():
    x, labels, parts = data()
    found = sgd_grid(
        jnp.asarray(1e30 * x),
        labels,
        parts,
        classes=3,
        weight_decays=DECAYS,
        settings=SETTINGS,
        seed=SEED,
    )
    assert not np.isfinite(found.weights).all(axis=(2, 3)).any()
    assert not found.converged.any()
