"""Decoupled uniformity: its parts in order, what it compares, what it refuses."""

import dataclasses
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
from jax_rcl.losses import uniformity
from jax_rcl.losses.kernels import Cosine, Rbf
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


def by_hand(objective, batch, rows=slice(None)):
    """The loss of some rows, from the projected views."""
    views = batch["views"][rows]
    images = views.reshape(-1, *views.shape[2:])
    z = objective.encode(fresh(objective), jnp.asarray(images))["embedding"]
    c = uniformity.centroids(z.reshape(*views.shape[:2], D))
    if objective.kernel is not None:
        kernel = objective.kernel(jnp.asarray(batch["prior"][rows]))
        c = uniformity.kernel_centroids(kernel, c, ridge=objective.ridge)
    ids = jnp.arange(len(c))
    known = {"row_ids": ids, "column_ids": ids, "scale": objective.scale}
    return uniformity.decoupled_uniformity(uniformity.log_potentials(c, c, **known)), c


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("kernel", [None, Rbf(2.0), Cosine()])
def test_the_loss_is_the_formula_of_the_global_batch(views, kernel):
    method = objective(kernel=kernel, ridge=0.1, scale=1.5)
    value, metrics = outcome(method, batch(views))
    expected, compared = by_hand(method, batch(views))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    alignment = uniformity.alignment(compared).mean()
    np.testing.assert_allclose(metrics["centroid_alignment"], alignment, rtol=1e-5)


@pytest.mark.parametrize("kernel", [None, Rbf(2.0)])
@pytest.mark.parametrize("devices, group", [(1, 2), (2, 2), (4, None), (2, 4)])
def test_within_groups_it_is_the_mean_of_their_losses(kernel, devices, group):
    method = objective(kernel=kernel, scope="device", group=group)
    size = group or N // devices
    groups = [slice(start, start + size) for start in range(0, N, size)]
    expected = np.mean([by_hand(method, batch(), rows)[0] for rows in groups])
    value, _ = outcome(method, batch(), devices)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_blocks_of_columns_change_nothing():
    dense, _ = outcome(objective(kernel=Rbf(2.0)), batch())
    blocks, _ = outcome(objective(kernel=Rbf(2.0), block=3), batch())
    np.testing.assert_allclose(blocks, dense, rtol=1e-5)


def test_without_a_kernel_the_prior_is_not_read():
    method = objective()
    assert method.needs == {"views"}
    assert objective(kernel=Cosine()).needs == {"views", "prior"}
    value, _ = outcome(method, {"views": batch()["views"]})
    assert value == outcome(method, batch())[0]


def test_a_layer_that_is_kept_stands_between_encoder_and_projector():
    method = Uniformity(
        Pixels(), Mlp((D, D), first="relu"), fc=Linear(5), kernel=Rbf(1.0)
    )
    variables = fresh(method)
    assert set(variables.params) == {"encoder", "fc", "projector"}
    images = jnp.asarray(batch()["views"][:, 0])
    outputs = method.encode(variables, images)
    assert {name: x.shape for name, x in outputs.items()} == {
        "pooled": (N, 9),
        "features": (N, 5),
        "embedding": (N, D),
    }
    assert set(objective().encode(fresh(objective()), images)) == {
        "features",
        "embedding",
    }


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"ridge": 0.0}, "Uniformity.ridge 0.0 must be above 0"),
        ({"scale": -1.0}, "Uniformity.scale -1.0 must be above 0"),
        ({"group": 4}, 'group 4 must be at least 2 .* scope="device"'),
        ({"scope": "device", "group": 1}, "group 1 must be at least 2"),
        ({"block": 0}, "block 0 must be at least 1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
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
    least = uniformity.least_ridge(300, entry)

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
