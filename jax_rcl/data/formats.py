"""Files that hold a whole data set, read into arrays: CIFAR's, STL-10's, idx, npz."""

import gzip
import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from jax_rcl.data.archives import Archive, fetch
from jax_rcl.data.kept import read_once

CIFAR_IMAGES = {"train": 50_000, "test": 10_000}
"""How many images either CIFAR has."""


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


@read_once()
def cifar(
    place: Path, archive: Archive | None, classes: int, split: str, labels: str
) -> Arrays:
    """CIFAR in either version (https://www.cs.toronto.edu/~kriz/cifar.html).

    In the binary one a record is its label, of CIFAR-100 the coarse and the fine one,
    then 3,072 bytes: red, green and blue planes of 32 x 32, row by row. In the one for
    Python a batch is a pickled dict of the same planes and of lists of labels, of which
    nothing is executed. `place` is the folder of the files, or where `archive` lies,
    which is downloaded if it is not there.
    """
    if archive is not None:
        fetch(archive, place.parent)
    batches, names = (split,), "meta"
    if classes == 10:
        numbered = tuple(f"data_batch_{i}" for i in range(1, 6))
        batches = numbered if split == "train" else ("test_batch",)
        names = "batches.meta"
    binary = place.suffix == ".gz" and "binary" in place.name
    if archive is None:
        binary = not (place / names).exists()
    read = _binary_cifar if binary else _python_cifar
    images, found, class_names = read(place, batches, names, classes, labels)
    # An archive is known by its checksum, what was unpacked is not.
    if archive is None and len(images) != CIFAR_IMAGES[split]:
        raise ValueError(
            f"{place} holds {len(images):,} images in {', '.join(batches)}; CIFAR-"
            f"{classes} has {CIFAR_IMAGES[split]:,}. Unpack or download it again."
        )
    images = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return shared(images, found, class_names)


def _binary_cifar(
    place: Path, batches: tuple[str, ...], names: str, classes: int, labels: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Planes [m, 3072], labels [m] and names of the classes, of the binary version."""
    names = f"{names}.txt" if classes == 10 else f"{labels}_label_names.txt"
    label_bytes, label_byte = (1, 0) if classes == 10 else (2, int(labels == "fine"))
    files = [f"{batch}.bin" for batch in batches]
    members = read_members(place, (*files, names))
    data, size = b"".join(members[file] for file in files), label_bytes + 3 * 32 * 32
    if len(data) % size:
        raise ValueError(
            f"the records of {place} hold {len(data)} bytes, no multiple of {size}; "
            f"unpack them again."
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    class_names = tuple(members[names].decode("ascii").split())
    return records[:, label_bytes:], records[:, label_byte], class_names


def _python_cifar(
    place: Path, batches: tuple[str, ...], names: str, classes: int, labels: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The same of the version for Python."""
    members = read_members(place, (*batches, names))
    of = "labels" if classes == 10 else f"{labels}_labels"
    try:
        read = {name: _Plain.loads(content) for name, content in members.items()}
        data = [np.asarray(read[batch]["data"]) for batch in batches]
        found = [np.asarray(read[batch][of], np.int32) for batch in batches]
        images = np.concatenate(data).astype(np.uint8, casting="safe")
        class_names = read[names][of.replace("labels", "label_names")]
        images = images.reshape(-1, 3 * 32 * 32)
        if len(images) != sum(map(len, found)):
            raise ValueError(f"{len(images)} images have {sum(map(len, found))} labels")
        return images, np.concatenate(found), tuple(map(_text, class_names))
    # What is no pickle may raise anything.
    except Exception as error:
        raise ValueError(
            f"{place} does not read as CIFAR's version for Python "
            f"({type(error).__name__}: {error}). Unpack or download it again."
        ) from error


def _text(name: str | bytes) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else name


class _Plain(pickle.Unpickler):
    """Reads pickles of arrays, numbers and texts, and of nothing else."""

    ALLOWED = frozenset(
        {
            *(("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")),
            *(("numpy.core.multiarray", name) for name in ("_reconstruct", "scalar")),
            *(("numpy._core.multiarray", name) for name in ("_reconstruct", "scalar")),
        }
    )

    @classmethod
    def loads(cls, content: bytes) -> dict[str, Any]:
        """A dict, its keys as texts."""
        # Python 2 wrote them: arrays need latin-1.
        found = cls(io.BytesIO(content), encoding="latin-1").load()
        return {_text(key): value for key, value in found.items()}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        newer = module_name.replace("numpy.core", "numpy._core")
        return super().find_class(newer, global_name)


@read_once()
def stl10(place: Path, archive: Archive | None, split: str) -> Arrays:
    """STL-10's binary version (https://cs.stanford.edu/~acoates/stl10).

    `<split>_X.bin` holds 27,648 bytes for each image: red, green and blue planes of
    96 x 96, column by column; `<split>_y.bin` one label for each, from 1. `place` is
    the folder of the files, or where `archive` lies, which is downloaded if it is not
    there.
    """
    if archive is not None:
        fetch(archive, place.parent)
    pixels, classes, names = f"{split}_X.bin", f"{split}_y.bin", "class_names.txt"
    members = read_members(place, (pixels, classes, names))
    labels = np.frombuffer(members[classes], np.uint8)
    class_names = tuple(members[names].decode("ascii").split())
    size = 3 * 96 * 96
    if len(members[pixels]) != len(labels) * size:
        raise ValueError(
            f"{pixels} in {place} holds {len(members[pixels])} bytes; expected {size} "
            f"for each of the {len(labels)} labels in {classes}. Unpack it again."
        )
    images = np.frombuffer(members[pixels], np.uint8).reshape(-1, 3, 96, 96)
    return shared(
        images.transpose(0, 3, 2, 1), labels.astype(np.int32) - 1, class_names
    )


def read_members(place: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Content of files of a folder, or of the one folder in a tar.gz, by their names.

    Raises:
      ValueError: one of them is not there.
    """
    if place.is_dir():
        there = [name for name in names if (place / name).exists()]
        found = {name: (place / name).read_bytes() for name in there}
    else:
        found = members_of(place, set(names))
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{place} lacks {', '.join(missing)}; unpack or download it again."
        )
    return found


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


@read_once()
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
    if not len(pixels):
        raise ValueError(f"{images} holds no images.")
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
    return tuple(str(i) for i in range(int(labels.max()) + 1))


@read_once()
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
                f"{', '.join(map(repr, file.files)) or 'none'}. Name one by Npz.image "
                f"or Npz.label; label=None says that there are no labels."
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
    if not images.size:
        raise ValueError(
            f"{image!r} of {path} is {list(images.shape)}: there are no images in it."
        )
    if images.ndim == 3:
        images = images[..., None]
    if label is None:
        return shared(images, None, class_names)
    labels = arrays[1]
    if labels.shape == (len(images), 1):  # as some published sets have them
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{label!r} of {path} is {labels.dtype} {list(labels.shape)}; labels must "
            f"be integers [{len(images)}], one for each image (or [{len(images)}, 1])."
        )
    return shared(images, labels, class_names or _numbers(labels))
