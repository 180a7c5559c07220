"""The cross-validated classifier as an evaluator."""

import numpy as np
import pytest

from jax_rcl.core import Evaluator
from jax_rcl.evaluate.linear.cross_validated import CrossValidated
from jax_rcl.evaluate.linear.plain_sgd import PlainSgd

SHORT = {"strengths": (10.0, 100.0), "batch_size": 8}


@pytest.fixture
def train(blobs):
    """Training images of three classes."""
    return blobs(40, seed=1)


@pytest.fixture
def test_set(blobs):
    """Test images that cannot all be told apart."""
    return blobs(21, seed=2, noise=80)


def test_separable_classes_are_all_found(train, blobs, encode):
    numbers = CrossValidated(train, blobs(21, seed=2), **SHORT).run(encode)
    assert numbers == {
        "top1": 1.0,
        "balanced": 1.0,
        "chosen": 10.0,
        "validation": 1.0,
        "converged": 1.0,
    }


def test_so_they_are_by_sgd(train, blobs, encode):
    evaluator = CrossValidated(
        train,
        blobs(21, seed=2),
        family="sgd",
        weight_decays=(0.0, 1e-3),
        sgd=PlainSgd(batch=16, epochs=60),
        batch_size=8,
    )
    numbers = evaluator.run(encode)
    assert numbers["top1"] == numbers["validation"] == 1
    assert numbers["chosen"] == 0


def test_a_class_of_which_there_are_two_images_is_learned(in_memory, blobs, encode):
    whole, test = blobs(57, seed=1), blobs(21, seed=2)
    rare = np.cumsum(whole.labels == 2) > 2
    rows = (whole.labels != 2) | ~rare
    few = in_memory(whole.images[rows], whole.labels[rows], whole.class_names)
    assert (few.labels == 2).sum() == 2
    with pytest.warns(UserWarning, match="only 2 members"):
        assert CrossValidated(few, test, **SHORT).run(encode)["balanced"] == 1


def test_a_class_that_nobody_shows_is_never_found(in_memory, blobs, encode):
    whole, test = blobs(60, seed=1), blobs(21, seed=2)
    rows = whole.labels != 1
    few = in_memory(whole.images[rows], whole.labels[rows], whole.class_names)
    evaluator = CrossValidated(few, test, **SHORT)
    assert evaluator.run(encode)["balanced"] == pytest.approx(2 / 3)
    scores, _ = evaluator.scores(encode, test)
    assert (scores[:, 1] == -np.inf).all()


def test_another_layer_can_be_read(train, test_set, encode):
    own = CrossValidated(train, test_set, **SHORT).fit(encode)
    projected = CrossValidated(train, test_set, layer="projected", **SHORT)
    assert projected.needs == {"projected"}
    np.testing.assert_allclose(projected.fit(encode).weights, -own.weights, atol=1e-3)


def test_findings_are_of_the_same_fit(train, test_set, encode):
    evaluator = CrossValidated(train, test_set, **SHORT)
    numbers = evaluator.run(encode)
    passes = len(encode.batches)
    found = evaluator.findings(encode)
    assert len(encode.batches) == passes
    matrix = found["confusion"].matrix
    assert np.trace(matrix) / matrix.sum() == pytest.approx(numbers["top1"])
    assert found["validation"].values.shape == (2, 3)
    assert found["embedding"].points.shape == (21, 2)
    without = CrossValidated(train, test_set, mapped=0, **SHORT)
    assert without.findings(encode).keys() == {"confusion", "validation"}


def test_results_are_the_same_every_time(train, test_set, fresh_encode):
    evaluator = CrossValidated(train, test_set, **SHORT)
    assert evaluator.run(fresh_encode()) == evaluator.run(fresh_encode())


def test_a_set_is_not_tested_on_itself(train, encode):
    with pytest.raises(ValueError, match="found by itself"):
        CrossValidated(train, train).run(encode)
    assert not encode.batches


def test_fields_of_the_grid_are_checked_under_its_own_name(train, test_set):
    with pytest.raises(ValueError, match=r"CrossValidated\.strengths \(\) must be"):
        CrossValidated(train, test_set, strengths=())
    with pytest.raises(ValueError, match=r"CrossValidated\.batch_size 0 must be"):
        CrossValidated(train, test_set, batch_size=0)


def test_says_what_it_measures(train, test_set):
    evaluator = CrossValidated(train, test_set)
    assert isinstance(evaluator, Evaluator)
    assert evaluator.protocol == (
        "logistic regression on 'features' of 40 training images, C of 8 in [0.1, "
        "1e+06] chosen by balanced accuracy in 3 folds, L-BFGS to 1e-08, 21 test "
        "images of 3 classes"
    )


def test_classes_too_small_for_the_folds_are_said_by_the_check(blobs):
    few = CrossValidated(blobs(6, seed=1), blobs(21, seed=2), **SHORT)
    with pytest.raises(ValueError, match="no class has an image for each of the 3"):
        few.check()
    CrossValidated(blobs(6, seed=1), blobs(21, seed=2), strengths=(1.0,)).check()
