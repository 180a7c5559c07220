"""Class-conditional contrast: equations, released numbers, limits, blocks, geometry."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_rcl import parallel
from jax_rcl.losses.class_conditional import over_view_pairs, spread
from jax_rcl.losses.pairwise import unit

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "thanos_losses.npz")

# What the released names mean. Examples stand for labels in SimCLR.
SUPCON = {"spread": 0.0}
CLIPPED = {"logit_clip": 1.0}
REPEL = {"attraction": 0.0}
SIMCLR = {"spread": 0.0, "classes": "examples"}
ALL = {"spread": 0.0, "positives_in_denominator": 1.0}
TWICE = {"spread": 0.0, "positives_in_denominator": 2.0}


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def sphere(seed: int, n: int, d: int) -> np.ndarray:
    x = normal(seed, n, d)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def loss(rows, columns, labels, classes="labels", **settings):
    """One value per row; rows and columns are views of the same examples."""
    ids = jnp.arange(len(labels))
    labels = ids if classes == "examples" else jnp.asarray(labels)
    return spread(
        rows, columns, row_examples=ids, column_examples=ids,
        row_labels=labels, column_labels=labels, **settings,
    )  # fmt: skip


# Numbers that may be traced are arguments of the programs, and a clip that no logit
# reaches stands for none, so that many tests share few programs.
NO_CLIP = np.inf
WIDTH = 32


@functools.cache
def compiled(**settings):
    def mean(rows, columns, labels, temperature, clip):
        value = loss(
            rows, columns, labels, temperature=temperature, logit_clip=clip, **settings
        )
        return value.mean(), value

    def run(rows, columns, labels, temperature, clip):
        both = jax.value_and_grad(mean, argnums=(0, 1), has_aux=True)
        (_, value), gradients = both(rows, columns, labels, temperature, clip)
        return value, *gradients

    return jax.jit(run)


def program(temperature=0.5, classes="labels", logit_clip=NO_CLIP, **settings):
    """Compiled values of rows, and gradients of their mean."""

    def run(rows, columns, labels):
        labels = np.arange(len(labels)) if classes == "examples" else labels
        # Zeros change no inner product, and vectors of one width share programs.
        width = rows.shape[1]
        wide = [np.pad(x, [(0, 0), (0, WIDTH - width)]) for x in (rows, columns)]
        value, *gradients = compiled(**settings)(*wide, labels, temperature, logit_clip)
        return value, *(gradient[:, :width] for gradient in gradients)

    return run


@functools.cache
def compiled_for_views(similarity, direction, **settings):
    def mean(views, labels, clip):
        pair = functools.partial(loss, labels=labels, logit_clip=clip, **settings)
        return over_view_pairs(
            views, views, pair, direction=direction, similarity=similarity
        ).mean()

    return jax.jit(jax.value_and_grad(mean))


def views_program(
    similarity, direction, classes="labels", logit_clip=NO_CLIP, **settings
):
    """Compiled mean loss over pairs of views [n, v, d], and its gradient."""

    def run(views, labels):
        labels = np.arange(len(labels)) if classes == "examples" else labels
        program = compiled_for_views(similarity, direction, **settings)
        return program(views, np.asarray(labels), logit_clip)

    return run


def close(got, expected, tolerance):
    """Equal up to a share of the largest entry of each array."""
    for one, other in zip(got, expected, strict=True):
        scale = np.abs(np.asarray(other)).max()
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


# The equations.


def loop(
    rows, columns, row_examples, column_examples, row_labels, column_labels,
    temperature=0.5, attraction=1.0, spread=1.0, positives_in_denominator=0.0,
    logit_clip=None,
):  # fmt: skip
    """The equations of the docstring, anchor by anchor and pair by pair."""
    values = np.zeros(len(rows))
    for i, row in enumerate(rows):
        s = [float(row @ column) / temperature for column in columns]
        positives = [j for j in range(len(s)) if column_labels[j] == row_labels[i]]
        negatives = [j for j in range(len(s)) if j not in positives]
        (own,) = (j for j in positives if column_examples[j] == row_examples[i])
        everyone = sum(np.exp(s[j]) for j in positives)
        attract = 0.0
        for p in positives:
            one = positives_in_denominator * everyone or np.exp(s[p])
            denominator = one + sum(np.exp(s[j]) for j in negatives)
            numerator = s[p] if logit_clip is None else min(s[p], logit_clip)
            attract += (np.log(denominator) - numerator) / len(positives)
        repel = np.log(everyone) - s[own]
        if spread == 0:
            values[i] = attraction * attract
        else:
            weighted = attraction * attract + spread * repel
            values[i] = weighted / (attraction + spread)
    return values


def slopes(function, x):
    """The gradient of a scalar function by central differences."""
    slope = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[place] = 1e-5
        slope[place] = (function(x + step) - function(x - step)) / 2e-5
    return slope


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attraction": 0.5, "spread": 2.0, "temperature": 0.2, "logit_clip": 0.7},
        {"attraction": 2.0, "spread": 0.0, "temperature": 1.0},
        {"attraction": 0.0, "spread": 3.0},
        {"positives_in_denominator": 1.0, "spread": 0.5},
        {"positives_in_denominator": 0.25, "logit_clip": -0.1, "spread": 0.0},
    ],
)
def test_it_is_the_equation_and_its_gradient(settings):
    n, d, k = 7, 4, 3
    columns, examples = sphere(n, n, d), np.random.default_rng(n).permutation(9)[:n]
    labels = np.random.default_rng(n).integers(0, k, n)
    # A device's rows: not all examples, and not in the order of the columns.
    some = np.random.default_rng(d).permutation(n)[:-1]
    rows = sphere(n + 1, n - 1, d)
    who = (examples[some], examples, labels[some], labels)

    def total(rows, columns):
        return loop(rows, columns, *who, **settings).sum()

    expected = (
        loop(rows, columns, *who, **settings),
        slopes(lambda x: total(x, columns), rows),
        slopes(lambda x: total(rows, x), columns),
    )

    def ours(rows, columns):
        names = ("row_examples", "column_examples", "row_labels", "column_labels")
        ids = dict(zip(names, map(jnp.asarray, who), strict=True))
        value = spread(rows, columns, **ids, **settings)
        return value.sum(), value

    run = jax.jit(jax.value_and_grad(ours, argnums=(0, 1), has_aux=True))
    with jax.enable_x64(True):
        (_, value), gradients = run(jnp.asarray(rows), jnp.asarray(columns))
        close([value], expected[:1], 1e-10)
        close(gradients, expected[1:], 1e-7)


# What the released code gives.


@pytest.mark.parametrize("case", [pytest.param(0, marks=pytest.mark.slow), 1, 2])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sup_con", SUPCON | CLIPPED),
        ("l_spread", CLIPPED),
        ("sim_clr", SIMCLR | CLIPPED),
        ("l_repel", REPEL | CLIPPED),
        ("sup_con_posden", ALL | CLIPPED),
        ("sup_con_noclip_t01", SUPCON | {"temperature": 0.1}),
    ],
)
def test_values_and_gradients_are_the_released_ones(name, settings, case):
    names = ("loss", "grad1", "grad0", "view1", "view0", "labels")
    *expected, rows, columns, labels = (
        GOLDEN[f"thanos_{name}_s{case}/{part}"] for part in names
    )
    run = program(**settings)
    with jax.enable_x64(True):
        value, *gradients = run(rows, columns, labels)
        close([value.mean(), *gradients], expected, 1e-10)
    if case == 1:  # the largest
        arrays = (rows.astype(np.float32), columns.astype(np.float32))
        value, *gradients = run(*arrays, labels.astype(np.int32))
        assert value.dtype == jnp.float32
        close([value.mean(), *gradients], expected, 1e-5)


def example_views(count=2):
    """Eight examples of four numbers, seen `count` times, given by sines."""
    i, k = np.arange(8)[:, None], np.arange(4)[None, :]
    views = (
        np.sin(1.0 + 0.7 * i + 1.3 * k),
        np.cos(0.3 + 0.9 * i - 0.8 * k),
        np.sin(0.2 + 0.5 * i + 0.4 * k),
    )
    return np.stack(views[:count], axis=1), np.asarray([0, 1, 0, 0, 1, 1, 0, 1])


@pytest.mark.parametrize(
    ("settings", "similarity", "value", "slope0", "slope1", "cosine"),
    [
        (SUPCON | CLIPPED, "released",
         2.4379864417, 0.03630102, -0.10161322, 2.4334280909),
        (SUPCON, "released", 2.3247623903, 0.02395084, -0.07290990, 2.3205140698),
        (SUPCON, "dot", 3.7471719928, 0.28288962, 0.11001886, 2.3205140698),
        (CLIPPED, "released", 2.1555051249, 0.01769807, -0.08127092, 2.1531746479),
        ({}, "released", 2.0988930993, 0.01152298, -0.06691926, 2.0967176374),
        ({"spread": 3.0}, "released",
         1.9859584537, 0.00530904, -0.06392394, 1.9848194212),
        (REPEL, "released", 1.8730238082, -0.00090489, -0.06092862, 1.8729212050),
        (SIMCLR | CLIPPED, "released",
         2.7879780330, 0.03453269, -0.06863636, 2.7851763733),
        (SIMCLR, "released", 2.6602690844, -0.00151864, -0.06507400, 2.6574674247),
        (ALL, "released", 2.7751002888, 0.02805742, -0.08656156, 2.7723423713),
        (TWICE | CLIPPED, "released",
         3.2678187551, 0.04101880, -0.11652095, 3.2655220498),
        (TWICE, "released", 3.1545947038, 0.02866863, -0.08781763, 3.1526080287),
    ],
)  # fmt: skip
def test_every_released_option(settings, similarity, value, slope0, slope1, cosine):
    views, labels = example_views()
    with jax.enable_x64(True):
        run = views_program(similarity, "one-way", **settings)
        got, gradient = run(views, labels)
        np.testing.assert_allclose(got, value, rtol=0, atol=1e-10)
        np.testing.assert_allclose(gradient[0, :, 0], [slope0, slope1], atol=1e-8)
        # All similarities are cosines of unit vectors.
        got, _ = run(views / np.linalg.norm(views, axis=-1, keepdims=True), labels)
        np.testing.assert_allclose(got, cosine, rtol=0, atol=1e-10)


def test_other_numbers_of_the_released_code():
    views, labels = example_views()
    three, _ = example_views(3)
    released = functools.partial(views_program, "released", "one-way")
    with jax.enable_x64(True):
        one_class = np.zeros(8, int)
        got = [
            released(**SUPCON)(views[:, ::-1], labels)[0],
            released(**SUPCON)(three, labels)[0],
            released(**SUPCON)(views, one_class)[0],
            released()(views, one_class)[0],
        ]
    expected = [2.4098822458, 2.2024925896, 0, 1.3301345422]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)


# Pairs of views.


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_the_mean_over_pairs_is_over_all_of_them_unless_one_way(count):
    views, labels = example_views(count)
    z = views / np.linalg.norm(views, axis=-1, keepdims=True)
    with jax.enable_x64(True):
        value = {
            (i, j): program()(z[:, i], z[:, j], labels)[0].mean()
            for i in range(count)
            for j in range(count)
        }
        later = np.mean([v for (i, j), v in value.items() if i > j])
        every = np.mean([v for (i, j), v in value.items() if i != j])
        one_way, _ = views_program("cosine", "one-way")(views, labels)
        both_ways, _ = views_program("cosine", "symmetric")(views, labels)
        turned, _ = views_program("cosine", "symmetric")(views[:, ::-1], labels)
    got = [one_way, both_ways, turned]
    np.testing.assert_allclose(got, [later, every, every], rtol=1e-12)


def test_cosines_know_no_lengths_and_released_ones_not_those_of_all_together():
    views, labels = example_views()
    longer = views * (1 + np.arange(8))[:, None, None]
    with jax.enable_x64(True):
        for similarity, same in (("cosine", True), ("released", False), ("dot", False)):
            run = views_program(similarity, "one-way", **SUPCON)
            change = abs(run(longer, labels)[0] - run(views, labels)[0])
            assert (change < 1e-12) == same
        run = views_program("released", "one-way", **SUPCON)
        scaled, plain = run(5 * views, labels)[0], run(views, labels)[0]
        np.testing.assert_allclose(scaled, plain, rtol=1e-12)


def test_one_view_is_too_few():
    views = jnp.ones((3, 1, 2))
    with pytest.raises(ValueError, match="got 1 for each example"):
        over_view_pairs(views, views, lambda rows, columns: rows[:, 0])


# Limits.


def test_equal_vectors_have_a_closed_form():
    z, labels = np.tile([[0.6, 0.8]], (12, 1)), np.repeat([0, 1, 2, 3], [6, 3, 2, 1])
    positives = np.repeat([6, 3, 2, 1], [6, 3, 2, 1])
    with jax.enable_x64(True):
        attract, *_ = program(**SUPCON)(z, z, labels)
        repel, *_ = program(**REPEL)(z, z, labels)
    np.testing.assert_allclose(attract, np.log(1 + 12 - positives), rtol=1e-6)
    np.testing.assert_allclose(repel, np.log(positives), rtol=1e-6, atol=1e-7)


def test_orthogonal_classes_have_a_closed_form():
    # k classes of m equal vectors: positives at cosine 1, negatives at 0.
    k, m, temperature = 3, 4, 0.5
    z, labels = np.repeat(np.eye(k), m, axis=0), np.arange(k).repeat(m)
    near, far = np.exp(1 / temperature), (k - 1) * m
    for settings, positive in ((SUPCON, near), (ALL, m * near), (TWICE, 2 * m * near)):
        with jax.enable_x64(True):
            value, *_ = program(**settings)(z, z, labels)
        expected = np.log(positive + far) - 1 / temperature
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_without_negatives_nothing_attracts():
    with jax.enable_x64(True):
        value, *gradients = program(**SUPCON)(
            sphere(0, 12, 3), sphere(1, 12, 3), np.zeros(12, int)
        )
        assert (value == 0).all()
        assert all((gradient == 0).all() for gradient in gradients)


def test_a_class_of_one_example_has_nobody_to_spread_from():
    with jax.enable_x64(True):
        value, *gradients = program(**REPEL)(
            sphere(0, 12, 3), sphere(1, 12, 3), np.arange(12)
        )
    np.testing.assert_allclose(value, 0, atol=1e-6)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_a_row_whose_class_no_column_has_costs_nothing():
    z, ids = jnp.asarray(sphere(0, 4, 3)), jnp.arange(4)

    def total(z, **settings):
        return spread(
            z, z[1:], row_examples=ids, column_examples=ids[1:],
            row_labels=ids, column_labels=ids[1:], **settings,
        )[0]  # fmt: skip

    @jax.jit
    def run(z):
        return [
            jax.value_and_grad(functools.partial(total, **settings))(z)
            for settings in ({}, {"positives_in_denominator": 1.0, "logit_clip": 0.5})
        ]

    for value, gradient in run(z):
        assert value == 0
        assert (gradient == 0).all()


def test_where_classes_are_far_apart_little_is_left_but_not_nothing():
    # Six of each class. Of so little, float64 has nothing in log D - s either.
    z = np.repeat([[1.0, 0.0], [-1.0, 0.0]], 6, axis=0)
    with jax.enable_x64(True):
        value, *_ = program(temperature=0.05, **SUPCON)(z, z, np.arange(12) // 6)
    np.testing.assert_allclose(value, 6 * np.exp(-40), rtol=1e-5)


# Symmetries.


@pytest.mark.parametrize("settings", [SUPCON, {}, REPEL, CLIPPED | ALL], ids=str)
def test_members_of_a_class_can_be_exchanged_if_their_views_stay_together(settings):
    rows, columns, labels = sphere(2, 12, 4), sphere(3, 12, 4), np.arange(12) % 3
    order = np.arange(12)
    for label in range(3):
        members = np.flatnonzero(labels == label)
        order[members] = np.random.default_rng(label).permutation(members)
    assert (order != np.arange(12)).any()
    with jax.enable_x64(True):
        run = program(**settings)
        value, one, other = run(rows, columns, labels)
        moved = run(rows[order], columns[order], labels)
        close(moved, (value[order], one[order], other[order]), 1e-12)
        np.testing.assert_allclose(moved[0].mean(), value.mean(), rtol=1e-14)
        # Apart, they cannot where the loss knows which views are of one example.
        apart, *_ = run(rows[order], columns, labels)
        knows = settings.get("spread", 1.0) > 0
        assert (abs(apart.mean() - value.mean()) > 1e-3) == knows


def test_examples_for_labels_make_it_the_softmax_over_all_other_views():
    rows, columns = sphere(4, 12, 3), sphere(5, 12, 3)
    s = rows @ columns.T / 0.3
    expected = np.log(np.exp(s).sum(1)) - np.diag(s)
    with jax.enable_x64(True):
        for settings in (SUPCON, ALL):
            value, *_ = program(temperature=0.3, **settings)(
                rows, columns, np.arange(12)
            )
            np.testing.assert_allclose(value, expected, rtol=1e-12)


# Blocks and devices.


slow = pytest.mark.slow  # those without it find the same faults


@pytest.mark.parametrize(
    ("block", "settings"),
    [
        (5, {}),
        (5, CLIPPED | TWICE),
        pytest.param(1, {}, marks=slow),
        pytest.param(12, {}, marks=slow),
        pytest.param(16, {}, marks=slow),
        pytest.param(5, REPEL, marks=slow),
    ],
    ids=str,
)
def test_blocks_give_the_value_and_gradients_of_the_whole(block, settings):
    vectors, four = (sphere(6, 12, 4), sphere(7, 12, 4)), np.arange(12) // 2 % 4
    for labels in (four, np.zeros(12, int), np.arange(12)):
        with jax.enable_x64(True):
            whole = program(**settings)(*vectors, labels)
            parts = program(block=block, **settings)(*vectors, labels)
            for one, other in zip(parts, whole, strict=True):
                scale = max(1e-3, np.abs(other).max())
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("block", [3, pytest.param(None, marks=slow)])
def test_eight_devices_have_the_gradient_of_one(block):
    x = jnp.asarray(normal(8, 16, 3, 4), jnp.float32)
    matrix = jnp.asarray(normal(9, 4, 3), jnp.float32)
    labels = jnp.asarray(np.arange(16) % 3, jnp.int32)

    def mean_loss(matrix, x, labels, ids, gather, mean):
        z = x @ matrix
        pair = functools.partial(
            spread, row_examples=ids, column_examples=gather(ids), row_labels=labels,
            column_labels=gather(labels), temperature=0.2, logit_clip=3.0, block=block,
        )  # fmt: skip
        return mean(over_view_pairs(z, gather(z), pair, similarity="released"))

    def on_a_share(matrix, x, labels):
        ids = parallel.example_ids(len(x))
        return jax.value_and_grad(mean_loss)(
            matrix, x, labels, ids, parallel.gather, parallel.mean
        )

    run = parallel.data_parallel(on_a_share, parallel.make_mesh(), axes=(0, 0))
    everywhere = jax.jit(run)(matrix, x, labels)
    alone = jax.jit(jax.value_and_grad(mean_loss), static_argnums=(4, 5))(
        matrix, x, labels, jnp.arange(16), lambda y: y, jnp.mean
    )
    close(everywhere, alone, 1e-5)


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="scratch memory is the CPU compiler's"
)
def test_blocks_need_little_memory():
    z = jax.ShapeDtypeStruct((2048, 16), jnp.float32)
    labels = jax.ShapeDtypeStruct((2048,), jnp.int32)

    def scratch(block):
        program = compiled(block=block).lower(z, z, labels, 0.5, 1.0).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert scratch(128) < scratch(None) / 8


# Edges.


@pytest.mark.parametrize(
    ("dtype", "similarity", "settings"),
    [
        (jnp.float32, "cosine", {}),
        (jnp.bfloat16, "dot", CLIPPED | TWICE),
        (jnp.bfloat16, "released", CLIPPED),
    ],
    ids=str,
)
def test_nothing_overflows(dtype, similarity, settings):
    views = normal(10, 9, 2, 4)
    views[1] = views[0]  # a duplicate of the same class
    views[3] = views[2]  # a duplicate of another class
    views[5] = 0  # a dead embedding
    views[7] = -views[6]  # a positive on the other side of the sphere
    views = jnp.asarray(views, dtype)
    run = views_program(similarity, "symmetric", temperature=0.01, **settings)
    for labels in ([0, 0, 1, 2, 2, 1, 3, 3, 4], [0] * 9, range(9)):
        value, gradient = run(views, np.asarray(labels))
        assert value.dtype == jnp.float32
        assert gradient.dtype == dtype
        assert np.isfinite(value)
        assert np.isfinite(np.asarray(gradient, np.float32)).all()


def test_blocks_and_single_rows_stay_finite_too():
    z = sphere(11, 4, 3).astype(jnp.bfloat16)
    z[1] = 0
    for labels in ([0, 0, 1, 2], [0] * 4, range(4)):
        for part in program(block=3, temperature=0.01)(z, z, np.asarray(labels)):
            assert np.isfinite(np.asarray(part, np.float32)).all()
    alone, *_ = program(temperature=0.01)(z[:1], z[:1], np.zeros(1, int))
    assert (np.asarray(alone) == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
        ({"attraction": -0.5}, "attraction -0.5 must be at least 0"),
        ({"spread": -1.0}, "spread -1.0 must be at least 0"),
        ({"positives_in_denominator": -2.0}, "denominator -2.0 must be at least 0"),
        ({"attraction": 0.0, "spread": 0.0}, "attraction and spread are both 0"),
        ({"block": 0}, "block 0 must be at least 1"),
    ],
)
def test_numbers_that_cannot_work_are_refused(settings, message):
    z = jnp.ones((2, 2))
    with pytest.raises(ValueError, match=message):
        loss(z, z, [0, 1], **settings)


# Where the losses lead.

SHARP = {"temperature": 0.1}
CLASSES = np.arange(64) // 32
GEOMETRY = {  # cosine within classes, between them, length of class means, spread
    "supcon": (SUPCON, (1.000, -1.000, 1.000, 0.000)),
    "supcon clipped": (SUPCON | CLIPPED, (0.867, -0.871, 0.933, 0.129)),
    "α 0.25": ({"attraction": 0.75, "spread": 0.25}, (1.000, -1.000, 1.000, 0.000)),
    "α 0.5": ({}, (0.877, -0.881, 0.939, 0.119)),
    "α 0.5 clipped": (CLIPPED, (0.517, -0.533, 0.730, 0.467)),
    "α 0.75": ({"attraction": 0.25, "spread": 0.75}, (-0.032, 0.000, 0.000, 1.000)),
    "simclr": (SIMCLR, (-0.015, -0.017, 0.131, 0.983)),
    "supcon sharp": (SUPCON | SHARP, (0.747, -0.735, 0.869, 0.245)),
    "supcon sharp clipped": (SUPCON | SHARP | CLIPPED, (0.199, -0.224, 0.473, 0.776)),
}


@pytest.fixture(scope="module")
def free_vectors():
    """Two classes of 32 vectors, moved freely by each loss from the same start."""
    start = jax.random.normal(jax.random.key(0), (64, 16))
    x = jnp.tile(start, (len(GEOMETRY), 1, 1))
    adam = optax.adam(0.02)

    def total(x):
        values = (
            loss(z, z, CLASSES, **settings).mean()
            for z, (settings, _) in zip(unit(x), GEOMETRY.values(), strict=True)
        )
        return sum(values)

    def step(carry, _):
        x, state = carry
        slope = jax.grad(total)(x)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes types freely
            updates, state = adam.update(slope, state)
        return (x + updates, state), None

    def run(x):
        return jax.lax.scan(step, (x, adam.init(x)), None, length=4000)[0][0]

    # Four thousand steps are worth the optimizations that other tests do without.
    options = {"xla_backend_optimization_level": 3}
    x = np.asarray(unit(jax.jit(run, compiler_options=options)(x)), np.float64)
    return dict(zip(GEOMETRY, x, strict=True))


# What the equations lead to; these themselves are tested above.
@pytest.mark.slow
@pytest.mark.parametrize("name", GEOMETRY)
def test_vectors_go_where_the_loss_leads(free_vectors, name):
    z = free_vectors[name]
    cosines, same = z @ z.T, CLASSES[:, None] == CLASSES[None, :]
    means = np.stack([z[CLASSES == label].mean(axis=0) for label in (0, 1)])
    lengths = np.linalg.norm(means, axis=1)
    found = (
        cosines[same & ~np.eye(64, dtype=bool)].mean(),
        cosines[~same].mean(),
        lengths.mean(),
        (1 - lengths**2).mean(),
    )
    np.testing.assert_allclose(found, GEOMETRY[name][1], rtol=0, atol=0.05)
