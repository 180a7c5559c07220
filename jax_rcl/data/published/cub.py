"""CUB-200-2011 as it is published: birds, the official split, 312 attributes."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from jax_rcl.data.folders import InFiles, check_size
from jax_rcl.data.records import Record, check_choice
from jax_rcl.data.sources import SPLITS, Split

PUBLISHED = {"train": 5_994, "test": 5_794}
"""Images of each split of the published data set."""

CLASSES = 200
"""Kinds of birds in the published data set."""

ATTRIBUTES = 312
"""Binary attributes of every image."""

CERTAINTIES = (1, 2, 3, 4)
"""How sure an annotator was: not visible, guessing, probably, definitely."""

WHERE = "https://data.caltech.edu/records/65de6-vp158"
"""Page that gives out CUB_200_2011.tgz."""


@dataclasses.dataclass(frozen=True)
class Cub200(InFiles):
    """11,788 photographs of 200 kinds of birds, CUB-200-2011 (Wah et al. 2011).

    The published archive unpacked, https://data.caltech.edu/records/65de6-vp158:
    `images.txt`, `image_class_labels.txt`, `classes.txt`, `train_test_split.txt` and
    `images/<class>/<file>.jpg`. The split is the official one, 5,994 images for
    training and 5,794 for testing. Records are in the order of `ImageFolder`: by class,
    then by file name. Files are decoded when they are read; of the whole image, without
    a bounding box, the central square is taken, see `host_ops.center_square`.

    Attributes:
      folder: path of the unpacked archive, `…/CUB_200_2011`.
      split: `train` or `test`.
      size: height and width of the images.
    """

    folder: str
    split: Split = "train"
    size: int = 256

    def __post_init__(self) -> None:
        check_choice("Cub200.split", self.split, SPLITS)
        check_size("Cub200.size", self.size)

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.folder).expanduser()

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each label means, such as `Black footed Albatross`."""
        folders = _lists(self.root).classes
        return tuple(name.split(".", 1)[-1].replace("_", " ") for name in folders)

    @functools.cached_property
    def files(self) -> tuple[tuple[str, int], ...]:
        """Path and label of every record.

        Raises:
          FileNotFoundError: naming the list or the folder that is missing.
          ValueError: naming the list that is damaged, and its line where it can.
        """
        photos, images = self._photos, self.root / "images"
        if not images.is_dir():
            raise _missing(self.root, "images")
        return tuple((f"{images}/{photo.name}", photo.label) for photo in photos)

    def __getitem__(self, index: int) -> Record:
        len(self)  # reads the lists, whose errors are not those of one image
        try:
            return super().__getitem__(index)
        except ValueError as error:
            raise ValueError(f"{error}. Unpack the archive again.") from error

    @property
    def _photos(self) -> tuple["_Photo", ...]:
        photos = _lists(self.root).photos
        found = tuple(photo for photo in photos if photo.split == self.split)
        if not found:
            raise ValueError(
                f"{self.root / 'train_test_split.txt'} puts no image into "
                f"{self.split!r}; unpack the archive again."
            )
        return found


def attributes(
    source: Cub200, least_certainty: int = 1
) -> Float32[np.ndarray, "m 312"]:
    """Which attributes each image of a source has: 1 or 0, in the source's order.

    The column `is_present` of `attributes/image_attribute_labels.txt`, where one
    annotator says of every image and attribute whether it is there and how sure this
    is: 1 not visible, 2 guessing, 3 probably, 4 definitely.

    Args:
      source: which images.
      least_certainty: a bit said with less than this is 0, present or not; 1 takes all
        of them as they are.

    Raises:
      FileNotFoundError: the folder has no file of attributes.
      ValueError: the file says nothing, or twice, of an image and an attribute, or has
        numbers that mean nothing.
    """
    check_choice("least_certainty", least_certainty, CERTAINTIES)
    ids = np.sort([photo.number for photo in _lists(source.root).photos])
    name = "attributes/image_attribute_labels.txt"
    path = source.root / name
    if not path.exists():
        raise _missing(source.root, name)
    image, attribute, present, certainty = _annotations(path, ids)
    table = np.zeros((len(ids), ATTRIBUTES), np.float32)
    bits = (present == 1) & (certainty >= least_certainty)
    table[np.searchsorted(ids, image), attribute - 1] = bits
    wanted = [photo.number for photo in source._photos]
    return table[np.searchsorted(ids, wanted)]


def attribute_names(source: Cub200) -> tuple[str, ...]:
    """What the 312 attributes mean, such as `has_bill_shape::dagger`.

    Out of `attributes.txt`, which the archive has beside the folder and which lies in
    it, or in its `attributes/`, just as often. Where it is missing, the numbers 1 to
    312.

    Raises:
      ValueError: the file does not name attributes 1 to 312.
    """
    root = source.root
    for folder in (root, root / "attributes", root.resolve().parent):
        path = folder / "attributes.txt"
        if path.exists():
            names = _pairs(folder, path.name)
            if sorted(names) != list(range(1, ATTRIBUTES + 1)):
                raise ValueError(
                    f"{path} names {len(names)} attributes; expected 1 to "
                    f"{ATTRIBUTES}. Unpack the archive again."
                )
            return tuple(names[number] for number in sorted(names))
    return tuple(str(number) for number in range(1, ATTRIBUTES + 1))


def _annotations(
    path: Path, ids: Int[np.ndarray, " m"]
) -> tuple[Int32[np.ndarray, " r"], ...]:
    """Image, attribute, presence and certainty of every row, each pair there once."""
    # Some of the 3.7 million rows have more than the five fields.
    try:
        rows = np.loadtxt(path, np.int32, usecols=(0, 1, 2, 3), comments=None, ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{path} does not hold rows of image, attribute, presence and certainty: "
            f"{error} Unpack the archive again."
        ) from error
    image, attribute, present, certainty = rows.reshape(-1, 4).T
    for what, values, right, range_of in (
        ("the image", image, np.isin(image, ids), "an image of images.txt"),
        ("the attribute", attribute, _within(attribute, 1, ATTRIBUTES), "1 to 312"),
        ("the presence", present, _within(present, 0, 1), "0 or 1"),
        ("the certainty", certainty, _within(certainty, 1, 4), "1 to 4"),
    ):
        if not right.all():
            row = int(np.argmin(right))
            raise ValueError(
                f"row {row + 1} of {path} gives {what} as {values[row]}, expected "
                f"{range_of}. Unpack the archive again."
            )
    pairs = np.searchsorted(ids, image) * ATTRIBUTES + attribute - 1
    counts = np.bincount(pairs, minlength=len(ids) * ATTRIBUTES)
    if (wrong := np.flatnonzero(counts != 1)).size:
        place, column = divmod(int(wrong[0]), ATTRIBUTES)
        raise ValueError(
            f"{path} has {counts[wrong[0]]} rows of image {ids[place]} and attribute "
            f"{column + 1}, expected 1 ({len(wrong):,} of {len(counts):,} pairs are "
            f"like this). Unpack the archive again."
        )
    return image, attribute, present, certainty


def _within(
    values: Int32[np.ndarray, " r"], low: int, high: int
) -> Bool[np.ndarray, " r"]:
    return (values >= low) & (values <= high)


class _Photo(NamedTuple):
    """What the lists say of one image: its id, `<class>/<file>`, label and split."""

    number: int
    name: str
    label: int
    split: str


class _Lists(NamedTuple):
    """Class folders in the order of labels, images by class and file."""

    classes: tuple[str, ...]
    photos: tuple[_Photo, ...]


# Both splits, and evaluators of equal ones, share what is read.
@functools.cache
def _lists(root: Path) -> _Lists:
    images, classes = _pairs(root, "images.txt"), _pairs(root, "classes.txt")
    folders = tuple(sorted(classes.values()))
    labels = {folder: label for label, folder in enumerate(folders)}
    class_of = _pairs(root, "image_class_labels.txt", images)
    training = _pairs(root, "train_test_split.txt", images)
    photos = []
    for number, name in images.items():
        folder, part = name.split("/")[0], training[number]
        if classes.get(_number(class_of[number])) != folder:
            raise ValueError(
                f"image_class_labels.txt of {root} gives image {number} the class "
                f"{class_of[number]}, which in classes.txt is not {folder}, the folder "
                f"of its file. Unpack the archive again."
            )
        if part not in ("0", "1"):
            raise ValueError(
                f"train_test_split.txt of {root} says {part!r} of image {number}; "
                f"expected 1 for training or 0. Unpack the archive again."
            )
        split = "train" if part == "1" else "test"
        photos.append(_Photo(number, name, labels[folder], split))
    return _Lists(folders, tuple(sorted(photos, key=lambda p: (p.label, p.name))))


def _pairs(
    folder: Path, name: str, images: Mapping[int, str] | None = None
) -> dict[int, str]:
    """What a file of lines `<number> <word>` says of each number, or of each image."""
    path, found = folder / name, {}
    if not path.exists():
        raise _missing(folder, name)
    for place, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        number, _, word = line.strip().partition(" ")
        if not word or _number(number) < 1 or int(number) in found:
            raise ValueError(
                f"line {place} of {path} is {line!r}; expected a number that no other "
                f"line has, and a word. Unpack the archive again."
            )
        found[int(number)] = word.strip()
    if images is not None and found.keys() != images.keys():
        raise ValueError(
            f"{path} is not about the {len(images)} images of images.txt; the first "
            f"difference is image {min(found.keys() ^ images.keys())}. Unpack the "
            f"archive again."
        )
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _missing(root: Path, name: str) -> FileNotFoundError:
    below = root / "CUB_200_2011"
    hint = f"write the folder {below}" if below.is_dir() else f"get it at {WHERE}"
    return FileNotFoundError(
        f"{root / name} does not exist; the folder to name is CUB_200_2011 as "
        f"CUB_200_2011.tgz has it, with images.txt, images/ and attributes/: {hint}."
    )
