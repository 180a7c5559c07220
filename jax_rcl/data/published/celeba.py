"""CelebA as it is published: faces, 40 attributes, a partition."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from jax_rcl.data import host_ops
from jax_rcl.data.folders import check_size
from jax_rcl.data.published.grouped import PART_OF, PARTS, InGroups, Part, Table
from jax_rcl.data.records import check_choice


@dataclasses.dataclass(frozen=True)
class CelebA(InGroups):
    """202,599 faces, 178 wide and 218 high, with 40 attributes (Liu et al. 2015).

    One attribute is the label, another one what it is confounded with; the defaults are
    those of Sagawa et al. 2020 (https://arxiv.org/abs/1911.08731). The folder holds the
    published `img_align_celeba/`, `list_attr_celeba.txt` and `list_eval_partition.txt`
    (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html).

    Attributes:
      folder: path of the folder.
      split: `train`, `val` or `test` of the published partition.
      size: width of the images.
      label: attribute that is the label.
      confounder: attribute that the label is confounded with.
      frame: `square` takes the central 178x178 and makes it [size, size], as Sagawa et
        al. do; `whole` keeps the frame, [int(size · 218 / 178), size].
    """

    folder: str
    split: Part = "train"
    size: int = 224
    label: str = "Blond_Hair"
    confounder: str = "Male"
    frame: Literal["square", "whole"] = "square"
    # Deviation: the released code of Fu et al. 2022 crops to a height of 178 and a
    # width of 218, which is wider than the images; `whole` is what it meant.

    def __post_init__(self) -> None:
        check_choice("CelebA.split", self.split, PARTS)
        check_choice("CelebA.frame", self.frame, ("square", "whole"))
        check_size("CelebA.size", self.size)

    @functools.cached_property
    def table(self) -> Table:
        """The examples of all splits."""
        root = Path(self.folder).expanduser()
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

    def shaped(self, image: Image.Image) -> Image.Image:
        """The part of an image that `frame` says, in the size of the records."""
        if self.frame == "square":
            return host_ops.center_square(image, self.size)
        height = self.size * image.height // image.width
        return image.resize((self.size, height), Image.Resampling.BICUBIC)


# Three splits, and evaluators of equal ones, share what is read.
@functools.cache
def _attributes(root: Path) -> tuple[tuple[str, ...], tuple[str, ...], np.ndarray]:
    """Names of the attributes, names of the images, and which have which [m, a]."""
    path, lines = _lines(root, "list_attr_celeba.txt")
    count, header = [*lines, "", ""][:2]
    names, rows = tuple(header.split()), lines[2:]
    if count.strip() != str(len(rows)):
        raise ValueError(
            f"{path} lists {len(rows)} images, but its first line promises {count!r}: "
            f"it is incomplete. Get it again."
        )
    images, table = [], np.empty((len(rows), len(names)), bool)
    for place, row in enumerate(rows):
        image, *values = row.split() or [""]
        if not len(names) == len(values) == values.count("1") + values.count("-1"):
            raise ValueError(
                f"line {place + 3} of {path} is no image with {len(names)} values of 1 "
                f"or -1; get the file again."
            )
        images.append(image)
        table[place] = [value == "1" for value in values]
    return names, tuple(images), table


@functools.cache
def _partition(root: Path) -> dict[str, str]:
    """The part that each image belongs to."""
    path, lines = _lines(root, "list_eval_partition.txt")
    part_of = {}
    for number, line in enumerate(lines, start=1):
        image, part = [*line.split(), "", ""][:2]
        if part not in ("0", "1", "2"):
            raise ValueError(
                f"line {number} of {path} is no image with 0, 1 or 2 for train, val or "
                f"test; get the file again."
            )
        part_of[image] = PART_OF[part]
    return part_of


def _lines(root: Path, name: str) -> tuple[Path, list[str]]:
    path = root / name
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; CelebA.folder names the folder with "
            f"img_align_celeba/, list_attr_celeba.txt and list_eval_partition.txt."
        )
    return path, path.read_text().splitlines()
