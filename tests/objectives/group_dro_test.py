"""Group DRO: weights follow the groups' losses, gradients do not follow the weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.networks.heads import Linear
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.group_dro import GroupDRO, group_means, reweight
from jax_rcl.train import step as train_step

N, CLASSES, GROUPS = 16, 3, 4
SIZES = (900, 40, 7, 1)


class Pixels(nn.Module):
    """All pixels of an image, as they are."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(len(images), -1)


CLASSIFY = Classify(Pixels(), Linear(CLASSES), smoothing=0.1)
CLOCK = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))


def batch(views=2, groups=GROUPS, seed=0):
    random = np.random.default_rng(seed)
    return {
        "views": random.uniform(size=(N, views, 3, 3, 1)).astype(np.float32),
        "label": random.integers(0, CLASSES, N).astype(np.int32),
        "group": random.integers(0, groups, N).astype(np.int32),
    }


@functools.cache
def fresh(objective):
    one = {name: jnp.asarray(x[:1]) for name, x in batch().items()}
    return jax.jit(objective.init)(jax.random.key(0), one)


def with_weights(variables, weights):
    memory = {**variables.memory, "group_weights": jnp.array(weights, jnp.float32)}
    return variables.replace(memory=memory)


def outcome(objective, variables, batch, devices=2):
    """Loss, gradient, next weights and metrics of one step, in numpy."""

    def one(variables, clock, batch):
        def mean_loss(params):
            found = objective.loss(variables.replace(params=params), batch, clock)
            return parallel.mean(found.value), found

        grad = jax.value_and_grad(mean_loss, has_aux=True)
        (value, found), grads = grad(variables.params)
        metrics = parallel.mean(dict(found.metrics))
        return value, grads, found.memory["group_weights"], metrics

    mesh = parallel.make_mesh(jax.devices()[:devices])
    mapped = jax.jit(parallel.data_parallel(one, mesh, whole=2))
    return jax.device_get(mapped(variables, CLOCK, batch))


def view_losses(params, batch):
    """The loss of every view [n, v], on one device."""
    layer = params["head"]["out"]
    images = batch["views"].reshape(-1, 9)
    logits = images @ layer["kernel"] + layer["bias"][None, :]
    labels = jnp.repeat(jnp.asarray(batch["label"]), batch["views"].shape[1])
    targets = 0.9 * jax.nn.one_hot(labels, CLASSES) + 0.1 / CLASSES
    losses = -jnp.sum(targets * jax.nn.log_softmax(logits), axis=1)
    return losses.reshape(N, -1)


def by_hand(losses, groups, weights, *, step_size, adjustment):
    """The next weights, by a loop over groups and examples."""
    weights = [float(weight) for weight in weights]
    for g in range(GROUPS):
        own = [losses[i, j] for i, j in np.ndindex(losses.shape) if groups[i] == g]
        if own:
            mean = sum(own) / len(own)
            weights[g] *= np.exp(step_size * (mean + adjustment / SIZES[g] ** 0.5))
    return np.array(weights) / sum(weights)


def with_fixed_weights(params, batch, weights):
    """Σ_g q_g L_g with these weights, on one device."""
    losses = view_losses(params, batch)
    means = [losses[batch["group"] == g].mean() for g in np.unique(batch["group"])]
    return jnp.dot(jnp.stack(means), weights[np.unique(batch["group"])])


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("adjustment", [0.0, 2.0])
@pytest.mark.parametrize("groups", [GROUPS, GROUPS - 1])
def test_a_step_is_that_of_the_algorithm(devices, adjustment, groups):
    # In batches of three groups the last one is absent; shares of two examples on eight
    # devices never hold all groups.
    own = batch(groups=groups)
    start = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    objective = GroupDRO(CLASSIFY, GROUPS, 0.5, adjustment, SIZES)
    variables = with_weights(fresh(objective), start)
    value, grads, weights, metrics = outcome(objective, variables, own, devices)
    losses = np.asarray(view_losses(variables.params, own))
    expected = by_hand(
        losses, own["group"], start, step_size=0.5, adjustment=adjustment
    )
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    weighted = jax.value_and_grad(with_fixed_weights)
    wanted = weighted(variables.params, own, jnp.asarray(expected, jnp.float32))
    np.testing.assert_allclose(value, wanted[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        grads,
        wanted[1],
    )
    means = [losses[own["group"] == g].mean() for g in range(groups)]
    np.testing.assert_allclose(metrics["worst_group_loss"], max(means), rtol=1e-5)
    shown = [metrics[f"group_weight_{g}"] for g in range(GROUPS)]
    np.testing.assert_allclose(shown, weights, rtol=1e-6)
    assert 0 <= metrics["top1"] <= 1


def test_equal_weights_that_stay_give_the_mean_over_groups_of_their_mean_loss():
    objective = GroupDRO(CLASSIFY, GROUPS, step_size=0.0)
    variables, own = fresh(objective), batch(views=1)
    value, _, weights, _ = outcome(objective, variables, own)
    np.testing.assert_allclose(weights, np.full(GROUPS, 0.25), rtol=1e-6)
    losses = np.asarray(view_losses(variables.params, own))
    means = [losses[own["group"] == g].mean() for g in range(GROUPS)]
    np.testing.assert_allclose(value, np.mean(means), rtol=1e-5)


@functools.cache
def trained(devices, *, rate, steps):
    """Weights after every step on one batch, and the parameters after the last."""
    objective = GroupDRO(CLASSIFY, GROUPS, step_size=0.5)
    mesh, sgd = parallel.make_mesh(jax.devices()[:devices]), optax.sgd(rate)
    update = train_step.make_update(objective, lambda c, b: b, sgd, total_steps=steps)
    step = train_step.make_step(update, mesh)
    variables = fresh(objective)
    state = train_step.TrainState(
        jnp.int32(0), jax.random.key(0), variables, sgd.init(variables.params)
    )
    state, count = parallel.replicate((state, np.int32(1)), mesh)
    batches = parallel.put_steps({k: x[None] for k, x in batch().items()}, mesh)
    weights = []
    for _ in range(steps):
        state, _ = step(state, count, {}, batches)
        weights.append(jax.device_get(state.variables.memory["group_weights"]))
    return np.stack(weights), jax.device_get(state.variables.params)


def test_weights_move_to_the_group_with_the_highest_loss_and_sum_to_one():
    weights, params = trained(2, rate=0.0, steps=20)
    losses, groups = np.asarray(view_losses(params, batch())), batch()["group"]
    means = np.array([losses[groups == g].mean() for g in range(GROUPS)])
    worst = means.argmax()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(weights[:, worst]) > 0).all()
    expected = np.exp(20 * 0.5 * (means - means[worst]))
    np.testing.assert_allclose(weights[-1], expected / expected.sum(), rtol=1e-3)


def test_training_is_the_same_on_one_device_and_on_eight():
    one, eight = (trained(devices, rate=0.3, steps=3) for devices in (1, 8))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, eight
    )


def test_groups_without_examples_keep_their_weights_to_one_another():
    weights = jnp.array([0.1, 0.2, 0.3, 0.4])
    losses = jnp.array([5.0, 0.0, 0.0, 1.0])
    present = jnp.array([True, False, False, True])
    found = reweight(weights, losses, present, step_size=1.0)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(found[2] / found[1], 1.5, rtol=1e-6)
    np.testing.assert_allclose(found[0] / found[1], np.exp(5) / 2, rtol=1e-5)


def test_a_weight_that_vanished_can_rise_again():
    weights = jnp.array([1.0, 0.0])
    found = reweight(
        weights, jnp.array([0.0, 200.0]), jnp.array([True, True]), step_size=1.0
    )
    np.testing.assert_allclose(found, [0, 1], atol=1e-6)


def test_very_large_losses_leave_the_weights_finite():
    found = reweight(
        jnp.array([0.5, 0.5]),
        jnp.array([1e6, 1e6 - 1]),
        jnp.array([True, True]),
        step_size=1.0,
    )
    np.testing.assert_allclose(found, [np.e / (1 + np.e), 1 / (1 + np.e)], rtol=1e-5)


@pytest.mark.parametrize("stray", [-1, GROUPS])
def test_an_example_of_no_group_makes_every_mean_nan(stray):
    groups = np.array([0, 1, 2, 3, stray, 1, 2, 3], np.int32)
    mesh = parallel.make_mesh(jax.devices()[:2])
    means = parallel.data_parallel(
        lambda pair: group_means(*pair, GROUPS), mesh, whole=0
    )
    found, present = jax.jit(means)((np.ones(8, np.float32), groups))
    assert np.isnan(found).all() and present.all()


def test_the_encoder_may_be_frozen():
    frozen = Classify(Pixels(), Linear(CLASSES), encoder_is="frozen", smoothing=0.1)
    objective = GroupDRO(frozen, GROUPS, 0.5)
    variables = fresh(objective)
    assert variables.params.keys() == {"head"} and "encoder" in variables.frozen
    value, *_ = outcome(objective, variables, batch())
    trained_value, *_ = outcome(
        GroupDRO(CLASSIFY, GROUPS, 0.5), with_encoder(variables), batch()
    )
    np.testing.assert_allclose(value, trained_value, rtol=1e-6)


def with_encoder(variables):
    """The same variables as a trained encoder without parameters has them."""
    return variables.replace(
        params={**variables.params, "encoder": {}},
        frozen={},
        memory={**variables.memory, "encoder": {}},
    )


def test_encode_is_that_of_the_classifier():
    objective = GroupDRO(CLASSIFY, GROUPS)
    images = jnp.asarray(batch()["views"][:, 0])
    found = objective.encode(fresh(objective), images)
    expected = CLASSIFY.encode(fresh(objective), images)
    assert found.keys() == {"features", "logits"}
    np.testing.assert_array_equal(found["logits"], expected["logits"])
    assert objective.needs == {"views", "label", "group"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": 1}, r"GroupDRO.groups is 1; .* at least 2"),
        ({"step_size": -0.1}, r"GroupDRO.step_size -0.1 must be"),
        ({"step_size": float("inf")}, r"GroupDRO.step_size inf must be"),
        ({"adjustment": -1.0, "group_sizes": SIZES}, r"GroupDRO.adjustment -1.0"),
        ({"adjustment": 1.0}, r"write group_sizes"),
        ({"group_sizes": (3, 4)}, r"\(3, 4\) must be 4 numbers"),
        ({"group_sizes": (3, 4, 0, 5)}, r"\(3, 4, 0, 5\) must be 4 numbers from 1"),
    ],
)
def test_values_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        GroupDRO(CLASSIFY, **{"groups": GROUPS, **settings})
