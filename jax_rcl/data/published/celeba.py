"""CelebA as it is published: faces, 40 attributes, a partition."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from jax_rcl.data import host_ops
from jax_rcl.data.published.grouped import PART_OF, InGroups, Part, Table
from jax_rcl.data.published.tables import bad_line, read_lines
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
      split: a part of the published partition.
      size: width of the images.
      label: attribute that is the label.
      confounder: attribute that the label is confounded with.
      frame: `square` takes the central 178x178 and makes it [size, size], as Sagawa et
        al. do; `whole` keeps the frame, [int(size · 218 / 178), size].
    """

    folder: str
    split: Part = "train"
    size: Count = 224
    label: str = "Blond_Hair"
    confounder: str = "Male"
    frame: Literal["square", "whole"] = "square"
    # Deviation: the released code of Fu et al. 2022 crops to a height of 178 and a
    # width of 218, which is wider than the images; `whole` is what it meant.

    @functools.cached_property
    def table(self) -> Table:
        """The examples of all splits."""
        root = self.root
        names, images, values = _attributes(root)
        for setting in ("label", "confounder"):
            if getattr(self, setting) not in names:
                raise ValueError(
                    f"CelebA has no attribute {getattr(self, setting)!r}; name one by "
                    f"CelebA.{setting}: {', '.join(names)}."
                )
        part_of = _partition(root)
        if missing := [image for image in images if image not in part_of]:
            raise ValueError(
                f"{root / 'list_eval_partition.txt'} lacks {len(missing)} of the "
                f"images of list_attr_celeba.txt, first {missing[0]}; get it again."
            )
        folder = str(root / "img_align_celeba")  # joining 200,000 Paths takes seconds
        return Table(
            tuple(f"{folder}/{image}" for image in images),
            tuple(part_of[image] for image in images),
            values[:, names.index(self.label)].astype(np.int32),
            values[:, names.index(self.confounder)].astype(np.int32),
            (f"not {self.label}", self.label),
            (f"not {self.confounder}", self.confounder),
        )

    def resized(self, image: Image.Image) -> Image.Image:
        """What `frame` keeps of an image, in the size of the records."""
        if self.frame == "square":
            return host_ops.center_square(image, self.size)
        height = self.size * image.height // image.width
        return image.resize((self.size, height), Image.Resampling.BICUBIC)


# Three splits, and evaluators of equal ones, share what is read.
@functools.cache
def _attributes(root: Path) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Names of the attributes, names of the images, and which have which [m, a]."""
    path = root / "list_attr_celeba.txt"
    numbered = read_lines(path, MISSING)
    (_, count), (_, header) = next(numbered, (0, "")), next(numbered, (0, ""))
    names, rows = tuple(header.split()), list(numbered)
    if count.strip() != str(len(rows)):
        raise ValueError(
            f"{path} lists {len(rows)} images, but its first line promises {count!r}: "
            f"it is incomplete. Get it again."
        )
    images, table = [], np.empty((len(rows), len(names)), bool)
    for place, (number, row) in enumerate(rows):
        image, *values = row.split() or [""]
        if not len(names) == len(values) == values.count("1") + values.count("-1"):
            expected = f"an image with {len(names)} values of 1 or -1"
            raise bad_line(path, number, row, expected)
        images.append(image)
        table[place] = [value == "1" for value in values]
    return names, tuple(images), table


@functools.cache
def _partition(root: Path) -> dict[str, str]:
    """The part that each image belongs to."""
    path, part_of = root / "list_eval_partition.txt", {}
    for number, line in read_lines(path, MISSING):
        image, part = [*line.split(), "", ""][:2]
        if part not in ("0", "1", "2"):
            expected = "an image with 0, 1 or 2 for train, val or test"
            raise bad_line(path, number, line, expected)
        part_of[image] = PART_OF[part]
    return part_of
