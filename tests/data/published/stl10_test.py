"""STL-10: columns become rows, labels count from 0, and damage is named."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from jax_rcl.config.nodes import build, node
from jax_rcl.core import Source
from jax_rcl.data.archives import Archive
from jax_rcl.data.published import stl10
from jax_rcl.data.published.files import STL10
from jax_rcl.data.published.stl10 import Stl10
from jax_rcl.data.records import check_labels, labels_of

NAMES = b"airplane\nbird\ncar\n"
COUNTS = {"train": 3, "test": 2}


def images_of(split: str) -> np.ndarray:
    draw = np.random.default_rng(len(split))
    return draw.integers(0, 256, (COUNTS[split], 96, 96, 3), dtype=np.uint8)


def members_of(split: str, labels: bytes = b"\2\1\3") -> dict[str, bytes]:
    """Files as they are published: planes by colour, each column by column."""
    planes = images_of(split).transpose(0, 3, 2, 1)
    return {
        f"{split}_X.bin": planes.tobytes(),
        f"{split}_y.bin": labels[: COUNTS[split]],
    }


EVERY = {**members_of("test"), "class_names.txt": NAMES, **members_of("train")}


def unpack(folder, members: dict[str, bytes]) -> str:
    (folder / "stl10_binary").mkdir()
    for name, content in members.items():
        (folder / "stl10_binary" / name).write_bytes(content)
    return str(folder)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive instead of the published one."""
    path = tmp_path / "origin.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name, content in {**EVERY, "unlabeled_X.bin": bytes(9)}.items():
            info = tarfile.TarInfo(f"stl10_binary/{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    small = Archive("stl10_binary.tar.gz", path.as_uri(), digest, len(content))
    monkeypatch.setattr(stl10, "STL10", small)
    return path


@pytest.mark.parametrize(("split", "labels"), [("train", [1, 0, 2]), ("test", [1, 0])])
def test_the_archive_is_fetched_and_read(archive, tmp_path, split, labels):
    source = Stl10(split, folder=str(tmp_path / "data"))
    assert isinstance(source, Source) and len(source) == COUNTS[split]
    assert source.class_names == ("airplane", "bird", "car")
    assert labels_of(source).tolist() == labels
    check_labels(source)
    record = source[1]
    assert record["image"].dtype == np.uint8 and record["label"].dtype == np.int32
    np.testing.assert_array_equal(record["image"], images_of(split)[1])
    assert (tmp_path / "data" / "stl10_binary.tar.gz").exists()


def test_a_damaged_archive_is_refused(archive, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "stl10_binary.tar.gz").write_bytes(archive.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"not the published stl10_binary\.tar\.gz"):
        len(Stl10(folder=str(folder)))


def test_an_unpacked_archive_is_read_without_it(tmp_path):
    source = Stl10("test", folder=unpack(tmp_path, EVERY))
    np.testing.assert_array_equal(source[0]["image"], images_of("test")[0])
    assert labels_of(source).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"train_X.bin": bytes(27_648)},
            r"27648 bytes; expected 27648 for each of .*3",
        ),
    ],
)
def test_files_that_do_not_fit_each_other_are_named(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        len(Stl10(folder=unpack(tmp_path, {**EVERY, **members})))


def test_the_published_archive_is_that_of_its_authors():
    assert STL10.url == "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
    assert STL10.size == 2_640_397_119 and len(STL10.sha256) == 64


def test_it_is_its_settings():
    source = build(node(Stl10, "test", folder="here"))
    assert source == Stl10("test", "here") != Stl10("train", "here")
    assert hash(source) == hash(Stl10("test", "here"))
