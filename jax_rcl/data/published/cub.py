"""CUB-200-2011 as it is published: birds, the official split, 312 attributes."""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from jax_rcl.data.folders import InFiles, Resize
from jax_rcl.data.kept import read_once
from jax_rcl.data.published.tables import check_exists, reading
from jax_rcl.data.sources import Split
from jax_rcl.ranges import Count, check_choice, ranged

PUBLISHED = {"train": 5_994, "test": 5_794}
"""Images of each split of the published data set."""

CLASSES = 200
"""Kinds of birds in the published data set."""

ATTRIBUTES = 312
"""Binary attributes of every image."""

CERTAINTIES = (1, 2, 3, 4)
"""How sure an annotator was: not visible, guessing, probably, definitely."""

MISSING = (
    "the folder to name is CUB_200_2011 as CUB_200_2011.tgz has it, with images.txt, "
    "images/ and attributes/: get it at https://data.caltech.edu/records/65de6-vp158"
)


@dataclasses.dataclass(frozen=True)
@ranged
class Cub200(InFiles):
    """11,788 photographs of 200 kinds of birds, CUB-200-2011 (Wah et al. 2011).

    The published archive unpacked, https://data.caltech.edu/records/65de6-vp158:
    `images.txt`, `classes.txt`, `train_test_split.txt` and `images/<class>/<file>.jpg`.
    The split is the official one, 5,994 images for training and 5,794 for testing.
    Records are in the order of `ImageFolder`: by class, then by file name. Files are
    decoded when they are read; of the whole image, without a bounding box, the central
    square is taken.

    Attributes:
      folder: path of the unpacked archive, `…/CUB_200_2011`.
      size: height and width of the squares; None leaves photographs whole, for
        `RandomCrops` around this.
      resize: how they become squares, see `folders.Resize`.
    """

    folder: str
    split: Split = "train"
    size: Count | None = 256
    resize: Resize = "bicubic"

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each label means, such as `Black footed Albatross`."""
        folders = _class_folders(self.root)
        return tuple(name.split(".", 1)[-1].replace("_", " ") for name in folders)

    @functools.cached_property
    def files(self) -> tuple[tuple[str, int], ...]:
        photos, images = self._photos, check_exists(self.root / "images", MISSING)
        return tuple((f"{images}/{photo.name}", photo.label) for photo in photos)

    @property
    def _photos(self) -> tuple["_Photo", ...]:
        photos = _photos(self.root)
        return tuple(photo for photo in photos if photo.split == self.split)


def attributes(
    source: Cub200, least_certainty: int = 1
) -> Float32[np.ndarray, "m 312"]:
    """Which attributes each image of a source has: 1 or 0, in the source's order.

    The column `is_present` of `attributes/image_attribute_labels.txt`, where one
    annotator says for every image and attribute whether it is present and how certain
    this is: 1 not visible, 2 guessing, 3 probably, 4 definitely. A bit stated with less
    certainty than `least_certainty` is 0, present or not.
    """
    check_choice("least_certainty", least_certainty, CERTAINTIES)
    ids = np.sort([photo.number for photo in _photos(source.root)])
    table = np.full((len(ids), 1 + ATTRIBUTES), np.nan, np.float32)
    path = source.root / "attributes" / "image_attribute_labels.txt"
    with reading(path, MISSING):
        # Some of the 3.7 million rows have more than the five fields.
        rows = np.loadtxt(path, np.int32, usecols=(0, 1, 2, 3), comments=None, ndmin=2)
        if len(rows) != len(ids) * ATTRIBUTES:
            raise ValueError(f"it has {len(rows)} rows of {len(ids) * ATTRIBUTES}")
        image, attribute, present, certainty = rows.T
        bits = (present == 1) & (certainty >= least_certainty)
        table[np.searchsorted(ids, image), attribute] = bits  # they count from 1
        table = table[:, 1:]
        if np.isnan(table).any():
            raise ValueError("a row names an attribute twice, or an unknown one")
    wanted = [photo.number for photo in source._photos]
    return table[np.searchsorted(ids, wanted)]


def attribute_names(source: Cub200) -> tuple[str, ...]:
    """What the 312 attributes mean, such as `has_bill_shape::dagger`.

    They are read from `attributes.txt`, which the archive has beside the folder, and
    copies often in it or in its `attributes/`. Without it, the numbers 1 to 312.
    """
    root = source.root
    for folder in (root, root / "attributes", root.resolve().parent):
        path = folder / "attributes.txt"
        if path.exists():
            names = _pairs(path)
            if len(names) != ATTRIBUTES:
                raise ValueError(
                    f"{path} names {len(names)} attributes; expected 1 to "
                    f"{ATTRIBUTES}. Unpack the archive again."
                )
            return tuple(names[number] for number in sorted(names))
    return tuple(str(number) for number in range(1, ATTRIBUTES + 1))


class _Photo(NamedTuple):
    """What the lists say about an image: its id, `<class>/<file>`, label and split."""

    number: int
    name: str
    label: int
    split: str


# Both splits, and evaluators of equal ones, share what is read.
@read_once("classes.txt", "images.txt", "train_test_split.txt")
def _photos(root: Path) -> tuple[_Photo, ...]:
    """All images, by class and file."""
    labels = {folder: label for label, folder in enumerate(_class_folders(root))}
    images, splits = _pairs(root / "images.txt"), root / "train_test_split.txt"
    training, split_of = _pairs(splits), {"1": "train", "0": "test"}
    with reading(splits, MISSING):
        photos = [
            _Photo(number, name, labels[name.split("/")[0]], split_of[training[number]])
            for number, name in images.items()
        ]
    return tuple(sorted(photos, key=lambda photo: (photo.label, photo.name)))


@read_once("classes.txt")
def _class_folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(_pairs(root / "classes.txt").values()))


def _pairs(path: Path) -> dict[int, str]:
    """The words of a list of lines `<number> <word>`."""
    with reading(path, MISSING):
        pairs = (
            line.split(maxsplit=1) for line in path.read_text("utf-8").splitlines()
        )
        return {int(number): word.strip() for number, word in pairs}
