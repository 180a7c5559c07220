"""Files that hold a whole data set, read into arrays: CIFAR's, STL-10's, idx, npz."""

import functools
import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from jax_rcl.data.archives import Archive, fetch


class Arrays(NamedTuple):
    """A data set in memory; read-only, as every reader shares it."""

    images: UInt8[np.ndarray, "m h w c"]
    labels: Int32[np.ndarray, " m"] | None
    class_names: tuple[str, ...]


def shared(
    images: np.ndarray, labels: np.ndarray | None, class_names: tuple[str, ...]
) -> Arrays:
    """`Arrays` of contiguous uint8 images and int32 labels that are read-only."""
    images = np.ascontiguousarray(images, np.uint8)
    images.flags.writeable = False
    if labels is not None:
        labels = np.array(labels, np.int32)
        labels.flags.writeable = False
    return Arrays(images, labels, class_names)


@functools.cache
def cifar(
    archive: Archive, folder: Path, classes: int, split: str, labels: str
) -> Arrays:
    """The binary version of CIFAR (https://www.cs.toronto.edu/~kriz/cifar.html).

    A record is its label, of CIFAR-100 the coarse and the fine one, then 3,072 bytes:
    red, green and blue planes of 32 x 32, row by row. The archive is downloaded into
    `folder` if it does not lie there.
    """
    batches, names = [f"{split}.bin"], f"{labels}_label_names.txt"
    label_bytes, label_byte = 2, int(labels == "fine")
    if classes == 10:
        numbered = [f"data_batch_{i}.bin" for i in range(1, 6)]
        batches = numbered if split == "train" else ["test_batch.bin"]
        names, label_bytes, label_byte = "batches.meta.txt", 1, 0
    members = members_of(fetch(archive, folder), {*batches, names})
    records = np.frombuffer(b"".join(members[name] for name in batches), np.uint8)
    records = records.reshape(-1, label_bytes + 3 * 32 * 32)
    images = records[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    class_names = tuple(members[names].decode("ascii").split())
    return shared(images, records[:, label_byte], class_names)


@functools.cache
def stl10(archive: Archive, folder: Path, split: str) -> Arrays:
    """STL-10's binary version (https://cs.stanford.edu/~acoates/stl10).

    `<split>_X.bin` holds 27,648 bytes for each image: red, green and blue planes of
    96 x 96, column by column; `<split>_y.bin` one label for each, from 1.

    The archive is downloaded into `folder` if neither it nor the folder `stl10_binary`
    that is unpacked from it lies there.
    """
    pixels, classes, names = f"{split}_X.bin", f"{split}_y.bin", "class_names.txt"
    unpacked = folder / "stl10_binary"
    if all((unpacked / name).exists() for name in (pixels, classes, names)):
        path = unpacked
        members = {n: (path / n).read_bytes() for n in (pixels, classes, names)}
    else:
        path = fetch(archive, folder)
        members = members_of(path, {pixels, classes, names})
    labels = np.frombuffer(members[classes], np.uint8)
    class_names = tuple(members[names].decode("ascii").split())
    size = 3 * 96 * 96
    if len(members[pixels]) != len(labels) * size:
        raise ValueError(
            f"{pixels} in {path} holds {len(members[pixels])} bytes; expected {size} "
            f"for each of the {len(labels)} labels in {classes}. Unpack it again."
        )
    images = np.frombuffer(members[pixels], np.uint8).reshape(-1, 3, 96, 96)
    return shared(
        images.transpose(0, 3, 2, 1), labels.astype(np.int32) - 1, class_names
    )


def members_of(path: Path, wanted: set[str], below: str = "") -> dict[str, bytes]:
    """Content of files of a tar.gz by their paths in its one folder.

    Of those that are wanted; and, if given, of all below another folder.
    """
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            chosen = name in wanted or (below and name.startswith(f"{below}/"))
            if chosen and (file := archive.extractfile(member)):
                found[name] = file.read()
            if not below and len(found) == len(wanted):
                break  # what follows may be gigabytes
    return found


@functools.cache
def idx(images: Path, labels: Path, class_names: tuple[str, ...]) -> Arrays:
    """MNIST's format (http://yann.lecun.com/exdb/mnist), gzip-compressed or not.

    `images` are unsigned bytes [m, h, w], `labels` unsigned bytes [m]; without
    `class_names` they are called 0, 1, … up to the highest.
    """
    pixels, classes = _idx(images, rank=3), _idx(labels, rank=1)
    if len(pixels) != len(classes):
        raise ValueError(
            f"{images} holds {len(pixels)} images but {labels} {len(classes)} labels; "
            f"take both files from the same split of the same data set."
        )
    return shared(pixels[..., None], classes, class_names or _numbers(classes))


def _idx(path: Path, rank: int) -> np.ndarray:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            data = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it, or replace it by an intact copy."
        ) from error
    # Two zero bytes, 8 for unsigned bytes, the rank; then the axes, big-endian.
    magic, header = bytes((0, 0, 8, rank)), 4 + 4 * rank
    if data[:4] != magic or len(data) < header:
        raise ValueError(
            f"{path} is not an idx file of unsigned bytes with {rank} axes: it begins "
            f"with 0x{data[:4].hex()}, expected 0x{magic.hex()}."
        )
    shape = [int(n) for n in np.frombuffer(data, ">u4", rank, offset=4)]
    expected = header + int(np.prod(shape))
    if len(data) != expected:
        raise ValueError(
            f"{path} holds {len(data)} of the {expected} bytes that its header {shape} "
            f"promises: delete it, or replace it by an intact copy."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _numbers(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(str(i) for i in range(int(labels.max()) + 1)) if len(labels) else ()


@functools.cache
def npz(
    path: Path, image: str, label: str | None, class_names: tuple[str, ...]
) -> Arrays:
    """Arrays of a .npz file: images under one key, labels under another or none."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; Npz.file names a .npz file.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged or not a .npz file; save it again.")
    # numpy does not close a file that it cannot read, so it is opened here.
    with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
        keys = [key for key in (image, label) if key is not None]
        if missing := [key for key in keys if key not in file]:
            raise ValueError(
                f"{path} has no array {missing[0]!r}; it has "
                f"{', '.join(map(repr, file.files))}. Name one by Npz.image or "
                f"Npz.label; label=None says that there are no labels."
            )
        try:
            arrays = [file[key] for key in keys]
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}); save it again.") from error
    images = arrays[0]
    if images.dtype != np.uint8:
        raise ValueError(
            f"{image!r} of {path} is {images.dtype}; images must be uint8, 0 to 255. "
            f"For values in [0, 1] save np.rint(255 * images).astype(np.uint8)."
        )
    if images.ndim != 3 and (images.ndim != 4 or images.shape[-1] not in (1, 3)):
        raise ValueError(
            f"{image!r} of {path} is {list(images.shape)}; images must be [m, h, w] or "
            f"[m, h, w, c] with c = 1 or 3 channels last. For [m, c, h, w] save "
            f"images.transpose(0, 2, 3, 1)."
        )
    if images.ndim == 3:
        images = images[..., None]
    if label is None:
        return shared(images, None, class_names)
    labels = arrays[1]
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{label!r} of {path} is {labels.dtype} {list(labels.shape)}; labels must "
            f"be integers [{len(images)}], one for each image."
        )
    return shared(images, labels, class_names or _numbers(labels))
