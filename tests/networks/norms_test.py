"""Who shares statistics: the global batch, one device's share, or one example."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.networks.norms import normalized
from jax_rcl.networks.resnet import ResNet

DEVICES = 4


class Layer(nn.Module):
    norm: Any
    ghost_batch: int | None = None
    repeats: int = 1

    @nn.compact
    def __call__(self, x, *, train):
        own = {"ghost_batch": self.ghost_batch, "repeats": self.repeats}
        return normalized(x, self.norm, train=train, name="norm", **own)


def batch(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32) * 3 + 1


def initial(network, x):
    """Variables as at the start, but for kernels, without compiling `init`."""
    init = functools.partial(network.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x)
    draws = np.random.RandomState(0)

    def fill(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return draws.randn(*leaf.shape).astype(np.float32) / 5
        return np.full(leaf.shape, name in ("scale", "var"), np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def train(network, x, devices):
    """Outputs and statistics of one training step on so many devices."""
    variables = initial(network, x)

    def step(variables, x):
        y, changed = network.apply(variables, x, train=True, mutable=["batch_stats"])
        return parallel.gather_constant(y), changed.get("batch_stats", {})

    mesh = parallel.make_mesh(jax.devices()[:devices])
    share = parallel.put(x, mesh)
    variables = parallel.replicate(variables, mesh)
    y, statistics = jax.jit(parallel.data_parallel(step, mesh))(variables, share)
    return np.asarray(y), jax.tree.map(np.asarray, statistics)


def test_synchronised_networks_do_not_see_the_number_of_devices():
    network = ResNet(depth=10, width=4, stem="small")
    x = batch(8, 8, 8, 1)
    alone, alone_statistics = train(network, x, 1)
    together, statistics = train(network, x, 8)
    np.testing.assert_allclose(together, alone, rtol=2e-4, atol=2e-5)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
        statistics,
        alone_statistics,
    )


def test_sync_normalises_by_the_global_batch():
    x = batch(8, 5)
    y, statistics = train(Layer("sync"), x, DEVICES)
    np.testing.assert_allclose(
        y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        statistics["norm"]["mean"], 0.1 * x.mean(0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        statistics["norm"]["var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-5
    )


def test_local_normalises_by_the_share_and_keeps_the_average():
    x = batch(32, 5)
    y, statistics = train(Layer("local"), x, DEVICES)
    shares = x.reshape(DEVICES, 8, 5)
    mean, var = shares.mean(1), shares.var(1)
    unbiased = shares.var(1, ddof=1)
    expected = (shares - mean[:, None]) / np.sqrt(var[:, None] + 1e-5)
    np.testing.assert_allclose(y, expected.reshape(32, 5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        statistics["norm"]["mean"], 0.1 * mean.mean(0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        statistics["norm"]["var"], 0.9 + 0.1 * unbiased.mean(0), rtol=1e-5
    )


def test_local_and_sync_are_the_same_on_one_device():
    x = batch(8, 5)
    local, sync = (train(Layer(norm), x, 1) for norm in ("local", "sync"))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, local, sync)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_ghost_batches_are_the_same_on_any_number_of_devices(devices):
    x = batch(32, 2, 3, 5)
    y, statistics = train(Layer("local", ghost_batch=8), x, devices)
    parts = x.reshape(4, 8 * 2 * 3, 5)
    mean, var = parts.mean(1), parts.var(1)
    unbiased = parts.var(1, ddof=1)
    expected = (parts - mean[:, None]) / np.sqrt(var[:, None] + 1e-5)
    np.testing.assert_allclose(y, expected.reshape(x.shape), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        statistics["norm"]["mean"], 0.1 * mean.mean(0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        statistics["norm"]["var"], 0.9 + 0.1 * unbiased.mean(0), rtol=1e-5
    )


@pytest.mark.parametrize("norm", ["sync", "local"])
def test_running_statistics_are_those_of_pytorch(norm):
    # What torch.nn.BatchNorm2d(2) keeps after this batch.
    _, statistics = train(Layer(norm), batch(8, 3, 1, 2), 1)
    found = statistics["norm"]
    np.testing.assert_allclose(found["mean"], [0.17522489, 0.13545763], rtol=1e-5)
    np.testing.assert_allclose(found["var"], [2.2028217, 1.9384985], rtol=1e-6)


def test_a_value_may_stand_for_several():
    x = batch(8, 5)
    alone, statistics = train(Layer("sync", repeats=4), x, DEVICES)
    whole, expected = train(Layer("sync"), x.repeat(4, axis=0), DEVICES)
    np.testing.assert_allclose(alone, whole[::4], rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        found = statistics["norm"][name]
        np.testing.assert_allclose(found, expected["norm"][name], rtol=1e-5, atol=1e-6)


def test_a_ghost_batch_divides_the_rows_of_a_device():
    with pytest.raises(ValueError, match=r"ghost_batch 6 must divide the 16 rows .* 2"):
        train(Layer("local", ghost_batch=6), batch(32, 5), 2)


@pytest.mark.parametrize(
    ("norm", "ghost_batch", "message"),
    [("sync", 8, 'is for norm="local"'), ("local", 0, "must be at least 1")],
)
def test_a_ghost_batch_that_nothing_can_use_is_refused(norm, ghost_batch, message):
    with pytest.raises(ValueError, match=message):
        ResNet(10, norm=norm, ghost_batch=ghost_batch)


def test_group_sees_one_example():
    x = batch(4, 3, 3, 8)
    y, statistics = train(Layer("group"), x, 1)
    # 8 channels in 8 groups: each channel by its own mean over places.
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4)
    assert statistics == {}


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (8, 8), (6, 2)])
def test_groups_divide_the_channels(channels, groups):
    x = batch(2, 4, channels)
    y, _ = train(Layer("group"), x, 1)
    parts = x.reshape(2, 4, groups, -1)
    mean, var = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
    expected = (parts - mean) / np.sqrt(var + 1e-5)
    np.testing.assert_allclose(y, expected.reshape(x.shape), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["sync", "local"])
def test_evaluation_needs_no_devices_and_keeps_statistics(norm):
    layer, x = Layer(norm), jnp.asarray(batch(8, 5))
    variables = layer.init(jax.random.key(0), x, train=True)
    y, changed = layer.apply(variables, x, train=False, mutable=["batch_stats"])
    np.testing.assert_allclose(y, np.asarray(x) / np.sqrt(1 + 1e-5), rtol=1e-6)
    jax.tree.map(
        np.testing.assert_array_equal,
        changed["batch_stats"],
        variables["batch_stats"],
    )


@pytest.mark.parametrize("norm", ["sync", "local"])
def test_training_outside_data_parallel_is_refused(norm):
    layer, x = Layer(norm), jnp.asarray(batch(8, 5))
    variables = layer.init(jax.random.key(0), x, train=True)
    with pytest.raises(NameError, match="data"):
        layer.apply(variables, x, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("norm", ["sync", "local", "group"])
def test_bfloat16_activations_have_float32_statistics(norm):
    x = (batch(8, 32) / 100 + 3).astype(jnp.bfloat16)
    y, statistics = train(Layer(norm), x, 1)
    assert y.dtype == jnp.bfloat16
    if norm != "group":
        full = np.asarray(x, np.float64)
        np.testing.assert_allclose(
            statistics["norm"]["mean"], 0.1 * full.mean(0), rtol=1e-5
        )
        assert statistics["norm"]["mean"].dtype == np.float32
