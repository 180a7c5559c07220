"""CheXpert as it is published: chest radiographs, 13 pathologies, some uncertain."""

import csv
import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from jax_rcl.data import host_ops
from jax_rcl.data.folders import check_size, in_short
from jax_rcl.data.records import Record, check_choice

PATHOLOGIES = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
"""What a radiograph may show, in the order of the targets."""

NO_FINDING = "No Finding"
DEVICES = "Support Devices"
VIEW = "Frontal/Lateral"

ROOT = "CheXpert-v1.0-small/"
"""What stands before every path of the tables: the folder as it is unpacked."""

UNCERTAIN = np.float32(-1)
"""What stands in the tables where a report is uncertain."""

# As the tables write what is known of a pathology; where nothing is said it is missing.
_VALUES = {"": np.nan} | {
    f"{x:g}{end}": x for x in (1.0, 0.0, -1.0) for end in ("", ".0")
}

Part = Literal["train", "valid"]
Uncertain = Literal["missing", "zeros", "ones"]
Views = Literal["all", "frontal", "lateral"]
_MEANT = {"missing": np.nan, "zeros": 0.0, "ones": 1.0}
_COLUMNS = ("Path", VIEW, NO_FINDING, *PATHOLOGIES)


@dataclasses.dataclass(frozen=True)
class CheXpert:
    """Chest radiographs, 224,316 of 65,240 patients in the paper (Irvin et al. 2019).

    The folder is the unpacked CheXpert-v1.0-small, with `train.csv`, `valid.csv` and
    the images below `train/` and `valid/` (https://arxiv.org/abs/1901.07031). Records
    have a gray image, for networks of three channels in `wrappers.Channels`, and no
    label but `targets` [13], one for each of `PATHOLOGIES`: 1 where it is seen, 0 where
    it is not, NaN where nothing is said. Where the table says that there is nothing to
    find, all are 0 except Support Devices, which are no finding.

    Attributes:
      folder: path of the folder.
      split: `train` or `valid`, whose images radiologists have labelled.
      size: height and width that images are resized to, whatever their proportions.
      uncertain: what a target is where the report is uncertain: `missing` (NaN),
        `zeros` or `ones`.
      views: which radiographs: `all`, `frontal` or `lateral`.
    """

    folder: str
    split: Part
    size: int = 224
    uncertain: Uncertain = "missing"
    # Deviation: the released code filters labels by view but not the images, so that
    # they belong to different radiographs; it is never asked to.
    views: Views = "all"

    def __post_init__(self) -> None:
        check_choice("CheXpert.split", self.split, get_args(Part))
        check_choice("CheXpert.uncertain", self.uncertain, get_args(Uncertain))
        check_choice("CheXpert.views", self.views, get_args(Views))
        check_size("CheXpert.size", self.size)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty: pathologies do not exclude each other; see `target_names`."""
        return ()

    @property
    def target_names(self) -> tuple[str, ...]:
        """What each of the targets means."""
        return PATHOLOGIES

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Paths of the images, relative to the folder."""
        return tuple(self._table.names[i] for i in self._rows)

    @functools.cached_property
    def all_targets(self) -> Float32[np.ndarray, "m 13"]:
        """The targets of all records, without reading an image."""
        targets = self._table.targets[self._rows]
        meant = np.float32(_MEANT[self.uncertain])
        return np.where(targets == UNCERTAIN, meant, targets)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Record:
        path = self._root / self.names[index]
        try:
            image = host_ops.decode(path).convert("L")
        except ValueError as error:
            if path.exists():
                raise
            raise FileNotFoundError(
                f"{path}, which {self.split}.csv lists, does not exist; "
                f"CheXpert.folder names the unpacked {ROOT}, with all of its images."
            ) from error
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)[..., None]
        return {"image": pixels, "targets": self.all_targets[index]}

    @property
    def _root(self) -> Path:
        return Path(self.folder).expanduser()

    @property
    def _table(self) -> "Table":
        return _read(self._root / f"{self.split}.csv")

    @functools.cached_property
    def _rows(self) -> list[int]:
        frontal = self._table.frontal
        everything = np.full_like(frontal, True)
        shown = {"all": everything, "frontal": frontal, "lateral": ~frontal}
        rows = np.flatnonzero(shown[self.views]).tolist()
        if not rows:
            raise ValueError(
                f"{self._root / self.split}.csv lists no radiograph of CheXpert.views "
                f"{self.views!r}; get it again, or write 'all'."
            )
        return rows


class Table(NamedTuple):
    """A table of the release.

    Attributes:
      names: paths of the images, relative to the folder.
      frontal: whether each is taken from the front or the back, or from the side.
      targets: as in the records, but -1 where it is uncertain.
    """

    names: tuple[str, ...]
    frontal: Bool[np.ndarray, " m"]
    targets: Float32[np.ndarray, "m 13"]


# Sources of other views, and evaluators of equal ones, share what is read.
@functools.cache
def _read(path: Path) -> Table:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; CheXpert.folder names the unpacked {ROOT}, with "
            f"train.csv and valid.csv."
        )
    names, frontal, values = [], [], []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        places = _places(header, path)
        for row in filter(None, reader):
            where = f"line {reader.line_num} of {path}"
            if len(row) != len(header):
                raise ValueError(
                    f"{where} has {len(row)} values for {len(header)} columns; get the "
                    f"file again."
                )
            name, view, *found = (row[place].strip() for place in places)
            names.append(name.removeprefix(ROOT))
            frontal.append(_is_frontal(view, where))
            values.append(_known(found, where))
    table = np.array(values, np.float32).reshape(-1, 1 + len(PATHOLOGIES))
    healthy, targets = table[:, :1] == 1, table[:, 1:]
    is_finding = np.array(PATHOLOGIES) != DEVICES
    targets = np.where(healthy & is_finding, np.float32(0), targets)
    return Table(tuple(names), np.array(frontal, bool), targets)


def _places(header: list[str], path: Path) -> list[int]:
    if missing := [column for column in _COLUMNS if column not in header]:
        raise ValueError(
            f"line 1 of {path} lacks {in_short(missing, len(_COLUMNS), 'columns')}; it "
            f"has {', '.join(map(repr, header))}. Get the file again."
        )
    return [header.index(column) for column in _COLUMNS]


def _is_frontal(view: str, where: str) -> bool:
    if view not in ("Frontal", "Lateral"):
        raise ValueError(
            f"{where} has {view!r} in column {VIEW!r}; expected Frontal or Lateral. "
            f"Correct it."
        )
    return view == "Frontal"


def _known(found: list[str], where: str) -> list[float]:
    """The numbers of a row; NaN where there is none."""
    for column, value in zip(_COLUMNS[2:], found, strict=True):
        if value not in _VALUES:
            raise ValueError(
                f"{where} has {value!r} in column {column!r}; expected 1, 0, -1 "
                f"(uncertain) or nothing (not said). Correct it."
            )
    return [_VALUES[value] for value in found]
