"""Decoupled uniformity: its parts in order, what it compares, what it refuses."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.config.nodes import build, node
from jax_rcl.config.types import ConfigError
from jax_rcl.core import Clock
from jax_rcl.losses.kernels import Cosine, Rbf
from jax_rcl.losses.uniformity import least_ridge
from jax_rcl.networks.heads import Linear, Mlp
from jax_rcl.objectives.uniformity import Uniformity

N, D = 8, 4


class Pixels(nn.Module):
    """All pixels of an image, as they are."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(len(images), -1)


@dataclasses.dataclass(frozen=True)
class Squares:
    """Squared distances: symmetric, but no kernel."""

    def __call__(self, priors):
        return ((priors[:, None] - priors[None]) ** 2).sum(-1)


@dataclasses.dataclass(frozen=True)
class AllAlike:
    """The same number for all pairs: a kernel of rank 1."""

    entry: float

    def __call__(self, priors):
        return jnp.full((len(priors), len(priors)), self.entry)


@dataclasses.dataclass(frozen=True)
class OneWay:
    """A product that is not symmetric."""

    def __call__(self, priors):
        return priors @ jnp.roll(priors, 1, axis=1).T


@dataclasses.dataclass(frozen=True)
class ByDistance:
    """One over the distance, which is infinite on the diagonal."""

    def __call__(self, priors):
        return 1 / ((priors[:, None] - priors[None]) ** 2).sum(-1)


@dataclasses.dataclass(frozen=True)
class TooFew:
    """A kernel of all but the last prior."""

    def __call__(self, priors):
        return Rbf(1.0)(priors[:-1])


def objective(**settings):
    return Uniformity(Pixels(), Linear(D), **settings)


def batch(views=2, seed=0):
    random = np.random.default_rng(seed)
    return {
        "views": random.uniform(size=(N, views, 3, 3, 1)).astype(np.float32),
        "prior": random.normal(size=(N, 3)).astype(np.float32),
    }


@functools.cache
def fresh(objective):
    one = {name: jnp.asarray(x[:1]) for name, x in batch().items()}
    return jax.jit(objective.init)(jax.random.key(0), one)


def outcome(objective, batch, devices=2):
    """The mean loss, and the metrics of every example."""

    def one(whole, share):
        clock = Clock(jax.random.key(0), jnp.int32(0), jnp.float32(0))
        found = objective.loss(whole, share, clock)
        return parallel.mean(found.value), parallel.mean(found.metrics)

    mesh = parallel.make_mesh(jax.devices()[:devices])
    program = jax.jit(parallel.data_parallel(one, mesh))
    return jax.device_get(program(fresh(objective), batch))


def kernel_matrix(kernel, prior):
    """Kernels of priors in numpy."""
    if isinstance(kernel, Cosine):
        rows = prior / np.linalg.norm(prior, axis=1, keepdims=True)
        return rows @ rows.T
    squares = ((prior[:, None] - prior[None]) ** 2).sum(-1)
    return np.exp(-squares / (2 * kernel.sigma**2))


def by_hand(objective, batch, rows=slice(None)):
    """The loss of some rows and their centroids, in numpy."""
    out = jax.device_get(fresh(objective).params["projector"]["out"])
    views = batch["views"][rows].astype(np.float64)
    z = views.reshape(*views.shape[:2], -1) @ out["kernel"] + out["bias"]
    c = (z / np.linalg.norm(z, axis=-1, keepdims=True)).mean(axis=1)
    n = len(c)
    if objective.kernel is not None:
        prior = batch["prior"][rows].astype(np.float64)
        kernel = kernel_matrix(objective.kernel, prior)
        c = np.linalg.solve(kernel + objective.ridge * np.eye(n), kernel @ c)
    squares = ((c[:, None] - c[None]) ** 2).sum(-1)[~np.eye(n, dtype=bool)]
    return np.log(np.mean(np.exp(-objective.scale * squares))), c


@pytest.mark.parametrize(
    "views, kernel, block",
    [
        (2, None, None),
        (3, Rbf(2.0), 3),
        (2, Cosine(), None),
        pytest.param(3, None, None, marks=pytest.mark.slow),
        pytest.param(2, Rbf(2.0), None, marks=pytest.mark.slow),
        pytest.param(3, Cosine(), None, marks=pytest.mark.slow),
    ],
)
def test_the_loss_is_the_formula_of_the_global_batch(views, kernel, block):
    method = objective(kernel=kernel, ridge=0.1, scale=1.5, block=block)
    own = batch(views)
    value, metrics = outcome(method, {name: own[name] for name in method.needs})
    expected, compared = by_hand(method, own)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    alignment = -np.mean(np.sum(compared**2, axis=1))
    np.testing.assert_allclose(metrics["centroid_alignment"], alignment, rtol=1e-5)


@pytest.mark.parametrize(
    "kernel, devices, group",
    [
        (None, 2, 2),
        (Rbf(2.0), 1, 4),
        (Rbf(2.0), 4, None),
        pytest.param(None, 1, 2, marks=pytest.mark.slow),
        pytest.param(None, 4, None, marks=pytest.mark.slow),
        pytest.param(None, 2, 4, marks=pytest.mark.slow),
        pytest.param(Rbf(2.0), 1, 2, marks=pytest.mark.slow),
        pytest.param(Rbf(2.0), 2, 2, marks=pytest.mark.slow),
        pytest.param(Rbf(2.0), 2, 4, marks=pytest.mark.slow),
    ],
)
def test_within_groups_it_is_the_mean_of_their_losses(kernel, devices, group):
    method = objective(kernel=kernel, scope="device", group=group)
    size = group or N // devices
    groups = [slice(start, start + size) for start in range(0, N, size)]
    expected = np.mean([by_hand(method, batch(), rows)[0] for rows in groups])
    value, _ = outcome(method, batch(), devices)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_no_gradient_reaches_the_prior_through_the_kernel():
    method, mesh = objective(kernel=Rbf(2.0)), parallel.make_mesh(jax.devices()[:2])

    def slope(variables, share):
        clock = Clock(jax.random.key(0), jnp.int32(0), jnp.float32(0))

        def loss(prior):
            found = method.loss(variables, share | {"prior": prior}, clock)
            return parallel.mean(found.value)

        return jax.grad(loss)(share["prior"])

    program = jax.jit(parallel.over_shares(slope, mesh))
    np.testing.assert_array_equal(program(fresh(method), batch()), 0)


def test_the_prior_is_read_with_a_kernel_only():
    assert objective().needs == {"views"}
    assert objective(kernel=Cosine()).needs == {"views", "prior"}


def test_a_layer_that_is_kept_stands_between_encoder_and_projector():
    def layers(method):
        one = {name: jnp.asarray(x) for name, x in batch().items()}
        variables = jax.eval_shape(method.init, jax.random.key(0), one)
        outputs = jax.eval_shape(method.encode, variables, one["views"][:, 0])
        return set(variables.params), {name: x.shape for name, x in outputs.items()}

    projector = Mlp((D, D), first="relu")
    parts, shapes = layers(Uniformity(Pixels(), projector, fc=Linear(5)))
    assert parts == {"encoder", "fc", "projector"}
    assert shapes == {"pooled": (N, 9), "features": (N, 5), "embedding": (N, D)}
    assert layers(objective())[1].keys() == {"features", "embedding"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"ridge": 0.0}, "Uniformity.ridge 0.0 must be above 0"),
        ({"scale": -1.0}, "Uniformity.scale -1.0 must be above 0"),
        ({"block": 0}, "Uniformity.block 0 must be at least 1"),
        ({"scope": "device", "group": 1}, "Uniformity.group 1 must be at least 2"),
        ({"group": 4}, 'Uniformity.group 4 .* scope="device"'),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        objective(**settings)


def test_one_view_is_refused():
    with pytest.raises(ValueError, match=r"there is one; .* Views\(\.\.\., count=2\)"):
        outcome(objective(), batch(views=1))


def test_groups_that_do_not_divide_a_share_are_refused():
    with pytest.raises(ValueError, match="group 3 must divide the 4 examples of each"):
        outcome(objective(scope="device", group=3), batch())


@pytest.mark.parametrize("prior", [np.zeros(N, np.float32), np.zeros((N, 2), np.int32)])
def test_a_prior_that_is_no_vector_of_floats_is_refused(prior):
    with pytest.raises(ValueError, match=r"must be a vector of floats .* WithPrior"):
        outcome(objective(kernel=Cosine()), batch() | {"prior": prior})


@pytest.mark.parametrize("kernel", [None, Rbf(0.1), Rbf(100.0), Cosine()])
@pytest.mark.parametrize("width", [1, 3, 40])
def test_kernels_pass_the_trial_on_priors_of_any_kind(kernel, width):
    random = np.random.default_rng(0)
    prior = random.normal(size=(200, width)).astype(np.float32)
    for values in (prior, np.round(prior), np.ones_like(prior), 0 * prior):
        objective(kernel=kernel).check({"prior": values})


def test_what_is_no_kernel_is_named_with_its_smallest_eigenvalue():
    prior = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    smallest = np.linalg.eigvalsh(Squares()(prior.astype(np.float64)))[0]
    said = (
        r"kernel Squares\(\) is not positive semi-definite: its smallest eigenvalue of "
        rf"50 priors is {re.escape(f'{smallest:.4g}')[:4]}"
    )
    with pytest.raises(ValueError, match=said):
        objective(kernel=Squares()).check({"prior": prior})


def test_what_is_not_symmetric_or_has_another_shape_is_refused():
    prior = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="not symmetric: of 50 priors"):
        objective(kernel=OneWay()).check({"prior": prior})
    with pytest.raises(ValueError, match=r"gives \[49, 49\] for 50 priors"):
        objective(kernel=TooFew()).check({"prior": prior})
    with pytest.raises(ValueError, match="gives 50 numbers of 2500 that are not fin"):
        objective(kernel=ByDistance()).check({"prior": prior})


@pytest.mark.parametrize("entry", [1.0, 40.0])
def test_a_ridge_that_float32_cannot_resolve_is_refused_with_one_that_it_can(entry):
    prior = {"prior": np.ones((300, 2), np.float32)}
    least = least_ridge(300, entry)

    def check(ridge):
        objective(kernel=AllAlike(entry), ridge=ridge).check(prior)

    check(1.01 * least)
    with pytest.raises(ValueError, match=r"ridge \S+ is too small .* Try (\S+)") as e:
        check(0.99 * least)
    better = re.search(r"Try (\S+) or", str(e.value))
    assert better is not None
    assert least <= float(better[1]) < 1.3 * least
    check(float(better[1]))


def test_a_width_must_be_given_and_positive():
    with pytest.raises(ConfigError, match="sigma"):
        build(node(Rbf))
    with pytest.raises(ValueError, match=r"Rbf.sigma 0\.0 must be above 0"):
        Rbf(0.0)
