"""UT-Zappos50K as it is published: shoes of 21 kinds, 126 attributes, a fixed split."""

import csv
import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image

from jax_rcl.data import host_ops
from jax_rcl.data.folders import InFiles, check_size, in_short
from jax_rcl.data.records import Record, check_choice
from jax_rcl.data.sources import SPLITS, Split

CLASSES = (
    "Ankle",
    "Athletic",
    "Boat Shoes",
    "Boot",
    "Clogs and Mules",
    "Crib Shoes",
    "Firstwalker",
    "Flat",
    "Flats",
    "Heel",
    "Heels",
    "Knee High",
    "Loafers",
    "Mid-Calf",
    "Over the Knee",
    "Oxfords",
    "Prewalker",
    "Prewalker Boots",
    "Slipper Flats",
    "Slipper Heels",
    "Sneakers and Athletic Shoes",
)
"""The sub-categories, which are the labels, sorted."""

PUBLISHED = {"train": 35_017, "test": 15_008}
"""Images of each split of the published data set."""

ATTRIBUTES = 126
"""Binary attributes of every image, beside its category and sub-category."""

LABEL_COLUMNS = ("category", "subcategory")
"""How the columns begin that are the label, or half of it, in any case."""

WHERE = "https://vision.cs.utexas.edu/projects/finegrained/utzap50k"
"""Page that gives out ut-zap50k-data.zip and ut-zap50k-images.zip."""


@dataclasses.dataclass(frozen=True)
class Zappos(InFiles):
    """50,025 shoes on white, UT-Zappos50K (Yu and Grauman 2014), with 21 labels.

    The folder holds two published archives unpacked, `ut-zap50k-data/` and
    `ut-zap50k-images/`, of https://vision.cs.utexas.edu/projects/finegrained/utzap50k;
    not the archive of square images. Labels are the sub-categories of `meta-data.csv`.
    An image belongs to the row whose CID is its file name without `.jpg` and with
    dashes for dots; names of the folders that it lies in do not matter.

    The split is that of Tsai et al. 2022 (https://arxiv.org/abs/2202.06670): of
    `numpy.random.RandomState(0).permutation(m)` over the m rows the first seven tenths
    are for training, 35,017 of 50,025. Records of a split are in the order of the rows.

    Attributes:
      folder: path of the folder.
      split: `train` or `test`.
      size: height of the images.
      frame: `whole` keeps the frame of the photographs, 136 wide and 102 high, as
        [size, int(size · 4 / 3)], to which one of other proportions is stretched;
        `square` takes the central square, [size, size].
    """

    folder: str
    split: Split = "train"
    size: int = 32
    frame: Literal["whole", "square"] = "whole"

    def __post_init__(self) -> None:
        check_choice("Zappos.split", self.split, SPLITS)
        check_choice("Zappos.frame", self.frame, ("whole", "square"))
        check_size("Zappos.size", self.size)

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.folder).expanduser()

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each label means, whatever labels the split has."""
        return CLASSES

    @property
    def names(self) -> tuple[str, ...]:
        """Each record's sub-category and file, such as `Oxfords/100627.72.jpg`."""
        return tuple(
            f"{CLASSES[label]}/{os.path.basename(path)}" for path, label in self.files
        )

    @functools.cached_property
    def files(self) -> tuple[tuple[str, int], ...]:
        """Path and label of every record.

        Raises:
          FileNotFoundError: naming the file or folder that is missing, or the first row
            without an image.
          ValueError: naming the row of `meta-data.csv` that makes no sense, or two
            images of one row.
        """
        shoes, path_of = _shoes(self.root), _images(self.root)
        missing = [shoe.cid for shoe in shoes if shoe.cid not in path_of]
        if missing:
            raise FileNotFoundError(
                f"{self.root / 'ut-zap50k-images'} lacks the images of "
                f"{in_short(missing, len(shoes), 'rows')}. Unpack "
                f"ut-zap50k-images.zip again."
            )
        return tuple((path_of[shoes[i].cid], shoes[i].label) for i in rows_of(self))

    def shaped(self, image: Image.Image) -> Image.Image:
        """The part of an image that `frame` says, in the size of the records."""
        if self.frame == "square":
            return host_ops.center_square(image, self.size)
        shape = int(self.size * 4 / 3), self.size
        return image.resize(shape, Image.Resampling.BICUBIC)

    def __getitem__(self, index: int) -> Record:
        len(self)  # reads the table, whose errors are not those of one image
        try:
            return super().__getitem__(index)
        except ValueError as error:
            raise ValueError(f"{error}. Unpack the archive again.") from error


def rows_of(source: Zappos) -> Int64[np.ndarray, " m"]:
    """The rows of `meta-data.csv` that are the records of a source, from 0."""
    count = len(_shoes(source.root))
    # Numbers of the Mersenne twister are the same in all versions of numpy.
    order = np.random.RandomState(0).permutation(count)
    train = 7 * count // 10
    rows = order[:train] if source.split == "train" else order[train:]
    return np.sort(rows)


def attributes(source: Zappos) -> Float32[np.ndarray, "m 126"]:
    """Which attributes each image of a source has: 1 or 0, in the source's order.

    The columns of `meta-data-bin.csv` but CID and what begins with Category or
    SubCategory, which is the label; rows are found by CID.

    Raises:
      FileNotFoundError: the folder has no such file.
      ValueError: other than 126 columns are left, values are not 0 or 1, or the CIDs
        are not those of `meta-data.csv`, each of them once.
    """
    shoes, bits = _shoes(source.root), _bits(source.root)
    place = {cid: i for i, cid in enumerate(bits.cids)}
    rows = [place[shoes[i].cid] for i in rows_of(source)]
    return bits.table[rows].astype(np.float32)


def attribute_names(source: Zappos) -> tuple[str, ...]:
    """What the 126 attributes mean, such as `Closure.Lace.up`; see `attributes`."""
    return _bits(source.root).names


class _Shoe(NamedTuple):
    """A row of `meta-data.csv`."""

    cid: str
    label: int


class _Bits(NamedTuple):
    """The columns of `meta-data-bin.csv` that are attributes, [m, 126] bool."""

    names: tuple[str, ...]
    cids: tuple[str, ...]
    table: np.ndarray


# Both splits, and evaluators of equal ones, share what is read.
@functools.cache
def _shoes(root: Path) -> tuple[_Shoe, ...]:
    path, header, rows = _table(root, "meta-data.csv", ("CID", "SubCategory"))
    cid, kind = header.index("CID"), header.index("SubCategory")
    labels = {name: label for label, name in enumerate(CLASSES)}
    for number, row in enumerate(rows, start=1):
        if row[kind] not in labels:
            raise ValueError(
                f"row {number} of {path} has the sub-category {row[kind]!r}; expected "
                f"one of {', '.join(CLASSES)}. Unpack ut-zap50k-data.zip again."
            )
    return tuple(_Shoe(row[cid], labels[row[kind]]) for row in rows)


@functools.cache
def _bits(root: Path) -> _Bits:
    path, header, rows = _table(root, "meta-data-bin.csv", ("CID",))
    kept = [
        i
        for i, name in enumerate(header)
        if name != "CID" and not name.lower().startswith(LABEL_COLUMNS)
    ]
    if len(kept) != ATTRIBUTES:
        kinds = Counter(name.split(".")[0] for name in header)
        there = ", ".join(f"{name} {count}" for name, count in kinds.items())
        raise ValueError(
            f"{path} has {len(kept)} columns beside CID, Category… and SubCategory…, "
            f"expected {ATTRIBUTES}; it has {there}. Unpack ut-zap50k-data.zip again."
        )
    values = np.array([[row[i] for i in kept] for row in rows])
    wrong = np.argwhere((values != "0") & (values != "1"))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"row {row + 1} of {path} has {str(values[row, column])!r} in column "
            f"{header[kept[column]]!r}; expected 0 or 1. Unpack ut-zap50k-data.zip "
            f"again."
        )
    cids = tuple(row[header.index("CID")] for row in rows)
    if different := set(cids) ^ {shoe.cid for shoe in _shoes(root)}:
        raise ValueError(
            f"{path} and meta-data.csv are not about the same CIDs: {len(different)} "
            f"are in one of them alone, first {min(different)}. Unpack "
            f"ut-zap50k-data.zip again."
        )
    return _Bits(tuple(header[i] for i in kept), cids, values == "1")


@functools.cache
def _images(root: Path) -> dict[str, str]:
    """The path of the image of each CID.

    Found by walking: some folders of brands cannot have, on some systems, the names
    that image-path.mat gives them (such as with a dot at the end).
    """
    found: dict[str, str] = {}
    for path in _jpegs(_present(root, "ut-zap50k-images")):
        name = os.path.basename(path)
        cid = name[: -len(".jpg")].replace(".", "-")
        if (other := found.setdefault(cid, path)) is not path:
            raise ValueError(
                f"{other} and {path} are both images of CID {cid}; remove one of them."
            )
    return found


def _jpegs(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(".jpg") and name[0] != ".":
                yield os.path.join(place, name)


def _table(
    root: Path, name: str, columns: tuple[str, ...]
) -> tuple[Path, list[str], list[list[str]]]:
    """A table's path, header and rows: equally long ones, each with its own CID."""
    path = _present(root, f"ut-zap50k-data/{name}")
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        header, *rows = [row for row in csv.reader(file) if row] or [[]]
    if not rows or not set(columns) <= set(header):
        raise ValueError(
            f"{path} has {len(rows)} rows of {', '.join(header[:9])}; expected rows "
            f"with {' and '.join(columns)}. Unpack ut-zap50k-data.zip again."
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"row {number} of {path} has {len(row)} values, expected "
                f"{len(header)}. Unpack ut-zap50k-data.zip again."
            )
    cid, count = Counter(row[header.index("CID")] for row in rows).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"{path} has {count} rows of CID {cid!r}, expected 1. Unpack "
            f"ut-zap50k-data.zip again."
        )
    return path, header, rows


def _present(root: Path, name: str) -> Path:
    path = root / name
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; the folder to name holds ut-zap50k-data/ and "
            f"ut-zap50k-images/, as ut-zap50k-data.zip and ut-zap50k-images.zip have "
            f"them: get them at {WHERE}."
        )
    return path
