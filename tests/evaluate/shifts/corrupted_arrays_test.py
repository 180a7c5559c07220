"""Corrupted copies in arrays, as CIFAR-10-C is published, give a cell a severity."""

import logging

import numpy as np
import pytest

from jax_rcl.data.sources import Npz
from jax_rcl.data.stream import load
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.shifts.corrupted_arrays import CorruptedArrays
from jax_rcl.evaluate.shifts.robustness import Robustness

LABELS = np.array([2, 0, 1, 1])


@pytest.fixture
def copy(tmp_path):
    """Four images of value 10 · label + severity, in two corruptions."""
    values = np.uint8(10 * np.tile(LABELS, 5) + np.repeat(np.arange(1, 6), 4))
    images = np.broadcast_to(values[:, None, None, None], (20, 4, 4, 3))
    for name in ("fog", "saturate"):
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
    np.savez(tmp_path / "test.npz", image=images[:4], label=LABELS)
    test = Npz(str(tmp_path / "test.npz"), names=("a", "b", "c"))
    return CorruptedArrays(str(tmp_path), test, severities=(1, 4))


def test_every_cell_has_the_images_of_its_severity(copy):
    assert copy.names == ("fog", "saturate") and copy.class_names == ("a", "b", "c")
    assert list(copy.cells) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    rows = load(copy.cells[1, 1])
    assert rows["image"][:, 0, 0, 0].tolist() == [24, 4, 14, 14]
    assert rows["label"].tolist() == LABELS.tolist()
    found = list(copy.batches(None, 3))
    assert [cell for cell, _, _ in found] == [c for c in copy.cells for _ in range(2)]
    np.testing.assert_allclose(found[2][1][0, 0, 0], 24 / 255)
    assert [len(labels) for _, _, labels in found[:2]] == [3, 1]


def test_it_is_a_set_of_robustness(copy):
    def encode(images, layers=None):
        value = np.round(255 * np.asarray(images)[:, 0, 0, 0])
        right = np.eye(3)[(value // 10).astype(int)]
        wrong = np.roll(right, 1, axis=1)
        return {"logits": np.where((value % 10 == 4)[:, None], wrong, right)}

    robust = Robustness(HeadAccuracy(copy.test), {"c": copy})
    numbers = robust.run(encode)
    assert numbers["clean/top1"] == 1.0 and numbers["c/top1"] == 0.5
    assert (numbers["c/severity1/top1"], numbers["c/severity4/top1"]) == (1.0, 0.0)
    assert "2 corruptions" in robust.protocol and "4 pixels" in robust.protocol


def test_a_copy_of_another_test_set_is_refused(copy, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        copy.check()
    assert "1 of the 15 standard corruptions" in caplog.text
    np.save(tmp_path / "labels.npy", np.tile(LABELS[::-1], 5))
    with pytest.raises(ValueError, match=r"labels\.npy are not the labels of"):
        copy.check()
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels\.npy does not exist"):
        copy.check()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((16, 4, 4, 3), np.uint8), r"expected uint8 \[20, h, w, c\]"),
        (np.zeros((20, 4, 4, 3)), r"holds float64"),
        (None, r"fog\.npy is damaged"),
    ],
)
def test_a_file_of_another_shape_is_named(copy, tmp_path, content, message):
    path = tmp_path / "fog.npy"
    path.write_bytes(b"cut") if content is None else np.save(path, content)
    with pytest.raises(ValueError, match=message):
        copy.check()


def test_a_folder_without_corruptions_is_named(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"CorruptedArrays\.folder .*gone"):
        CorruptedArrays(str(tmp_path / "gone"), copy.test).check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no file of a corruption"):
        _ = CorruptedArrays(str(tmp_path / "empty"), copy.test).paths
    with pytest.raises(ValueError, match=r"severities \(1, 6\): 6 is not one of"):
        CorruptedArrays(str(tmp_path), copy.test, severities=(1, 6))
