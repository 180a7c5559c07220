"""Features of a whole source, once."""

import dataclasses
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.config import ConfigError, node
from jax_rcl.data.sources import Digits, Synthetic
from jax_rcl.evaluate.features import features, once, shared_classes
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe


@dataclasses.dataclass(frozen=True)
class Darken:
    """A deterministic operation."""

    factor: float

    def __call__(self, key, image):
        del key
        return image * self.factor


@dataclasses.dataclass(frozen=True)
class Noise:
    """Adds normal noise of this deviation, and does not keep to [0, 1]."""

    std: float = 0.5

    def __call__(self, key, image):
        return image + self.std * jax.random.normal(key, image.shape)


def test_rows_follow_the_source_and_padding_is_dropped(blobs, encode):
    source = blobs(21)
    values, labels = features(encode, source, batch_size=8)
    np.testing.assert_array_equal(labels, source.labels)
    np.testing.assert_allclose(
        values, source.images.reshape(21, -1) / 255, rtol=0, atol=1e-6
    )
    assert values.dtype == np.float32
    assert labels.dtype == np.int32


def test_every_call_gets_the_same_number_of_images_in_the_unit_range(blobs, encode):
    features(encode, blobs(21), batch_size=8)
    assert [batch.shape for batch in encode.batches] == [(8, 3, 3, 1)] * 3
    every = np.concatenate(encode.batches)
    assert every.dtype == np.float32
    assert 0 <= every.min() < every.max() <= 1


def test_all_layers_are_computed_together(blobs, encode):
    source = blobs(21)
    values, _ = features(encode, source, batch_size=8)
    negated, _ = features(encode, source, batch_size=8, layer="projected")
    np.testing.assert_array_equal(negated, -values)
    assert len(encode.batches) == 3


def test_evaluators_of_the_same_sources_share_one_pass(blobs, encode):
    train, test = blobs(40, seed=1), blobs(12, seed=2)
    Neighbours(train, test, k=3, batch_size=8).run(encode)
    assert len(encode.batches) == 5 + 2
    Neighbours(train, test, k=5, layer="projected", batch_size=4).run(encode)
    LinearProbe(train, test, strengths=(0.1,), batch_size=8).run(encode)
    assert len(encode.batches) == 5 + 2


def test_another_preprocessing_is_another_pass(blobs, encode):
    source = blobs(8)
    plain, _ = features(encode, source, batch_size=8)
    dark, _ = features(encode, source, batch_size=8, preprocess=Darken(0.5))
    features(encode, source, batch_size=8, preprocess=Darken(0.5))
    np.testing.assert_allclose(dark, plain / 2, atol=1e-7)
    assert len(encode.batches) == 2


def test_another_encoder_is_another_pass(blobs, fresh_encode):
    source, first, second = blobs(8), fresh_encode(), fresh_encode()
    features(first, source, batch_size=8)
    features(second, source, batch_size=8)
    assert len(first.batches) == len(second.batches) == 1


def test_what_is_remembered_goes_with_the_encoder(blobs, fresh_encode):
    encode = fresh_encode()
    values, _ = features(encode, blobs(8), batch_size=8)
    watched = weakref.ref(values)
    del values
    assert watched() is not None
    del encode
    gc.collect()
    assert watched() is None


def test_shared_features_cannot_be_changed(blobs, encode):
    values, labels = features(encode, blobs(8), batch_size=8)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 0


def test_reduced_precision_becomes_float32(blobs):
    def encode(images):
        return {"features": jnp.asarray(images, jnp.bfloat16).reshape(8, -1)}

    values, _ = features(encode, blobs(8), batch_size=8)
    assert values.dtype == np.float32


def test_an_encoder_may_use_all_devices(blobs, encode):
    mesh = parallel.make_mesh()

    def on_all_devices(images):
        placed = parallel.put(images, mesh)
        assert len(placed.sharding.device_set) == mesh.size
        return {"features": placed.reshape(len(placed), -1)}

    source = blobs(21)
    spread, _ = features(on_all_devices, source, batch_size=8 * mesh.size)
    whole, _ = features(encode, source, batch_size=8)
    np.testing.assert_array_equal(spread, whole)


def test_once_makes_once_for_each_key(encode):
    made = []
    for key in ("a", "b", "a"):
        once(encode, key, lambda key=key: made.append(key))
    assert made == ["a", "b"]


def test_a_failed_pass_is_not_remembered(blobs, encode):
    source = blobs(8)
    with pytest.raises(ValueError, match="no layer"):
        features(encode, source, layer="pooled", batch_size=8)
    features(encode, source, batch_size=8)


def test_a_missing_layer_names_those_there_after_one_batch(blobs, encode):
    with pytest.raises(ValueError, match=r"'pooled'.*'features', 'projected'"):
        features(encode, blobs(40), layer="pooled", batch_size=8)
    assert len(encode.batches) == 1


def test_missing_labels_are_named_with_what_is_there(in_memory, blobs, encode):
    source = in_memory(blobs(8).images, None, ())
    with pytest.raises(ValueError, match=r"no 'label'.*'image', 'index'"):
        features(encode, source, batch_size=8)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_label_without_a_name_is_an_error(in_memory, blobs, encode, wrong):
    images = blobs(4).images
    source = in_memory(images, np.array([0, 1, 2, wrong]), ("a", "b", "c"))
    with pytest.raises(ValueError, match="names 3 classes"):
        features(encode, source, batch_size=4)


def test_an_empty_source_is_an_error(in_memory, blobs, encode):
    whole = blobs(4)
    source = in_memory(whole.images[:0], whole.labels[:0], whole.class_names)
    with pytest.raises(ValueError, match="empty"):
        features(encode, source, batch_size=4)


def test_features_that_are_not_finite_are_an_error(blobs):
    def encode(images):
        values = np.array(images).reshape(len(images), -1)
        values[2, 0] = np.nan
        return {"features": values}

    with pytest.raises(ValueError, match="not finite for 1 of 8"):
        features(encode, blobs(8), batch_size=8)


def test_features_that_are_not_vectors_are_an_error(blobs):
    with pytest.raises(ValueError, match=r"\(3, 3, 1\) for each image"):
        features(lambda images: {"features": images}, blobs(8), batch_size=8)


def test_two_sources_must_differ_and_agree_on_at_least_two_classes(in_memory, blobs):
    train, test = blobs(8, seed=1), blobs(8, seed=2)
    assert shared_classes(train, test) == ("a", "b", "c")
    with pytest.raises(ValueError, match="same source"):
        shared_classes(train, train)
    with pytest.raises(ValueError, match=r"'a', 'b', 'c' and test 'a', 'b';"):
        shared_classes(train, blobs(8, classes=2))
    single = [in_memory(x.images, x.labels, ("a",)) for x in (train, test)]
    with pytest.raises(ValueError, match="at least two"):
        shared_classes(*single)


# Distortions.


def test_every_image_is_distorted_by_itself_after_it_is_prepared(blobs, encode):
    source = blobs(21)
    clean, _ = features(encode, source, batch_size=8, preprocess=Darken(0.5))
    values, labels = features(
        encode, source, batch_size=8, preprocess=Darken(0.5), distortion=Noise()
    )
    np.testing.assert_array_equal(labels, source.labels)
    drawn = (values - clean) / 0.5
    assert abs(drawn.mean()) < 0.3 and abs(drawn.std() - 1) < 0.2
    assert values.min() < 0
    for place, row in enumerate(drawn):
        assert (np.abs(drawn[:place] - row).max(axis=-1) > 0.5).all()


def test_draws_belong_to_the_seed_and_the_place_of_an_image(
    blobs, fresh_encode, monkeypatch
):
    def drawn(batch_size=8, **known):
        settings = {"batch_size": batch_size, "distortion": Noise(), **known}
        return features(fresh_encode(), blobs(21), **settings)[0]

    first = drawn()
    np.testing.assert_array_equal(first, drawn())
    np.testing.assert_array_equal(first, drawn(batch_size=5))
    assert (first != drawn(seed=1)).mean() > 0.99
    real = parallel.make_mesh
    monkeypatch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
    np.testing.assert_allclose(first, drawn(), atol=1e-6)


def test_distorted_images_are_given_to_the_encoder_where_they_are(blobs):
    given = []

    def encode(images):
        given.append(images)
        return {"features": images.reshape(len(images), -1)}

    features(encode, blobs(21), batch_size=8, distortion=Noise())
    assert len(given) == 3
    for images in given:
        assert isinstance(images, jax.Array)
        assert len(images.sharding.device_set) == parallel.make_mesh().size


def test_a_pass_is_shared_by_those_of_one_distortion_and_seed(blobs, encode):
    source, settings = blobs(8), {"batch_size": 8}
    features(encode, source, **settings)
    for seed in (0, 1, 0):
        for layer in ("features", "projected"):
            known = {"distortion": Noise(), "seed": seed, "layer": layer}
            features(encode, source, **settings, **known)
    assert len(encode.batches) == 1 + 2
    features(encode, source, **settings, distortion=Noise(0.25))
    features(encode, source, **settings)
    assert len(encode.batches) == 1 + 2 + 1


# What evaluators of a layer share.


def test_a_config_takes_the_sources_before_the_shared_fields():
    parts = node(Digits, "train"), node(Digits, "test")
    made = node(Neighbours, *parts, 5)
    assert made.test.split == "test" and made.k == 5 and made.layer == "features"
    with pytest.raises(ConfigError, match=r"4 fields that need no name; got 5"):
        node(Neighbours, *parts, 5, 0.07, "projected")


def test_shared_fields_are_checked_under_the_name_of_the_evaluator(blobs):
    with pytest.raises(ValueError, match=r"LinearProbe\.batch_size 0 must be at least"):
        LinearProbe(blobs(8), blobs(8, seed=1), batch_size=0)


def test_a_test_set_that_lacks_classes_says_how_to_go_without_them():
    train, test = Synthetic(classes=4, seed=1), Synthetic(classes=3)
    with pytest.raises(ValueError, match=r"missing='skip' .* has no 'grating 3'\."):
        shared_classes(train, test)
    with pytest.raises(ValueError, match="must mean the same") as caught:
        shared_classes(train, Digits())
    assert "skip" not in str(caught.value)
