"""The geometry report of an encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.artifacts import ClassPlane, MeanCosines, Spectra, Spreads
from jax_rcl.core import Evaluator
from jax_rcl.evaluate import geometry_numbers
from jax_rcl.evaluate.geometry import Geometry, class_plane
from jax_rcl.evaluate.geometry_numbers import strata, unit

COARSE, NAMES = (1, 0, 1), ("first", "second")


@dataclasses.dataclass(frozen=True)
class Compare:
    """A contrastive loss of two views: near to its class, far from the others."""

    temperature: float = 0.5

    def __call__(self, first, second, labels):
        logits = first @ second.T / self.temperature
        same = (labels[:, None] == labels[None, :]).astype(first.dtype)
        total = jnp.log(jnp.exp(logits).sum(axis=1))
        return total - (same * logits).sum(axis=1) / same.sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A loss of a shape that no loss has."""

    def __call__(self, first, second, labels):
        del labels
        return first @ second.T


@dataclasses.dataclass(frozen=True)
class Invert:
    """An operation that is not random."""

    def __call__(self, key, image):
        del key
        return 1 - image


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Adds noise."""

    def __call__(self, key, image):
        return image + 0.2 * jax.random.uniform(key, image.shape)


class Decode:
    """Pixels as features; their class's mean, more or less, as reconstruction."""

    def __init__(self, blur=0.0):
        self.blur, self.calls = blur, []

    def __call__(self, images, layers=None):
        images = np.asarray(images)
        self.calls.append((len(images), layers))
        made = (1 - self.blur) * images + self.blur * 0.5
        every = {"features": images.reshape(len(images), -1), "reconstruction": made}
        return {name: every[name] for name in layers or ("features",)}


@pytest.fixture
def source(blobs):
    """Thirty images of three fine classes."""
    return blobs(30, noise=20)


def report(source, **changed):
    return Geometry(source, COARSE, NAMES, batch_size=8, **changed)


def test_the_numbers_are_those_of_the_unit_features(source):
    found = report(source).run(Decode())
    of = strata(source.images.reshape(30, -1) / np.float32(255), source.labels, COARSE)
    expected = {
        **geometry_numbers.cosines(of),
        **geometry_numbers.spreads(of),
        **geometry_numbers.uniformity(of, seed=0),
        **geometry_numbers.simplex(of),
        **geometry_numbers.distances(of),
        **geometry_numbers.nearest_subclass(of),
        **geometry_numbers.clusters(of, seed=0),
        **geometry_numbers.ranks(of),
    }
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert not any(name.startswith("permutation") for name in found)


def test_each_name_of_the_docstring_is_a_number_of_the_report(source):
    found = report(
        source,
        terms={"<term>": Compare()},
        views=Invert(),
        reconstruction="reconstruction",
    ).run(Decode())
    missing = [name for name in found if name not in (Geometry.__doc__ or "")]
    assert not missing


def test_contrastive_terms_cannot_tell_the_images_of_a_class(source):
    found = report(source, terms={"contrast": Compare()}).run(Decode())
    assert found["permutation_gap_contrast"] == pytest.approx(0, abs=1e-5)


def test_a_decoder_that_sees_the_image_can(source):
    found = report(source, reconstruction="reconstruction", sample=20).run(Decode())
    rows = np.sort(np.random.default_rng(0).permutation(30)[:20])
    images = source.images[rows] / 255
    assert found["permutation_gap_reconstruction"] > 0.0005
    assert found["permutation_gap_reconstruction"] < 4 * images.var(axis=0).mean()
    blind = report(source, reconstruction="reconstruction").run(Decode(blur=1))
    assert blind["permutation_gap_reconstruction"] == pytest.approx(0, abs=1e-9)


def test_alignment_is_the_distance_of_two_views(source):
    assert "alignment" not in report(source).run(Decode())
    found = report(source, views=Invert(), sample=10).run(Decode())
    assert found["alignment"] == 0


def test_random_views_are_the_same_every_time(source):
    evaluator = report(source, views=Jitter(), terms={"contrast": Compare()})
    first, second = evaluator.run(Decode()), evaluator.run(Decode())
    assert first == second
    assert 0.001 < first["alignment"] < 0.5


def test_alignment_is_the_mean_squared_distance_of_unit_features(source):
    found = dataclasses.replace(
        report(source, views=Jitter(), sample=10), batch_size=30
    )
    shown = []

    def encode(images, layers=None):
        outputs = Decode()(images, layers)
        shown.append(np.asarray(outputs["features"]))
        return outputs

    numbers = found.run(encode)
    first, second = (unit(x[:10]) for x in shown[-2:])
    assert numbers["alignment"] == pytest.approx(
        np.mean([np.sum((a - b) ** 2) for a, b in zip(first, second, strict=True)])
    )


def test_contrastive_terms_cannot_tell_members_of_a_class(source):
    evaluator = report(source, views=Jitter(), terms={"contrast": Compare()})
    first = evaluator.run(Decode())
    assert first["permutation_gap_contrast"] == pytest.approx(0, abs=1e-5)


def test_means_may_come_from_training_images(source, blobs):
    train = blobs(24, seed=5, noise=20)
    found = report(source, train=train).run(Decode())["nearest_subclass_accuracy"]
    pixels = unit(train.images.reshape(24, -1) / 255)
    means = np.stack([pixels[train.labels == k].mean(axis=0) for k in range(3)])
    z = unit(source.images.reshape(30, -1) / 255)
    nearest = np.linalg.norm(z[:, None] - means, axis=2).argmin(axis=1)
    assert found == pytest.approx((nearest == source.labels).mean())


def test_findings_need_no_second_pass(source):
    encode = Decode()
    evaluator = report(source)
    found_numbers = evaluator.run(encode)
    passes = len(encode.calls)
    found = evaluator.findings(encode)
    assert len(encode.calls) == passes
    cosines, plane = found["subclass cosines"], found["class plane"]
    spectra, spread = found["class spectra"], found["spread"]
    assert isinstance(cosines, MeanCosines) and isinstance(plane, ClassPlane)
    assert isinstance(spectra, Spectra) and isinstance(spread, Spreads)
    # Fine class b is of the first class, a and c of the second.
    assert cosines.subclass_names == ("b", "a", "c")
    np.testing.assert_array_equal(cosines.parents, [0, 1, 1])
    np.testing.assert_allclose(np.diag(cosines.matrix), 1)
    assert plane.class_names == NAMES
    assert plane.points.shape == (30, 2)
    np.testing.assert_array_equal(plane.labels, np.array(COARSE)[source.labels])
    average = np.mean(spectra.effective_ranks)
    assert average == pytest.approx(found_numbers["effective_rank"])
    assert spread.of_classes @ [10, 20] / 30 == pytest.approx(
        found_numbers["within_class_spread"]
    )


def test_the_plane_keeps_distances_of_what_lies_in_it():
    angles = np.linspace(0, 3, 40)
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ axes.T
    of = strata(features.astype(np.float32), np.arange(40) % 4, (0, 0, 1, 1))
    names = {"class_names": NAMES, "subclass_names": tuple("abcd")}
    found = class_plane(of, seed=0, **names)
    apart = np.linalg.norm(found.points[:, None] - found.points, axis=2)
    np.testing.assert_allclose(
        apart, np.linalg.norm(of.z[:, None] - of.z, axis=2), atol=1e-6
    )
    assert "holds 100% of their variance; 40 of 40 images" in found.method


@pytest.mark.parametrize("features", [np.ones((4, 1)), np.zeros((4, 3))])
def test_a_plane_of_one_point_is_there(features):
    of = strata(features.astype(np.float32), np.arange(4), (0, 0, 1, 1))
    names = {"class_names": NAMES, "subclass_names": tuple("abcd")}
    found = class_plane(of, seed=0, **names)
    np.testing.assert_allclose(found.points, 0, atol=1e-12)


def test_a_map_that_misses_a_fine_class_is_refused_at_once(source):
    with pytest.raises(ValueError, match=r"(?s)has 2 entries, .* does not cover 'c'"):
        Geometry(source, (0, 1), NAMES).check()
    with pytest.raises(ValueError, match=r"(?s)has 4 entries, .* has 3 fine classes"):
        Geometry(source, (0, 1, 0, 1), NAMES).check()


def test_a_class_without_a_name_is_refused(source):
    with pytest.raises(ValueError, match="puts fine label 2 into class 2"):
        Geometry(source, (0, 1, 2), NAMES)


@pytest.mark.parametrize("wrong", [{"sample": 0}, {"batch_size": 0}])
def test_values_out_of_range_are_named(source, wrong):
    with pytest.raises(ValueError, match=rf"Geometry\.{next(iter(wrong))}"):
        Geometry(source, COARSE, NAMES, **wrong)


def test_a_term_of_another_shape_is_refused_before_training(source):
    with pytest.raises(ValueError, match=r"terms\['matrix'\] gives \[4, 4\]"):
        report(source, terms={"matrix": Matrix()}).check()


def test_training_images_must_be_others(source):
    with pytest.raises(ValueError, match="found by itself"):
        report(source, train=source).check()


def test_says_what_it_measures(source, blobs):
    evaluator = report(source, reconstruction="pixels", terms={"contrast": Compare()})
    assert isinstance(evaluator, Evaluator)
    assert evaluator.needs == {"features", "pixels"}
    assert report(source).needs == {"features"}
    assert evaluator.protocol == (
        "unit 'features' of 30 images of 3 subclasses in 2 classes, subclass means of "
        "the other images"
    )
    assert "of 24 others" in report(source, train=blobs(24, seed=2)).protocol
    same = report(source, reconstruction="pixels", terms={"contrast": Compare()})
    assert evaluator == same and hash(evaluator) == hash(same)
    assert evaluator != report(source, reconstruction="pixels")
