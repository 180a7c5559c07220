"""Image files whose examples belong to groups: a label and what it is confounded with.

Such sets ask whether an encoder learned the label or what usually comes with it: water
behind a water bird, the sex of a person with blond hair. Records have `image`, `label`
and `group` = label · c + confounder, of c values of the confounder.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int32

from jax_rcl.core import Source
from jax_rcl.data.folders import InFiles
from jax_rcl.data.published.tables import Csv, read_csv
from jax_rcl.data.records import Record
from jax_rcl.data.wrappers import Around
from jax_rcl.ranges import Count, ranged

Part = Literal["train", "val", "test"]
# How tables write the parts.
PART_OF = {
    name: part
    for part, names in (
        ("train", ("0", "train", "training")),
        ("val", ("1", "val", "valid", "validation")),
        ("test", ("2", "test", "testing")),
    )
    for name in names
}


class Table(NamedTuple):
    """The examples of a data set: of each its file, its part, label and confounder."""

    paths: tuple[str, ...]
    parts: tuple[str, ...]
    labels: np.ndarray
    confounders: np.ndarray
    class_names: tuple[str, ...]
    confounder_names: tuple[str, ...]


class InGroups(InFiles):
    """Random access to the image files of one split of the table of a source."""

    table: Table
    split: Part

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.table.class_names

    @property
    def group_names(self) -> tuple[str, ...]:
        """What each group means: its class, and its value of the confounder."""
        return tuple(
            f"{label}, {confounder}"
            for label in self.table.class_names
            for confounder in self.table.confounder_names
        )

    @functools.cached_property
    def files(self) -> tuple[tuple[str, int], ...]:
        paths, labels = self.table.paths, self.table.labels
        return tuple((paths[i], int(labels[i])) for i in self._rows)

    @functools.cached_property
    def all_groups(self) -> Int32[np.ndarray, " m"]:
        """The groups of all records, without reading an image."""
        table, count = self.table, np.int32(len(self.table.confounder_names))
        return (table.labels * count + table.confounders)[self._rows]

    def __getitem__(self, index: int) -> Record:
        return {**super().__getitem__(index), "group": self.all_groups[index]}

    @functools.cached_property
    def _rows(self) -> list[int]:
        rows = [i for i, part in enumerate(self.table.parts) if part == self.split]
        if not rows:
            there = ", ".join(sorted(set(self.table.parts)))
            raise ValueError(
                f"{self!r} has no examples in its split; there are some in {there}."
            )
        return rows


@dataclasses.dataclass(frozen=True)
@ranged
class Grouped(InGroups):
    """A folder of images and a table of comma-separated values that describes them.

    The defaults read Waterbirds (Sagawa et al. 2020, https://arxiv.org/abs/1911.08731)
    as it is published. Labels and confounders in the table are numbers from 0, or words
    that are among the names given; without names every value that occurs is one, in
    numeric or alphabetic order. Splits are 0, 1, 2 or train, val, test.

    Attributes:
      folder: of the table, to which it names image files.
      image: column with the file; `label`, `confounder`, `partition` are columns, too.
      size: of squares; None leaves photographs whole, for `RandomCrops` around this.
      names: of the classes.
      suffix: of the files, where the table leaves it out.
    """

    folder: str
    split: Part = "train"
    size: Count | None = 224
    table_file: str = "metadata.csv"
    image: str = "img_filename"
    label: str = "y"
    confounder: str = "place"
    partition: str = "split"
    names: tuple[str, ...] = ("landbird", "waterbird")
    confounder_names: tuple[str, ...] = ("land", "water")
    suffix: str = ""

    @functools.cached_property
    def table(self) -> Table:
        root = self.root
        columns = (self.image, self.label, self.confounder, self.partition)
        table = read_csv(
            root / self.table_file,
            columns,
            "Grouped.folder names the folder of the table, Grouped.table_file its file",
            "Name its columns by Grouped.image, label, confounder and partition",
        )
        labels, names = _encode(table, self.label, self.names)
        confounders, confounder_names = _encode(
            table, self.confounder, self.confounder_names
        )
        return Table(
            tuple(
                str(root / f"{image}{self.suffix}")
                for image in table.columns[self.image]
            ),
            tuple(table.codes(self.partition, PART_OF)),
            labels,
            confounders,
            names,
            confounder_names,
        )


def _encode(
    table: Csv, column: str, names: tuple[str, ...]
) -> tuple[Int32[np.ndarray, " m"], tuple[str, ...]]:
    """The number of each value of a column, and what the numbers mean."""
    values = table.columns[column]
    if not names and all(value.isdecimal() for value in values):
        names = tuple(str(i) for i in range(1 + max(map(int, values), default=-1)))
    names = names or tuple(sorted(set(values)))
    numbers = {str(i): i for i in range(len(names))}
    numbers |= {name: i for i, name in enumerate(names)}
    return np.array(table.codes(column, numbers), np.int32), names


@dataclasses.dataclass(frozen=True)
class WithGroups(Around):
    """A source with groups from a file instead of its own.

    For training that protects groups that nobody labelled: save what
    `evaluate.recovery.inferred_groups` finds, `numpy.save("groups.npy", found)`, and
    train `GroupDRO` on them.

    Attributes:
      file: `.npy` of the group of each record, whole numbers [m] from 0.
    """

    source: Source
    file: str
    group_names: tuple[str, ...]
    PLACES = frozenset({"file"})

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @functools.cached_property
    def all_groups(self) -> Int32[np.ndarray, " m"]:
        found = np.load(Path(self.file).expanduser(), allow_pickle=False)
        m, k = len(self.source), len(self.group_names)
        found = found[:, 0] if found.shape == (m, 1) else found
        if found.shape != (m,) or not np.issubdtype(found.dtype, np.integer):
            raise ValueError(
                f"{self.file} holds {found.dtype} {list(found.shape)}; WithGroups "
                f"needs a whole number for each of the {m} records of {self.source!r}."
            )
        if found.min() < 0 or found.max() >= k:
            raise ValueError(
                f"{self.file} has groups from {found.min()} to {found.max()}; they "
                f"must be in [0, {k}), as there are {k} group_names."
            )
        return found.astype(np.int32)

    def __getitem__(self, index: int) -> Record:
        return {**self.source[index], "group": self.all_groups[index]}
