"""Zero-shot: cosines with the embeddings of classes, matched to them by name."""

import dataclasses

import numpy as np
import pytest

from jax_rcl.artifacts import Confusion
from jax_rcl.config.nodes import build, node
from jax_rcl.core import Evaluator
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.classifier import Classifier
from jax_rcl.evaluate.shifts.corrupted import Corrupted
from jax_rcl.evaluate.shifts.robustness import Robustness
from jax_rcl.evaluate.zero_shot import ClassEmbeddings, FromFile, ZeroShot

NAMES = ("ant", "bee", "cat")
ROWS = np.array([[3.0, 0, 0, 1], [0, 0.2, 0.1, 0], [-1, 0, 2, 0]], np.float32)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Embeddings of `NAMES`, as they are written above."""

    def __call__(self, class_names):
        return ROWS[[NAMES.index(name) for name in class_names]]


@dataclasses.dataclass(frozen=True)
class Darkened:
    """Takes light away, and all of one pixel."""

    share: float = 0.9

    def __call__(self, key, image):
        return (image * (1 - self.share)).at[0, 0].set(0.0)


@dataclasses.dataclass(frozen=True)
class Blind:
    """Takes one pixel away, whatever the severity."""

    name: str = "blind"

    def __call__(self, key, image, severity):
        return image.at[0, 0].set(0.0)


def write(path, embedding, names) -> str:
    np.savez(path, embedding=np.asarray(embedding), names=np.array(names))
    return str(path)


@pytest.fixture
def source(in_memory):
    """Images of 2x2 pixels near the embedding of their class, some nearer another."""
    random = np.random.default_rng(0)
    labels = np.arange(30, dtype=np.int32) % 3
    near = np.maximum(ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True), 0)[labels]
    pixels = near + random.uniform(0, 0.9, near.shape)
    images = np.rint(130 * pixels).astype(np.uint8).reshape(-1, 2, 2, 1)
    return in_memory(images, labels, NAMES)


def cosines(source) -> np.ndarray:
    x = source.images.reshape(-1, 4) / 255
    return np.array(
        [[v @ e / np.sqrt((v @ v) * (e @ e)) for e in ROWS.astype(float)] for v in x]
    )


def test_it_is_an_evaluator_and_a_classifier(source):
    evaluator = ZeroShot(source, Rows())
    assert isinstance(evaluator, Evaluator) and isinstance(evaluator, Classifier)
    assert isinstance(Rows(), ClassEmbeddings) and evaluator.needs == {"features"}


@pytest.mark.parametrize("batch_size", [7, 256])
def test_the_class_of_the_highest_cosine_is_the_answer(source, encode, batch_size):
    evaluator = ZeroShot(source, Rows(), batch_size=batch_size)
    wanted = cosines(source)
    scores, labels = evaluator.scores(encode, source)
    np.testing.assert_allclose(scores, wanted, atol=1e-6)
    found = evaluator.run(encode)
    assert found == pytest.approx(metrics.classification(wanted, labels))
    assert 0.4 < found["top1"] < 1 and found.keys() == {"top1", "balanced"}


def test_lengths_of_features_and_embeddings_do_not_count(source, fresh_encode):
    class Longer(fresh_encode):
        def __call__(self, images):
            flat = super().__call__(images)["features"]
            return {"features": flat * np.arange(1, len(flat) + 1)[:, None]}

    assert ZeroShot(source, Rows()).run(Longer()) == ZeroShot(source, Rows()).run(
        fresh_encode()
    )


def test_another_layer_may_be_read(source, encode):
    scores, _ = ZeroShot(source, Rows(), layer="projected").scores(encode, source)
    np.testing.assert_allclose(scores, -cosines(source), atol=1e-6)


def test_with_a_distortion_clean_numbers_stand_beside_the_distorted(source, encode):
    evaluator = ZeroShot(source, Rows(), distortion=Darkened(), draws=3)
    found = evaluator.run(encode)
    assert found.keys() == {"top1", "balanced", "clean/top1", "clean/balanced"}
    labels = source.labels
    assert found["clean/top1"] == np.mean(cosines(source).argmax(axis=1) == labels)
    source.images[:, 0, 0] = 0
    assert found["top1"] == np.mean(cosines(source).argmax(axis=1) == labels)
    assert found["top1"] != found["clean/top1"]
    assert "distorted by Darkened(share=0.9), draws 3" in evaluator.protocol


def test_robustness_takes_it_as_a_classifier(source, encode):
    sets = {"c": Corrupted(source, (Blind(),), (1, 5)), "same": source}
    robustness = Robustness(ZeroShot(source, Rows()), sets)
    robustness.check()
    found = robustness.run(encode)
    labels = source.labels
    clean = np.mean(cosines(source).argmax(axis=1) == labels)
    assert found["clean/top1"] == found["same/top1"] == clean
    source.images[:, 0, 0] = 0
    assert found["c/blind/top1"] == np.mean(cosines(source).argmax(axis=1) == labels)


def test_findings_show_what_is_taken_for_what(source, encode):
    found = ZeroShot(source, Rows()).findings(encode)["confusion"]
    assert isinstance(found, Confusion) and found.class_names == NAMES
    right = cosines(source).argmax(axis=1) == source.labels
    assert np.trace(found.matrix) == right.sum() and found.matrix.sum() == 30


def test_embeddings_are_made_once_for_an_encoder(source, encode):
    calls = []

    @dataclasses.dataclass(frozen=True)
    class Counted(Rows):
        def __call__(self, class_names):
            calls.append(class_names)
            return super().__call__(class_names)

    evaluator = ZeroShot(source, Counted())
    evaluator.run(encode)
    evaluator.findings(encode)
    evaluator.scored(encode, np.ones((2, 4), np.float32))
    assert calls == [NAMES]


def test_features_of_another_width_are_refused(source, encode):
    with pytest.raises(
        ValueError, match=r"'features' gives 5 .* Rows\(\) have 4; both"
    ):
        ZeroShot(source, Rows()).scored(encode, np.ones((2, 5), np.float32))


def test_what_cannot_work_is_said_before_anything_runs(source, in_memory, tmp_path):
    ZeroShot(source, Rows()).check()
    nameless = in_memory(source.images, None, ())
    with pytest.raises(ValueError, match="names no classes; use a labelled source"):
        ZeroShot(nameless, Rows()).check()
    other = FromFile(write(tmp_path / "two.npz", ROWS[:2], NAMES[:2]))
    with pytest.raises(ValueError, match=r"no embedding of 1 of 3 classes: cat"):
        ZeroShot(source, other).check()
    with pytest.raises(ValueError, match=r"ZeroShot\.batch_size 0 must be at least 1"):
        ZeroShot(source, Rows(), batch_size=0)
    with pytest.raises(ValueError, match=r"ZeroShot\.draws -1 must be in"):
        ZeroShot(source, Rows(), draws=-1)


def test_the_protocol_says_what_the_numbers_mean(source):
    assert ZeroShot(source, FromFile("names.npz")).protocol == (
        "highest cosine of 'features' with the class embeddings of names.npz for 30 "
        "test images of 3 classes"
    )


def test_it_can_be_configured():
    config = node(ZeroShot, node(Synthetic), node(FromFile, "names.npz"))
    assert build(config) == ZeroShot(Synthetic(), FromFile("names.npz"))
    assert hash(build(config)) == hash(ZeroShot(Synthetic(), FromFile("names.npz")))


# FromFile.


def test_rows_of_a_file_are_matched_by_name(tmp_path):
    names = ["cat", "dog", "ant", "bee"]
    file = write(tmp_path / "set.npz", np.arange(8.0).reshape(4, 2), names)
    found = FromFile(file)(NAMES)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[4, 5], [6, 7], [0, 1]])


def test_missing_names_are_listed(tmp_path):
    file = write(tmp_path / "set.npz", ROWS, ["robin", "boxer", "cat"])
    with pytest.raises(
        ValueError, match=r"2 of 3 classes: ant, bee\. Its own 3 are robin, boxer, cat"
    ):
        FromFile(file)(NAMES)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embedding": ROWS}, r"holds `embedding` float32 \[3, 4\]; class"),
        ({"embedding": ROWS, "names": np.arange(3)}, r"`names` int64 \[3\]; class"),
        ({"embedding": ROWS[0], "names": np.array(NAMES)}, r"float32 \[4\] and"),
        ({"embedding": ROWS[:2], "names": np.array(NAMES)}, r"float32 \[2, 4\] and"),
        ({"embedding": ROWS, "names": np.array(["ant", "bee", "bee"])}, "two .*'bee'"),
        ({"embedding": 0 * ROWS, "names": np.array(NAMES)}, "'ant' in .* is zero or"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        FromFile(str(tmp_path / "set.npz"))(NAMES)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.npz does not exist; `jax-rcl"):
        FromFile(str(tmp_path / "gone.npz"))(NAMES)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.npz is damaged or not an \.npz file"):
        FromFile(str(tmp_path / "text.npz"))(NAMES)
