"""CelebA as it is published: faces, 40 attributes, a partition."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from jax_rcl.data import host_ops
from jax_rcl.data.kept import read_once
from jax_rcl.data.published.grouped import PART_OF, InGroups, Part, Table
from jax_rcl.data.published.tables import reading
from jax_rcl.ranges import Count, ranged

MISSING = (
    "CelebA.folder names the folder with img_align_celeba/, list_attr_celeba.txt and "
    "list_eval_partition.txt"
)


@dataclasses.dataclass(frozen=True)
@ranged
class CelebA(InGroups):
    """202,599 faces, 178 wide and 218 high, with 40 attributes (Liu et al. 2015).

    One attribute is the label, another one what it is confounded with; the defaults are
    those of Sagawa et al. 2020 (https://arxiv.org/abs/1911.08731). The folder holds the
    published `img_align_celeba/`, `list_attr_celeba.txt` and `list_eval_partition.txt`
    (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html).

    Attributes:
      size: width of the images; None leaves them as they are, for `RandomCrops` around
        this, as Sagawa et al. cut them.
      frame: `square` takes the central 178x178 and makes it [size, size], as Sagawa et
        al. do; `whole` keeps the frame, [int(size · 218 / 178), size].
    """

    folder: str
    split: Part = "train"
    size: Count | None = 224
    label: str = "Blond_Hair"
    confounder: str = "Male"
    frame: Literal["square", "whole"] = "square"
    # Deviation: the released code of Fu et al. 2022 crops to a height of 178 and a
    # width of 218, which is wider than the images; `whole` is what it meant.

    @functools.cached_property
    def table(self) -> Table:
        root = self.root
        names, images, values, parts = _lists(root)
        for setting in ("label", "confounder"):
            if getattr(self, setting) not in names:
                raise ValueError(
                    f"CelebA has no attribute {getattr(self, setting)!r}; name one by "
                    f"CelebA.{setting}: {', '.join(names)}."
                )
        folder = str(root / "img_align_celeba")  # joining 200,000 Paths takes seconds
        return Table(
            tuple(f"{folder}/{image}" for image in images),
            parts,
            values[:, names.index(self.label)].astype(np.int32),
            values[:, names.index(self.confounder)].astype(np.int32),
            (f"not {self.label}", self.label),
            (f"not {self.confounder}", self.confounder),
        )

    def resized(self, image: Image.Image, size: int) -> Image.Image:
        if self.frame == "square":
            return host_ops.center_square(image, size)
        height = size * image.height // image.width
        return image.resize((size, height), Image.Resampling.BICUBIC)


# Three splits, and evaluators of equal ones, share what is read.
@read_once("list_attr_celeba.txt", "list_eval_partition.txt")
def _lists(
    root: Path,
) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray, tuple[str, ...]]:
    """Names of the attributes and of the images, which have which [m, a], the parts."""
    path = root / "list_attr_celeba.txt"
    with reading(path, MISSING):
        with path.open(encoding="utf-8") as file:
            count, names = int(file.readline()), tuple(file.readline().split())
        columns = range(1, 1 + len(names))
        values = np.loadtxt(path, np.int8, skiprows=2, usecols=columns, ndmin=2)
        images = np.loadtxt(path, str, skiprows=2, usecols=0, ndmin=1).tolist()
        if len(images) != count:
            raise ValueError(f"it lists {len(images)} images of {count}")
        if (np.abs(values) != 1).any():
            raise ValueError("an attribute is neither 1 nor -1")
    path = root / "list_eval_partition.txt"
    with reading(path, MISSING):
        part_of = dict(np.loadtxt(path, str, ndmin=2).tolist())
        parts = tuple(PART_OF[part_of[image]] for image in images)
    return names, tuple(images), values == 1, parts
