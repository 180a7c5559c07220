"""Student and teacher: released numbers, plain loops, closed forms, edges."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl.losses import contrastive, distillation, pairwise

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "rclip.npz")
NAMES = sorted({name.rpartition("/")[0] for name in GOLDEN.files})
ASYMMETRIC = ("simclr_st", "simclr_ss", "simclr_both")
KINDS = ("simclr", *ASYMMETRIC, "clip", "mse")

each = pytest.mark.parametrize("kind", KINDS)
contrastive_ones = pytest.mark.parametrize("kind", [x for x in KINDS if x != "mse"])


def loss(students, teachers, temperature, kind, block=None):
    """Of embeddings of any length, the mean over the batch."""
    if kind == "mse":
        return distillation.embedding_mse(students, teachers).mean()
    s, t = pairwise.unit(students), pairwise.unit(teachers)
    ids = jnp.arange(len(s))
    known = {"temperature": temperature, "block": block}
    who = {"row_ids": ids, "column_ids": ids}
    if kind == "simclr":
        both = jnp.concatenate([s, t])
        own, examples = jnp.arange(2 * len(s)), jnp.concatenate([ids, ids])
        ids_of = {"row_ids": own, "column_ids": own}
        examples_of = {"row_examples": examples, "column_examples": examples}
        return contrastive.nt_xent(both, both, **ids_of, **examples_of, **known).mean()
    if kind == "simclr_st":
        return distillation.student_teacher(s, t, all_teachers=t, **known).mean()
    if kind == "simclr_ss":
        return distillation.student_student(s, t, all_students=s, **who, **known).mean()
    columns = {"all_students": s, "all_teachers": t}
    if kind == "clip":
        return distillation.symmetric_infonce(s, t, **columns, **known).mean()
    return distillation.both(s, t, **columns, **who, **known).mean()


distilled = jax.jit(
    distillation.knowledge_distillation, static_argnames=("temperature", "weight")
)
# One program for each kind and shape; most tests have the shape of the golden s0.
compiled = jax.jit(jax.value_and_grad(loss), static_argnames=("kind", "block"))
SHAPE = 8, 16


def slow(kind, students, teachers, temperature):
    """The formulas, written as sums."""
    if kind == "mse":
        return np.mean((students - teachers) ** 2)
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (students, teachers))
    n, total = len(s), 0.0

    def e(x, y):
        return np.exp(x @ y / temperature)

    for i in range(n):
        others = [j for j in range(n) if j != i]
        st, ss = (
            sum(e(s[i], t[j]) for j in range(n)),
            sum(e(s[i], s[j]) for j in others),
        )
        ts, tt = (
            sum(e(t[i], s[j]) for j in range(n)),
            sum(e(t[i], t[j]) for j in others),
        )
        sums = {
            "simclr_st": np.log(st),
            "simclr_ss": np.log(ss),
            "simclr_both": np.log(st + ss),
            "clip": (np.log(st) + np.log(ts)) / 2,
            "simclr": (np.log(st + ss) + np.log(ts + tt)) / 2,
        }
        total += sums[kind] - s[i] @ t[i] / temperature
    return total / n


def toy():
    """The batch of four that the specification's numbers are of."""
    m = np.arange(32.0).reshape(4, 8)
    return np.cos(0.5 + 0.7 * m), np.sin(1 + m)


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_the_released_code(name):
    kind = name.removeprefix("rclip_").rpartition("_tau")[0]
    temperature = float(name.rpartition("_tau")[2].partition("_s")[0])
    student, teacher = GOLDEN[f"{name}/student"], GOLDEN[f"{name}/teacher"]
    n = len(student)
    # The released mean of `clip` is divided by the batch once more.
    factor = 1 / n if kind == "clip" else 1.0
    goal = GOLDEN[f"{name}/loss"], GOLDEN[f"{name}/grad_student"]
    precisions = [(jnp.float64, 1e-10, 1e-9)]
    if len(student) == SHAPE[0]:
        precisions += [(jnp.float32, 1e-5, 1e-3)]
    for dtype, rtol, slope_rtol in precisions:
        with jax.enable_x64(dtype == jnp.float64):
            s, t = jnp.asarray(student, dtype), jnp.asarray(teacher, dtype)
            value, gradient = compiled(s, t, temperature, kind=kind)
        np.testing.assert_allclose(factor * np.asarray(value), goal[0], rtol=rtol)
        np.testing.assert_allclose(
            factor * np.asarray(gradient),
            goal[1],
            rtol=slope_rtol,
            atol=slope_rtol * 1e-3,
        )


@each
def test_the_toy_batch_has_the_values_of_the_specification(kind):
    known = {
        "simclr": 5.061285775650505,
        "clip": 4.138159545639405,
        "mse": 0.8037131831024996,
        "simclr_st": 5.090140722208974,
        "simclr_both": 6.70858312860347,
        "simclr_ss": 6.265813159833198,
    }
    students, teachers = toy()
    with jax.enable_x64(True):
        value = jax.jit(functools.partial(loss, kind=kind))(students, teachers, 0.1)
    np.testing.assert_allclose(value, known[kind], rtol=1e-12)
    np.testing.assert_allclose(
        slow(kind, students, teachers, 0.1), known[kind], rtol=1e-12
    )


def normal(seed):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


@contrastive_ones
def test_in_blocks_it_is_the_same(kind):
    arrays = normal(0), normal(1), 0.1
    whole, parts = (compiled(*arrays, kind=kind, block=block) for block in (None, 3))
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("simclr_st", 8),
        ("simclr_ss", 7),
        ("simclr_both", 15),
        ("clip", 8),
        ("simclr", 15),
    ],
)
def test_of_equal_embeddings_it_is_the_logarithm_of_how_many_there_are(kind, count):
    same = np.ones(SHAPE, np.float32)
    value, _ = compiled(same, same, 0.1, kind=kind)
    np.testing.assert_allclose(value, np.log(count), rtol=1e-6)


@each
def test_value_and_gradient_are_finite_at_the_edges(kind):
    one, eye = np.ones(SHAPE, np.float32), np.eye(*SHAPE, dtype=np.float32)
    for students, teachers in (
        (0 * one, 0 * one),
        (one, -one),
        (np.float32(1e-20) * eye, np.float32(1e10) * eye[::-1]),
    ):
        value, gradient = compiled(students, teachers, 0.01, kind=kind)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_a_loss_of_embeddings_can_be_below_zero_only_where_the_positive_is_left_out():
    near = np.eye(*SHAPE, dtype=np.float32)
    assert compiled(near, near, 0.1, kind="simclr_ss")[0] < 0
    for kind in ("simclr", "simclr_st", "simclr_both", "clip"):
        assert compiled(near, near, 0.1, kind=kind)[0] >= 0


def test_predictions_of_the_teacher_itself_leave_only_the_labels():
    logits = jnp.asarray([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]])
    labels = jnp.asarray([0, 2])
    value = distilled(logits, logits, labels, temperature=4.0, weight=0.9)
    cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels
    hard = jax.jit(cross_entropy)(logits, labels)
    np.testing.assert_allclose(value, 0.1 * hard, rtol=1e-4)


def test_distilled_predictions_are_the_formula():
    random = np.random.default_rng(0)
    s, t = random.normal(size=(2, 5, 3))
    labels = random.integers(0, 3, 5)

    def softmax(x):
        e = np.exp(x)
        return e / e.sum(axis=1, keepdims=True)

    p, q = softmax(t / 4), softmax(s / 4)
    kl = (p * np.log(p / q)).sum(axis=1)
    hard = -np.log(softmax(s)[np.arange(5), labels])
    with jax.enable_x64(True):
        value = distilled(s, t, labels, temperature=4.0, weight=0.7)
        np.testing.assert_allclose(value, 0.7 * 16 * kl + 0.3 * hard, rtol=1e-10)


@contrastive_ones
def test_a_temperature_of_zero_is_refused(kind):
    with pytest.raises(ValueError, match=r"temperature 0\.0 must be above 0"):
        jax.eval_shape(lambda x: loss(x, x, 0.0, kind), np.eye(3))


def test_a_single_example_has_no_other_student_to_be_far_from():
    with pytest.raises(ValueError, match="make the batch larger"):
        jax.eval_shape(lambda x: loss(x, x, 0.1, "simclr_ss"), np.ones((1, 3)))


@pytest.mark.parametrize(("temperature", "weight"), [(0.0, 0.5), (4.0, 1.5)])
def test_a_setting_of_distilled_predictions_out_of_its_range_is_refused(
    temperature, weight
):
    with pytest.raises(ValueError, match=r"must be above 0|must be in \[0, 1\]"):
        distillation.knowledge_distillation(
            jnp.eye(3),
            jnp.eye(3),
            jnp.arange(3),
            temperature=temperature,
            weight=weight,
        )
