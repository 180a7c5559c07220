"""Data sets whose images are decoded one by one: a folder, a prepared tfds set."""

import collections
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tqdm
from jaxtyping import Int32
from PIL import Image

from jax_rcl.data import host_ops
from jax_rcl.data.kept import version_of
from jax_rcl.data.records import THREADS, Record
from jax_rcl.ranges import Count, ranged

NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats whose files Pillow knows by name only, or needs another program for."""

OF_SYSTEMS = {
    *("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"),
    *("lost+found", "Thumbs.db", "desktop.ini"),
}
"""What operating systems and archives put between the files of their users."""

Resize = Literal["bicubic", "as torchvision"]
"""How photographs become squares: "bicubic", by `host_ops.center_square`; or "as
torchvision", by `host_ops.shorter_side`, what test images are in the released code of
most experiments on photographs."""


class InFiles:
    """Random access to the files that a source calls `files`: paths, and labels."""

    folder: str
    files: tuple[tuple[str, int], ...]
    size: int | None
    resize: Resize = "bicubic"
    remedy = "Replace it, or unpack the archive again."
    PLACES = frozenset({"folder"})

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.folder).expanduser()

    @property
    def all_labels(self) -> Int32[np.ndarray, " m"]:
        """The labels of all records, without reading an image."""
        return np.array([label for _, label in self.files], np.int32)

    @property
    def names(self) -> tuple[str, ...]:
        """The last folder and the name of every file, such as `cat/tom.jpeg`."""
        return tuple(printable("/".join(Path(p).parts[-2:])) for p, _ in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        path, label = self.files[index]
        if self.size is None:
            return {"image": Photograph(path, self.remedy), "label": np.int32(label)}
        image = self.resized(read_image(path, self.remedy), self.size)
        return {"image": np.asarray(image), "label": np.int32(label)}

    def stored(self, index: int) -> bytes:
        """See `records.stored_bytes`."""
        return Path(self.files[index][0]).read_bytes()

    def resized(self, image: Image.Image, size: int) -> Image.Image:
        """A decoded image in the size of the records."""
        if self.resize == "bicubic":
            return host_ops.center_square(image, size)
        return host_ops.shorter_side(image, size)


class Photograph:
    """The whole image of a file, decoded where its pixels are asked for.

    To NumPy it is an array, uint8 [h, w, 3].
    """

    ndim, dtype = 3, np.dtype(np.uint8)

    def __init__(self, path: str | Path, remedy: str) -> None:
        """Reads nothing; `remedy` is what errors advise."""
        self.path, self.remedy = path, remedy

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and 3, without decoding."""
        with _advising(self.path, self.remedy):
            width, height = host_ops.size_of(self.path)
        return height, width, 3

    def decode(self, reduce: int = 1) -> Image.Image:
        """The image, of a JPEG at a fraction of its size; see `host_ops.decode`."""
        return read_image(self.path, self.remedy, reduce)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All pixels."""
        return np.array(self.decode(), dtype)


def read_image(path: str | Path, remedy: str, reduce: int = 1) -> Image.Image:
    """Decodes a file; of one that is missing or damaged the error says what to do."""
    with _advising(path, remedy):
        return host_ops.decode(path, reduce)


@contextlib.contextmanager
def _advising(path: str | Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except host_ops.NotTaken:
        raise
    except ValueError as error:
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path} does not exist. {remedy}") from error
        raise ValueError(f"{error}. {remedy}") from error


@dataclasses.dataclass(frozen=True)
@ranged
class ImageFolder(InFiles):
    """A folder with one sub-folder of image files for each class, in sorted order.

    Images are all files below the sub-folder of a class, however deep, in any format
    that Pillow reads (`image_suffixes`); a warning counts the files that are left out.
    Hidden files and folders, and those of `OF_SYSTEMS`, are not looked at. Images come
    as RGB, resized and cropped to their central square; see `host_ops.decode`.

    Attributes:
      size: height and width of the squares; None leaves photographs whole, whatever
        shapes they have, for `RandomCrops` around this.
      unreadable: what to do about a file that does not decode: an `error` that names
        it when its turn comes, or `skip`, which decodes every file once when the
        source is first used, omits the damaged ones and names them in a warning.
      classes: names of the sub-folders that are read, label i for the i-th, whatever
        others there are, such as `published.imagenet.IMAGENET_100`; empty for all.
      missing: what to do about a name in `classes` without a sub-folder: an `error`, or
        `skip`, which leaves the class without images; the others keep their labels.
      resize: how they become squares, see `Resize`.
    """

    folder: str
    size: Count | None
    unreadable: Literal["error", "skip"] = "error"
    classes: tuple[str, ...] = ()
    missing: Literal["error", "skip"] = "error"
    resize: Resize = "bicubic"
    remedy = "Replace it, or omit such files: ImageFolder(unreadable='skip')."
    # What changes with it is the number of records, which a run notices.
    MAY_CHANGE = frozenset({"unreadable"})

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            twice = sorted(n for n in self.classes if self.classes.count(n) > 1)[0]
            raise ValueError(
                f"ImageFolder.classes names {twice!r} twice; a class has one label."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the sub-folders, or `classes` where they are given.

        Bytes that are no UTF-8 are written as escapes, such as `bl\\xe9`.
        """
        return tuple(map(printable, self.class_folders))

    @functools.cached_property
    def class_folders(self) -> tuple[str, ...]:
        """The names of the sub-folders as the system has them."""
        found = class_folders(self.root, "ImageFolder.folder")
        if not self.classes:
            return found
        by_name = {printable(name): name for name in found}
        wanted = tuple(by_name.get(name, name) for name in self.classes)
        missing = [name for name in wanted if name not in found]
        if len(missing) == len(self.classes) or (missing and self.missing == "error"):
            raise ValueError(
                f"ImageFolder.folder {self.root} lacks "
                f"{in_short(missing, len(self.classes), 'classes')}. Correct the "
                f"folder or `classes`; missing='skip' goes without some of them."
            )
        return wanted

    @property
    def names(self) -> tuple[str, ...]:
        """The path of every file from the folder on, such as `cat/tom.jpeg`."""
        root = self.root
        paths = (Path(path).relative_to(root) for path, _ in self.files)
        return tuple(printable(path.as_posix()) for path in paths)

    @property
    def files(self) -> tuple[tuple[str, int], ...]:
        return self._files_and_omitted[0]

    @property
    def omitted(self) -> int:
        """How many files are left out since they do not decode."""
        return self._files_and_omitted[1]

    @functools.cached_property
    def _files_and_omitted(self) -> tuple[tuple[tuple[str, int], ...], int]:
        root, files, others, omitted = self.root, [], [], 0
        for label, name in enumerate(self.class_folders):
            if self.missing == "skip" and not (root / name).is_dir():
                continue
            paths, beside = images_below(root / name)
            others += beside
            damaged = frozenset()
            if self.unreadable == "skip":
                damaged = _damaged(paths, tuple(map(version_of, paths)))
            kept = [path for path in paths if path not in damaged]
            if not kept:
                raise ValueError(
                    f"the class folder {root / name} has no readable image in it. Fill "
                    f"it, delete it, or list the classes that count: "
                    f"ImageFolder(classes=...)."
                )
            files += [(path, label) for path in kept]
            omitted += len(paths) - len(kept)
        _warn_of_left_out(self.folder, tuple(others), len(images_in(root)))
        return tuple(files), omitted


def printable(name: str) -> str:
    """A name of the file system as text; bytes that are no UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def class_folders(root: Path, setting: str) -> tuple[str, ...]:
    """Names of the sub-folders of `root`, sorted, without hidden ones."""
    if not root.is_dir():
        raise FileNotFoundError(f"{setting} {root} is not a folder.")
    with os.scandir(root) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and _is_shown(e.name))
    if not names:
        raise ValueError(
            f"{root} has no sub-folders; {setting.partition('.')[0]} expects one for "
            f"each class."
        )
    return tuple(names)


def in_short(names: Sequence[str], count: int, things: str) -> str:
    """`2 of 100 classes: n01, n02`; of more than five names the first five."""
    more = ", …" if len(names) > 5 else ""
    return f"{len(names)} of {count} {things}: {', '.join(names[:5])}{more}"


def image_suffixes() -> tuple[str, ...]:
    """How names of images end, in lower case: in all formats that Pillow reads.

    Also in those of its plug-ins, such as pillow-heif, once they are registered.
    """
    known = Image.registered_extensions()
    read = Image.OPEN.keys() - NO_PICTURES
    return (".mpo", *(end for end, kind in known.items() if kind in read))


def images_in(folder: Path) -> tuple[str, ...]:
    """Paths of the image files directly in `folder`, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if _is_shown(e.name) and not e.is_dir()]
    ends = image_suffixes()
    found = [name for name in names if name.lower().endswith(ends)]
    return tuple(os.path.join(folder, name) for name in sorted(found))


def images_below(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths of the image files below `folder`, however deep, sorted; and of others.

    Links to folders are followed, each folder once. Nothing hidden is among them.
    """
    ends, images, others = image_suffixes(), [], []
    been = {os.path.realpath(folder)}
    for place, inside, names in os.walk(folder, followlinks=True):
        at = {name: os.path.realpath(os.path.join(place, name)) for name in inside}
        inside[:] = []  # in which os.walk goes on
        for name in sorted(filter(_is_shown, at)):
            if at[name] not in been:
                been.add(at[name])
                inside.append(name)
        for name in filter(_is_shown, names):
            kind = images if name.lower().endswith(ends) else others
            kind.append(os.path.join(place, name))
    return tuple(sorted(images)), tuple(sorted(others))


def _is_shown(name: str) -> bool:
    """Whether a file or folder is a user's: not hidden, not of an operating system."""
    return name[0] != "." and name not in OF_SYSTEMS


# Once for equal sources (the training set, and the same again in a probe).
@functools.cache
def _warn_of_left_out(folder: str, others: tuple[str, ...], on_top: int) -> None:
    """Warns of files that are no images by their names, and of images of no class."""
    logger = logging.getLogger(__name__)
    if others:
        ends = collections.Counter(
            Path(p).suffix.lower() or "no suffix" for p in others
        )
        counts = ", ".join(f"{count:,} {end}" for end, count in ends.most_common(5))
        more = ", …" if len(ends) > 5 else ""
        logger.warning(
            "%s: %d file(s) in class folders are left out, as they are not named like "
            "images that Pillow reads: %s%s; first %s.",
            *(folder, len(others), counts, more, others[0]),
        )
    if on_top:
        logger.warning(
            "%s: %d image(s) directly in it are left out, as they are in the folder of "
            "no class.",
            *(folder, on_top),
        )


# Equal sources (the training set, and the same again in a probe) share the check, as
# long as the files are what they were.
@functools.cache
def _damaged(paths: tuple[str, ...], versions: tuple[Any, ...]) -> frozenset[str]:
    """Those of the files that do not decode; warns with the reason for each."""
    del versions  # only tell one state of the files from another

    def problem(path: str) -> str:
        try:
            host_ops.decode(path)
        except ValueError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(problem, paths)
        bar = tqdm.tqdm(found, total=len(paths), desc="checking images", delay=2)
        problems = {path: why for path, why in zip(paths, bar, strict=True) if why}
    for why in problems.values():
        logging.getLogger(__name__).warning("omitted: %s", why)
    return frozenset(problems)


@dataclasses.dataclass(frozen=True)
@ranged
class Tfds:
    """A data set of tensorflow_datasets that is prepared for random access.

    Reading needs no TensorFlow. Preparing does, once, on any machine:
    `pip install 'jax_rcl[tfds]'`, then `tfds build NAME --file_format=array_record`.

    Attributes:
      name: such as `food101`, with configuration or version where there are several.
      split: in tfds' words, such as `train` or `train[:90%]`.
      size: height and width to resize and crop images to, see
        `host_ops.center_square`; None where all images have one size already.
      data_dir: where it is prepared; None for tfds' own choice, ~/tensorflow_datasets
        or $TFDS_DATA_DIR.
      image: name of the feature with the image.
      label: name of the feature with the label; None where there are none.
    """

    name: str
    split: str = "train"
    size: Count | None = None
    data_dir: str | None = None
    image: str = "image"
    label: str | None = "label"
    PLACES = frozenset({"data_dir"})

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names that the prepared set gives its classes."""
        return () if self.label is None else tuple(self._feature(self.label).names)

    @functools.cached_property
    def all_labels(self) -> Int32[np.ndarray, " m"] | None:
        """The labels of all records, read without decoding images."""
        if self.label is None:
            return None
        records = self._undecoded
        with ThreadPoolExecutor(THREADS) as pool:
            labels = pool.map(lambda i: records[i][self.label], range(len(records)))
            return np.fromiter(labels, np.int32, len(records))

    def stored(self, index: int) -> bytes:
        """See `records.stored_bytes`."""
        record = self._undecoded[index]
        label = b"" if self.label is None else b"%d" % record[self.label]
        return label + np.asarray(record[self.image]).tobytes()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self._records):
            raise IndexError(f"record {index} of {len(self._records)}")
        record = self._records[index]
        image = record[self.image]
        if image.shape[-1] == 4:
            image = np.asarray(host_ops.rgb(Image.fromarray(image)))
        if self.size is not None:
            image = host_ops.fit(image, self.size)
        if self.label is None:
            return {"image": image}
        return {"image": image, "label": np.int32(record[self.label])}

    @functools.cached_property
    def _undecoded(self) -> Any:
        """The records with images as they are stored."""
        # Imported here because it takes seconds, which other sources need not wait.
        import tensorflow_datasets as tfds

        decoders = {self.image: tfds.decode.SkipDecoding()}
        return self._builder.as_data_source(split=self.split, decoders=decoders)

    def _feature(self, name: str) -> Any:
        features = self._builder.info.features
        if name not in features:
            raise ValueError(
                f"tfds' {self.name} has no feature {name!r}; it has "
                f"{', '.join(map(repr, sorted(features)))}. Name one by "
                f"Tfds.image or Tfds.label."
            )
        return features[name]

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        try:
            return tfds.builder(self.name, data_dir=self.data_dir)
        except tfds.core.DatasetNotFoundError as error:
            raise ValueError(
                f"tensorflow_datasets has no data set {self.name!r}, and none is "
                f"prepared in {self.data_dir or 'its own folder'}. Its catalog: "
                f"https://www.tensorflow.org/datasets/catalog."
            ) from error

    @functools.cached_property
    def _records(self) -> Any:
        if self.size is None and None in self._feature(self.image).shape:
            raise ValueError(
                f"images of {self.name} differ in size; give them one size, such as "
                f" Tfds({self.name!r}, size=224)."
            )
        try:
            return self._builder.as_data_source(split=self.split)
        except NotImplementedError as error:
            where = f" --data_dir={self.data_dir}" if self.data_dir else ""
            raise FileNotFoundError(
                f"{self._builder.data_dir} holds no {self.name} prepared for random "
                f"access. Prepare it once, on a machine with a network: "
                f"pip install 'jax_rcl[tfds]'; "
                f"tfds build {self.name} --file_format=array_record{where}"
            ) from error
