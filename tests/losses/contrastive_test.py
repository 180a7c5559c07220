"""SupCon and NT-Xent: the equations, their limits, their symmetries, their blocks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl import parallel
from jax_rcl.losses.contrastive import nt_xent, supcon
from jax_rcl.losses.pairwise import unit, view_ids


def sphere(seed: int, n: int, d: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def classes(seed: int, n: int, views: int, k: int) -> np.ndarray:
    """Labels of the views of n examples, example by example."""
    return np.random.default_rng(seed).integers(0, k, n).astype(np.int32).repeat(views)


def loop(
    rows,
    columns,
    row_ids,
    column_ids,
    row_labels,
    column_labels,
    temperature,
    positives,
):
    """Equations 2 and 3 of Khosla et al. 2020 pair by pair; gradients of the sum."""
    values = np.zeros(len(rows))
    row_gradients, column_gradients = np.zeros_like(rows), np.zeros_like(columns)
    for i in range(len(rows)):
        others = [j for j in range(len(columns)) if column_ids[j] != row_ids[i]]
        same = [j for j in others if column_labels[j] == row_labels[i]]
        if not same:
            continue
        e = {j: np.exp(rows[i] @ columns[j] / temperature) for j in others}
        everyone, attracted = sum(e.values()), sum(e[j] for j in same)
        if positives == "out":
            values[i] = -np.mean([np.log(e[j] / everyone) for j in same])
        else:
            values[i] = -np.log(attracted / len(same) / everyone)
        for j in others:
            slope = e[j] / everyone
            if j in same:
                slope -= 1 / len(same) if positives == "out" else e[j] / attracted
            row_gradients[i] += slope * columns[j] / temperature
            column_gradients[j] += slope * rows[i] / temperature
    return values, row_gradients, column_gradients


@functools.partial(jax.jit, static_argnames=("positives", "block"))
def loss_and_gradients(
    rows, columns, row_ids, column_ids, row_labels, column_labels,
    temperature=0.1, positives="out", block=None,
):  # fmt: skip
    def total(r, c):
        values = supcon(
            r, c, row_ids=row_ids, column_ids=column_ids, row_labels=row_labels,
            column_labels=column_labels, temperature=temperature, positives=positives,
            block=block,
        )  # fmt: skip
        return values.sum(), values

    (_, values), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(
        rows, columns
    )
    return values, *gradients


def of_all(z, labels, **settings):
    """Every vector as a row against all of them; the two gradients added up."""
    z, ids, labels = np.asarray(z), np.arange(len(z)), np.asarray(labels)
    arrays = loss_and_gradients(z, z, ids, ids, labels, labels, **settings)
    value, rows, columns = map(np.asarray, arrays)
    return value, rows + columns


def close(got, expected, tolerance):
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


GRID = [(5, 2, 4, 0.1), (4, 3, 2, 0.07), (7, 1, 8, 1.0)]


@pytest.mark.parametrize("positives", ["out", "in"])
@pytest.mark.parametrize(("n", "views", "d", "temperature"), GRID)
def test_supcon_is_the_equation_and_its_gradient(n, views, d, temperature, positives):
    z, labels, ids = (
        sphere(n, n * views, d),
        classes(n, n, views, 3),
        np.arange(n * views),
    )
    # A device's rows: not all of the columns, and not in the same place.
    rows = slice(1, None)
    arrays = (z[rows], z, ids[rows], ids, labels[rows], labels)
    expected = loop(*arrays, temperature, positives)
    with jax.enable_x64(True):
        got = loss_and_gradients(*arrays, temperature=temperature, positives=positives)
        close(got, expected, 1e-10)
    if n != 5:
        return
    arrays = [
        x.astype(np.float32) if x.dtype == float else x.astype(np.int32) for x in arrays
    ]
    got = loss_and_gradients(*arrays, temperature=temperature, positives=positives)
    assert all(x.dtype == jnp.float32 for x in got)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(
            one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max()
        )


@pytest.mark.parametrize("positives", ["out", "in"])
def test_the_gradient_of_the_loop_is_that_of_its_value(positives):
    z, labels, ids = sphere(0, 6, 3), classes(0, 3, 2, 2), np.arange(6)

    def total(rows, columns):
        return loop(rows, columns, ids, ids, labels, labels, 0.2, positives)[0].sum()

    _, *gradients = loop(z, z, ids, ids, labels, labels, 0.2, positives)
    for side, gradient in enumerate(gradients):
        for place in np.ndindex(*z.shape):
            step = np.zeros_like(z)
            step[place] = 1e-5
            up, down = [[z, z], [z, z]]
            up[side], down[side] = z + step, z - step
            slope = (total(*up) - total(*down)) / 2e-5
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-6, atol=1e-7)


def test_the_mean_inside_the_logarithm_is_never_the_larger_loss():
    z, labels = jnp.asarray(sphere(1, 12, 4), jnp.float32), classes(1, 6, 2, 3)
    outside, _ = of_all(z, labels, positives="out")
    inside, _ = of_all(z, labels, positives="in")
    assert (inside < outside).all()


def test_with_one_positive_inside_and_outside_agree():
    z, labels = jnp.asarray(sphere(2, 12, 4), jnp.float32), np.arange(6).repeat(2)
    close(of_all(z, labels, positives="out"), of_all(z, labels, positives="in"), 1e-5)


@pytest.mark.parametrize("positives", ["out", "in"])
def test_equal_vectors_cost_the_log_of_the_others(positives):
    z = np.tile(np.float32([[0.6, 0.8, 0.0, 0.0]]), (12, 1))
    value, _ = of_all(z, np.arange(12) % 5, positives=positives)
    np.testing.assert_allclose(value, np.log(11), rtol=1e-6)


def test_orthogonal_classes_have_a_closed_form():
    # k classes of m equal vectors each, classes orthogonal: positives at cosine 1.
    k, m, temperature = 3, 4, 0.5
    z = np.repeat(np.eye(k, 4, dtype=np.float32), m, axis=0)
    value, _ = of_all(z, np.arange(k).repeat(m), temperature=temperature)
    near, far = (m - 1) * np.exp(1 / temperature), (k - 1) * m
    np.testing.assert_allclose(value, np.log(near + far) - 1 / temperature, rtol=1e-6)


def test_with_one_class_the_loss_is_spread_without_attraction():
    z = sphere(4, 12, 4)
    s = z @ z.T / 0.5
    expected = [
        np.log(np.exp(np.delete(s[i], i)).sum()) - np.delete(s[i], i).mean()
        for i in range(12)
    ]
    value, _ = of_all(
        jnp.asarray(z, jnp.float32), np.zeros(12, np.int32), temperature=0.5
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize(("positives", "block"), [("out", None), ("in", 5)])
def test_rows_without_positives_cost_nothing_and_move_nothing(positives, block):
    z = jnp.asarray(sphere(5, 12, 4), jnp.float32)
    value, gradient = of_all(z, np.arange(12), positives=positives, block=block)
    assert (value == 0).all()
    assert (gradient == 0).all()
    alone, gradient = of_all(z[:1], np.zeros(1, np.int32), positives=positives)
    assert (alone == 0).all()
    assert (gradient == 0).all()


def test_a_lone_class_still_repels_the_others():
    z, ids = jnp.asarray(sphere(6, 12, 4), jnp.float32), np.arange(12)
    labels = np.arange(12) // 11
    value, _, columns = loss_and_gradients(z, z, ids, ids, labels, labels)
    assert value[11] == 0
    assert np.abs(columns[11]).max() > 1e-3


@functools.partial(jax.jit, static_argnames="views")
def pairs(z, views, **settings):
    """NT-Xent of vectors in the order example, view."""
    examples = jnp.arange(len(z) // views).repeat(views)
    ids = view_ids(jnp.arange(len(z) // views), views)
    return nt_xent(
        z, z, row_ids=ids, column_ids=ids, row_examples=examples,
        column_examples=examples, **settings,
    )  # fmt: skip


def test_nt_xent_of_two_views_is_that_of_optax():
    z = jnp.asarray(sphere(7, 12, 4), jnp.float32)

    def own(x):
        return pairs(unit(x), 2, temperature=0.2).mean()

    def other(x):
        return optax.losses.ntxent(x, jnp.arange(6).repeat(2), 0.2)

    ours = jax.jit(jax.value_and_grad(own))(z)
    # optax mixes types freely.
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.jit(jax.value_and_grad(other))(z)
    close(ours, theirs, 1e-5)


@pytest.mark.parametrize("views", [2, 3])
def test_nt_xent_is_supcon_with_examples_for_classes(views):
    z = jnp.asarray(sphere(8, 12, 4), jnp.float32)
    value, _ = of_all(z, np.arange(12) // views, temperature=0.3)
    np.testing.assert_allclose(pairs(z, views, temperature=0.3), value, rtol=1e-6)


def test_exchanging_views_exchanges_their_losses():
    z = jnp.asarray(sphere(9, 12, 4), jnp.float32)
    swapped = z.reshape(6, 2, 4)[:, ::-1].reshape(12, 4)
    value = pairs(z, 2, temperature=0.2).reshape(6, 2)
    exchanged = pairs(swapped, 2, temperature=0.2).reshape(6, 2)
    np.testing.assert_allclose(exchanged, value[:, ::-1], rtol=1e-5)


@pytest.mark.parametrize("positives", ["out", "in"])
def test_supcon_follows_permutations_and_ignores_rotations(positives):
    z, labels = sphere(10, 12, 4), classes(10, 12, 1, 3)
    value, gradient = of_all(jnp.asarray(z, jnp.float32), labels, positives=positives)
    order = np.random.default_rng(11).permutation(12)
    turn, _ = np.linalg.qr(np.random.default_rng(12).normal(size=(4, 4)))
    moved = of_all(
        jnp.asarray(z[order] @ turn, jnp.float32), labels[order], positives=positives
    )
    close(moved, (value[order], gradient[order] @ jnp.asarray(turn, jnp.float32)), 2e-5)


def test_ids_decide_who_is_who_not_places():
    z, labels = jnp.asarray(sphere(13, 12, 4), jnp.float32), classes(13, 12, 1, 2)
    ids = np.asarray([40, -3, 7, 0, 1000, 5, 11, 8, -20, 2, 3, 99], np.int32)
    order = np.random.default_rng(13).permutation(12)
    shuffled = loss_and_gradients(z, z[order], ids, ids[order], labels, labels[order])
    np.testing.assert_allclose(shuffled[0], of_all(z, labels)[0], rtol=1e-5)


slow = pytest.mark.slow  # those without it find the same faults


@pytest.mark.parametrize(
    ("positives", "block"),
    [
        ("out", 1),
        ("out", 3),
        ("in", 3),
        pytest.param("in", 1, marks=slow),
        pytest.param("out", 5, marks=slow),
        pytest.param("in", 5, marks=slow),
    ],
)
def test_blocks_give_the_value_and_gradients_of_the_whole(positives, block):
    z, labels, ids = sphere(14, 10, 4), classes(14, 10, 1, 4), np.arange(10)
    with jax.enable_x64(True):
        arrays = (z[2:], z, ids[2:], ids, labels[2:], labels)
        whole = loss_and_gradients(*arrays, positives=positives)
        parts = loss_and_gradients(*arrays, positives=positives, block=block)
        close(parts, whole, 1e-12)


@pytest.mark.parametrize("positives", ["out", "in"])
def test_a_block_of_all_columns_is_the_program_without_blocks(positives):
    z, ids = jax.ShapeDtypeStruct((10, 4), jnp.float32), jnp.arange(10)
    who = dict.fromkeys(("row_ids", "column_ids", "row_labels", "column_labels"), ids)

    def traced(block):
        known = {"temperature": 0.1, "positives": positives, "block": block}
        return str(jax.make_jaxpr(lambda z: supcon(z, z, **who, **known))(z))

    assert traced(10) == traced(16) == traced(None) != traced(9)


def test_rows_in_pieces_give_the_losses_of_the_whole():
    z, labels, ids = (
        jnp.asarray(sphere(15, 12, 4), jnp.float32),
        classes(15, 12, 1, 3),
        np.arange(12),
    )
    whole = loss_and_gradients(z, z, ids, ids, labels, labels)
    pieces = [
        loss_and_gradients(
            z[i : i + 6], z, ids[i : i + 6], ids, labels[i : i + 6], labels
        )
        for i in (0, 6)
    ]
    value, rows, columns = (jnp.stack(x) for x in zip(*pieces, strict=True))
    close((value.reshape(-1), rows.reshape(12, 4), columns.sum(0)), whole, 1e-5)


@pytest.mark.parametrize(
    ("dtype", "positives", "block"),
    [
        (jnp.bfloat16, "out", None),
        (jnp.bfloat16, "in", 3),
        (jnp.float32, "in", None),
        (jnp.float32, "out", 3),
    ],
)
def test_nothing_overflows(dtype, positives, block):
    x = sphere(16, 8, 4)
    x[1] = x[0]  # a duplicate of the same class
    x[3] = x[2]  # a duplicate of another class
    x[5] = 0  # a dead embedding
    x[7] = -x[6]  # a positive on the other side of the sphere
    labels, ids = jnp.asarray([0, 0, 1, 2, 2, 1, 3, 3]), jnp.arange(8)

    @jax.value_and_grad
    def total(x):
        u = unit(x)
        return supcon(
            u, u, row_ids=ids, column_ids=ids, row_labels=labels, column_labels=labels,
            temperature=0.01, positives=positives, block=block,
        ).sum()  # fmt: skip

    value, gradient = jax.jit(total)(jnp.asarray(x, dtype))
    assert value.dtype == jnp.float32
    assert gradient.dtype == dtype
    assert np.isfinite(value)
    assert np.isfinite(np.asarray(gradient, np.float32)).all()


@pytest.mark.parametrize(
    ("positives", "block"),
    [
        ("out", 3),
        ("in", None),
        pytest.param("out", None, marks=slow),
        pytest.param("in", 3, marks=slow),
    ],
)
def test_eight_devices_have_the_gradient_of_one(positives, block):
    x = jnp.asarray(np.random.default_rng(17).normal(size=(16, 4)), jnp.float32)
    matrix = jnp.asarray(np.random.default_rng(18).normal(size=(4, 3)), jnp.float32)
    labels = jnp.asarray(classes(17, 16, 1, 3))

    def mean_loss(matrix, x, labels, ids, gather, mean):
        z = unit(x @ matrix)
        return mean(
            supcon(
                z, gather(z), row_ids=ids, column_ids=gather(ids), row_labels=labels,
                column_labels=gather(labels), temperature=0.2, positives=positives,
                block=block,
            )
        )  # fmt: skip

    def on_a_share(matrix, x, labels):
        ids = parallel.example_ids(len(x))
        return jax.value_and_grad(mean_loss)(
            matrix, x, labels, ids, parallel.gather, parallel.mean
        )

    run = parallel.data_parallel(on_a_share, parallel.make_mesh(), axes=(0, 0))
    everywhere = jax.jit(run)(matrix, x, labels)
    run = jax.jit(jax.value_and_grad(mean_loss), static_argnums=(4, 5))
    alone = run(matrix, x, labels, jnp.arange(16), lambda y: y, jnp.mean)
    close(everywhere, alone, 1e-5)


def temporaries(n: int, d: int, block: int | None) -> int:
    """Bytes of scratch memory of the compiled value and gradients."""
    z, ids = (
        jax.ShapeDtypeStruct((n, d), jnp.float32),
        jax.ShapeDtypeStruct((n,), jnp.int32),
    )
    program = loss_and_gradients.lower(z, z, ids, ids, ids, ids, block=block).compile()
    return program.memory_analysis().temp_size_in_bytes


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="scratch memory is the CPU compiler's"
)
def test_blocks_need_the_memory_of_one_block():
    n, d, block = 2048, 16, 128
    matrix = 4 * n * block
    # What grows with n alone: vectors and their gradients, the carry before each block.
    linear = 4 * n * (8 * d + 4 * n // block)
    in_blocks = temporaries(n, d, block)
    assert in_blocks < 5 * matrix + linear
    assert in_blocks < temporaries(n, d, None) / 8


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="scratch memory is the CPU compiler's"
)
def test_sixteen_thousand_rows_in_blocks_stay_under_one_gibibyte():
    assert temporaries(16384, 128, 1024) < 2**30


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    z, ids = jnp.ones((2, 2)), jnp.arange(2)
    who = dict.fromkeys(("row_ids", "column_ids", "row_labels", "column_labels"), ids)
    with pytest.raises(ValueError, match=f"temperature {temperature} must be above 0"):
        supcon(z, z, **who, temperature=temperature)
