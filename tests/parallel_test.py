"""What crosses devices: shares, keys, rows of a data set, and gradients."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel

N = 16

on_any_number = pytest.mark.parametrize("devices", [1, 8])


def mesh(devices):
    return parallel.make_mesh(jax.devices()[:devices])


def shares(function, devices, *, whole=()):
    """`function` of the devices' shares of some rows, jitted; it gives shares."""
    lead = len(whole)
    mapped = jax.jit(parallel.over_shares(function, mesh(devices), whole=lead))
    return lambda share: jax.device_get(mapped(*whole, share))


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@on_any_number
def test_gather_gives_every_device_all_rows_in_order(devices):
    x = {"a": numbers(N, 3), "b": np.arange(N, dtype=np.int32)}
    found = shares(lambda x: jax.tree.map(parallel.gather, x), devices)(x)
    np.testing.assert_array_equal(found["a"], np.tile(x["a"], (devices, 1)))
    np.testing.assert_array_equal(found["b"], np.tile(x["b"], devices))


@on_any_number
def test_a_gathered_constant_is_exact_and_may_leave_the_step(devices):
    x = (1000 * numbers(N, 3)).astype(np.int32)
    tree = [x.astype(dtype) for dtype in (np.float32, np.int32, np.uint8)]
    gathered = parallel.data_parallel(
        lambda tree: jax.tree.map(parallel.gather_constant, tree),
        mesh(devices),
        whole=0,
    )
    for found, expected in zip(jax.jit(gathered)(tree), tree, strict=True):
        assert found.dtype == expected.dtype and found.is_fully_replicated
        np.testing.assert_array_equal(found, expected)


def test_a_gathered_constant_has_no_gradient():
    def gradient(x):
        return jax.grad(lambda x: parallel.mean(parallel.gather_constant(x) * x[0]))(x)

    x = numbers(N)
    found = shares(gradient, 2)(x)
    # Only the factor x[0] of each device is differentiated.
    expected = np.zeros(N, np.float32)
    expected[[0, N // 2]] = x.mean() / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@on_any_number
def test_mean_is_over_all_axes_and_devices_leaf_by_leaf(devices):
    x = {"a": numbers(N, 2, 3), "b": numbers(N, seed=1)}
    found = jax.jit(parallel.data_parallel(parallel.mean, mesh(devices), whole=0))(x)
    for name in x:
        assert found[name].shape == ()
        np.testing.assert_allclose(found[name], x[name].mean(), rtol=1e-5, atol=1e-6)


@on_any_number
def test_a_device_average_keeps_shapes(devices):
    x = numbers(N, 3)
    average = parallel.data_parallel(parallel.device_average, mesh(devices), whole=0)
    found = jax.jit(average)(x)
    expected = x.reshape(devices, -1, 3).mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@on_any_number
def test_ids_are_places_in_the_global_batch(devices):
    found = shares(lambda x: parallel.example_ids(len(x)), devices)(numbers(N))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.arange(N))


@on_any_number
def test_keys_belong_to_places_in_the_global_batch(devices):
    key = jax.random.key(3)

    def data(key, x):
        return jax.random.key_data(parallel.example_keys(key, len(x)))

    found = shares(data, devices, whole=(key,))(numbers(N))
    expected = [jax.random.key_data(jax.random.fold_in(key, i)) for i in range(N)]
    np.testing.assert_array_equal(found, np.stack(expected))
    assert len(np.unique(found, axis=0)) == N


@on_any_number
@pytest.mark.parametrize("rows", [1, 8, 13])
def test_rows_of_a_data_set_laid_out_come_back_exactly(devices, rows):
    random = np.random.default_rng(rows)
    arrays = {
        "image": random.integers(0, 256, (rows, 2, 2, 3), np.uint8),
        "label": random.integers(-(2**31), 2**31 - 1, rows).astype(np.int32),
        "prior": random.normal(size=(rows, 4)).astype(np.float32) * 1e30,
    }
    laid_out = parallel.spread(arrays, mesh(devices))
    assert len(laid_out["image"]) == -(-rows // devices) * devices
    held = [len(x.data) for x in laid_out["image"].addressable_shards]
    assert held == [-(-rows // devices)] * devices

    indices = random.integers(0, rows, N).astype(np.int32)
    indices[:2] = 0, rows - 1
    taken = shares(lambda pair: parallel.take(*pair), devices)((laid_out, indices))
    for name, array in arrays.items():
        assert taken[name].dtype == array.dtype
        np.testing.assert_array_equal(taken[name], array[indices])


@on_any_number
def test_put_splits_the_first_axis_and_put_steps_the_second(devices):
    x = {"a": numbers(3, N, 2), "b": np.arange(3 * N).reshape(3, N).astype(np.int32)}
    b = N // devices
    one = parallel.put({name: rows[0] for name, rows in x.items()}, mesh(devices))
    several = parallel.put_steps(x, mesh(devices))
    for name, rows in x.items():
        parts = zip(
            one[name].addressable_shards, several[name].addressable_shards, strict=True
        )
        for place, (part, parts_of_steps) in enumerate(parts):
            own = slice(place * b, (place + 1) * b)
            np.testing.assert_array_equal(part.data, rows[0][own])
            np.testing.assert_array_equal(parts_of_steps.data, rows[:, own])
        assert several[name].sharding == parallel.split_steps(mesh(devices))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_replicate_places_everything_everywhere_keys_included(impl):
    tree = {
        "key": jax.random.key(5, impl=impl),
        "keys": jax.random.split(jax.random.key(6, impl=impl), 3),
        "x": jnp.arange(3.0),
        "count": np.int32(7),
        "nothing": {},
    }
    placed = parallel.replicate(tree, mesh(8))
    assert jax.tree.structure(placed) == jax.tree.structure(tree)
    for before, after in zip(
        jax.tree.leaves(tree), jax.tree.leaves(placed), strict=True
    ):
        assert after.is_fully_replicated and len(after.devices()) == 8
        assert after.dtype == before.dtype and after.shape == before.shape
    data = jax.random.key_data
    np.testing.assert_array_equal(data(placed["key"]), data(tree["key"]))
    np.testing.assert_array_equal(data(placed["keys"]), data(tree["keys"]))
    np.testing.assert_array_equal(placed["x"], tree["x"])
    assert placed["count"] == 7


def test_fetch_gives_whole_numpy_arrays():
    x = numbers(N, 2)
    tree = {
        "split": parallel.put(x, mesh(8)),
        "same": parallel.replicate(x, mesh(8)),
        "host": x,
        "here": jax.device_put(x, parallel.here()),
    }
    for found in jax.tree.leaves(parallel.fetch(tree)):
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, x)


# Gradients.


def contrast(weights, rows, gather):
    """Log of the sum of similarities of each row with all rows."""
    z = jnp.tanh(rows @ weights)
    return jax.nn.logsumexp(z @ gather(z).T, axis=1)


@on_any_number
def test_the_gradient_of_the_mean_is_that_of_one_device(devices):
    x, weights = numbers(N, 4), numbers(4, 3, seed=1)

    def gradient(weights, rows):
        def loss(weights):
            return parallel.mean(contrast(weights, rows, parallel.gather))

        return jax.value_and_grad(loss)(weights)

    found = jax.jit(parallel.data_parallel(gradient, mesh(devices)))(weights, x)
    alone = jax.value_and_grad(lambda w: contrast(w, x, lambda z: z).mean())
    for ours, theirs in zip(found, jax.jit(alone)(weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@on_any_number
def test_a_gradient_goes_through_gather_to_the_rows_of_other_devices(devices):
    x, factors = numbers(N), numbers(N, seed=1)

    def gradient(rows):
        # Only the first device's value depends on anything.
        first = parallel.example_ids(1)[0] == 0

        def loss(rows):
            value = jnp.sum(parallel.gather(rows) ** 2 * factors)
            return parallel.mean(jnp.where(first, value, 0.0))

        return jax.grad(loss)(rows)

    found = shares(gradient, devices)(x)
    np.testing.assert_allclose(found, 2 * x * factors / devices, rtol=1e-5)


# Processes.


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"coordinator": "host:1"}, "processes, process"),
        ({"processes": 2, "process": 0}, "coordinator"),
        ({"coordinator": "host:1", "processes": 2}, "process"),
    ],
)
def test_a_multi_process_run_is_described_in_full_or_not_at_all(given, missing):
    with pytest.raises(ValueError, match=rf"--process together; missing: {missing}\."):
        parallel.start(**given)


def test_three_arguments_reach_jax_as_they_are(monkeypatch):
    seen = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: seen.append(a))
    parallel.start("host:1", 2, 0)
    assert seen == [("host:1", 2, 0)]


def test_a_recognised_cluster_is_joined(monkeypatch):
    seen = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a: seen.append(a))
    parallel.start()
    assert seen == [()]


@pytest.mark.parametrize("error", [RuntimeError("no reply"), ValueError("bad port")])
def test_a_cluster_that_cannot_be_joined_is_an_error(monkeypatch, error):
    def initialize():
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(type(error), match=str(error)):
        parallel.start()


def test_without_a_cluster_there_is_one_process():
    program = (
        "from jax_rcl import parallel; parallel.start(); "
        "print(parallel.process_count(), parallel.process_index(), parallel.is_main())"
    )
    cluster = ("SLURM", "OMPI", "TPU", "MEGASCALE", "KUBERNETES", "PMI")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(cluster)}
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.stdout.split() == ["1", "0", "True"], told.stderr


def test_one_process_agrees_with_itself_and_waits_for_nobody():
    assert parallel.agree(True) and not parallel.agree(False)
    parallel.barrier("alone")


@on_any_number
def test_a_shuffle_is_a_permutation_of_the_global_batch_that_can_be_undone(devices):
    x, key = np.arange(N, dtype=np.int32), jax.random.key(3)

    def there_and_back(key, x):
        moved = parallel.shuffle(x, key)
        return moved, parallel.unshuffle(moved, key)

    moved, back = shares(there_and_back, devices, whole=(key,))(x)
    assert sorted(moved) == list(x) and (moved != x).any()
    order = np.asarray(jax.random.permutation(key, N))
    np.testing.assert_array_equal(moved, x[order])
    np.testing.assert_array_equal(back, x)


@on_any_number
def test_the_global_batch_is_that_of_all_devices(devices):
    count = parallel.data_parallel(
        lambda x: jnp.int32(parallel.global_count(len(x))), mesh(devices), whole=0
    )
    assert jax.jit(count)(np.zeros(N)) == N


@pytest.mark.parametrize("unoptimized", [True, False])
def test_what_runs_once_is_what_jit_gives(unoptimized):
    def draw(key):
        return jax.random.normal(key, (5, 3)), jax.random.uniform(key, (2,))

    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", unoptimized)
    try:
        found = parallel.run_once(draw, jax.random.key(3))
        expected = jax.jit(draw)(jax.random.key(3))
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_what_ends_all_processes_is_known_for_it(monkeypatch):
    parallel.raise_everywhere(None)
    error = ValueError("of the main one")
    with pytest.raises(ValueError, match="of the main one"):
        parallel.raise_everywhere(error)
    assert not parallel.ends_everywhere(error)  # of one process
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert parallel.ends_everywhere(error)
    assert not parallel.ends_everywhere(ValueError("of the main one"))
    assert not parallel.ends_everywhere(None)
