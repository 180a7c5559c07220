"""Thanos: which networks each term reads, what the terms are, and how they add up."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.core import Clock
from jax_rcl.networks.heads import Linear
from jax_rcl.objectives.spread import Spread
from jax_rcl.objectives.terms import Contrast, Reconstruction

N, SIDE, K = 8, 3, 3


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


CLOCK = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))


def means(objective, variables, given):
    found = objective.loss(variables, given, CLOCK)
    return parallel.mean({"value": found.value, **found.metrics})


@functools.cache
def program(objective):
    mesh = parallel.make_mesh(jax.devices()[:1])
    own = functools.partial(means, objective)
    return jax.jit(parallel.data_parallel(own, mesh))


@functools.cache
def slope_program(objective):
    """Loss and metrics, and which networks each of them has a gradient for."""

    def slopes(variables, given):
        def one(params):
            found = means(objective, variables.replace(params=params), given)
            return found, found

        return jax.jacrev(one, has_aux=True)(variables.params)

    mesh = parallel.make_mesh(jax.devices()[:1])
    return jax.jit(parallel.data_parallel(slopes, mesh))


def outcome_and_readers(objective):
    """Loss and metrics, and for each the networks that it has a gradient for."""
    slopes, found = slope_program(objective)(fresh(objective), batch())
    readers = {
        metric: {
            name
            for name, tree in of_networks.items()
            if any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(tree))
        }
        for metric, of_networks in jax.device_get(slopes).items()
    }
    return found, readers


@functools.cache
def fresh(objective):
    return jax.jit(objective.init)(jax.random.key(0), batch())


@functools.cache
def encode_program(objective):
    return jax.jit(objective.encode)


def encode(objective, images):
    return jax.device_get(encode_program(objective)(fresh(objective), images))


THANOS = Spread(
    Flat(),
    head=Linear(K),
    contrasts=(Contrast(weight=0.5),),
    reconstruction=Reconstruction(Painter(), weight=2.0),
    encoder_auto=Flat(4),
    cross_entropy=3.0,
)


ONE_ENCODER = dataclasses.replace(THANOS, encoder_auto=None)


def test_the_value_is_the_weighted_sum_of_terms_that_read_their_own_encoder():
    found, readers = outcome_and_readers(THANOS)
    np.testing.assert_allclose(
        found["value"],
        3.0 * found["cross_entropy"]
        + 0.5 * found["contrast"]
        + 2.0 * found["reconstruction"],
        rtol=1e-6,
    )
    assert readers["contrast"] == {"encoder"}
    assert readers["reconstruction"] == {"encoder_auto", "decoder"}
    assert readers["cross_entropy"] == {"encoder", "encoder_auto", "head"}


def test_with_one_encoder_all_terms_read_it():
    _, readers = outcome_and_readers(ONE_ENCODER)
    for term in ("contrast", "reconstruction", "cross_entropy"):
        assert "encoder" in readers[term]


def contrast_by_hand(first, second, labels):
    """The definition, symmetric over the two views, in numpy."""
    z = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    values = np.zeros(N)
    for a, c in (z, z[::-1]):
        s = a @ c.T / 0.5
        for i in range(N):
            same = labels == labels[i]
            others = np.exp(s[i, ~same]).sum()
            pull = np.mean(np.log(np.exp(s[i, same]) + others) - s[i, same])
            apart = np.log(np.exp(s[i, same]).sum()) - s[i, i]
            values[i] += (pull + apart) / 4
    return values


def test_the_contrast_is_that_of_the_features_themselves():
    objective = Spread(Flat(), head=None, contrasts=(Contrast(),))
    given = batch()
    found = program(objective)(fresh(objective), given)
    views = given["views"].swapaxes(0, 1)
    first, second = (encode(objective, x)["features"] for x in views)
    labels = np.asarray(given["label"])
    expected = contrast_by_hand(first, second, labels)
    np.testing.assert_allclose(found["value"], expected.mean(), rtol=1e-5)
    term = jax.jit(Contrast())
    np.testing.assert_allclose(term(first, second, labels), expected, rtol=1e-4)
    # A pair of views may be exchanged with another of its class.
    order = np.array([3, 1, 5, 6, 4, 2, 0, 7])
    assert (labels[order] == labels).all()
    permuted = term(first[order], second[order], labels)
    np.testing.assert_allclose(permuted.mean(), expected.mean(), rtol=1e-5)


def test_examples_as_classes_need_no_labels():
    term = jax.jit(Contrast(classes="examples", spread=0.0))
    first, second = jnp.asarray(np.random.default_rng(0).normal(size=(2, N, 5)))
    one = term(first, second, jnp.zeros(N, jnp.int32))
    np.testing.assert_array_equal(one, term(first, second, jnp.arange(N)))


def test_the_decoder_makes_normalised_views_and_shows_them_as_images():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    term = Reconstruction(Painter(), mean=mean, std=std)
    images = np.asarray(batch()["views"][:, 0])
    gray = dataclasses.replace(term, target="gray")

    @jax.jit
    def convert(images):
        targets = term.targets(images)
        return targets, term.to_images(targets), gray.targets(images)

    targets, back, grays = jax.device_get(convert(images))
    np.testing.assert_allclose(
        targets[..., 1], (images[..., 1] - 0.4) / 0.25, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(back, images, atol=1e-6)
    assert grays.shape == (N, SIDE, SIDE, 1)
    np.testing.assert_allclose(
        grays[..., 0], targets.mean(axis=-1), rtol=1e-5, atol=1e-6
    )


def test_a_decoder_that_reads_the_label_depends_on_it():
    term = Reconstruction(Painter(), reads="features and label")
    objective = Spread(Flat(), Linear(K), contrasts=(), reconstruction=term)
    given, variables = batch(), jax.device_get(fresh(objective))
    out = variables.params["decoder"]["out"]
    assert out["kernel"].shape[0] == 5 + K
    other = {**given, "label": (given["label"] + 1) % K}
    key = "reconstruction"
    errors = [program(objective)(variables, x)[key] for x in (given, other)]
    assert abs(errors[0] - errors[1]) > 1e-4
    # At evaluation the label is the one that the head predicts.
    layers = encode(objective, given["views"][:, 0])
    onehot = np.eye(K)[layers["logits"].argmax(axis=-1)]
    read = np.concatenate([layers["features"], onehot], axis=-1)
    decoded = (read @ out["kernel"] + out["bias"]).reshape(layers[key].shape)
    np.testing.assert_allclose(layers[key], decoded, rtol=1e-5, atol=1e-6)


def test_two_encoders_give_their_features_side_by_side():
    layers = encode(THANOS, batch()["views"][:, 0])
    assert layers["features"].shape == (N, 9)
    both = [layers["features_of_encoder"], layers["features_of_encoder_auto"]]
    np.testing.assert_array_equal(layers["features"], np.concatenate(both, -1))


def test_exchanging_images_of_a_class_changes_the_reconstruction_error():
    images = np.asarray(batch()["views"][:, 0])
    decoded, order = encode(THANOS, images)["reconstruction"], [3, 1, 5, 6, 4, 2, 0, 7]
    errors = [np.mean((x - images) ** 2) for x in (decoded, decoded[order])]
    assert abs(errors[0] - errors[1]) > 1e-4


def test_the_terms_of_a_method_do_not_change_how_its_encoder_starts():
    plain = Spread(Flat(), head=Linear(K), contrasts=())
    jax.tree.map(
        np.testing.assert_array_equal,
        fresh(plain).params["encoder"],
        fresh(THANOS).params["encoder"],
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"contrasts": (), "head": None, "reconstruction": None}, "nothing to learn"),
        ({"contrasts": (Contrast(), Contrast())}, "name of its own"),
        ({"contrasts": (Contrast("spread"),)}, "named spread; .* none of .* spread, "),
        ({"contrasts": ()}, "or one encoder"),
        ({"cross_entropy": 0.0}, "above 0"),
        ({"smoothing": 1.0}, "Spread.smoothing 1.0 must be"),
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
    ("make", "message"),
    [
        (lambda: Contrast(attraction=0.0, spread=0.0), "there is no loss"),
        (lambda: Contrast(spread=-1.0), "Contrast.spread -1.0 must be at least 0"),
        (lambda: Contrast(temperature=0.0), "temperature 0.0 must be above 0"),
        (lambda: Contrast(positives_in_denominator=-1.0), "denominator -1.0 must be"),
        (lambda: Contrast(weight=0.0), "Contrast.weight 0.0 must be above 0"),
        (lambda: Contrast(block=0), "Contrast.block 0 must be at least 1"),
        (lambda: Reconstruction(Painter(), weight=0.0), "weight 0.0 must be above 0"),
        (lambda: Reconstruction(Painter(), std=(0.0,)), "std .* must be above 0"),
        (lambda: Reconstruction(Painter(), mean=(0.0, 0.0)), "one number per channel"),
    ],
)
def test_terms_refuse_numbers_that_mean_nothing(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_decoder_of_another_size_is_refused_with_both_shapes():
    term = Reconstruction(Painter(channels=1))
    objective = Spread(Flat(), None, contrasts=(), reconstruction=term)
    with pytest.raises(ValueError, match=r"\[3, 3, 1\].*\[3, 3, 3\]"):
        jax.eval_shape(objective.init, jax.random.key(0), batch())


def test_labels_are_needed_by_what_reads_them_only():
    alone = Contrast(classes="examples", spread=0.0)
    assert Spread(Flat(), None, (alone,)).needs == {"views"}
    assert Spread(Flat(), None, (alone, Contrast("other"))).needs == {"views", "label"}
    assert Spread(Flat(), Linear(K), (alone,)).needs == {"views", "label"}
    objective = Spread(Flat(), None, (alone,), Reconstruction(Painter()))
    given = {"views": batch()["views"]}
    variables = jax.eval_shape(objective.init, jax.random.key(0), given)
    jax.eval_shape(program(objective), variables, given)


def test_contrasts_of_a_single_view_are_refused():
    given = batch()
    given["views"] = given["views"][:, :1]
    with pytest.raises(ValueError, match=r"let the augmentation make two"):
        jax.eval_shape(THANOS.init, jax.random.key(0), given)


def test_pixel_statistics_of_another_number_of_channels_are_refused():
    term = Reconstruction(Painter(), mean=(0.5, 0.5), std=(1.0, 1.0))
    objective = Spread(Flat(), None, contrasts=(), reconstruction=term)
    with pytest.raises(ValueError, match="2 channels"):
        jax.eval_shape(objective.init, jax.random.key(0), batch())
