"""Accuracy of the head that was trained itself."""

import dataclasses

import jax
import numpy as np
import pytest

from jax_rcl.artifacts import Confusion, Embedding
from jax_rcl.core import Evaluator
from jax_rcl.evaluate.head import HeadAccuracy

NAMES = ("a", "b", "c")
LABELS = np.array([0, 1, 2, 2, 0], np.int32)
PREDICTED = np.array([0, 2, 2, 1, 0])


@pytest.fixture
def source(in_memory):
    """Five images, whose first pixel says which one it is."""
    images = np.zeros((5, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(5)
    return in_memory(images, LABELS, NAMES)


@dataclasses.dataclass(frozen=True)
class Swap:
    """Makes one image look like another, drawn for each."""

    def __call__(self, key, image):
        drawn = jax.random.randint(key, (), 0, 5).astype(image.dtype)
        return image.at[0, 0, 0].set(drawn / 255)


class Head:
    """Knows what it predicts of every image, for a number of classes."""

    def __init__(self, predicted=PREDICTED, classes=3):
        self.predicted, self.classes = predicted, classes
        self.batches = []

    def __call__(self, images):
        images = np.asarray(images)
        self.batches.append(images)
        places = np.rint(images[:, 0, 0, 0] * 255).astype(int)
        logits = np.eye(self.classes, dtype=np.float32)[self.predicted[places]]
        features = np.stack([places, logits[:, 0]], axis=1).astype(np.float32)
        return {"features": features, "logits": 5 * logits, "doubled": 2 * logits}


def test_it_is_an_evaluator(source):
    assert isinstance(HeadAccuracy(source), Evaluator)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_accuracies_are_those_counted_by_hand(source, batch_size):
    found = HeadAccuracy(source, batch_size=batch_size).run(Head())
    # Right: 0, 2 and 4; of class a 2 of 2, of b 0 of 1, of c 1 of 2.
    assert found == pytest.approx({"top1": 3 / 5, "balanced": (1 + 0 + 1 / 2) / 3})


def test_five_guesses_count_where_there_are_more_than_five_classes(in_memory):
    random = np.random.default_rng(0)
    labels = np.arange(12, dtype=np.int32) % 6
    source = in_memory(
        random.integers(0, 256, (12, 2, 2, 1), np.uint8), labels, tuple("abcdef")
    )
    scores = random.normal(size=(12, 6)).astype(np.float32)
    found = HeadAccuracy(source, batch_size=12).run(lambda images: {"logits": scores})
    assert found["top5"] == np.mean(scores.argmin(axis=1) != labels)


def test_another_layer_may_hold_the_logits(source):
    found = HeadAccuracy(source, layer="doubled").run(Head())
    assert found["top1"] == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match=r"no layer 'pooled', but .*'logits'"):
        HeadAccuracy(source, layer="pooled").run(Head())


def test_a_head_of_another_size_is_named_with_the_size_that_is_needed(source):
    for evaluate in (HeadAccuracy(source).run, HeadAccuracy(source).findings):
        with pytest.raises(
            ValueError, match="tells 4 classes apart, but the test set has 3"
        ):
            evaluate(Head(classes=4))


def test_findings_show_what_is_taken_for_what_and_a_map(source):
    found = HeadAccuracy(source).findings(Head())
    assert found.keys() == {"confusion", "embedding"}
    confusion, embedding = found["confusion"], found["embedding"]
    assert isinstance(confusion, Confusion) and isinstance(embedding, Embedding)
    np.testing.assert_array_equal(confusion.matrix, [[2, 0, 0], [0, 0, 1], [0, 1, 1]])
    assert confusion.class_names == embedding.class_names == NAMES
    np.testing.assert_array_equal(embedding.labels, LABELS)
    assert embedding.points.shape == (5, 2) and "5 of 5 images" in embedding.method


def test_the_map_shows_as_many_images_as_asked_for(source):
    few = HeadAccuracy(source, mapped=3).findings(Head())["embedding"]
    assert isinstance(few, Embedding) and few.points.shape == (3, 2)
    none = HeadAccuracy(source, mapped=0, embedded="nothing")
    assert none.findings(Head()).keys() == {"confusion"} and none.needs == {"logits"}
    with pytest.raises(ValueError, match="mapped -1 must be at least 0"):
        HeadAccuracy(source, mapped=-1)


def test_numbers_and_findings_share_one_pass_over_the_images(source):
    head, evaluator = Head(), HeadAccuracy(source, batch_size=2)
    evaluator.run(head)
    evaluator.findings(head)
    assert len(head.batches) == 3


def test_what_cannot_work_is_said_before_anything_runs(source, in_memory):
    HeadAccuracy(source).check()
    nameless = in_memory(source.images, None, ())
    with pytest.raises(ValueError, match="names no classes; use a labelled source"):
        HeadAccuracy(nameless).check()
    with pytest.raises(ValueError, match=r"HeadAccuracy.batch_size 0 must be at least"):
        HeadAccuracy(source, batch_size=0)


def test_the_protocol_says_what_the_numbers_mean(source):
    assert HeadAccuracy(source).protocol == (
        "highest of the trained 'logits' for 5 test images of 3 classes"
    )


def test_distorted_images_have_the_numbers_of_clean_ones_beside(source):
    evaluator = HeadAccuracy(source, batch_size=3, distortion=Swap(), draws=1)
    head = Head()
    numbers = evaluator.run(head)
    clean = HeadAccuracy(source).run(Head())
    assert {name: numbers[f"clean/{name}"] for name in clean} == clean
    assert numbers.keys() == {*clean, *(f"clean/{name}" for name in clean)}
    images = np.concatenate([batch[:3] for batch in head.batches[:2]])[:5]
    places = np.rint(images[:, 0, 0, 0] * 255).astype(int)
    assert places.tolist() != [0, 1, 2, 3, 4]
    assert numbers["top1"] == np.mean(PREDICTED[places] == LABELS)
    passes = len(head.batches)
    confusion = evaluator.findings(head)["confusion"]
    assert np.trace(confusion.matrix) / 5 == pytest.approx(numbers["top1"])
    assert len(head.batches) == passes
    assert "distorted by Swap(), draws 1, but for clean/…" in evaluator.protocol
    with pytest.raises(ValueError, match=r"HeadAccuracy.draws -1 must be in"):
        dataclasses.replace(evaluator, draws=-1)
