"""Group DRO: weights follow the groups' losses, gradients do not follow the weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.networks.heads import Linear
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.group_dro import GroupDRO, group_means, reweight

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


@functools.cache
def program(objective, devices):
    def one(variables, clock, batch):
        def mean_loss(params):
            found = objective.loss(variables.replace(params=params), batch, clock)
            return parallel.mean(found.value), found

        grad = jax.value_and_grad(mean_loss, has_aux=True)
        (value, found), grads = grad(variables.params)
        metrics = parallel.mean(dict(found.metrics))
        return value, grads, found.memory["group_weights"], metrics

    mesh = parallel.make_mesh(jax.devices()[:devices])
    return jax.jit(parallel.data_parallel(one, mesh, whole=2))


def outcome(objective, variables, batch, devices=2):
    """Loss, gradient, next weights and metrics of one step, in numpy."""
    return jax.device_get(program(objective, devices)(variables, CLOCK, batch))


def probabilities(params, batch):
    """What a head gives every view, and what it should give, [n·v, k] in numpy."""
    layer = jax.tree.map(np.float64, jax.device_get(params["head"]["out"]))
    images = np.float64(batch["views"]).reshape(-1, 9)
    logits = np.exp(images @ layer["kernel"] + layer["bias"])
    labels = np.repeat(batch["label"], batch["views"].shape[1])
    targets = 0.9 * np.eye(CLASSES)[labels] + 0.1 / CLASSES
    return logits / logits.sum(axis=1, keepdims=True), targets


def view_losses(params, batch):
    """The loss of every view [n, v]."""
    given, wanted = probabilities(params, batch)
    return -np.sum(wanted * np.log(given), axis=1).reshape(N, -1)


def by_hand(losses, groups, weights, *, step_size, adjustment):
    """The next weights, by a loop over groups and examples."""
    weights = [float(weight) for weight in weights]
    for g in range(GROUPS):
        own = [losses[i, j] for i, j in np.ndindex(losses.shape) if groups[i] == g]
        if own:
            mean = sum(own) / len(own)
            weights[g] *= np.exp(step_size * (mean + adjustment / SIZES[g] ** 0.5))
    return np.array(weights) / sum(weights)


def loss_and_gradient(params, batch, weights):
    """Σ_g q_g L_g with these weights, and its slope by the head's arrays."""
    groups = np.repeat(batch["group"], batch["views"].shape[1])
    shares = weights[groups] / np.bincount(groups, minlength=GROUPS)[groups]
    given, wanted = probabilities(params, batch)
    slopes = shares[:, None] * (given - wanted)
    images = batch["views"].reshape(-1, 9)
    out = {"kernel": images.T @ slopes, "bias": slopes.sum(axis=0)}
    return shares @ view_losses(params, batch).ravel(), {"head": {"out": out}}


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("groups", [GROUPS, GROUPS - 1])
def test_a_step_is_that_of_the_algorithm(devices, groups):
    # In batches of three groups the last one is absent; shares of two examples on eight
    # devices never hold all groups.
    own = batch(groups=groups)
    start = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    objective = GroupDRO(CLASSIFY, GROUPS, 0.5, 2.0, SIZES)
    variables = with_weights(fresh(objective), start)
    value, grads, weights, metrics = outcome(objective, variables, own, devices)
    losses = view_losses(variables.params, own)
    expected = by_hand(losses, own["group"], start, step_size=0.5, adjustment=2.0)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    loss, gradient = loss_and_gradient(variables.params, own, expected)
    np.testing.assert_allclose(value, loss, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        grads["head"],
        gradient["head"],
    )
    means = [losses[own["group"] == g].mean() for g in range(groups)]
    np.testing.assert_allclose(metrics["worst_group_loss"], max(means), rtol=1e-5)
    found = [metrics[f"group_weight_{g}"] for g in range(GROUPS)]
    np.testing.assert_allclose(found, weights, rtol=1e-6)
    assert 0 <= metrics["top1"] <= 1


def test_equal_weights_that_stay_give_the_mean_over_groups_of_their_mean_loss():
    objective = GroupDRO(CLASSIFY, GROUPS, step_size=0.0)
    variables, own = fresh(objective), batch()
    value, _, weights, _ = outcome(objective, variables, own)
    np.testing.assert_allclose(weights, np.full(GROUPS, 0.25), rtol=1e-6)
    losses = view_losses(variables.params, own)
    means = [losses[own["group"] == g].mean() for g in range(GROUPS)]
    np.testing.assert_allclose(value, np.mean(means), rtol=1e-5)


def test_weights_move_to_the_group_with_the_highest_loss_and_sum_to_one():
    objective = GroupDRO(CLASSIFY, GROUPS, step_size=0.5)
    variables, own, history = fresh(objective), batch(), []
    for _ in range(20):
        history.append(outcome(objective, variables, own)[2])
        variables = with_weights(variables, history[-1])
    weights, losses = np.stack(history), view_losses(variables.params, own)
    means = np.array([losses[own["group"] == g].mean() for g in range(GROUPS)])
    worst = means.argmax()
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    assert (np.diff(weights[:, worst]) > 0).all()
    expected = np.exp(20 * 0.5 * (means - means[worst]))
    np.testing.assert_allclose(weights[-1], expected / expected.sum(), rtol=1e-3)


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
    objective = GroupDRO(frozen, GROUPS, step_size=0.0)
    variables, own = fresh(objective), batch()
    assert variables.params.keys() == {"head"} and "encoder" in variables.frozen
    value, *_ = outcome(objective, variables, own)
    expected, _ = loss_and_gradient(variables.params, own, np.full(GROUPS, 0.25))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


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
        ({"groups": 1}, r"GroupDRO.groups 1 must be at least 2, .*use Classify"),
        ({"adjustment": 1.0}, r"write group_sizes"),
        ({"group_sizes": (3, 4)}, r"\(3, 4\) must be 4 numbers"),
    ],
)
def test_groups_that_do_not_fit_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        GroupDRO(CLASSIFY, **{"groups": GROUPS, **settings})
