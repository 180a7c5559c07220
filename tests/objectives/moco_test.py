"""Momentum contrast: the order of its parts, its queue, its negatives, its errors."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.losses.infonce import infonce, instance_logits
from jax_rcl.networks.heads import Linear
from jax_rcl.networks.norms import normalized
from jax_rcl.objectives.moco import MoCo, enqueue
from tests.tiny import quick_jit

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
    settings = {"queue_size": 4 * N, "temperature": 0.2, "momentum": 0.75} | settings
    return MoCo(encoder or Pixels(), Linear(D), **settings)


def batch(seed=0, negatives=0):
    random = np.random.default_rng(seed)
    views = random.uniform(size=(N, 2, 3, 3, 1)).astype(np.float32)
    own = random.uniform(size=(N, negatives, 3, 3, 1)).astype(np.float32)
    return {"views": views, "negatives": own} if negatives else {"views": views}


@functools.cache
def fresh(objective):
    one = {name: jnp.asarray(x[:1]) for name, x in batch(negatives=3).items()}
    return quick_jit(objective.init)(jax.random.key(0), one)


def clock(step):
    return Clock(jax.random.key(step), jnp.int32(step), jnp.float32(0))


@functools.cache
def program(objective, devices):
    def one(whole, batch):
        outcome = objective.loss(whole[0], batch, whole[1])
        return parallel.gather_constant(outcome.value), outcome.memory

    mesh = parallel.make_mesh(jax.devices()[:devices])
    return quick_jit(parallel.data_parallel(one, mesh))


def after(objective, variables, batch, step=0, devices=2):
    """The loss of every query, and the memory of the next step."""
    needed = {name: batch[name] for name in objective.needs}
    found = program(objective, devices)((variables, clock(step)), needed)
    return jax.device_get(found)


def losses_of(*vectors, **settings):
    formula = functools.partial(instance_logits, temperature=0.2, **settings)
    return quick_jit(lambda *arrays: infonce(formula(*arrays)))(*vectors)


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


def test_keys_enter_the_queue_where_the_oldest_are_after_the_logits_saw_it():
    objective, data = moco(), batch()
    variables = jax.device_get(fresh(objective))
    old = variables.memory["queue"]
    q, k = (embedded(variables.params, data["views"][:, i]) for i in (0, 1))
    values, memory = after(objective, variables, data)
    np.testing.assert_allclose(memory["queue"][:N], k, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(memory["queue"][N:], old[N:])
    assert memory["cursor"] == N
    expected = losses_of(q, k, old, np.zeros((N, 0, D), np.float32))
    np.testing.assert_allclose(values, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("cursor", "before", "after"),
    [
        (1, [0, 0, 0, 0, 0], [0, 1, 2, 3, 0]),
        (3, [7, 7, 7, 7, 7], [3, 7, 7, 1, 2]),  # over the end of an imported queue
        (0, [7, 7, 7], [1, 2, 3]),
    ],
)
def test_the_queue_is_a_ring(cursor, before, after):
    keys = jnp.arange(1.0, 4.0)[:, None]
    queue = jnp.array(before, jnp.float32)[:, None]
    found, place = quick_jit(enqueue)(queue, jnp.int32(cursor), keys)
    np.testing.assert_array_equal(found[:, 0], after)
    assert place == (cursor + 3) % len(before)


def test_a_fresh_queue_holds_unit_vectors_in_all_directions():
    queue = np.asarray(fresh(moco(queue_size=4096)).memory["queue"])
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(queue.mean(0), 0, atol=0.05)


@pytest.mark.parametrize(
    ("starts", "step", "share"),
    [("as fast", 0, 1.0), ("as fast", 1, 0.25), ("as given", 0, 0.25)],
)
def test_slow_is_a_copy_at_the_first_step_or_follows_and_makes_the_keys(
    starts, step, share
):
    objective, data = moco(slow_starts=starts), batch()
    before = jax.device_get(fresh(objective))
    variables = changed(before)
    _, memory = after(objective, variables, data, step=step)
    slow = memory["slow"]["projector"]["params"]
    jax.tree.map(
        lambda s, old, new: np.testing.assert_allclose(
            s, old + share * (new - old), rtol=1e-5, atol=1e-6
        ),
        slow,
        before.params["projector"],
        variables.params["projector"],
    )
    # Of this step's average, not of the last one's.
    keys = embedded({"projector": slow}, data["views"][:, 1])
    np.testing.assert_allclose(memory["queue"][:N], keys, rtol=1e-5, atol=1e-6)


def test_own_negatives_stand_behind_the_queue_scaled_by_alpha_and_never_enter_it():
    objective, data = moco(negatives=3, alpha=2.0), batch(negatives=3)
    variables = jax.device_get(fresh(objective))
    q, k = (embedded(variables.params, data["views"][:, i]) for i in (0, 1))
    t = np.stack(
        [embedded(variables.params, data["negatives"][:, i]) for i in range(3)], axis=1
    )
    queue = variables.memory["queue"]
    values, memory = after(objective, variables, data)
    expected = losses_of(q, k, queue, t, alpha=2.0)
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    np.testing.assert_allclose(memory["queue"][:N], k, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(memory["queue"][N:], queue[N:])


def test_a_shuffle_changes_who_is_normalised_together_and_nothing_else():
    data, variables = batch(), fresh(moco(Normed()))
    shuffled = moco(Normed(), keys="shuffled")
    _, straight = after(moco(Normed()), variables, data, devices=4)
    one, four = (after(shuffled, variables, data, devices=k) for k in (1, 4))
    assert not np.allclose(straight["queue"], four[1]["queue"], atol=1e-3)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(close, one, four)
    # Where normalisation sees one example alone, there is nothing that shuffling moves.
    _, straight = after(moco(), fresh(moco()), data)
    _, shuffled = after(moco(keys="shuffled"), fresh(moco()), data, devices=4)
    np.testing.assert_allclose(
        straight["queue"], shuffled["queue"], rtol=1e-5, atol=1e-6
    )


def test_no_gradient_reaches_the_slow_networks():
    objective, data = moco(negatives=3), batch(negatives=3)
    variables = fresh(objective)

    def gradient(variables, data):
        def total(params):
            own = variables.replace(params=params)
            return parallel.mean(objective.loss(own, data, clock(1)).value)

        return jax.grad(total)(variables.params)

    mesh = parallel.make_mesh(jax.devices()[:2])
    found = quick_jit(parallel.data_parallel(gradient, mesh))(variables, data)
    keys = embedded(variables.params, data["views"][:, 1])
    negatives = [embedded(variables.params, data["negatives"][:, i]) for i in range(3)]

    def reference(params, keys, negatives):
        out = params["projector"]["out"]
        z = data["views"][:, 0].reshape(N, -1) @ out["kernel"] + out["bias"][None]
        queries = z / jnp.linalg.norm(z, axis=1, keepdims=True)
        queue = variables.memory["queue"]
        logits = instance_logits(queries, keys, queue, negatives, temperature=0.2)
        return infonce(logits).mean()

    slope = quick_jit(jax.grad(reference))
    expected = slope(variables.params, keys, np.stack(negatives, axis=1))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
    jax.tree.map(close, found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 2.0}, r"MoCo.alpha 2.0 scales negatives, but there are none; write"),
        ({"alpha": 0.0, "negatives": 1}, "MoCo.alpha 0.0 must be above 0, or write"),
    ],
)
def test_a_factor_that_scales_nothing_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        moco(**settings)


def test_a_queue_that_the_global_batch_does_not_divide_is_refused():
    variables = fresh(moco())
    with pytest.raises(ValueError, match=r"queue_size 20 must be .* batch 8.*Try 16"):
        after(moco(queue_size=20), variables, batch())


def test_a_batch_of_other_views_or_negatives_is_refused():
    data, variables = batch(negatives=1), fresh(moco())
    with pytest.raises(ValueError, match=r"negatives is 2, but the augment makes 1"):
        after(moco(negatives=2), variables, data)
    three = {"views": np.concatenate([data["views"], data["views"][:, :1]], axis=1)}
    with pytest.raises(ValueError, match=r"two views, .* the batch has 3"):
        after(moco(), variables, three)


def test_what_it_reads_depends_on_whether_there_are_negatives():
    assert moco().needs == {"views"}
    assert moco(negatives=1).needs == {"views", "negatives"}
