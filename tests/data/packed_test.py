"""Packed records: read where they lie, checked before use, light to send elsewhere."""

import hashlib
import json
import pickle

import numpy as np
import pytest

from jax_rcl.core import Source
from jax_rcl.data.packed import FORMAT, RECORDS, Packed
from jax_rcl.data.records import check_labels, groups_of, labels_of
from jax_rcl.data.stream import Order, load, train_stream

COUNT = 10


@pytest.fixture
def folder(tmp_path):
    """Ten random images of two classes in three groups, as the format says."""
    random = np.random.default_rng(0)
    arrays = {
        "image": random.integers(0, 256, (COUNT, 4, 5, 3), dtype=np.uint8),
        "label": np.arange(COUNT, dtype=np.int32) % 2,
        "group": np.arange(COUNT, dtype=np.int32) % 3,
    }
    entries = {}
    for key, array in arrays.items():
        path = tmp_path / f"{key}.npy"
        np.save(path, array)
        entries[key] = {
            "file": path.name,
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    described = {
        "format": FORMAT,
        "count": COUNT,
        "arrays": entries,
        "class_names": ["a", "b"],
        "group_names": ["x", "y", "z"],
        "source": {},
    }
    (tmp_path / RECORDS).write_text(json.dumps(described))
    return tmp_path


def changed(folder, **fields):
    path = folder / RECORDS
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_records_are_those_that_were_written(folder):
    source = Packed(str(folder))
    assert isinstance(source, Source) and len(source) == COUNT
    images = np.load(folder / "image.npy")
    rows = load(source)
    np.testing.assert_array_equal(rows["image"], images)
    assert rows["label"].tolist() == [0, 1] * 5
    record = source[7]
    np.testing.assert_array_equal(record["image"], images[7])
    assert record["label"] == 1 and isinstance(record["label"], np.int32)
    with pytest.raises(IndexError):
        source[COUNT]


def test_labels_groups_and_their_names_are_known(folder):
    source = Packed(str(folder))
    check_labels(source)
    assert labels_of(source).dtype == np.int32 and source.class_names == ("a", "b")
    assert groups_of(source).tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert source.group_names == ("x", "y", "z")


def test_records_without_labels_have_none(folder):
    arrays = json.loads((folder / RECORDS).read_text())["arrays"]
    changed(folder, arrays={"image": arrays["image"]}, class_names=[])
    source = Packed(str(folder))
    assert source.all_labels is None and source.all_groups is None
    assert source[0].keys() == {"image"} and source.class_names == ()


def test_a_batch_is_read_by_threads(folder):
    source = Packed(str(folder))
    order = Order(COUNT, 4)
    stream = train_stream(source, order, start_step=0, stop_step=2, threads=2)
    images = np.load(folder / "image.npy")
    for step, batch in enumerate(stream):
        np.testing.assert_array_equal(batch["image"], images[order.indices(step)])
    stream.close()


def test_images_are_neither_loaded_nor_sent_along(folder):
    source = Packed(str(folder))
    assert isinstance(source.arrays["image"], np.memmap)
    assert len(pickle.dumps(source)) < 200
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source and hash(copy) == hash(source)
    np.testing.assert_array_equal(copy[3]["image"], source[3]["image"])


def test_what_a_record_gives_can_be_written_to_without_changing_the_file(folder):
    before = (folder / "image.npy").read_bytes()
    Packed(str(folder))[0]["image"][:] = 0
    assert (folder / "image.npy").read_bytes() == before


def test_nothing_is_looked_at_before_it_is_used():
    assert Packed("gone").folder == "gone"


@pytest.mark.parametrize("length", [0, 40, 200, -1])
def test_a_file_that_is_cut_short_is_named(folder, length):
    path = folder / "image.npy"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"image\.npy is damaged .*copy the whole"):
        len(Packed(str(folder)))


def test_a_file_that_is_missing_too_long_or_another_one_is_named(folder):
    path = folder / "label.npy"
    content = path.read_bytes()
    path.write_bytes(content + b"more")
    with pytest.raises(ValueError, match=r"label\.npy is damaged or belongs to other"):
        len(Packed(str(folder)))
    np.save(path, np.zeros(COUNT, np.int64))
    with pytest.raises(ValueError, match=r"holds int64 \[10\], expected int32 \[10\]"):
        len(Packed(str(folder)))
    path.unlink()
    with pytest.raises(ValueError, match=r"label\.npy is damaged .*FileNotFound"):
        len(Packed(str(folder)))


def test_a_folder_of_something_else_is_refused(folder, tmp_path):
    changed(folder, format="shoes 7")
    with pytest.raises(ValueError, match="its format is shoes 7, not jax_rcl"):
        len(Packed(str(folder)))
    (folder / RECORDS).write_text('{"count": 3')
    with pytest.raises(ValueError, match=r"records\.json was not written by this"):
        len(Packed(str(folder)))
    (folder / RECORDS).write_text("[]")
    with pytest.raises(ValueError, match=r"records\.json was not written by this"):
        len(Packed(str(folder)))
    with pytest.raises(
        FileNotFoundError, match=r"holds no records\.json.*prepare pack"
    ):
        len(Packed(str(tmp_path / "gone")))
