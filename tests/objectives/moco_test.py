"""Momentum contrast: the order of its parts, its queue, its negatives, its errors."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.losses import infonce
from jax_rcl.networks.heads import Linear
from jax_rcl.networks.norms import normalized
from jax_rcl.objectives.moco import MoCo, enqueue

N, D = 8, 4


class Pixels(nn.Module):
    """All pixels of an image, as they are."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(len(images), -1)


class Normed(nn.Module):
    """All pixels, normalised by the statistics of two examples."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(len(images), -1)
        return normalized(x, "local", train=train, name="norm", ghost_batch=2)


def moco(encoder=None, **settings):
    settings = {"queue_size": 4 * N, "temperature": 0.2} | settings
    return MoCo(encoder or Pixels(), Linear(D), **settings)


def batch(seed=0, negatives=0):
    random = np.random.default_rng(seed)
    views = random.uniform(size=(N, 2, 3, 3, 1)).astype(np.float32)
    own = random.uniform(size=(N, negatives, 3, 3, 1)).astype(np.float32)
    return {"views": views, "negatives": own} if negatives else {"views": views}


def fresh(objective, like):
    one = {name: jnp.asarray(x[:1]) for name, x in like.items()}
    return jax.jit(objective.init)(jax.random.key(0), one)


def clock(step):
    return Clock(jax.random.key(step), jnp.int32(step), jnp.float32(0))


def memory_after(objective, variables, batch, step=0, devices=2):
    def one(whole, batch):
        outcome = objective.loss(whole[0], batch, whole[1])
        return outcome.memory

    mesh = parallel.make_mesh(jax.devices()[:devices])
    program = jax.jit(parallel.data_parallel(one, mesh))
    return jax.device_get(program((variables, clock(step)), batch))


def values(objective, variables, batch, step=0, devices=2):
    def one(whole, batch):
        return objective.loss(whole[0], batch, whole[1]).value

    mesh = parallel.make_mesh(jax.devices()[:devices])
    program = jax.jit(parallel.over_shares(one, mesh))
    return np.asarray(program((variables, clock(step)), batch))


def logits_of(*vectors, **settings):
    arrays = map(jnp.asarray, vectors)
    return infonce.instance_logits(*arrays, temperature=0.2, **settings)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embedded(params, images):
    """Unit embeddings of images in numpy, for an encoder that leaves them alone."""
    out = params["projector"]["out"]
    flat = images.reshape(len(images), -1)
    return unit(flat @ np.asarray(out["kernel"]) + np.asarray(out["bias"]))


def changed(variables, seed=5):
    """The same variables with other trained parameters."""
    random = np.random.default_rng(seed)
    params = jax.tree.map(
        lambda x: x + random.normal(size=x.shape).astype(np.float32), variables.params
    )
    return variables.replace(params=params)


def test_keys_enter_the_queue_where_the_oldest_are_and_the_pointer_goes_on():
    objective, data = moco(), batch()
    variables = fresh(objective, data)
    old = np.asarray(variables.memory["queue"])
    keys = embedded(variables.params, data["views"][:, 1])
    memory = memory_after(objective, variables, data)
    np.testing.assert_allclose(memory["queue"][:N], keys, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(memory["queue"][N:], old[N:])
    assert memory["cursor"] == N


def test_the_logits_of_a_step_see_the_queue_as_it_was_before():
    objective, data = moco(), batch()
    variables = fresh(objective, data)
    q, k = (embedded(variables.params, data["views"][:, i]) for i in (0, 1))
    queue = np.asarray(variables.memory["queue"])
    none = np.zeros((N, 0, D), np.float32)
    logits = logits_of(q, k, queue, none)
    found = values(objective, variables, data)
    np.testing.assert_allclose(found, infonce.infonce(logits), rtol=1e-4)


def test_the_queue_is_a_ring():
    queue, cursor = jnp.zeros((6, 1)), jnp.int32(0)
    for number in range(1, 5):
        queue, cursor = enqueue(queue, cursor, jnp.full((2, 1), float(number)))
    np.testing.assert_array_equal(queue[:, 0], [4, 4, 2, 2, 3, 3])
    assert cursor == 2


def test_keys_go_round_the_end_of_a_queue_that_came_with_another_cursor():
    old, keys = jnp.zeros((5, 1)), jnp.arange(1.0, 4.0)[:, None]
    queue, cursor = enqueue(old, jnp.int32(3), keys)
    np.testing.assert_array_equal(queue[:, 0], [3, 0, 0, 1, 2])
    assert cursor == 1


def test_a_queue_of_one_batch_is_replaced_whole():
    queue, cursor = enqueue(jnp.zeros((2, 1)), jnp.int32(0), jnp.ones((2, 1)))
    np.testing.assert_array_equal(queue, 1)
    assert cursor == 0


def test_a_fresh_queue_holds_unit_vectors_in_all_directions():
    queue = np.asarray(fresh(moco(queue_size=4096), batch()).memory["queue"])
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(queue.mean(0), 0, atol=0.05)


def test_slow_begins_as_fast_and_follows_it_from_the_second_step_on():
    objective, data = moco(momentum=0.9), batch()
    variables = fresh(objective, data)
    start = jax.device_get(variables.params["projector"])
    same = memory_after(objective, variables, data)["slow"]["projector"]["params"]
    jax.tree.map(np.testing.assert_array_equal, same, start)
    moved = changed(variables)
    slow = memory_after(objective, moved, data, step=1)["slow"]["projector"]["params"]
    jax.tree.map(
        lambda s, old, new: np.testing.assert_allclose(
            s, 0.9 * old + 0.1 * new, rtol=1e-5, atol=1e-6
        ),
        slow,
        start,
        jax.device_get(moved.params["projector"]),
    )


def test_at_the_first_step_slow_is_a_copy_also_of_imported_weights():
    objective, data = moco(), batch()
    imported = changed(fresh(objective, data))
    slow = memory_after(objective, imported, data)["slow"]["projector"]["params"]
    jax.tree.map(np.testing.assert_array_equal, slow, imported.params["projector"])


def test_slow_networks_that_were_given_are_kept_where_that_is_said():
    objective, data = moco(momentum=0.9, slow_starts="as given"), batch()
    given = fresh(objective, data)
    variables = changed(given)
    slow = memory_after(objective, variables, data)["slow"]["projector"]["params"]
    jax.tree.map(
        lambda s, old, new: np.testing.assert_allclose(
            s, 0.9 * old + 0.1 * new, rtol=1e-5, atol=1e-6
        ),
        slow,
        jax.device_get(given.params["projector"]),
        jax.device_get(variables.params["projector"]),
    )


def test_keys_come_from_the_average_of_this_step():
    objective, data = moco(momentum=0.5), batch()
    variables = changed(fresh(objective, data))
    memory = memory_after(objective, variables, data, step=1)
    slow = {"projector": memory["slow"]["projector"]["params"]}
    keys = embedded(slow, data["views"][:, 1])
    np.testing.assert_allclose(memory["queue"][:N], keys, rtol=1e-5, atol=1e-6)


def test_own_negatives_stand_behind_the_queue_scaled_by_alpha():
    objective = moco(negatives=3, alpha=2.0)
    data = batch(negatives=3)
    variables = fresh(objective, data)
    q, k = (embedded(variables.params, data["views"][:, i]) for i in (0, 1))
    t = np.stack(
        [embedded(variables.params, data["negatives"][:, i]) for i in range(3)], axis=1
    )
    queue = np.asarray(variables.memory["queue"])
    logits = logits_of(q, k, queue, t, alpha=2.0)
    assert logits.shape == (N, 1 + 4 * N + 3)
    found = values(objective, variables, data)
    np.testing.assert_allclose(found, infonce.infonce(logits), rtol=1e-4)


def test_own_negatives_never_enter_the_queue():
    with_them, plain = moco(negatives=2), moco()
    data = batch(negatives=2)
    variables = fresh(with_them, data)
    one, other = (memory_after(o, variables, data) for o in (with_them, plain))
    np.testing.assert_array_equal(one["queue"], other["queue"])


@pytest.mark.parametrize("devices", [1, 4])
def test_a_shuffle_changes_who_is_normalised_together_and_nothing_else(devices):
    data = batch()
    straight, shuffled = moco(Normed()), moco(Normed(), keys="shuffled")
    variables = fresh(straight, data)
    keys = {}
    for name, objective in (("straight", straight), ("shuffled", shuffled)):
        memory = memory_after(objective, variables, data, devices=devices)
        keys[name] = memory["queue"][:N]
    assert not np.allclose(keys["straight"], keys["shuffled"], atol=1e-3)
    # Where normalisation sees one example alone, there is nothing that shuffling moves.
    memory = {
        name: memory_after(o, fresh(o, data), data, devices=devices)
        for name, o in (("straight", moco()), ("shuffled", moco(keys="shuffled")))
    }
    np.testing.assert_allclose(
        memory["straight"]["queue"], memory["shuffled"]["queue"], rtol=1e-5, atol=1e-6
    )


def test_shuffled_keys_are_the_same_on_one_device_and_on_four():
    objective, data = moco(Normed(), keys="shuffled"), batch()
    variables = fresh(objective, data)
    one, four = (memory_after(objective, variables, data, devices=k) for k in (1, 4))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, one, four)


def test_no_gradient_reaches_the_slow_networks():
    objective, data = moco(negatives=1), batch(negatives=1)
    variables = fresh(objective, data)

    def gradient(variables, data):
        def total(params):
            own = variables.replace(params=params)
            return parallel.mean(objective.loss(own, data, clock(1)).value)

        return jax.grad(total)(variables.params)

    mesh = parallel.make_mesh(jax.devices()[:2])
    found = jax.jit(parallel.data_parallel(gradient, mesh))(variables, data)

    def reference(params):
        def embed(images, out):
            z = images.reshape(N, -1) @ out["kernel"] + out["bias"][None]
            return z / jnp.linalg.norm(z, axis=1, keepdims=True)

        constant = variables.params["projector"]["out"]
        logits = logits_of(
            embed(data["views"][:, 0], params["projector"]["out"]),
            embed(data["views"][:, 1], constant),
            variables.memory["queue"],
            embed(data["negatives"][:, 0], constant)[:, None],
        )
        return infonce.infonce(logits).mean()

    expected = jax.grad(reference)(variables.params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 2.0}, r"alpha 2.0 scales negatives, of which there are none; write"),
        ({"alpha": 0.0, "negatives": 1}, "alpha 0.0 must be above 0; for MoCo without"),
        ({"queue_size": 0}, "queue_size 0 must be at least 1"),
        ({"negatives": -1}, "negatives -1 must be at least 0"),
        ({"momentum": 1.0}, r"momentum 1.0 must be in \[0, 1\)"),
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        moco(**settings)


def test_a_queue_that_the_global_batch_does_not_divide_is_refused():
    variables = fresh(moco(), batch())
    with pytest.raises(ValueError, match=r"queue_size 20 must be .* batch 8.*Try 16"):
        memory_after(moco(queue_size=20), variables, batch())


def test_a_batch_of_other_views_or_negatives_is_refused():
    data = batch(negatives=1)
    variables = fresh(moco(), data)
    with pytest.raises(ValueError, match=r"negatives is 2, but the augment makes 1"):
        memory_after(moco(negatives=2), variables, data)
    three = {"views": np.concatenate([data["views"], data["views"][:, :1]], axis=1)}
    with pytest.raises(ValueError, match=r"two views, .* the batch has 3"):
        memory_after(moco(), variables, three)


def test_what_it_reads_depends_on_whether_there_are_negatives():
    assert moco().needs == {"views"}
    assert moco(negatives=1).needs == {"views", "negatives"}
