"""UT-Zappos50K as it is published: shoes of 21 kinds, 126 attributes, a fixed split."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image

from jax_rcl.data.folders import InFiles, Resize, in_short
from jax_rcl.data.kept import read_once
from jax_rcl.data.published.tables import Csv, check_exists, read_csv, reading
from jax_rcl.data.sources import Split
from jax_rcl.ranges import Count, ranged

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

LABEL_COLUMNS = ("category", "subcategory")
"""Beginnings, in lower case, of the columns that give the label away."""

MISSING = (
    "the folder to name holds ut-zap50k-data/ and ut-zap50k-images/, as "
    "ut-zap50k-data.zip and ut-zap50k-images.zip have them: get them at "
    "https://vision.cs.utexas.edu/projects/finegrained/utzap50k"
)


@dataclasses.dataclass(frozen=True)
@ranged
class Zappos(InFiles):
    """50,025 shoes on white, UT-Zappos50K (Yu and Grauman 2014), with 21 labels.

    The folder holds two published archives unpacked, `ut-zap50k-data/` and
    `ut-zap50k-images/`, of https://vision.cs.utexas.edu/projects/finegrained/utzap50k
    (not the archive of square images). Labels are the sub-categories of
    `meta-data.csv`. An image belongs to the row whose CID is its file name without
    `.jpg` and with dashes for dots; the names of its folders do not matter.

    The split is that of Tsai et al. 2022 (https://arxiv.org/abs/2202.06670): of
    `numpy.random.RandomState(0).permutation(m)` over the m rows the first seven tenths
    are for training, 35,017 of 50,025. Records of a split are in the order of the rows.

    Attributes:
      size: height of the images.
      frame: `whole` keeps the frame of the photographs, 136 wide and 102 high, as
        [size, int(size · 4 / 3)], to which one of other proportions is stretched;
        `square` takes the central square, [size, size].
      resize: "bicubic", or "as torchvision", bilinearly; see `folders.Resize`.
    """

    folder: str
    split: Split = "train"
    size: Count = 32
    frame: Literal["whole", "square"] = "whole"
    resize: Resize = "bicubic"

    class_names = CLASSES

    @property
    def names(self) -> tuple[str, ...]:
        """Each record's sub-category and file, such as `Oxfords/100627.72.jpg`."""
        return tuple(
            f"{CLASSES[label]}/{os.path.basename(path)}" for path, label in self.files
        )

    @functools.cached_property
    def files(self) -> tuple[tuple[str, int], ...]:
        (cids, labels), path_of = _shoes(self.root), _images(self.root)
        if missing := [cid for cid in cids if cid not in path_of]:
            raise FileNotFoundError(
                f"{self.root / 'ut-zap50k-images'} lacks the images of "
                f"{in_short(missing, len(cids), 'rows')}. Unpack "
                f"ut-zap50k-images.zip again."
            )
        return tuple((path_of[cids[i]], labels[i]) for i in rows_of(self))

    def resized(self, image: Image.Image, size: int) -> Image.Image:
        if self.frame == "square":
            return super().resized(image, size)
        kind = "BICUBIC" if self.resize == "bicubic" else "BILINEAR"
        return image.resize((int(size * 4 / 3), size), Image.Resampling[kind])


def rows_of(source: Zappos) -> Int64[np.ndarray, " m"]:
    """The rows of `meta-data.csv`, from 0, that are the records of a source."""
    count = len(_shoes(source.root)[0])
    # Numbers of the Mersenne twister are the same in all versions of numpy.
    order = np.random.RandomState(0).permutation(count)
    train = 7 * count // 10
    rows = order[:train] if source.split == "train" else order[train:]
    return np.sort(rows)


def attributes(source: Zappos) -> Float32[np.ndarray, "m 126"]:
    """Which attributes each image of a source has: 1 or 0, in the source's order.

    The columns of `meta-data-bin.csv` except CID and those that begin with Category or
    SubCategory, which are the label; rows are matched by CID.
    """
    return _bits(source.root)[1][rows_of(source)]


def attribute_names(source: Zappos) -> tuple[str, ...]:
    """What the 126 attributes mean, such as `Closure.Lace.up`; see `attributes`."""
    return _bits(source.root)[0]


# Both splits, and evaluators of equal ones, share what is read.
@read_once("ut-zap50k-data/meta-data.csv")
def _shoes(root: Path) -> tuple[list[str], list[int]]:
    """The CID and the label of each row of `meta-data.csv`."""
    table = _table(root, "meta-data.csv", "CID", "SubCategory")
    labels = {name: label for label, name in enumerate(CLASSES)}
    return table.columns["CID"], table.codes("SubCategory", labels)


@read_once("ut-zap50k-data/meta-data.csv", "ut-zap50k-data/meta-data-bin.csv")
def _bits(root: Path) -> tuple[tuple[str, ...], Float32[np.ndarray, "m 126"]]:
    """The columns that are attributes: names, and bits in the order of `_shoes`."""
    table = _table(root, "meta-data-bin.csv", "CID")
    names = tuple(
        name
        for name in table.columns
        if name != "CID" and not name.lower().startswith(LABEL_COLUMNS)
    )
    columns = [table.codes(name, {"0": False, "1": True}) for name in names]
    place = {cid: i for i, cid in enumerate(table.columns["CID"])}
    cids, _ = _shoes(root)
    with reading(table.path, MISSING):
        if len(names) != 126:  # one more may be the label
            raise ValueError(f"it has {len(names)} columns beside CID and its labels")
        rows = [place[cid] for cid in cids]
    return names, np.array(columns, np.float32).T[rows]


@functools.cache
def _images(root: Path) -> dict[str, str]:
    """The path of the image of each CID."""
    # By walking: on some systems, some folders of brands cannot have the names that
    # image-path.mat gives them, such as with a dot at the end.
    return {
        name[: -len(".jpg")].replace(".", "-"): f"{folder}/{name}"
        for folder, _, names in os.walk(
            check_exists(root / "ut-zap50k-images", MISSING)
        )
        for name in names
        if name.lower().endswith(".jpg") and name[0] != "."
    }


def _table(root: Path, name: str, *columns: str) -> Csv:
    return read_csv(root / "ut-zap50k-data" / name, columns, MISSING)
