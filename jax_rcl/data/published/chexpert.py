"""CheXpert as it is published: chest radiographs, 13 pathologies, some uncertain."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from jax_rcl.data.folders import read_image
from jax_rcl.data.kept import read_once
from jax_rcl.data.published.tables import read_csv
from jax_rcl.data.records import Record
from jax_rcl.ranges import Count, ranged

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
"""The prefix of every path in the tables: the folder as it is unpacked."""

HINT = f"CheXpert.folder names the unpacked {ROOT}, with train.csv and valid.csv"

UNCERTAIN = np.float32(-1)
"""How the tables mark that a report is uncertain."""

# How the tables write what is known of a pathology; blank where nothing is said.
_VALUES = {"": np.nan} | {
    f"{x:g}{end}": x for x in (1.0, 0.0, -1.0) for end in ("", ".0")
}

_MEANINGS = {"missing": np.nan, "zeros": 0.0, "ones": 1.0}


@dataclasses.dataclass(frozen=True)
@ranged
class CheXpert:
    """Chest radiographs, 224,316 of 65,240 patients in the paper (Irvin et al. 2019).

    The folder is the unpacked CheXpert-v1.0-small, with `train.csv`, `valid.csv` and
    the images below `train/` and `valid/` (https://arxiv.org/abs/1901.07031). Records
    have a gray image, for networks of three channels in `wrappers.Channels`, and no
    label but `targets` [13], one for each of `PATHOLOGIES`: 1 where it is seen, 0 where
    it is not, NaN where nothing is said. Where the table says "No Finding", all are 0
    except Support Devices, which do not count as a finding.

    Attributes:
      split: `train` or `valid`, whose images radiologists have labelled.
      size: height and width that images are resized to, whatever their proportions;
        None leaves them as they are, for `RandomCrops` around this.
      uncertain: what a target is where the report is uncertain: `missing` (NaN),
        `zeros` or `ones`.
    """

    folder: str
    split: Literal["train", "valid"]
    size: Count | None = 224
    uncertain: Literal["missing", "zeros", "ones"] = "missing"
    # Deviation: the released code filters labels by view but not the images, so that
    # they belong to different radiographs; it is never asked to.
    views: Literal["all", "frontal", "lateral"] = "all"

    PLACES = frozenset({"folder"})

    class_names = ()  # pathologies do not exclude each other: they are targets
    target_names = PATHOLOGIES

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Paths of the images, relative to the folder."""
        return tuple(self._table.names[i] for i in self._rows)

    @functools.cached_property
    def all_targets(self) -> Float32[np.ndarray, "m 13"]:
        """The targets of all records, without reading an image."""
        targets = self._table.targets[self._rows]
        value = np.float32(_MEANINGS[self.uncertain])
        return np.where(targets == UNCERTAIN, value, targets)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Record:
        path = self._root / self.names[index]
        image = read_image(path, f"Unpack it again: {HINT}, and all images.")
        image = image.convert("L")
        if self.size is not None:
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)[..., None]
        return {"image": pixels, "targets": self.all_targets[index]}

    def stored(self, index: int) -> bytes:
        """See `records.stored_bytes`."""
        return (self._root / self.names[index]).read_bytes()

    @property
    def _root(self) -> Path:
        return Path(self.folder).expanduser()

    @property
    def _table(self) -> "Table":
        return _read(self._root / f"{self.split}.csv")

    @functools.cached_property
    def _rows(self) -> list[int]:
        frontal = self._table.frontal
        chosen = {"all": frontal | True, "frontal": frontal, "lateral": ~frontal}
        rows = np.flatnonzero(chosen[self.views]).tolist()
        if not rows:
            raise ValueError(
                f"{self._root / self.split}.csv lists no radiograph of CheXpert.views "
                f"{self.views!r}; get it again, or write 'all'."
            )
        return rows


class Table(NamedTuple):
    """A table of the release; targets are -1 where they are uncertain."""

    names: tuple[str, ...]
    frontal: Bool[np.ndarray, " m"]
    targets: Float32[np.ndarray, "m 13"]


# Sources of other views, and evaluators of equal ones, share what is read.
@read_once()
def _read(path: Path) -> Table:
    known = (NO_FINDING, *PATHOLOGIES)
    table = read_csv(path, ("Path", VIEW, *known), HINT)
    names = tuple(name.removeprefix(ROOT) for name in table.columns["Path"])
    frontal = np.array(table.codes(VIEW, {"Frontal": True, "Lateral": False}), bool)
    values = np.array([table.codes(name, _VALUES) for name in known], np.float32).T
    healthy, targets = values[:, :1] == 1, values[:, 1:]
    is_finding = np.array(PATHOLOGIES) != DEVICES
    return Table(names, frontal, np.where(healthy & is_finding, np.float32(0), targets))
