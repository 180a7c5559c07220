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
    log_potentials,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "decoupled_uniformity.npz")
RELEASED = sorted({name.split("/")[0] for name in GOLDEN.files})
VARIANTS = {
    "none": {},
    "rbf1": {"kernel": Rbf(1.0), "ridge": 0.01},
    "rbf20": {"kernel": Rbf(20.0), "ridge": 0.01},
    "cosine": {"kernel": Cosine(), "ridge": 0.01},
    "rbf3_lam0p1": {"kernel": Rbf(3.0), "ridge": 0.1, "scale": 1.0},
}


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def potentials(c, scale=2.0, block=None):
    """Of centroids among themselves."""
    ids = jnp.arange(len(c))
    return log_potentials(c, c, row_ids=ids, column_ids=ids, scale=scale, block=block)


def loss_of(z, priors, *, kernel=None, ridge=0.01, scale=2.0, block=None):
    """The loss of views, and the alignment of the centroids it compares."""
    c = centroids(z)
    if kernel is not None:
        c = kernel_centroids(kernel(priors), c, ridge=ridge)
    value = decoupled_uniformity(potentials(c, scale, block))
    return value, alignment(c).mean()


@functools.partial(jax.jit, static_argnames=("kernel", "ridge", "scale"))
def value_of(z, priors=None, **settings):
    return loss_of(z, priors, **settings)[0]


@functools.cache
def compiled(**settings):
    function = functools.partial(loss_of, **settings)
    return jax.jit(jax.value_and_grad(function, has_aux=True))


def value_and_gradient(z, priors=None, *, kernel=None, **settings):
    (value, _), gradient = compiled(kernel=kernel, **settings)(z, priors)
    return np.asarray(value), np.asarray(gradient, np.float64)


@functools.partial(jax.jit, static_argnames=("scale", "block"))
def uniformity(c, scale=2.0, block=None):
    """Of centroids as they are."""
    return decoupled_uniformity(potentials(c, scale, block))


smoothed = jax.jit(kernel_centroids, static_argnames="ridge")


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
        got = compiled(**settings)(z, priors)
    np.testing.assert_allclose(got[0], [loss, align], rtol=rtol)
    atol = rtol * np.abs(gradient).max()
    np.testing.assert_allclose(got[1], gradient, rtol=10 * rtol, atol=atol)


def test_the_worked_examples_of_the_method():
    i, v, d = np.ogrid[0:4, 0:2, 0:3]
    z = np.sin(1 + 1.7 * i + 0.3 * v + 0.9 * i * d + 0.5 * d)
    p = np.cos(2 * np.arange(4.0)[:, None] + np.arange(2.0)[None])
    rbf, found = Rbf(1.0), {}
    with jax.enable_x64(True):
        for name, settings in {
            "none": {},
            "rbf": {"kernel": rbf},
            "cosine": {"kernel": Cosine()},
            "root": {"kernel": rbf, "ridge": None},
        }.items():
            found[name] = compiled(**settings)(z, p)
        weights = smoothed(rbf(jnp.asarray(p)), jnp.eye(4), ridge=0.01)
    close = functools.partial(np.testing.assert_allclose, atol=1e-8, rtol=0)
    close(found["none"][0], [-2.52571011, -0.75865466])
    close(found["none"][1][0, 0], [-0.10651572, 0.01083489, 0.08668466])
    close(np.linalg.norm(found["none"][1]), 2.39654158)
    close(weights[0], [0.84507338, 0.00506666, -0.00038246, 0.14948107])
    close(found["rbf"][0], [-2.15250931, -0.66895759])
    close(found["rbf"][1][0, 0], [-0.15488734, 0.04591312, 0.09296748])
    close(np.linalg.norm(found["rbf"][1]), 1.80430681)
    close(found["cosine"][0], [-1.63595949, -0.60387485])
    close(found["root"][0][0], -0.92188755)


@pytest.mark.parametrize(
    ("n", "v", "d", "scale", "ridge"),
    [
        (2, 1, 3, 2.0, 2.0),
        (3, 2, 1, 0.3, 0.1),
        (5, 4, 2, 5.0, 0.1),
        (6, 2, 8, 1.0, 2.0),
    ],
)
def test_it_is_the_equation(n, v, d, scale, ridge):
    z, priors = normal(n, n, v, d), normal(n + 1, n, 3)
    got = value_of(z, scale=scale)
    np.testing.assert_allclose(got, looped(z, scale=scale), rtol=1e-5, atol=1e-6)
    kernel = Rbf(1.0) if n % 2 else Cosine()
    matrix = np.asarray(kernel(jnp.asarray(priors)), np.float64)
    got = value_of(z, priors, kernel=kernel, ridge=ridge, scale=scale)
    expected = looped(z, matrix, ridge, scale)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_the_potential_of_a_row_is_a_mean_over_the_others():
    c = normal(0, 5, 3)
    expected = [
        np.log(np.mean([np.exp(-2 * np.sum((x - y) ** 2)) for y in np.delete(c, i, 0)]))
        for i, x in enumerate(c)
    ]
    np.testing.assert_allclose(potentials(jnp.asarray(c)), expected, rtol=1e-5)


# Closed forms.


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_zero_at_collapse_and_twice_the_scale_below_for_orthogonal_centroids(scale):
    same = np.repeat(normal(1, 1, 6), 5, axis=0)
    np.testing.assert_allclose(uniformity(same, scale), 0, atol=1e-5)
    orthogonal = np.linalg.qr(normal(2, 8, 8))[0][:5]
    np.testing.assert_allclose(uniformity(orthogonal, scale), -2 * scale, rtol=1e-5)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_the_simplex_reaches_the_bound_and_nothing_is_below(n):
    simplex = np.eye(n) - 1 / n
    simplex = simplex / np.linalg.norm(simplex, axis=1, keepdims=True)
    bound = -2 * 3.0 * n / (n - 1)
    got = uniformity(simplex.astype(np.float32), 3.0)
    np.testing.assert_allclose(got, bound, rtol=1e-5)
    for seed in range(3):
        c = centroids(jnp.asarray(normal(seed, n, 2, 4)))
        assert bound < uniformity(c, 3.0) <= 0


def test_centroids_are_means_of_unit_vectors_and_alignment_their_squared_length():
    z = normal(3, 6, 2, 4)
    u = z / np.linalg.norm(z, axis=-1, keepdims=True)
    c = centroids(jnp.asarray(z))
    np.testing.assert_allclose(c, u.mean(axis=1), atol=1e-6)
    quarter = np.sum((u[:, 0] - u[:, 1]) ** 2, axis=-1) / 4
    np.testing.assert_allclose(alignment(c), quarter - 1, atol=1e-6)
    agreed = centroids(jnp.repeat(jnp.asarray(z[:, :1]), 3, axis=1))
    np.testing.assert_allclose(alignment(agreed), -1, rtol=1e-6)
    opposed = centroids(jnp.stack([z[:, 0], -3 * z[:, 0]], axis=1))
    np.testing.assert_allclose(alignment(opposed), 0, atol=1e-6)


def test_a_kernel_of_ones_gives_all_the_same_and_the_identity_shrinks():
    c = jnp.asarray(normal(4, 6, 3))
    ones = smoothed(jnp.ones((6, 6)), c, ridge=0.5)
    everyone = np.broadcast_to(np.sum(c, axis=0) / 6.5, (6, 3))
    np.testing.assert_allclose(ones, everyone, atol=1e-5)
    np.testing.assert_allclose(uniformity(ones), 0, atol=1e-5)
    alone = smoothed(jnp.eye(6), c, ridge=0.5)
    np.testing.assert_allclose(alone, c / 1.5, rtol=1e-5)


def test_a_ridge_of_none_is_one_over_the_root_of_n():
    k, c = Rbf(1.0)(jnp.asarray(normal(5, 9, 2))), jnp.asarray(normal(6, 9, 3))
    expected = smoothed(k, c, ridge=1 / 3)
    np.testing.assert_array_equal(kernel_centroids(k, c), expected)
    assert np.abs(expected - smoothed(k, c, ridge=0.01)).max() > 0.01


# Invariances.


@pytest.mark.parametrize("kernel", [None, Rbf(1.0), Cosine()], ids=str)
def test_what_the_loss_does_not_depend_on(kernel):
    z, priors = normal(7, 6, 3, 4), normal(8, 6, 2)
    loss = functools.partial(value_of, kernel=kernel, ridge=0.1)
    expected = loss(z, priors)
    random = np.random.default_rng(9)
    order = random.permutation(6)
    rotation = np.linalg.qr(random.normal(size=(4, 4)))[0].astype(np.float32)
    lengths = np.exp(random.normal(size=(6, 3, 1))).astype(np.float32)
    for name, changed, others in [
        ("order of examples", z[order], priors[order]),
        ("order of views", z[:, ::-1], priors),
        ("rotation", z @ rotation, priors),
        ("lengths of embeddings", z * lengths, priors),
    ]:
        got = loss(changed, others)
        np.testing.assert_allclose(got, expected, rtol=1e-4, err_msg=name)
    other = loss(z * np.float32([[[1], [1], [-1]]]), priors)
    assert abs(other - expected) > 1e-2


# Rows against columns, and blocks.


@pytest.mark.parametrize(
    ("block", "kernel"), [(1, None), (3, None), (4, None), (4, Rbf(1.0))]
)
def test_blocks_change_neither_value_nor_gradient(block, kernel):
    z, priors = normal(10, 6, 3, 4), normal(11, 6, 2)
    settings = {"kernel": kernel, "ridge": 0.1}
    expected = value_and_gradient(z, priors, **settings)
    got = value_and_gradient(z, priors, block=block, **settings)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [None, 3])
def test_rows_against_all_columns_are_parts_of_the_whole(block):
    c, ids = jnp.asarray(normal(12, 7, 3)), jnp.asarray([9, 4, 0, 7, 2, 5, 1])

    @jax.jit
    def parts(c):
        against = functools.partial(
            log_potentials, columns=c, column_ids=ids, block=block
        )
        return [against(c[s], row_ids=ids[s]) for s in (slice(0, 3), slice(3, 7))]

    whole = jax.jit(potentials)(c)
    np.testing.assert_allclose(np.concatenate(parts(c)), whole, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "block"), [(None, 5), (Rbf(1.0), None)])
def test_on_eight_devices_it_is_the_same_loss_with_the_same_gradient(kernel, block):
    z, priors = normal(13, 16, 2, 4), normal(14, 16, 2)
    mesh = parallel.make_mesh()

    def share(z, priors):
        ids = parallel.example_ids(len(z))
        everyone = parallel.gather(centroids(z))
        if kernel is not None:
            everyone = kernel_centroids(
                kernel(parallel.gather(priors)), everyone, ridge=0.01
            )
        potentials = log_potentials(
            everyone[ids],
            everyone,
            row_ids=ids,
            column_ids=parallel.gather(ids),
            block=block,
        )
        return parallel.mean(decoupled_uniformity(parallel.gather(potentials)))

    spread = parallel.data_parallel(share, mesh, whole=0, axes=(0, 0))
    value, gradient = jax.jit(jax.value_and_grad(spread))(z, priors)
    expected = value_and_gradient(z, priors, kernel=kernel)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-6)


# The weights of a kernel.


def test_no_gradient_reaches_the_kernel():
    z, priors = normal(15, 6, 2, 3), normal(16, 6, 2)
    settings = {"kernel": Rbf(1.0), "ridge": 0.1}
    slope = jax.grad(functools.partial(value_of, **settings), argnums=1)
    np.testing.assert_array_equal(jax.jit(slope)(z, priors), 0)
    weights = smoothed(Rbf(1.0)(jnp.asarray(priors)), jnp.eye(6), ridge=0.1)
    fixed = jax.grad(lambda z: uniformity(weights @ centroids(z)))
    expected = jax.jit(fixed)(z)
    got = value_and_gradient(z, priors, **settings)[1]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [Rbf(1.0), Rbf(1.0, "median"), Cosine()], ids=str)
def test_weights_are_symmetric_with_eigenvalues_between_zero_and_one(kernel):
    with jax.enable_x64(True):
        k = kernel(jnp.asarray(normal(17, 9, 3), jnp.float64))
        weights = np.asarray(smoothed(k, jnp.eye(9), ridge=0.1))
        c = np.random.default_rng(18).normal(size=(9, 9))
        got = smoothed(k, jnp.asarray(c), ridge=0.1)
    np.testing.assert_allclose(weights, weights.T, atol=1e-13)
    values = np.linalg.eigvalsh(np.asarray(k))
    shrunk = values / (values + 0.1)
    np.testing.assert_allclose(np.linalg.eigvalsh(weights), shrunk, atol=1e-12)
    assert shrunk.min() > -1e-12 and shrunk.max() < 1
    np.testing.assert_allclose(got, weights @ c, atol=1e-12)
    assert np.linalg.norm(got) < np.linalg.norm(c)


def test_only_the_lower_triangle_of_a_kernel_is_read():
    k, c = Rbf(1.0)(jnp.asarray(normal(19, 5, 2))), jnp.asarray(normal(20, 5, 3))
    got = smoothed(jnp.tril(k), c, ridge=0.1)
    np.testing.assert_array_equal(got, smoothed(k, c, ridge=0.1))


def test_a_kernel_that_is_not_positive_semi_definite_gives_nan():
    k = jnp.asarray([[1.0, 2.0], [2.0, 1.0]])
    assert np.isnan(smoothed(k, jnp.eye(2), ridge=0.1)).all()


def test_a_ridge_above_rounding_is_enough_for_a_kernel_of_low_rank():
    n = 256
    for kernel in (
        Cosine()(jnp.abs(jnp.asarray(normal(30, n, 2)))),
        Rbf(30.0)(jnp.asarray(normal(31, n, 3))),
        jnp.ones((n, n)),
    ):
        assert np.isfinite(smoothed(kernel, jnp.ones((n, 2)), ridge=n * 6e-8)).all()


def test_an_example_whose_prior_is_zero_has_the_centroid_zero():
    priors = normal(21, 5, 3)
    priors[1] = 0
    k = Cosine()(jnp.asarray(priors))
    lengths = jnp.linalg.norm(smoothed(k, jnp.eye(5), ridge=0.01), axis=1)
    np.testing.assert_allclose(lengths[1], 0, atol=1e-6)
    assert np.delete(lengths, 1).min() > 0.1


# Edges: a finite value, and a finite gradient that is not nothing.

ONE_HOT = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
EDGES = {
    "duplicated priors": ({"kernel": Rbf(1.0)}, np.repeat(normal(22, 4, 3), 3, axis=0)),
    "one-hot priors, Rbf": ({"kernel": Rbf(1.0)}, ONE_HOT),
    "one-hot priors, median": ({"kernel": Rbf(1.0, "median")}, ONE_HOT),
    "one-hot priors, Cosine": ({"kernel": Cosine()}, ONE_HOT),
    "small ridge": ({"kernel": Rbf(1.0), "ridge": 1e-4}, ONE_HOT),
    "narrow kernel": ({"kernel": Rbf(1e-6)}, normal(23, 12, 3)),
    "huge scale": ({"scale": 1e6}, ONE_HOT),
}


@pytest.mark.parametrize("name", EDGES)
def test_value_and_gradient_are_finite_for(name):
    settings, priors = EDGES[name]
    value, gradient = value_and_gradient(normal(24, 12, 2, 4), priors, **settings)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-12


@pytest.mark.parametrize("kernel", [Rbf(1.0), Rbf(1.0, "median"), Cosine()], ids=str)
def test_priors_that_are_all_the_same_make_centroids_coincide(kernel):
    priors = np.ones((12, 3), np.float32)
    value, gradient = value_and_gradient(normal(25, 12, 2, 4), priors, kernel=kernel)
    np.testing.assert_allclose(value, 0, atol=1e-5)
    np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_priors_of_zeros_say_nothing_to_cosine():
    zeros = np.zeros((12, 3), np.float32)
    value, gradient = value_and_gradient(normal(25, 12, 2, 4), zeros, kernel=Cosine())
    np.testing.assert_allclose(value, 0, atol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kernel", [None, Rbf(1.0)], ids=str)
def test_zero_embeddings_are_centroids_at_the_origin(kernel):
    z, priors = normal(26, 12, 2, 4), normal(27, 12, 3)
    z[3] = 0
    assert (np.asarray(centroids(jnp.asarray(z)))[3] == 0).all()
    for views in (z, np.zeros_like(z)):
        value, gradient = value_and_gradient(views, priors, kernel=kernel)
        assert np.isfinite(value) and np.isfinite(gradient).all()
    assert value == 0


@pytest.mark.parametrize("kernel", [None, Rbf(1.0)], ids=str)
def test_half_precision_is_computed_in_float32(kernel):
    z, priors = jnp.asarray(normal(28, 12, 2, 4), jnp.bfloat16), normal(29, 12, 3)
    value, gradient = value_and_gradient(z, priors, kernel=kernel)
    assert value.dtype == jnp.float32
    expected = value_and_gradient(z.astype(jnp.float32), priors, kernel=kernel)
    assert value == expected[0]
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("block", [None, 2])
def test_centroids_far_apart_repel_although_their_potentials_underflow(block):
    c = 100 * np.eye(5, dtype=np.float32)

    loss = functools.partial(uniformity, block=block)
    value, gradient = jax.jit(jax.value_and_grad(loss))(c)
    np.testing.assert_allclose(value, -2 * 2 * 100**2, rtol=1e-6)
    # A centroid moves along -Σ_j (c_i - c_j), twice in the mean over ordered pairs.
    expected = -4 * 2 * (5 * c - np.sum(c, axis=0)) / 20
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


# What is refused.


@pytest.mark.parametrize("ridge", [0.0, -0.01, math.nan, math.inf])
def test_a_ridge_is_positive(ridge):
    with pytest.raises(ValueError, match=f"ridge {ridge} must be above 0 and .*1/√n"):
        kernel_centroids(jnp.eye(2), jnp.eye(2), ridge=ridge)


@pytest.mark.parametrize("scale", [0.0, -2.0, math.nan, math.inf])
def test_a_scale_is_positive(scale):
    with pytest.raises(ValueError, match=f"scale {scale} must be above 0 and"):
        uniformity(jnp.eye(2), scale)


def test_one_centroid_is_refused():
    with pytest.raises(ValueError, match="compares centroids; got 1, it takes two"):
        uniformity(jnp.ones((1, 3)))


def test_a_block_without_columns_is_refused():
    with pytest.raises(ValueError, match="block 0 must be at least 1 column"):
        potentials(jnp.eye(2), block=0)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_kernels_of_low_rank_are_solved_for_a_ridge_as_small_as_is_said(width):
    n = 512
    priors = jax.random.normal(jax.random.key(0), (n, width))
    for kernel in (Cosine(), Rbf(100.0)):
        c = kernel_centroids(kernel(priors), jnp.eye(n, 2), ridge=n * 5e-7)
        assert jnp.isfinite(c).all()
