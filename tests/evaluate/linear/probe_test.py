"""The linear probe: choice of a strength, numbers, findings."""

import dataclasses
import logging

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jax_rcl.core import Evaluator
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import features
from jax_rcl.evaluate.linear.probe import STRENGTHS, LinearProbe, standardise


@dataclasses.dataclass(frozen=True)
class Noise:
    """Adds normal noise of this deviation."""

    std: float

    def __call__(self, key, image):
        return image + self.std * jax.random.normal(key, image.shape)


@pytest.fixture
def train(blobs):
    """Training images of three classes."""
    return blobs(40, seed=1)


@pytest.fixture
def test_set(blobs):
    """Test images, as many as make no whole number of batches."""
    return blobs(21, seed=2)


def test_separable_classes_are_all_found(train, test_set, encode, caplog):
    probe = LinearProbe(train, test_set, strengths=(0.01, 0.1, 1.0), batch_size=8)
    with caplog.at_level(logging.WARNING):
        numbers = probe.run(encode)
    assert not caplog.text
    # All strengths separate the classes; of equals the strongest is taken.
    assert numbers == {
        "top1": 1.0,
        "balanced": 1.0,
        "strength": 1.0,
        "converged": 1.0,
    }


def test_two_classes_have_an_area_under_the_curve(blobs, encode):
    train, test = blobs(40, classes=2, seed=1), blobs(21, classes=2, seed=2)
    numbers = LinearProbe(train, test, strengths=(0.1,), batch_size=8).run(encode)
    assert numbers["auroc"] == 1.0


def test_the_strength_that_classifies_what_was_held_out_is_chosen(
    in_memory, encode, caplog
):
    # The class is in the difference of two pixels that have most in common. A strongly
    # regularised probe cannot take differences of features that go together.
    def differing(count, seed):
        random = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        common = random.integers(20, 220, count)
        images = np.zeros((count, 3, 3, 1), np.uint8)
        images[:, 0, 0, 0], images[:, 0, 1, 0] = common + 10 * labels, common
        return in_memory(images, labels, ("a", "b"))

    train, test = differing(40, 0), differing(40, 1)
    strong = LinearProbe(train, test, strengths=(10.0,), batch_size=40).run(encode)
    with caplog.at_level(logging.WARNING):
        chosen = LinearProbe(train, test, strengths=(1e-4, 10.0), batch_size=40).run(
            encode
        )
    assert strong["top1"] < 0.75
    assert chosen["strength"] == 1e-4
    assert chosen["top1"] == 1
    assert "best of strengths, 0.0001, is at the edge" in caplog.text


def test_the_chosen_probe_is_fitted_on_the_whole_training_set(train, test_set, encode):
    several = LinearProbe(train, test_set, strengths=(0.01, 0.1), batch_size=8)
    single = LinearProbe(train, test_set, strengths=(0.1,), batch_size=8)
    np.testing.assert_array_equal(
        several.fit(encode).weights, single.fit(encode).weights
    )


def test_results_are_the_same_every_time(train, blobs, fresh_encode):
    probe = LinearProbe(train, blobs(21, noise=80), strengths=(0.01, 0.1), batch_size=8)
    assert probe.run(fresh_encode()) == probe.run(fresh_encode())


def test_the_order_of_the_test_images_does_not_matter(in_memory, train, blobs, encode):
    test = blobs(21, seed=2, noise=80)
    order = np.random.default_rng(0).permutation(21)
    shuffled = in_memory(test.images[order], test.labels[order], test.class_names)
    settings = {"strengths": (0.1,), "batch_size": 8}
    numbers = LinearProbe(train, test, **settings).run(encode)
    assert numbers["top1"] < 1
    assert LinearProbe(train, shuffled, **settings).run(encode) == pytest.approx(
        numbers
    )


def test_findings_are_of_the_same_fit(train, blobs, encode):
    test = blobs(21, seed=2, noise=80)
    probe = LinearProbe(train, test, strengths=(0.1,), batch_size=8)
    numbers = probe.run(encode)
    passes = len(encode.batches)
    fitted = probe.fit(encode)
    found = probe.findings(encode)
    assert len(encode.batches) == passes
    assert probe.fit(encode) is fitted
    matrix = found["confusion"].matrix
    assert matrix.sum() == 21
    assert np.trace(matrix) / 21 == pytest.approx(numbers["top1"])
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(test.labels))
    assert found["confusion"].class_names == test.class_names
    assert found["embedding"].points.shape == (21, 2)
    np.testing.assert_array_equal(found["embedding"].labels, test.labels)


def test_the_map_shows_as_many_images_as_asked_for(train, blobs, encode):
    test = blobs(21, seed=2)
    few = LinearProbe(train, test, strengths=(0.1,), mapped=9, batch_size=8)
    assert few.findings(encode)["embedding"].points.shape == (9, 2)
    none = LinearProbe(train, test, strengths=(0.1,), mapped=0, batch_size=8)
    assert none.findings(encode).keys() == {"confusion"}
    with pytest.raises(ValueError, match="mapped -1 must be at least 0"):
        LinearProbe(train, test, mapped=-1)


def test_too_few_iterations_are_reported(train, test_set, encode, caplog):
    probe = LinearProbe(
        train, test_set, strengths=(1e-6, 0.1), max_iterations=1, batch_size=8
    )
    with caplog.at_level(logging.WARNING):
        numbers = probe.run(encode)
    assert "fits with strengths 1e-06, 0.1 had not converged" in caplog.text
    assert numbers["converged"] == 0


def test_a_set_is_not_tested_on_itself(train, encode):
    with pytest.raises(ValueError, match="found by itself"):
        LinearProbe(train, train).run(encode)
    assert not encode.batches


@dataclasses.dataclass(frozen=True)
class Known:
    """A source that knows its labels, and cannot be read."""

    all_labels: np.ndarray
    class_names: tuple[str, ...] = ("a", "b", "c")

    def __len__(self):
        return len(self.all_labels)

    def __getitem__(self, index):
        raise AssertionError("nothing is read")


def test_labels_that_allow_no_choice_are_known_before_training(test_set):
    test = dataclasses.replace(test_set, class_names=("a", "b", "c"))
    single, several = {"strengths": (1e-3,)}, {"strengths": (1e-3, 1.0)}
    of_each, one_class = Known(np.arange(3)), Known(np.zeros(9, np.int32))
    words = r"each is the only one of its class.*strengths=\(1e-3,\)"
    with pytest.raises(ValueError, match=words):
        LinearProbe(of_each, test, **several).check()
    LinearProbe(of_each, test, **single).check()
    for settings in (single, several):
        with pytest.raises(ValueError, match="a classifier tells at least two apart"):
            LinearProbe(one_class, test, **settings).check()
    LinearProbe(Known(np.arange(9) % 3), test, **several).check()


def test_strengths_must_rise_and_shares_be_in_range(train, test_set):
    for strengths in ((), (1.0, 0.1)):
        with pytest.raises(ValueError, match=r"LinearProbe\.strengths .* rising"):
            LinearProbe(train, test_set, strengths=strengths)
    with pytest.raises(ValueError, match=r"held_out 0\.6 must be in \(0, 0\.5\]"):
        LinearProbe(train, test_set, held_out=0.6)


def test_the_default_strengths_reach_from_almost_none_to_class_means():
    assert len(STRENGTHS) == 13
    assert STRENGTHS[0] == 1e-6
    assert STRENGTHS[-1] == 1.0


def test_says_what_it_measures(train, test_set):
    evaluator = LinearProbe(train, test_set)
    assert isinstance(evaluator, Evaluator)
    assert evaluator.protocol == (
        "logistic regression on standardised 'features' of 40 training images, 21 test "
        "images of 3 classes, L2 strength of 13 in [1e-06, 1] chosen on 10% held out, "
        "L-BFGS to 1e-05"
    )
    single = LinearProbe(train, test_set, strengths=(0.1,))
    assert "L2 strength 0.1, L-BFGS" in single.protocol


# Distortions.


def test_a_probe_of_distorted_images_is_fitted_and_tested_on_them(train, blobs, encode):
    test = blobs(21, seed=2, noise=30)
    settings = {"strengths": (0.1,), "batch_size": 8}
    probe = LinearProbe(train, test, **settings, distortion=Noise(0.3), draws=3)
    numbers = probe.run(encode)
    drawn = {"batch_size": 8, "distortion": Noise(0.3)}
    values, labels = features(encode, train, **drawn, seed=6)
    fitted = probe.fit(encode)
    x, mean, _ = standardise(values, np.ones(40, bool))
    np.testing.assert_array_equal(fitted.mean, mean)
    model = LogisticRegression(C=1 / (0.1 * 40), tol=1e-8, max_iter=10_000)
    model.fit(x.astype(np.float64), labels)
    np.testing.assert_allclose(fitted.weights, model.coef_.T, atol=2e-4)
    gaps = fitted.bias - fitted.bias[0]
    expected = model.intercept_ - model.intercept_[0]
    np.testing.assert_allclose(gaps, expected, atol=2e-4)
    values, labels = features(encode, test, **drawn, seed=7)
    own = metrics.classification(fitted.scores(values), labels)
    values, labels = features(encode, test, batch_size=8)
    clean = metrics.classification(fitted.scores(values), labels)
    assert own["top1"] != clean["top1"]
    assert numbers == {
        **own,
        **{f"clean/{name}": value for name, value in clean.items()},
        "strength": 0.1,
        "converged": 1.0,
    }


def test_without_a_distortion_nothing_is_said_of_clean_images(train, test_set, encode):
    probe = LinearProbe(train, test_set, strengths=(0.1,), batch_size=8)
    assert not any("clean" in name for name in probe.run(encode))


def test_another_draw_is_another_probe(train, blobs, encode):
    settings = {"strengths": (0.1,), "batch_size": 8, "distortion": Noise(0.5)}
    probes = [
        LinearProbe(train, blobs(21, seed=2), **settings, draws=k) for k in (0, 1)
    ]
    first, second = (probe.fit(encode).weights for probe in probes)
    assert (first != second).any()
    with pytest.raises(
        ValueError, match=r"LinearProbe.draws -1 must be in \[0, 2147483648\)"
    ):
        LinearProbe(train, blobs(21, seed=2), **settings, draws=-1)


def test_findings_are_of_the_distorted_images(train, blobs, encode):
    test = blobs(21, seed=2, noise=30)
    probe = LinearProbe(
        train, test, strengths=(0.1,), batch_size=8, distortion=Noise(0.3)
    )
    numbers, passes = probe.run(encode), len(encode.batches)
    matrix = probe.findings(encode)["confusion"].matrix
    assert np.trace(matrix) / 21 == pytest.approx(numbers["top1"])
    assert len(encode.batches) == passes


def test_the_protocol_names_the_distortion(train, test_set):
    probe = LinearProbe(train, test_set, distortion=Noise(0.5), draws=2)
    assert probe.protocol.endswith(
        "L-BFGS to 1e-05, all images distorted by Noise(std=0.5), draws 2, but for "
        "clean/…"
    )


def test_features_of_another_width_are_named_with_both(train, blobs, encode):
    probe = LinearProbe(train, blobs(12, side=4), strengths=(0.1,), batch_size=8)
    with pytest.raises(
        ValueError,
        match=r"fitted on 9 features 'features' of each image, but was given 16;",
    ):
        probe.run(encode)
