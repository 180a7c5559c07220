"""Whole-set files give the arrays they hold, or an error that names what is wrong."""

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest

from jax_rcl.data import formats
from jax_rcl.data.archives import Archive


def tar_gz(path, members: dict[str, bytes]) -> Archive:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(f"folder-of-the-authors/{name}")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Archive(path.name, path.as_uri(), digest, len(content))


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def test_cifar_planes_become_channels_last_and_batches_keep_their_order(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    planes = [image.transpose(2, 0, 1).tobytes() for image in images]
    ten = [bytes([label]) + image for label, image in enumerate(planes)]
    members = {"batches.meta.txt": b"w\nx\ny\nz\n\n"}
    for i in (2, 1, 5, 3, 4):
        members[f"data_batch_{i}.bin"] = b"".join(ten[2 * i - 2 : 2 * i])
    archive = tar_gz(tmp_path / "ten-binary.tar.gz", members)
    place = tmp_path / archive.name
    found = formats.cifar(place, archive, 10, "train", "fine")
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, np.arange(10))
    assert found.class_names == ("w", "x", "y", "z")
    assert found.images.dtype == np.uint8 and found.labels.dtype == np.int32


def test_idx_files_are_read_with_and_without_gzip(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 4), dtype=np.uint8)
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "labels").write_bytes(idx(np.array([2, 0, 1])))
    found = formats.idx(tmp_path / "images.gz", tmp_path / "labels", ())
    np.testing.assert_array_equal(found.images, images[..., None])
    np.testing.assert_array_equal(found.labels, [2, 0, 1])
    assert found.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "holds 39 of the 40 bytes"),
        (lambda data: data + b"!", "holds 41 of the 40 bytes"),
        (
            lambda data: b"\x00\x00\x0d\x03" + data[4:],
            "0x00000d03, expected 0x00000803",
        ),
        (lambda data: b"", "0x, expected 0x00000803"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, damage, message):
    (tmp_path / "images").write_bytes(damage(idx(np.zeros((3, 2, 4)))))
    (tmp_path / "labels").write_bytes(idx(np.zeros(3)))
    with pytest.raises(ValueError, match=f"/images .*{message}"):
        formats.idx(tmp_path / "images", tmp_path / "labels", ())


def test_a_truncated_gzip_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(noise))[:-40])
    (tmp_path / "labels").write_bytes(idx(np.zeros(3)))
    with pytest.raises(ValueError, match=r"images\.gz is damaged"):
        formats.idx(tmp_path / "images.gz", tmp_path / "labels", ())


def test_as_many_labels_as_images_are_asked_for(tmp_path):
    (tmp_path / "images").write_bytes(idx(np.zeros((3, 2, 4))))
    (tmp_path / "labels").write_bytes(idx(np.zeros(2)))
    with pytest.raises(ValueError, match=r"holds 3 images but .*labels 2 labels"):
        formats.idx(tmp_path / "images", tmp_path / "labels", ())


def test_nobody_writes_to_arrays_that_all_share(tmp_path):
    np.savez(tmp_path / "set.npz", image=np.zeros((2, 4, 4, 3), np.uint8))
    found = formats.npz(tmp_path / "set.npz", "image", None, ())
    with pytest.raises(ValueError, match="read-only"):
        found.images[0] = 1


def test_a_file_that_is_written_again_is_read_again(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, image=np.zeros((2, 4, 4), np.uint8), label=np.array([0, 1]))
    first = formats.npz(path, "image", "label", ())
    assert formats.npz(path, "image", "label", ()) is first
    np.savez(path, image=np.full((3, 4, 4), 9, np.uint8), label=np.array([0, 1, 2]))
    again = formats.npz(path, "image", "label", ())
    assert len(again.images) == 3 and (again.images == 9).all()
    assert again.class_names == ("0", "1", "2")


@pytest.mark.parametrize("content", [{}, {"image": np.zeros((0, 4, 4), np.uint8)}])
def test_an_empty_npz_says_so(tmp_path, content):
    np.savez(tmp_path / "set.npz", **content)
    with pytest.raises(ValueError, match=r"set\.npz (has no array|is \[0, 4, 4\])"):
        formats.npz(tmp_path / "set.npz", "image", None, ())


def test_labels_may_be_a_column(tmp_path):
    images = np.zeros((3, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "set.npz", image=images, label=np.array([[2], [0], [1]]))
    found = formats.npz(tmp_path / "set.npz", "image", "label", ())
    assert found.labels is not None and found.labels.tolist() == [2, 0, 1]
