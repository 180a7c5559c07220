"""Optimizers against their formulas, schedules against their curves, groups by path."""

import dataclasses
import itertools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl import core
from jax_rcl.optim import optimizers, schedules

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "lars.npz"
RUN = {"total_steps": 40, "steps_per_epoch": 4, "batch_size": 256}
PARAMS = {
    "encoder": {
        "stem": {"kernel": np.linspace(-1, 1, 6).reshape(2, 3)},
        "stem_norm": {"scale": np.ones(3), "bias": np.full(3, 0.5)},
    },
    "head": {"kernel": np.full((3, 2), 2.0), "bias": np.full(2, -1.0)},
}
OPTIMIZERS = [optimizers.Sgd, optimizers.Adam, optimizers.AdamW, optimizers.Lars]
PATHS = (
    "encoder/stem/kernel",
    "encoder/stem_norm/bias",
    "encoder/stem_norm/scale",
    "head/bias",
    "head/kernel",
)


def loop(optimizer, params, gradients, run=RUN):
    """Parameters after each of the gradients, from the optax transformation."""
    transformation = optimizer.build(params, **run)

    @jax.jit
    def update(gradient, state, params):
        updates, state = transformation.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state, states = jax.jit(transformation.init)(params), []
    for gradient in gradients:
        params, state = update(gradient, state, params)
        states.append(params)
    return states


def gradients_like(params, count, seed=0):
    random = np.random.default_rng(seed)
    return [
        jax.tree.map(
            lambda p: jnp.asarray(random.normal(size=p.shape), p.dtype), params
        )
        for _ in range(count)
    ]


def leaves(tree):
    return dict(zip(PATHS, map(np.asarray, jax.tree.leaves(tree)), strict=True))


def float32(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def change(optimizer, gradient=0.0):
    """The first update of PARAMS, by path, for a gradient of equal entries."""
    params = float32(PARAMS)
    slopes = jax.tree.map(lambda p: np.full(p.shape, gradient, p.dtype), params)
    after = loop(optimizer, params, [slopes])
    return leaves(jax.tree.map(np.subtract, *jax.device_get((after[0], params))))


def test_the_learning_rate_grows_with_the_batch_where_it_has_a_reference():
    cosine = schedules.Cosine()
    scaled = optimizers.Sgd(0.3, schedule=cosine, reference_batch=64)
    plain = optimizers.Sgd(1.2, schedule=cosine)
    for step in (0, 13, 39):
        got = scaled.learning_rate_at(step, **RUN)
        assert isinstance(got, float)
        np.testing.assert_allclose(got, plain.learning_rate_at(step, **RUN), rtol=1e-6)
    np.testing.assert_allclose(scaled.learning_rate_at(0, **RUN), 1.2, rtol=1e-6)


def test_the_schedule_resumes_with_the_state_of_the_optimizer():
    params = {"w": jnp.zeros(())}
    optimizer = optimizers.Sgd(1.0, schedule=schedules.MultiStep((1,)), momentum=0.0)
    first = optimizer.build(params, **RUN)
    state = first.init(params)
    for _ in range(4):
        _, state = first.update({"w": jnp.ones(())}, state, params)
    again = optimizer.build(params, **RUN)
    updates, _ = again.update({"w": jnp.ones(())}, state, params)
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(optimizer.learning_rate_at(4, **RUN), 0.1, rtol=1e-6)


# Rules.


def pytorch_sgd(w, gradients, rate, momentum, nesterov, decay):
    buffer, states = None, []
    for g in gradients:
        g = g + decay * w
        buffer = g if buffer is None else momentum * buffer + g
        w = w - rate * (g + momentum * buffer if nesterov else buffer)
        states.append(w)
    return states


def pytorch_adam(w, gradients, rate, beta1, beta2, epsilon, decay, decoupled):
    mean = square = 0 * w
    states = []
    for t, g in enumerate(gradients, start=1):
        if decoupled:
            w = w * (1 - rate * decay)
        else:
            g = g + decay * w
        mean = beta1 * mean + (1 - beta1) * g
        square = beta2 * square + (1 - beta2) * g**2
        root = np.sqrt(square) / math.sqrt(1 - beta2**t) + epsilon
        w = w - rate / (1 - beta1**t) * mean / root
        states.append(w)
    return states


def of_one_array(optimizer):
    """The path of one array through five gradients, and what it was computed from."""
    with jax.enable_x64(True):
        params = {"kernel": jnp.asarray(PARAMS["encoder"]["stem"]["kernel"])}
        gradients = gradients_like(params, 5)
        got = [np.asarray(p["kernel"]) for p in loop(optimizer, params, gradients)]
        return (
            got,
            np.asarray(params["kernel"]),
            [np.asarray(g["kernel"]) for g in gradients],
        )


@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)]
)
def test_sgd_is_that_of_pytorch(momentum, nesterov):
    got, w, gradients = of_one_array(
        optimizers.Sgd(0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.05)
    )
    expected = pytorch_sgd(w, gradients, 0.1, momentum, nesterov, 0.05)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.parametrize("kind", [optimizers.Adam, optimizers.AdamW])
def test_adam_is_that_of_pytorch(kind):
    got, w, gradients = of_one_array(
        kind(0.1, beta1=0.8, beta2=0.95, epsilon=1e-3, weight_decay=0.05)
    )
    expected = pytorch_adam(
        w, gradients, 0.1, 0.8, 0.95, 1e-3, 0.05, decoupled=kind is optimizers.AdamW
    )
    np.testing.assert_allclose(got, expected, rtol=1e-7)


@pytest.mark.parametrize("case", ["lars_s0", "lars_s1"])
def test_lars_of_all_parameters_is_the_released_one(case):
    golden = np.load(GOLDEN)
    rate, decay = (float(golden[f"{case}/{name}"]) for name in ("lr", "weight_decay"))
    optimizer = optimizers.Lars(rate, weight_decay=decay, decayed="all", at_zero="stay")
    with jax.enable_x64(True):
        params = {"kernel": golden[f"{case}/w0"], "bias": golden[f"{case}/b0"]}
        gradients = [
            {"kernel": golden[f"{case}/gw{i}"], "bias": golden[f"{case}/gb{i}"]}
            for i in range(5)
        ]
        for i, got in enumerate(loop(optimizer, params, gradients), start=1):
            np.testing.assert_allclose(
                got["kernel"], golden[f"{case}/w{i}"], rtol=1e-10
            )
            np.testing.assert_allclose(got["bias"], golden[f"{case}/b{i}"], rtol=1e-10)


def test_lars_spares_offsets_and_scales_from_trust_ratio_and_decay():
    moved = change(optimizers.Lars(0.1, weight_decay=0.5), gradient=1.0)
    for path in ("encoder/stem_norm/scale", "encoder/stem_norm/bias", "head/bias"):
        np.testing.assert_allclose(moved[path], -0.1, rtol=1e-6)
    # g = 1 + 0.5·2 = 2 = w in each entry, so the norms cancel: r = 0.001.
    np.testing.assert_allclose(moved["head/kernel"], -0.1 * 0.001 * 2, rtol=1e-3)


@pytest.mark.parametrize(("at_zero", "step"), [("step", -0.1), ("stay", 0.0)])
def test_lars_at_zero_steps_or_stays(at_zero, step):
    params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    gradients = [jax.tree.map(jnp.ones_like, params)]
    optimizer = optimizers.Lars(0.1, decayed="all", at_zero=at_zero)
    after = loop(optimizer, params, gradients)[0]
    np.testing.assert_allclose(after["kernel"], step, rtol=1e-6)
    np.testing.assert_allclose(after["bias"], step, rtol=1e-6)


def test_lars_without_a_gradient_stays_where_it_is():
    moved = change(optimizers.Lars(0.1, decayed="all", at_zero="stay"))
    assert all((step == 0).all() for step in moved.values())


def test_a_long_gradient_is_shortened_before_decay_is_added():
    count = sum(x.size for x in jax.tree.leaves(PARAMS))
    optimizer = optimizers.Sgd(1.0, clip_norm=2.0, weight_decay=0.1)
    moved = change(optimizer, gradient=7.0)
    shortened = 2 / math.sqrt(count)
    np.testing.assert_allclose(moved["head/bias"], -shortened, rtol=1e-5)
    np.testing.assert_allclose(moved["head/kernel"], -shortened - 0.2, rtol=1e-5)
    short = change(optimizer, gradient=0.01)
    np.testing.assert_allclose(short["head/bias"], -0.01, rtol=1e-4)


def scalar(optimizer, gradients, losses=None, run=RUN):
    """The value of one parameter, from 0, after each step."""
    transformation = optimizer.build({"w": jnp.zeros(())}, **run)
    losses = gradients if losses is None else losses

    def step(carry, given):
        params, state = carry
        gradient, loss = given
        updates, state = transformation.update(
            {"w": gradient}, state, params, value=loss
        )
        params = optax.apply_updates(params, updates)
        return (params, state), params["w"]

    start = {"w": jnp.zeros(())}
    given = (jnp.asarray(gradients, jnp.float32), jnp.asarray(losses, jnp.float32))
    scanned = jax.jit(
        lambda: jax.lax.scan(step, (start, transformation.init(start)), given)
    )
    return np.asarray(scanned()[1])


SCHEDULES = [
    schedules.Constant(warmup_epochs=1.0),
    schedules.Cosine(),
    schedules.EpochCosine(),
    schedules.MultiStep((3, 7)),
]
ACCUMULATED = list(itertools.product(OPTIMIZERS[:1] + OPTIMIZERS[2:], SCHEDULES))
ALWAYS = (0, 5, 10, 3)  # every optimizer and every schedule


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [
        pytest.param(*case, marks=() if place in ALWAYS else pytest.mark.slow)
        for place, case in enumerate(ACCUMULATED)
    ],
)
def test_steps_that_accumulate_make_the_updates_of_their_mean_gradients(kind, schedule):
    gradients = np.random.default_rng(0).normal(size=(40, 1))
    many = kind(0.1, schedule=schedule, accumulate=4)
    # An epoch of four steps is one of one update.
    run = RUN | {"total_steps": 10, "steps_per_epoch": 1}
    one = kind(0.1, schedule=schedule)
    got = scalar(many, gradients[:, 0])
    expected = scalar(one, gradients.reshape(10, 4).mean(axis=1), run=run)
    np.testing.assert_allclose(got[3::4], expected, rtol=1e-5, atol=1e-7)
    still = np.concatenate([[0], got[3::4]])
    for place in range(3):
        np.testing.assert_array_equal(got[place::4], still[:-1])
    for step in range(40):
        np.testing.assert_allclose(
            many.learning_rate_at(step, **RUN),
            one.learning_rate_at(step // 4, **run),
            rtol=1e-6,
        )


def test_accumulated_gradients_are_clipped_as_one_and_scale_the_rate_as_one_batch():
    optimizer = optimizers.Sgd(0.5, momentum=0.0, clip_norm=1.0, accumulate=2)
    got = scalar(optimizer, [3.0, -3.0, 3.0, 1.0])
    np.testing.assert_allclose(got, [0, 0, 0, -0.5], atol=1e-7)
    scaled = optimizers.Sgd(0.1, reference_batch=256, accumulate=2)
    np.testing.assert_allclose(scaled.learning_rate_at(0, **RUN), 0.2, rtol=1e-6)


def test_accumulation_resumes_in_its_midst():
    params, gradients = {"w": jnp.zeros(3)}, [{"w": jnp.full(3, x)} for x in (1.0, 5.0)]
    optimizer = optimizers.Sgd(1.0, momentum=0.0, accumulate=2)
    first, again = (optimizer.build(params, **RUN) for _ in range(2))
    _, state = first.update(gradients[0], first.init(params), params)
    updates, _ = again.update(gradients[1], jax.device_get(state), params)
    np.testing.assert_allclose(updates["w"], -3.0)


def test_a_run_without_an_update_is_refused():
    with pytest.raises(
        ValueError, match=r"Sgd.accumulate 41 is more than the 40 steps"
    ):
        optimizers.Sgd(0.1, accumulate=41).build(PARAMS, **RUN)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_plateau_lowers_the_rate_of_every_optimizer(kind):
    still = {"momentum": 0.0} if kind in (optimizers.Sgd, optimizers.Lars) else {}
    plateau = schedules.Plateau(1e-6, patience=0)
    got = scalar(kind(0.1, plateau=plateau, **still), np.ones(16))
    moved = np.abs(np.diff(np.concatenate([[0], got])))
    # The first update of the third epoch is the first at the lower rate.
    assert moved[8:].max() < 1e-3 * moved[:8].min()


def test_a_plateau_lowers_what_lars_puts_into_its_momentum():
    plateau = schedules.Plateau(1e-6, patience=0)
    lars = optimizers.Lars(0.1, momentum=0.5, decayed="weights", plateau=plateau)
    params = {"bias": jnp.zeros(())}
    transformation, state = lars.build(params, **RUN), None
    state, moved = transformation.init(params), []
    for _ in range(10):
        updates, state = transformation.update(
            {"bias": jnp.ones(())}, state, params, value=jnp.ones(())
        )
        moved.append(float(updates["bias"]))
    np.testing.assert_allclose(moved[8:], [moved[7] / 2, moved[7] / 4], rtol=1e-4)


def test_a_plateau_sees_the_mean_loss_of_accumulated_steps():
    # Means by update are 2, 1, 2, 1, …; the last losses alone would fall and fall.
    losses = np.stack([np.resize([2.0, 1.0], 8) * 2, np.zeros(8)], axis=1)
    losses += np.linspace(1, 0, 8)[:, None] * [-1, 1]
    plateau = schedules.Plateau(0.5, patience=0)
    optimizer = optimizers.Sgd(1.0, momentum=0.0, accumulate=2, plateau=plateau)
    run = RUN | {"steps_per_epoch": 2}
    got = scalar(optimizer, np.ones(16), losses.ravel(), run=run)[1::2]
    moved = -np.diff(np.concatenate([[0], got]))
    np.testing.assert_allclose(moved, 0.5 ** np.array([0, 0, 0, 1, 2, 3, 4, 5]))


# Groups.


def test_adamw_of_its_defaults_decays_all_tensors_by_a_hundredth_when_asked():
    before = leaves(float32(PARAMS))
    for path, moved in change(optimizers.AdamW(0.5, decayed="all")).items():
        np.testing.assert_allclose(moved, -0.5 * 0.01 * before[path], rtol=1e-4)


def test_decay_spares_offsets_and_scales_unless_told_otherwise():
    before = leaves(float32(PARAMS))
    weights = change(optimizers.Sgd(0.5, weight_decay=0.1))
    everything = change(optimizers.Sgd(0.5, weight_decay=0.1, decayed="all"))
    for path in PATHS:
        decayed = -0.05 * before[path]
        spared = not path.endswith("kernel")
        np.testing.assert_allclose(weights[path], 0 if spared else decayed, atol=1e-6)
        np.testing.assert_allclose(everything[path], decayed, atol=1e-6)


def test_groups_scale_the_learning_rate_and_replace_the_decay_by_path():
    groups = (
        optimizers.Group("encoder/.*", learning_rate_scale=0.1),
        optimizers.Group(".*/stem/kernel", weight_decay=0.0),
        optimizers.Group("head/bias", learning_rate_scale=2.0, weight_decay=0.3),
    )
    moved = change(optimizers.Sgd(1.0, weight_decay=0.1, groups=groups), gradient=1.0)
    expected = {
        "encoder/stem/kernel": -0.1,
        "encoder/stem_norm/bias": -0.1,
        "encoder/stem_norm/scale": -0.1,
        "head/bias": -2 * (1 + 0.3 * -1.0),
        "head/kernel": -(1 + 0.1 * 2.0),
    }
    for path, step in expected.items():
        np.testing.assert_allclose(moved[path], step, rtol=1e-5)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_groups_hold_in_every_optimizer(kind):
    still = optimizers.Group("encoder/.*", learning_rate_scale=0.0)
    moved = change(kind(0.1, groups=(still,)), gradient=1.0)
    for path, step in moved.items():
        assert (step == 0).all() == path.startswith("encoder/"), path


def test_a_pattern_matches_whole_paths_and_must_match_one():
    wrong = optimizers.Group("encoder/stem_nrm/.*", weight_decay=0.0)
    with pytest.raises(
        ValueError, match=r"stem_nrm/\.\*' matches .* encoder/stem_norm/"
    ):
        optimizers.Sgd(0.1, groups=(wrong,)).build(PARAMS, **RUN)
    part = optimizers.Group("encoder", weight_decay=0.0)
    with pytest.raises(ValueError, match="nearest of 5 paths"):
        optimizers.Sgd(0.1, groups=(part,)).build(PARAMS, **RUN)


def test_two_groups_must_not_set_the_same_thing():
    groups = (
        optimizers.Group("encoder/.*", weight_decay=0.0),
        optimizers.Group(".*/bias", weight_decay=0.1),
    )
    with pytest.raises(
        ValueError, match="both set weight_decay of encoder/stem_norm/bias"
    ):
        optimizers.Sgd(0.1, groups=groups).build(PARAMS, **RUN)


def test_shapes_are_enough_to_build():
    shapes = jax.eval_shape(lambda: float32(PARAMS))
    group = optimizers.Group("head/.*", learning_rate_scale=10.0)
    made = optimizers.AdamW(0.1, groups=(group,)).build(shapes, **RUN)
    assert jax.tree.leaves(made.init(float32(PARAMS)))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_are_values_that_fulfil_the_protocol(kind):
    optimizer = kind(
        0.1, schedule=schedules.EpochCosine(), groups=(optimizers.Group("a", 0.1),)
    )
    assert isinstance(optimizer, core.Optimizer)
    assert optimizer == dataclasses.replace(optimizer)
    assert hash(optimizer) == hash(dataclasses.replace(optimizer))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: optimizers.Sgd(0.0), "Sgd.learning_rate 0.0 must be above 0"),
        (lambda: optimizers.AdamW(0.1, beta2=1.5), r"AdamW.beta2 1.5 .* \[0, 1\)"),
        (lambda: optimizers.AdamW(0.1, weight_decay=-1.0), "AdamW.weight_decay -1.0"),
        (lambda: optimizers.Sgd(0.1, momentum=1.0), r"Sgd.momentum 1.0 .* \[0, 1\)"),
        (lambda: optimizers.Adam(0.1, epsilon=0.0), "Adam.epsilon 0.0"),
        (lambda: optimizers.Lars(0.1, trust_coefficient=0.0), "Lars.trust_coefficient"),
        (lambda: optimizers.Lars(0.1, momentum=-0.1), "Lars.momentum -0.1"),
        (lambda: optimizers.Sgd(0.1, reference_batch=0), "Sgd.reference_batch 0"),
        (lambda: optimizers.Sgd(0.1, clip_norm=0.0), "Sgd.clip_norm 0.0"),
        (lambda: optimizers.Sgd(0.1, accumulate=0), "Sgd.accumulate 0 must be at le"),
        (lambda: schedules.Plateau(1.0), r"Plateau.factor 1.0 must be in \(0, 1\)"),
        (lambda: schedules.Plateau(patience=-1), "Plateau.patience -1"),
        (lambda: schedules.Plateau(threshold=0.0), "Plateau.threshold 0.0"),
        (lambda: schedules.Constant(warmup_epochs=-1.0), "Constant.warmup_epochs -1.0"),
        (lambda: schedules.Cosine(final=-1.0), "Cosine.final -1.0"),
        (lambda: schedules.EpochCosine(period=0.0), "EpochCosine.period 0.0"),
        (lambda: schedules.MultiStep((3,), factor=0.0), "MultiStep.factor 0.0"),
        (lambda: optimizers.Group("a", -1.0), "learning_rate_scale -1.0"),
        (lambda: optimizers.Sgd(0.1, momentum=0.0, nesterov=True), "Sgd.nesterov True"),
        (lambda: schedules.Plateau(threshold=1.0), "Plateau.threshold 1.0 must be bel"),
        (lambda: schedules.MultiStep((3, 2)), r"MultiStep.epochs \(3, 2\) must be"),
        (lambda: schedules.MultiStep((0, 2)), r"MultiStep.epochs \(0, 2\) must be"),
        (lambda: optimizers.Group("(", weight_decay=0.0), "not a regular expression"),
        (lambda: optimizers.Group("a"), "Group 'a' changes nothing"),
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
