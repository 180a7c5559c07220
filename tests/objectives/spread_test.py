"""Thanos: which networks each term reads, what the terms are, and how they add up."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.losses.pairwise import unit
from jax_rcl.networks.heads import Linear
from jax_rcl.objectives.spread import Spread
from jax_rcl.objectives.terms import Contrast, Reconstruction

N, SIDE, K = 8, 6, 3


class Flat(nn.Module):
    """A linear encoder: what reaches it, reaches its gradient."""

    width: int = 5

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.width, name="out")(images.reshape(len(images), -1))


class Painter(nn.Module):
    """A linear decoder."""

    channels: int = 3

    @nn.compact
    def __call__(self, features, *, train):
        shape = (SIDE, SIDE, self.channels)
        return nn.Dense(np.prod(shape), name="out")(features).reshape(-1, *shape)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    views = rng.random((N, 2, SIDE, SIDE, 3), np.float32)
    return {"views": jnp.asarray(views), "label": jnp.arange(N) % K}


def outcome(objective, variables, given):
    clock = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))

    def means(variables, given):
        found = objective.loss(variables, given, clock)
        return parallel.mean({"value": found.value, **found.metrics})

    mesh = parallel.make_mesh(jax.devices()[:1])
    return jax.jit(parallel.data_parallel(means, mesh))(variables, given)


def gradient(objective, variables, given, of="value"):
    clock = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))

    def slope(variables, given):
        def mean(params):
            found = objective.loss(variables.replace(params=params), given, clock)
            return parallel.mean({"value": found.value, **found.metrics}[of])

        return jax.grad(mean)(variables.params)

    mesh = parallel.make_mesh(jax.devices()[:1])
    grads = jax.jit(parallel.data_parallel(slope, mesh))(variables, given)
    return {
        name: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
        for name, tree in grads.items()
    }


def fresh(objective, given):
    return jax.jit(objective.init)(jax.random.key(0), given)


THANOS = Spread(
    Flat(),
    head=Linear(K),
    contrasts=(Contrast(weight=0.5),),
    reconstruction=Reconstruction(Painter(), weight=2.0),
    encoder_auto=Flat(4),
    cross_entropy=3.0,
)


def test_the_value_is_the_weighted_sum_of_the_terms():
    given = batch()
    found = outcome(THANOS, fresh(THANOS, given), given)
    np.testing.assert_allclose(
        found["value"],
        3.0 * found["cross_entropy"]
        + 0.5 * found["contrast"]
        + 2.0 * found["reconstruction"],
        rtol=1e-6,
    )


def test_each_term_reads_the_encoder_that_is_its_own():
    given = batch()
    variables = fresh(THANOS, given)
    assert {
        k for k, g in gradient(THANOS, variables, given, "contrast").items() if g
    } == {"encoder"}
    moved = gradient(THANOS, variables, given, "reconstruction")
    assert {k for k, g in moved.items() if g} == {"encoder_auto", "decoder"}
    moved = gradient(THANOS, variables, given, "cross_entropy")
    assert {k for k, g in moved.items() if g} == {"encoder", "encoder_auto", "head"}


def test_with_one_encoder_all_terms_read_it():
    one = dataclasses.replace(THANOS, encoder_auto=None)
    given = batch()
    variables = fresh(one, given)
    for term in ("contrast", "reconstruction", "cross_entropy"):
        assert gradient(one, variables, given, term)["encoder"] > 0


def test_the_contrast_is_that_of_the_features_themselves():
    objective = Spread(Flat(), head=None, contrasts=(Contrast(),))
    given = batch()
    variables = fresh(objective, given)
    found = outcome(objective, variables, given)
    views = given["views"].swapaxes(0, 1)
    first, second = (objective.encode(variables, x)["features"] for x in views)
    term = Contrast()(first, second, given["label"])
    np.testing.assert_allclose(found["value"], term.mean(), rtol=1e-5)
    # The definition, symmetric over the two views, in numpy.
    z = [np.asarray(unit(x), np.float64) for x in (first, second)]
    y, values = np.asarray(given["label"]), []
    for a, c in (z, z[::-1]):
        s = a @ c.T / 0.5
        for i in range(N):
            same = y == y[i]
            others = np.exp(s[i, ~same]).sum()
            pull = np.mean(np.log(np.exp(s[i, same]) + others) - s[i, same])
            apart = np.log(np.exp(s[i, same]).sum()) - s[i, i]
            values.append((pull + apart) / 2)
    np.testing.assert_allclose(found["value"], np.mean(values), rtol=1e-5)


def test_examples_as_classes_need_no_labels():
    term = Contrast(classes="examples", spread=0.0)
    first, second = jnp.asarray(np.random.default_rng(0).normal(size=(2, N, 5)))
    one = term(first, second, jnp.zeros(N, jnp.int32))
    np.testing.assert_array_equal(one, term(first, second, jnp.arange(N)))


def test_permuting_pairs_of_views_within_a_class_changes_reconstruction_only():
    given = batch()
    one = dataclasses.replace(THANOS, encoder_auto=None)
    variables = fresh(one, given)
    order = jnp.array([3, 1, 5, 6, 4, 2, 0, 7])  # places of the same label change
    assert (given["label"][order] == given["label"]).all()

    def features(variables, images):
        return one.encode(variables, images)["features"]

    first, second = (features(variables, x) for x in given["views"].swapaxes(0, 1))
    term = Contrast()
    before = term(first, second, given["label"]).mean()
    after = term(first[order], second[order], given["label"]).mean()
    np.testing.assert_allclose(before, after, rtol=1e-6)
    images = given["views"][:, 0]
    made = one.encode(variables, images)["reconstruction"]
    error = jnp.mean((made - images) ** 2)
    assert abs(jnp.mean((made[order] - images) ** 2) - error) > 1e-4


def test_the_decoder_makes_normalised_views_and_shows_them_as_images():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    term = Reconstruction(Painter(), mean=mean, std=std)
    images = batch()["views"][:, 0]
    wanted = term.wanted(images)
    np.testing.assert_allclose(wanted[..., 1], (images[..., 1] - 0.4) / 0.25, rtol=1e-5)
    np.testing.assert_allclose(term.shown(wanted), images, atol=1e-6)
    gray = dataclasses.replace(term, target="gray")
    assert gray.wanted(images).shape == (N, SIDE, SIDE, 1)
    np.testing.assert_allclose(
        gray.wanted(images)[..., 0], wanted.mean(axis=-1), rtol=1e-5, atol=1e-6
    )


def test_a_decoder_that_reads_the_label_depends_on_it():
    term = Reconstruction(Painter(), reads="features and label")
    objective = Spread(Flat(), Linear(K), contrasts=(), reconstruction=term)
    given = batch()
    variables = fresh(objective, given)
    assert variables.params["decoder"]["out"]["kernel"].shape[0] == 5 + K
    other = {**given, "label": (given["label"] + 1) % K}
    key = "reconstruction"
    told = outcome(objective, variables, given)[key]
    assert abs(told - outcome(objective, variables, other)[key]) > 1e-4
    # Where nobody tells the label, the one that the head predicts.
    images = given["views"][:, 0]
    layers = objective.encode(variables, images)
    labels = jnp.argmax(layers["logits"], axis=-1)
    onehot = jax.nn.one_hot(labels, K)
    read = jnp.concatenate([layers["features"], onehot], axis=-1)
    made = Painter().apply({"params": variables.params["decoder"]}, read, train=False)
    np.testing.assert_allclose(layers[key], made, rtol=1e-5, atol=1e-6)


def test_two_encoders_give_their_features_side_by_side():
    given = batch()
    layers = THANOS.encode(fresh(THANOS, given), given["views"][:, 0])
    assert layers["features"].shape == (N, 9)
    np.testing.assert_array_equal(
        layers["features"],
        jnp.concatenate(
            [layers["features_of_encoder"], layers["features_of_encoder_auto"]], -1
        ),
    )


def test_the_terms_of_a_method_do_not_change_how_its_encoder_starts():
    given = batch()
    plain = Spread(Flat(), head=Linear(K), contrasts=())
    jax.tree.map(
        np.testing.assert_array_equal,
        fresh(plain, given).params["encoder"],
        fresh(THANOS, given).params["encoder"],
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"contrasts": (), "head": None, "reconstruction": None}, "nothing to learn"),
        ({"contrasts": (Contrast(), Contrast())}, "name of its own"),
        ({"contrasts": (Contrast("spread"),)}, "'spread' is the name of another"),
        ({"contrasts": ()}, "or one encoder"),
        ({"cross_entropy": 0.0}, "above 0"),
        ({"smoothing": 1.0}, "smoothing must be"),
        (
            {
                "head": None,
                "reconstruction": Reconstruction(Painter(), reads="features and label"),
            },
            "needs a head",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(THANOS, **wrong)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (Contrast, {"temperature": 0.0}),
        (Contrast, {"attraction": 0.0, "spread": 0.0}),
        (Contrast, {"spread": -1.0}),
        (Contrast, {"positives_in_denominator": -1.0}),
        (Contrast, {"weight": 0.0}),
        (Contrast, {"block": 0}),
        (Reconstruction, {"decoder": Painter(), "weight": 0.0}),
        (Reconstruction, {"decoder": Painter(), "std": (0.0,)}),
        (Reconstruction, {"decoder": Painter(), "mean": (0.0, 0.0)}),
    ],
)
def test_terms_refuse_numbers_that_mean_nothing(cls, wrong):
    with pytest.raises(ValueError):
        cls(**wrong)


def test_a_decoder_of_another_size_is_refused_with_both_shapes():
    term = Reconstruction(Painter(channels=1))
    objective = Spread(Flat(), None, contrasts=(), reconstruction=term)
    with pytest.raises(ValueError, match=r"\[6, 6, 1\].*\[6, 6, 3\]"):
        objective.init(jax.random.key(0), batch())


def test_labels_are_needed_by_what_reads_them_only():
    alone = Contrast(classes="examples", spread=0.0)
    assert Spread(Flat(), None, (alone,)).needs == {"views"}
    assert Spread(Flat(), None, (alone, Contrast("other"))).needs == {"views", "label"}
    assert Spread(Flat(), Linear(K), (alone,)).needs == {"views", "label"}
    objective = Spread(Flat(), None, (alone,), Reconstruction(Painter()))
    given = {"views": batch()["views"]}
    found = outcome(objective, fresh(objective, given), given)
    assert np.isfinite(found["value"])


def test_contrasts_of_a_single_view_are_refused():
    given = batch()
    given["views"] = given["views"][:, :1]
    with pytest.raises(ValueError, match=r"let the augmentation make two"):
        THANOS.init(jax.random.key(0), given)


def test_pixel_statistics_of_another_number_of_channels_are_refused():
    term = Reconstruction(Painter(), mean=(0.5, 0.5), std=(1.0, 1.0))
    objective = Spread(Flat(), None, contrasts=(), reconstruction=term)
    with pytest.raises(ValueError, match="2 channels"):
        objective.init(jax.random.key(0), batch())
