"""Records of fixed size in files that are read where they lie, without decoding."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from jax_rcl.data.records import Record

RECORDS = "records.json"
"""File that says what a folder of packed records holds."""

FORMAT = "jax_rcl records 1"


@dataclasses.dataclass(frozen=True)
class Packed:
    """What `jax-rcl prepare pack` wrote: any source, decoded once.

    The folder holds one `.npy` of each key, such as `image.npy`, uint8 [m, h, w, c],
    and `records.json`, which says what they are, where they are from and their sha256.
    Nothing is loaded: the system reads the pages of the records that are asked for, and
    keeps what there is room for. Sizes, shapes and types are checked on first use; the
    contents by `jax-rcl prepare pack --verify=<folder>`.
    """

    folder: str
    PLACES = frozenset({"folder"})

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.description["class_names"])

    @property
    def group_names(self) -> tuple[str, ...]:
        return tuple(self.description["group_names"])

    @property
    def all_labels(self) -> Int32[np.ndarray, " m"] | None:
        """The labels of all records; None where there are none."""
        return self._whole("label")

    @property
    def all_groups(self) -> Int32[np.ndarray, " m"] | None:
        """The groups of all records; None where there are none."""
        return self._whole("group")

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """What `records.json` says."""
        path = self._root / RECORDS
        if not path.is_file():
            raise FileNotFoundError(
                f"Packed.folder {self._root} holds no {RECORDS}: it is not a folder of "
                f"packed records. Make one by jax-rcl prepare pack."
            )
        try:
            description = json.loads(path.read_text("utf-8"))
            found = description["format"]
        except (ValueError, LookupError, TypeError) as error:
            found = f"not known ({type(error).__name__}: {error})"
        if found != FORMAT:
            raise ValueError(
                f"{path} was not written by this version of jax-rcl prepare pack: its "
                f"format is {found}, not {FORMAT}. Pack the records again."
            )
        return description

    @functools.cached_property
    def arrays(self) -> dict[str, Shaped[np.ndarray, "m ..."]]:
        """The records by key, mapped from their files and not read."""
        return {
            key: self._map(self._root / described["file"], described)
            for key, described in self.description["arrays"].items()
        }

    def __len__(self) -> int:
        return self.description["count"] if self.arrays else 0

    def __getitem__(self, index: int) -> Record:
        # A copy: the pages are read here, by the thread that asks for the record.
        return {key: np.array(rows[index])[()] for key, rows in self.arrays.items()}

    def stored(self, index: int) -> bytes:
        """See `records.stored_bytes`."""
        return self.arrays["image"][index].tobytes()

    def __getstate__(self) -> dict[str, Any]:
        """The settings alone: another process maps the files itself."""
        return {"folder": self.folder}

    @property
    def _root(self) -> Path:
        return Path(self.folder).expanduser()

    def _whole(self, key: str) -> Int32[np.ndarray, " m"] | None:
        return np.array(self.arrays[key]) if key in self.arrays else None

    def _map(
        self, path: Path, described: dict[str, Any]
    ) -> Shaped[np.ndarray, "m ..."]:
        wanted = (tuple(described["shape"]), described["dtype"])
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            found = (rows.shape, rows.dtype.name)
            if found == wanted and path.stat().st_size == described["bytes"]:
                return rows
            problem = f"it holds {found[1]} {list(found[0])}"
        # numpy raises ValueError, OSError and EOFError for what is cut short.
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{path} is damaged or belongs to other records: {problem}, expected "
            f"{wanted[1]} {list(wanted[0])} in {described['bytes']:,} bytes. Pack the "
            f"records again, or copy the whole folder again."
        )
