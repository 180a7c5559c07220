"""Decoupled uniformity and kernel centroids: released numbers, closed forms, edges."""

import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.losses.kernels import Cosine, Rbf
from jax_rcl.losses.uniformity import (
    alignment,
    centroids,
    decoupled_uniformity,
    kernel_centroids,
    least_ridge,
    log_potentials,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "decoupled_uniformity.npz")
RELEASED = sorted({name.split("/")[0] for name in GOLDEN.files})
VARIANTS = {
    "none": {},
    "rbf1": {"kind": "rbf", "sigma": 1.0},
    "rbf20": {"kind": "rbf", "sigma": 20.0},
    "cosine": {"kind": "cosine"},
    "rbf3_lam0p1": {"kind": "rbf", "sigma": 3.0, "ridge": 0.1, "scale": 1.0},
}
KERNELS = {"rbf": Rbf(1.0), "median": Rbf(1.0, "median"), "cosine": Cosine()}
MATRICES = {kind: jax.jit(kernel) for kind, kernel in KERNELS.items()}
N, D, P = 32, 16, 20
"""Centroids, embeddings and priors of most tests: those of the golden s1, so that they
share programs."""


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def views_of(seed):
    return normal(seed, N, 2, D)


def priors_of(seed):
    """Near enough for kernels of width 1 to see several of them at once."""
    return np.float32(0.3) * normal(seed, N, P)


def potentials(c, scale=2.0, block=None):
    """Of centroids among themselves."""
    ids = jnp.arange(len(c))
    return log_potentials(c, c, row_ids=ids, column_ids=ids, scale=scale, block=block)


def loss_of(z, priors, sigma, ridge, scale, kind, block):
    """The loss of views, and the alignment of the centroids it compares."""
    c = centroids(z)
    if kind is not None:
        c = kernel_centroids(KERNELS[kind](priors / sigma), c, ridge=ridge)
    value = decoupled_uniformity(potentials(c, scale, block))
    return value, alignment(c).mean()


# Numbers are arguments of the programs: one for each shape and kind of kernel.
compiled = jax.jit(
    jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True),
    static_argnames=("kind", "block"),
)


def of(z, priors, *, sigma=1.0, ridge=0.01, scale=2.0, kind=None, block=None):
    """Loss, alignment, and gradient by views; priors never get one."""
    (value, align), slopes = compiled(z, priors, sigma, ridge, scale, kind, block)
    assert not np.any(slopes[1])
    return np.asarray(value), np.asarray(align), np.asarray(slopes[0], np.float64)


@functools.partial(jax.jit, static_argnames="block")
def uniformity(c, scale=2.0, block=None):
    """Of centroids as they are."""
    return decoupled_uniformity(potentials(c, scale, block))


smoothed = jax.jit(kernel_centroids)


def looped(z, kernel=None, ridge=0.01, scale=2.0):
    """The equation, pair by pair; `kernel` is the matrix."""
    z = np.asarray(z, np.float64)
    c = np.stack([np.mean([x / np.linalg.norm(x) for x in views], 0) for views in z])
    n = len(c)
    if kernel is not None:
        c = np.linalg.inv(kernel + ridge * np.eye(n)) @ kernel @ c
    pairs = [(i, j) for i in range(n) for j in range(i)]
    total = sum(np.exp(-scale * np.sum((c[i] - c[j]) ** 2)) for i, j in pairs)
    return np.log(2 / (n * (n - 1)) * total)


@pytest.mark.parametrize(
    ("name", "dtype", "rtol"),
    [(name, np.float64, 1e-10) for name in RELEASED]
    + [(f"du_{variant}_s1", np.float32, 1e-5) for variant in VARIANTS],
)
def test_value_gradient_and_alignment_are_the_release_s(name, dtype, rtol):
    settings = VARIANTS[re.fullmatch(r"du_(.*)_s\d", name)[1]]
    z, priors, loss, gradient, align = (
        GOLDEN[f"{name}/{key}"].astype(dtype)
        for key in ("z", "prior", "loss", "grad", "align")
    )
    with jax.enable_x64(dtype == np.float64):
        *got, slope = of(z, priors, **settings)
    np.testing.assert_allclose(got, [loss, align], rtol=rtol)
    atol = rtol * np.abs(gradient).max()
    np.testing.assert_allclose(slope, gradient, rtol=10 * rtol, atol=atol)


def test_the_worked_examples_of_the_method():
    i, v, d = np.ogrid[0:4, 0:2, 0:3]
    z = np.sin(1 + 1.7 * i + 0.3 * v + 0.9 * i * d + 0.5 * d)
    p = np.cos(2 * np.arange(4.0)[:, None] + np.arange(2.0)[None])
    with jax.enable_x64(True):
        none, rbf, cosine = (of(z, p, kind=kind) for kind in (None, "rbf", "cosine"))
        root = of(z, p, kind="rbf", ridge=1 / math.sqrt(4))
        weights = smoothed(MATRICES["rbf"](p), np.eye(4), ridge=0.01)
    close = functools.partial(np.testing.assert_allclose, atol=1e-8, rtol=0)
    close(none[:2], [-2.52571011, -0.75865466])
    close(none[2][0, 0], [-0.10651572, 0.01083489, 0.08668466])
    close(np.linalg.norm(none[2]), 2.39654158)
    close(weights[0], [0.84507338, 0.00506666, -0.00038246, 0.14948107])
    close(rbf[:2], [-2.15250931, -0.66895759])
    close(rbf[2][0, 0], [-0.15488734, 0.04591312, 0.09296748])
    close(np.linalg.norm(rbf[2]), 1.80430681)
    close(cosine[:2], [-1.63595949, -0.60387485])
    close(root[0], -0.92188755)


@pytest.mark.parametrize(
    ("n", "v", "d", "scale", "ridge", "kind"),
    [(2, 1, 3, 5.0, 2.0, "cosine"), (5, 4, 1, 0.3, 0.1, "rbf")],
)
def test_it_is_the_equation(n, v, d, scale, ridge, kind):
    z, priors = normal(n, n, v, d), normal(n + 1, n, 3)
    got = of(z, priors, scale=scale)[0]
    np.testing.assert_allclose(got, looped(z, scale=scale), rtol=1e-5, atol=1e-6)
    matrix = np.asarray(MATRICES[kind](priors), np.float64)
    got = of(z, priors, kind=kind, ridge=ridge, scale=scale)[0]
    expected = looped(z, matrix, ridge, scale)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_potential_of_a_row_is_a_mean_over_the_others():
    c = normal(0, 5, 3)
    expected = [
        np.log(np.mean([np.exp(-2 * np.sum((x - y) ** 2)) for y in np.delete(c, i, 0)]))
        for i, x in enumerate(c)
    ]
    np.testing.assert_allclose(jax.jit(potentials)(c), expected, rtol=1e-5)


# Closed forms.


def test_zero_at_collapse_and_twice_the_scale_below_for_orthogonal_centroids():
    same = np.repeat(normal(1, 1, 6), 5, axis=0)
    orthogonal = np.linalg.qr(normal(2, 6, 6))[0][:5]
    for scale in (0.5, 2.0):
        np.testing.assert_allclose(uniformity(same, scale), 0, atol=1e-5)
        np.testing.assert_allclose(uniformity(orthogonal, scale), -2 * scale, rtol=1e-5)


@pytest.mark.parametrize("n", [2, 5])
def test_the_simplex_reaches_the_bound_and_nothing_is_below(n):
    simplex = np.eye(n, 6) - np.pad(np.full((n, n), 1 / n), [(0, 0), (0, 6 - n)])
    simplex = simplex / np.linalg.norm(simplex, axis=1, keepdims=True)
    bound = -2 * 3.0 * n / (n - 1)
    got = uniformity(simplex.astype(np.float32), 3.0)
    np.testing.assert_allclose(got, bound, rtol=1e-5)
    for seed in range(3):
        c = normal(seed, n, 6)
        c = c / np.linalg.norm(c, axis=1, keepdims=True)
        assert bound < uniformity(c, 3.0) <= 0


def test_centroids_are_means_of_unit_vectors_and_alignment_their_squared_length():
    @jax.jit
    def both(z):
        return centroids(z), alignment(centroids(z))

    z = normal(3, 6, 2, 4)
    u = z / np.linalg.norm(z, axis=-1, keepdims=True)
    c, aligned = both(z)
    np.testing.assert_allclose(c, u.mean(axis=1), atol=1e-6)
    quarter = np.sum((u[:, 0] - u[:, 1]) ** 2, axis=-1) / 4
    np.testing.assert_allclose(aligned, quarter - 1, atol=1e-6)
    _, agreed = both(np.repeat(z[:, :1], 2, axis=1))
    np.testing.assert_allclose(agreed, -1, rtol=1e-6)
    _, opposed = both(np.stack([z[:, 0], -3 * z[:, 0]], axis=1))
    np.testing.assert_allclose(opposed, 0, atol=1e-6)


def test_a_kernel_of_ones_gives_all_the_same_and_the_identity_shrinks():
    c = normal(4, 6, 3)
    ones = smoothed(jnp.ones((6, 6)), c, ridge=0.5)
    everyone = np.broadcast_to(np.sum(c, axis=0) / 6.5, (6, 3))
    np.testing.assert_allclose(ones, everyone, atol=1e-5)
    alone = smoothed(jnp.eye(6), c, ridge=0.5)
    np.testing.assert_allclose(alone, c / 1.5, rtol=1e-5)


def test_a_ridge_of_none_is_one_over_the_root_of_n():
    k, c = (
        np.exp(-np.abs(np.subtract.outer(np.arange(9), np.arange(9)))),
        normal(6, 9, 3),
    )
    k = k.astype(np.float32)
    expected = smoothed(k, c, ridge=1 / 3)
    np.testing.assert_allclose(smoothed(k, c), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected - smoothed(k, c, ridge=0.01)).max() > 0.01


# Invariances.


@pytest.mark.parametrize("kind", [None, "rbf", "cosine"])
def test_what_the_loss_does_not_depend_on(kind):
    z, priors = views_of(7), priors_of(8)

    def loss(z, priors):
        return of(z, priors, kind=kind, ridge=0.1)[0]

    expected = loss(z, priors)
    random = np.random.default_rng(9)
    order = random.permutation(N)
    rotation = np.linalg.qr(random.normal(size=(D, D)))[0].astype(np.float32)
    lengths = np.exp(random.normal(size=(N, 2, 1))).astype(np.float32)
    for name, changed, others in [
        ("order of examples", z[order], priors[order]),
        ("order of views", z[:, ::-1], priors),
        ("rotation", z @ rotation, priors),
        ("lengths of embeddings", z * lengths, priors),
    ]:
        got = loss(changed, others)
        np.testing.assert_allclose(got, expected, rtol=1e-4, err_msg=name)
    other = loss(z * np.float32([[[1], [-1]]]), priors)
    assert abs(other - expected) > 1e-2


# Rows against columns, and blocks.


def test_blocks_change_neither_value_nor_gradient():
    z, priors = views_of(10), priors_of(11)
    expected, got = of(z, priors), of(z, priors, block=5)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(got[2], expected[2], rtol=1e-4, atol=1e-6)


def test_rows_against_all_columns_are_parts_of_the_whole():
    c, ids = normal(12, 7, 3), jnp.asarray([9, 4, 0, 7, 2, 5, 1])

    @jax.jit
    def parts(c):
        found = [potentials(c)]
        for block in (None, 3):
            against = functools.partial(
                log_potentials, columns=c, column_ids=ids, block=block
            )
            pieces = [against(c[s], row_ids=ids[s]) for s in (slice(3), slice(3, 7))]
            found.append(jnp.concatenate(pieces))
        return found

    whole, *others = parts(c)
    for other in others:
        np.testing.assert_allclose(other, whole, rtol=1e-5)


def test_on_eight_devices_it_is_the_same_loss_with_the_same_gradient():
    z, priors = views_of(13), priors_of(14)
    mesh = parallel.make_mesh()

    def share(z, priors):
        ids = parallel.example_ids(len(z))
        everyone = parallel.gather(centroids(z))
        kernel = Rbf(1.0)(parallel.gather(priors))
        everyone = kernel_centroids(kernel, everyone, ridge=0.01)
        potentials = log_potentials(
            everyone[ids],
            everyone,
            row_ids=ids,
            column_ids=parallel.gather(ids),
            block=5,
        )
        return parallel.mean(decoupled_uniformity(parallel.gather(potentials)))

    spread = parallel.data_parallel(share, mesh, whole=0, axes=(0, 0))
    value, gradient = jax.jit(jax.value_and_grad(spread))(z, priors)
    expected = of(z, priors, kind="rbf")
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[2], rtol=1e-4, atol=1e-6)


# The weights of a kernel.


@pytest.mark.parametrize("kind", ["rbf", "cosine"])
def test_weights_are_symmetric_with_eigenvalues_between_zero_and_one(kind):
    with jax.enable_x64(True):
        k = MATRICES[kind](normal(17, 9, 3).astype(np.float64))
        weights = np.asarray(smoothed(k, np.eye(9), ridge=0.1))
        c = np.random.default_rng(18).normal(size=(9, 9))
        got = smoothed(k, c, ridge=0.1)
    np.testing.assert_allclose(weights, weights.T, atol=1e-13)
    values = np.linalg.eigvalsh(np.asarray(k))
    shrunk = values / (values + 0.1)
    np.testing.assert_allclose(np.linalg.eigvalsh(weights), shrunk, atol=1e-12)
    assert shrunk.min() > -1e-12 and shrunk.max() < 1
    np.testing.assert_allclose(got, weights @ c, atol=1e-12)
    assert np.linalg.norm(got) < np.linalg.norm(c)


def test_only_the_lower_triangle_of_a_kernel_is_read():
    x = normal(19, 6, 8)
    k, c = x @ x.T, normal(20, 6, 3)
    got = smoothed(np.tril(k), c, ridge=0.1)
    np.testing.assert_array_equal(got, smoothed(k, c, ridge=0.1))


def test_a_kernel_that_is_not_positive_semi_definite_gives_nan():
    k = np.float32(2 - np.eye(6))
    assert np.isnan(smoothed(k, np.ones((6, 3), np.float32), ridge=0.1)).all()


def test_the_least_ridge_is_enough_for_kernels_of_low_rank():
    n = 512
    kernels = [
        np.ones((n, n), np.float32),
        np.full((n, n), 0.7, np.float32),
        np.asarray(jax.jit(Rbf(30.0))(normal(31, n, 3))),
    ]
    for width in (1, 2, 3):
        priors = normal(30, n, 3)
        priors[:, width:] = 0  # one shape, one program
        cosine, product = MATRICES["cosine"], 1e3 * priors @ priors.T
        kernels += [cosine(priors), cosine(np.abs(priors)), product]
    c = np.eye(n, 2, dtype=np.float32)
    for kernel in kernels:
        ridge = least_ridge(n, float(np.abs(kernel).max()))
        assert np.isfinite(smoothed(kernel, c, ridge=ridge)).all()


def test_an_example_whose_prior_is_zero_has_the_centroid_zero():
    priors = normal(21, 6, 3)
    priors[1] = 0
    weights = smoothed(MATRICES["cosine"](priors), np.eye(6, dtype="f"), ridge=0.01)
    lengths = np.linalg.norm(weights, axis=1)
    np.testing.assert_allclose(lengths[1], 0, atol=1e-6)
    assert np.delete(lengths, 1).min() > 0.1


# Edges: a finite value, and a finite gradient that is not nothing.

ONE_HOT = np.eye(P, dtype=np.float32)[np.arange(N) % 3]
EDGES = {
    "duplicated priors": ({"kind": "rbf"}, np.repeat(priors_of(22)[:8], 4, axis=0)),
    "one-hot priors, Rbf": ({"kind": "rbf"}, ONE_HOT),
    "one-hot priors, median": ({"kind": "median"}, ONE_HOT),
    "one-hot priors, Cosine": ({"kind": "cosine"}, ONE_HOT),
    "small ridge": ({"kind": "rbf", "ridge": 1e-4}, ONE_HOT),
    "narrow kernel": ({"kind": "rbf", "sigma": 1e-6}, priors_of(23)),
    "huge scale": ({"scale": 1e6}, ONE_HOT),
}


@pytest.mark.parametrize("name", EDGES)
def test_value_and_gradient_are_finite_for(name):
    settings, priors = EDGES[name]
    value, _, gradient = of(views_of(24), priors, **settings)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-12


@pytest.mark.parametrize("kind", KERNELS)
def test_priors_that_are_all_the_same_make_centroids_coincide(kind):
    priors = np.ones((N, P), np.float32)
    value, _, gradient = of(views_of(25), priors, kind=kind)
    np.testing.assert_allclose(value, 0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_priors_of_zeros_say_nothing_to_cosine():
    zeros = np.zeros((N, P), np.float32)
    value, _, gradient = of(views_of(25), zeros, kind="cosine")
    np.testing.assert_allclose(value, 0, atol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kind", [None, "rbf"])
def test_zero_embeddings_are_centroids_at_the_origin(kind):
    z, priors = views_of(26), priors_of(27)
    z[3] = 0
    assert (np.asarray(jax.jit(centroids)(z))[3] == 0).all()
    for views in (z, np.zeros_like(z)):
        value, _, gradient = of(views, priors, kind=kind)
        assert np.isfinite(value) and np.isfinite(gradient).all()
    assert value == 0


@pytest.mark.parametrize("kind", [None, "rbf"])
def test_half_precision_is_computed_in_float32(kind):
    z, priors = views_of(28).astype(jnp.bfloat16), priors_of(29)
    value, _, gradient = of(z, priors, kind=kind)
    assert value.dtype == jnp.float32
    expected = of(z.astype(np.float32), priors, kind=kind)
    assert value == expected[0]
    np.testing.assert_allclose(gradient, expected[2], rtol=1e-2, atol=1e-4)


def test_centroids_far_apart_repel_although_their_potentials_underflow():
    c = 100 * np.eye(5, dtype=np.float32)
    loss = functools.partial(uniformity, block=2)
    value, gradient = jax.jit(jax.value_and_grad(loss))(c)
    np.testing.assert_allclose(value, -2 * 2 * 100**2, rtol=1e-6)
    # A centroid moves along -Σ_j (c_i - c_j), twice in the mean over ordered pairs.
    expected = -4 * 2 * (5 * c - np.sum(c, axis=0)) / 20
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


# What is refused.


def test_numbers_that_mean_nothing_are_refused():
    two = jnp.eye(2)
    for number in (0.0, -0.01, math.nan, math.inf):
        words = f"ridge {number} must be above 0 and finite, such as 0.01, or None"
        with pytest.raises(ValueError, match=words):
            kernel_centroids(two, two, ridge=number)
        with pytest.raises(ValueError, match=f"scale {number} must be above 0 and f"):
            potentials(two, number)
    with pytest.raises(ValueError, match="block 0 must be at least 1, or None"):
        potentials(two, block=0)


def test_one_centroid_is_refused():
    with pytest.raises(ValueError, match="compares centroids; got 1, it takes two"):
        potentials(jnp.ones((1, 3)))
