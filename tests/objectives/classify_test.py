"""A classifier on an encoder that is trained, or frozen to the last bit."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl import parallel
from jax_rcl.checkpoint import STATES, VARIABLES, Checkpoints, flat
from jax_rcl.core import Clock
from jax_rcl.networks.heads import Concatenated, Linear
from jax_rcl.networks.norms import normalized
from jax_rcl.objectives.classify import (
    FROZEN_ENCODER,
    TRAINED_ENCODER,
    Classify,
    encoder_paths,
)
from jax_rcl.objectives.supcon import SupCon
from jax_rcl.train import step as train_step
from jax_rcl.weights.restore import Restore

N, CLASSES = 8, 3


class Tiny(nn.Module):
    """One layer with batch statistics."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dense(6, name="layer")(images.reshape(len(images), -1))
        return nn.relu(normalized(x, "sync", train=train, name="norm"))


TRAINED = Classify(Tiny(), Linear(CLASSES))
FROZEN = Classify(Tiny(), Linear(CLASSES), encoder_is="frozen")
CLOCK = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))


def batch(views=1, seed=0):
    random = np.random.default_rng(seed)
    return {
        "views": random.uniform(size=(N, views, 3, 3, 1)).astype(np.float32),
        "label": random.integers(0, CLASSES, N).astype(np.int32),
    }


@functools.cache
def fresh(objective, seed=0):
    one = {name: jnp.asarray(x[:1]) for name, x in batch().items()}
    variables = jax.jit(objective.init)(jax.random.key(seed), one)
    return unusual(variables)


def unusual(variables):
    """Statistics that no batch has, so that it shows when they are not used."""

    def one(path, x):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return x + 0.25 if name.endswith(("norm/mean", "norm/var")) else x

    return jax.tree_util.tree_map_with_path(one, variables)


@functools.cache
def program(objective):
    def one(variables, clock, batch):
        found = objective.loss(variables, batch, clock)
        return found.value, found.metrics["top1"]

    mesh = parallel.make_mesh(jax.devices()[:2])
    return jax.jit(parallel.over_shares(one, mesh, whole=2))


def outcome(objective, batch):
    """Loss and accuracy of every view, [n·v]."""
    return jax.device_get(program(objective)(fresh(objective), CLOCK, batch))


@functools.cache
def encode_program(objective):
    return jax.jit(objective.encode)


def encode(objective, variables):
    images = jnp.asarray(batch()["views"][:, 0])
    return jax.device_get(encode_program(objective)(variables, images))


@functools.cache
def after_steps(objective):
    """Variables before and after two steps."""
    mesh, sgd = parallel.make_mesh(jax.devices()[:2]), optax.sgd(0.5)
    update = train_step.make_update(objective, lambda c, b: b, sgd, total_steps=9)
    step = train_step.make_step(update, mesh)
    variables = fresh(objective)
    state = train_step.TrainState(
        jnp.int32(0), jax.random.key(0), variables, sgd.init(variables.params)
    )
    state, count = parallel.replicate((state, np.int32(1)), mesh)
    batches = parallel.put_steps({k: x[None] for k, x in batch(2).items()}, mesh)
    for _ in range(2):
        state, _ = step(state, count, {}, batches)
    return jax.device_get((variables, state.variables))


def moved(before, after):
    """Paths of the arrays that are not the same bit for bit."""
    before, after = flat(before), flat(after)
    assert before.keys() == after.keys()
    return {p for p in before if not np.array_equal(before[p], after[p])}


def test_of_a_frozen_encoder_no_bit_moves_while_the_head_learns():
    assert moved(*after_steps(FROZEN)) == {
        "params/head/out/kernel",
        "params/head/out/bias",
    }


def test_a_trained_encoder_moves_with_its_head_and_statistics():
    # A bias before a batch normalisation has no effect, and so no gradient.
    found = moved(*after_steps(TRAINED))
    assert found >= {
        "params/encoder/layer/kernel",
        "params/encoder/norm/scale",
        "params/encoder/norm/bias",
        "params/head/out/kernel",
        "params/head/out/bias",
        "memory/encoder/norm/mean",
        "memory/encoder/norm/var",
    }


def test_a_frozen_encoder_uses_its_running_statistics():
    variables, own = jax.device_get(fresh(FROZEN)), batch(2)
    encoder = variables.frozen["encoder"]
    images = own["views"].reshape(-1, 9)
    layer, norm = (encoder["params"][name] for name in ("layer", "norm"))
    stats = encoder["batch_stats"]["norm"]
    hidden = images @ layer["kernel"] + layer["bias"]
    hidden = (hidden - stats["mean"]) / np.sqrt(stats["var"] + np.float32(1e-5))
    features = np.maximum(hidden * norm["scale"] + norm["bias"], 0)
    head = variables.params["head"]["out"]
    logits = features @ head["kernel"] + head["bias"]
    labels = np.repeat(own["label"], 2)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(2 * N), labels]
    value, top1 = outcome(FROZEN, own)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(top1, np.argmax(logits, axis=1) == labels)


def test_only_a_trained_encoder_sees_the_rest_of_the_batch():
    own, other = batch(), batch(seed=1)
    mixed = {k: np.concatenate([own[k][:4], other[k][4:]]) for k in own}
    same = outcome(FROZEN, own)[0][:4], outcome(FROZEN, mixed)[0][:4]
    np.testing.assert_allclose(*same, rtol=1e-6)
    trained = outcome(TRAINED, own)[0][:4], outcome(TRAINED, mixed)[0][:4]
    assert not np.allclose(*trained, rtol=1e-3)


def test_every_view_has_a_value_and_is_right_or_wrong():
    value, top1 = outcome(TRAINED, batch(3))
    assert value.shape == top1.shape == (N * 3,)
    assert (value > 0).all() and set(top1) <= {0, 1}


def test_smoothing_mixes_in_the_mean_over_all_classes():
    own = batch()
    smooth = Classify(Tiny(), Linear(CLASSES), encoder_is="frozen", smoothing=0.3)
    value, _ = outcome(smooth, own)
    every = [
        outcome(FROZEN, {**own, "label": np.full(N, k, np.int32)})[0]
        for k in range(CLASSES)
    ]
    hard, even = outcome(FROZEN, own)[0], np.mean(every, axis=0)
    np.testing.assert_allclose(value, 0.7 * hard + 0.3 * even, rtol=1e-5)


def test_the_sum_of_the_losses_is_n_times_their_mean_on_two_devices():
    released = Classify(Tiny(), Linear(CLASSES), reduction="sum")
    summed, mean = (outcome(each, batch(3))[0] for each in (released, TRAINED))
    np.testing.assert_allclose(summed.mean(), mean.sum(), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, 1.5])
def test_smoothing_out_of_range_is_named(smoothing):
    with pytest.raises(ValueError, match=rf"smoothing {smoothing} must be in \[0, 1\)"):
        Classify(Tiny(), Linear(CLASSES), smoothing=smoothing)


@pytest.mark.parametrize("objective", [TRAINED, FROZEN])
def test_encode_gives_features_and_logits(objective):
    found = encode(objective, fresh(objective))
    assert found["features"].shape == (N, 6) and found["logits"].shape == (N, CLASSES)


@pytest.fixture(scope="module")
def supcon_runs(tmp_path_factory):
    """Two runs of SupCon: their folders and their features of the images."""
    runs, supcon = [], SupCon(Tiny(), Linear(4))
    for seed in (3, 4):
        variables, folder = fresh(supcon, seed), tmp_path_factory.mktemp("run")
        with Checkpoints(folder / STATES, keep=1) as saved:
            arrays = {"params": variables.params, "memory": variables.memory}
            saved.save(3, {VARIABLES: arrays})
        runs.append((str(folder), encode(supcon, variables)["features"]))
    return runs


@pytest.mark.parametrize(
    ("objective", "paths", "places"),
    [
        (FROZEN, FROZEN_ENCODER, ("frozen/encoder/params", "frozen/encoder/batch_sta")),
        (TRAINED, TRAINED_ENCODER, ("params/encoder", "memory/encoder")),
    ],
)
def test_the_encoder_of_a_supcon_run_takes_its_place(
    supcon_runs, objective, paths, places
):
    folder, features = supcon_runs[0]
    before = fresh(objective)
    after = Restore(folder, paths)(before)
    changed = moved(before, after)
    assert changed and all(path.startswith(places) for path in changed)
    np.testing.assert_array_equal(encode(objective, after)["features"], features)


@pytest.mark.parametrize("encoder_is", ["frozen", "frozen in training mode", "trained"])
def test_the_encoders_of_two_runs_stand_side_by_side(supcon_runs, encoder_is):
    both = Concatenated((Tiny(), Tiny()), ("one", "other"))
    objective = Classify(both, Linear(CLASSES), encoder_is=encoder_is)
    variables = fresh(objective)
    for (folder, _), place in zip(supcon_runs, ("one", "other"), strict=True):
        paths = encoder_paths(encoder_is, place=place)
        variables = Restore(folder, paths)(variables)
    np.testing.assert_allclose(
        encode(objective, variables)["features"],
        np.concatenate([features for _, features in supcon_runs], axis=1),
        rtol=1e-6,
    )


def test_an_encoder_frozen_in_training_mode_keeps_its_parameters_only():
    objective = Classify(Tiny(), Linear(CLASSES), encoder_is="frozen in training mode")
    variables = fresh(objective)
    assert variables.frozen["encoder"].keys() == {"params"}
    assert variables.params.keys() == {"head"}

    def memory(variables, batch):
        return parallel.device_average(objective.loss(variables, batch, CLOCK).memory)

    mesh = parallel.make_mesh(jax.devices()[:2])
    after = jax.jit(parallel.data_parallel(memory, mesh))(variables, batch())
    before = variables.memory["encoder"]["norm"]["mean"]
    assert np.abs(after["encoder"]["norm"]["mean"] - before).max() > 1e-3


def test_soft_targets_are_those_of_the_batch():
    own = batch()
    own["target"] = np.full((N, CLASSES), 1 / CLASSES, np.float32)
    soft = Classify(Tiny(), Linear(CLASSES), encoder_is="frozen", targets="target")
    assert soft.needs == {"views", "label", "target"}
    every = [
        outcome(FROZEN, {**own, "label": np.full(N, k, np.int32)})[0]
        for k in range(CLASSES)
    ]
    np.testing.assert_allclose(outcome(soft, own)[0], np.mean(every, axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="softens labels"):
        Classify(Tiny(), Linear(CLASSES), smoothing=0.1, targets="target")
