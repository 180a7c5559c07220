"""The one update: what it computes, how often it is compiled, what it gets."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl import parallel
from jax_rcl.core import Outcome, Variables
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Plateau
from jax_rcl.train import step as train_step
from jax_rcl.train.step import INDEX, TrainState

N, RATE, TOTAL = 8, 0.1, 40
SGD = optax.sgd(RATE)


@dataclasses.dataclass(frozen=True)
class Line:
    """Least squares; it counts its steps and knows one number that nobody changes."""

    needs = frozenset({"x", "y"})

    def init(self, key, batch):
        weights = jax.random.normal(key, batch["x"].shape[1:])
        frozen = {"offset": jnp.float32(0.5)}
        return Variables({"weights": weights}, frozen, {"seen": jnp.int32(0)})

    def loss(self, variables, batch, clock):
        error = batch["x"] @ variables.params["weights"] - batch["y"]
        value = (error + variables.frozen["offset"]) ** 2
        memory = {"seen": variables.memory["seen"] + 1}
        return Outcome(value, memory, {"error": jnp.abs(error), "at": clock.progress})

    def encode(self, variables, images):
        return {"features": images}


@dataclasses.dataclass
class Noisy:
    """Adds noise to `x`, and counts how often it is traced."""

    traced: int = 0

    def __call__(self, clock, batch):
        self.traced += 1
        keys = parallel.example_keys(clock.key, len(batch["x"]))
        noise = jax.vmap(lambda key: jax.random.normal(key, batch["x"].shape[1:]))
        return {**batch, "x": batch["x"] + 0.1 * noise(keys)}


def plain(clock, batch):
    return batch


def examples(count, seed=0):
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(count, 3)), random.normal(size=count)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}


def stacked(steps, seed=0):
    many = examples(steps * N, seed)
    return {k: x.reshape(steps, N, *x.shape[1:]) for k, x in many.items()}


def fresh(seed=0, optimizer=SGD):
    one = {name: jnp.asarray(x) for name, x in examples(1).items()}
    return train_step.create(Line(), optimizer, seed, one)


class Trainer:
    """A step on some devices, and its state."""

    def __init__(self, *, augment=plain, devices=2, steps_per_call=1, optimizer=SGD):
        self.mesh = parallel.make_mesh(jax.devices()[:devices])
        update = train_step.make_update(Line(), augment, optimizer, total_steps=TOTAL)
        self.step = train_step.make_step(
            update, self.mesh, steps_per_call=steps_per_call
        )
        self.optimizer = optimizer
        self.restart()

    def restart(self):
        self.state = parallel.replicate(fresh(optimizer=self.optimizer), self.mesh)

    def __call__(self, batches, count=1, data=None):
        self.state, metrics = self.step(
            self.state,
            parallel.replicate(np.int32(count), self.mesh),
            {} if data is None else parallel.spread(data, self.mesh),
            parallel.put_steps(batches, self.mesh),
        )
        return jax.device_get(metrics)

    @property
    def variables(self):
        return jax.device_get(self.state.variables)


def assert_same(one, other, **tolerance):
    def same(a, b):
        np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 0, **tolerance})

    jax.tree.map(same, one.variables, other.variables)
    assert one.state.step == other.state.step


@functools.cache
def compiled_noisy(steps_per_call):
    return Trainer(augment=Noisy(), steps_per_call=steps_per_call)


def noisy(steps_per_call=4):
    """A trainer with noise at its first step, compiled once for all tests."""
    trainer = compiled_noisy(steps_per_call)
    trainer.restart()
    return trainer


@pytest.mark.parametrize("devices", [1, 8])
def test_an_update_is_a_step_against_the_gradient_of_the_mean_loss(devices):
    trainer, batch = Trainer(devices=devices), examples(N)
    before = trainer.variables

    def mean_loss(weights):
        return jnp.mean((batch["x"] @ weights - batch["y"] + 0.5) ** 2)

    loss, gradient = jax.value_and_grad(mean_loss)(before.params["weights"])
    metrics = trainer({name: x[None] for name, x in batch.items()})
    after = trainer.variables
    expected = before.params["weights"] - RATE * np.asarray(gradient)
    np.testing.assert_allclose(after.params["weights"], expected, rtol=1e-5)
    np.testing.assert_array_equal(after.frozen["offset"], before.frozen["offset"])
    assert after.memory["seen"] == 1 and trainer.state.step == 1
    assert metrics.keys() == {"loss", "grad_norm", "error", "at"}
    np.testing.assert_allclose(metrics["loss"], [loss], rtol=1e-5)
    np.testing.assert_allclose(
        metrics["grad_norm"], [np.linalg.norm(gradient)], rtol=1e-5
    )
    error = batch["x"] @ before.params["weights"] - batch["y"]
    np.testing.assert_allclose(metrics["error"], [np.abs(error).mean()], rtol=1e-5)


def test_a_step_is_compiled_once_for_any_batch_and_any_count(compiled):
    augment = Noisy()
    trainer = Trainer(augment=augment, steps_per_call=4)
    compiled.clear()
    trainer(stacked(4))
    traced = augment.traced
    assert len(compiled) == 1
    for count in (4, 2, 3, 1):
        trainer(stacked(4, seed=count), count)
    assert augment.traced == traced
    assert len(compiled) == 1


def test_a_call_makes_as_many_updates_as_its_count():
    together, one_by_one = noisy(), noisy(1)
    batches, alone = stacked(4), []
    for count in (1, 2, 3, 4):
        together.restart()
        metrics = together(batches, count)
        place = slice(count - 1, count)
        alone.append(one_by_one({name: x[place] for name, x in batches.items()}))
        assert_same(together, one_by_one, rtol=1e-5, atol=1e-6)
        assert together.state.step == together.variables.memory["seen"] == count
        for name, values in metrics.items():
            assert values.shape == (4,)
            np.testing.assert_allclose(
                values[:count], [x[name][0] for x in alone], rtol=1e-4, atol=1e-6
            )
            np.testing.assert_array_equal(values[count:], 0)
        np.testing.assert_allclose(metrics["at"][:count], np.arange(count) / TOTAL)


def test_rows_of_a_data_set_laid_out_and_the_examples_themselves_are_the_same():
    # One update in a call, on data laid out, is what the runs of the loop's tests do.
    data, places = examples(29), np.random.default_rng(1).integers(0, 29, (4, N))
    resident, direct = Trainer(augment=Noisy(), steps_per_call=4), noisy()
    found = resident({INDEX: places.astype(np.int32)}, 3, data)
    expected = direct({k: x[places] for k, x in data.items()}, 3)
    assert_same(resident, direct)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_state_is_the_same_on_all_devices_and_the_old_one_is_given_up():
    trainer = Trainer(devices=8)
    before = trainer.state
    trainer(stacked(1))
    leaves = jax.tree.leaves(trainer.state)
    assert all(x.is_fully_replicated for x in leaves)
    assert before.variables.params["weights"].is_deleted()


def test_a_fresh_state_is_a_function_of_the_seed():
    made, other = [fresh(0), fresh(0)], fresh(1)
    first, second = (x.variables.params["weights"] for x in made)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other.variables.params["weights"])
    assert isinstance(other, TrainState) and other.step == 0
    keys = [jax.random.key_data(x.key).tolist() for x in (*made, other)]
    assert keys[0] == keys[1] != keys[2]


def test_clocks_are_functions_of_key_and_step():
    def key_data(seed, step):
        clocks = train_step.clocks(jax.random.key(seed), jnp.int32(step), TOTAL)
        return [jax.random.key_data(clock.key).tolist() for clock in clocks]

    assert key_data(0, 3) == key_data(0, 3)
    keys = [key for seed in (0, 1) for step in range(4) for key in key_data(seed, step)]
    assert len({tuple(key) for key in keys}) == len(keys) == 16


def test_progress_goes_from_zero_to_below_one():
    for step in (0, 10, TOTAL - 1):
        for clock in train_step.clocks(jax.random.key(0), jnp.int32(step), TOTAL):
            assert clock.step == step and clock.progress.dtype == jnp.float32
            np.testing.assert_allclose(clock.progress, step / TOTAL, rtol=1e-6)


def test_every_step_draws_anew():
    trainer = noisy()
    same = {k: np.stack([x[0]] * 4) for k, x in stacked(1).items()}
    weights = trainer.variables.params["weights"]
    errors = trainer(same, 2)["error"]
    batch = {k: x[0] for k, x in same.items()}
    clean = np.abs(batch["x"] @ weights - batch["y"]).mean()
    assert not np.isclose(errors[0], clean, rtol=1e-4)
    np.testing.assert_array_equal(noisy()(same, 2)["error"], errors)


def test_an_optimizer_that_watches_the_loss_gets_it():
    plateau = Plateau(0.5, patience=0, threshold=0.9)
    watching = Sgd(RATE, momentum=0.0, plateau=plateau).build(
        fresh().variables.params, total_steps=TOTAL, steps_per_epoch=1, batch_size=N
    )
    batch = examples(N)
    trainer, plain_trainer = Trainer(optimizer=watching), Trainer()
    found = []
    for _ in range(3):
        before = trainer.variables.params["weights"]
        same = {k: x[None] for k, x in batch.items()}
        found.append(trainer(same))
        moved = trainer.variables.params["weights"] - before
        expected = -RATE * found[-1]["plateau"][0] * gradient(before, batch)
        np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)
    assert [float(x["plateau"][0]) for x in found] == [1.0, 1.0, 0.5]
    assert "plateau" not in plain_trainer({k: x[None] for k, x in batch.items()})


def gradient(weights, batch):
    """Of the mean square of `Line`'s error."""
    error = batch["x"] @ weights - batch["y"] + 0.5
    return 2 * (error[:, None] * batch["x"]).mean(axis=0)
