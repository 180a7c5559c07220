"""A corrupted copy of a test set in arrays, as CIFAR-10-C is published."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from jax_rcl.augment.corruptions.table import EXTRA, SEVERITIES, STANDARD
from jax_rcl.core import Operation, Source
from jax_rcl.data.records import Record, labels_of
from jax_rcl.evaluate.features import check_different
from jax_rcl.evaluate.shifts.corrupted_folders import CorruptedCopy


@dataclasses.dataclass(frozen=True)
class CorruptedArrays(CorruptedCopy):
    """A corrupted copy of a test set, in the layout of CIFAR-10-C and CIFAR-100-C.

    `<corruption>.npy` are the m test images in five severities one after the other,
    uint8 [5 m, h, w, c], and `labels.npy` [5 m] their labels (Hendrycks and Dietterich
    2019, https://arxiv.org/abs/1903.12261, https://zenodo.org/records/2535967). Which
    of the 15 standard and 4 extra corruptions there are is found by looking.

    Attributes:
      test: the clean images in the same order, such as `Cifar(10, "test")`, which name
        the classes.
      severities, preprocess: as for `CorruptedFolders`.
    """

    folder: str
    test: Source
    severities: tuple[int, ...] = SEVERITIES
    preprocess: Operation | None = None

    def __post_init__(self) -> None:
        check_different("CorruptedArrays.severities", self.severities)
        if strange := sorted({*self.severities} - {*SEVERITIES}):
            raise ValueError(
                f"CorruptedArrays.severities {self.severities}: {strange[0]} is not "
                f"one of {SEVERITIES}."
            )

    @functools.cached_property
    def paths(self) -> dict[str, Path]:
        """The file of each corruption, standard ones first."""
        root = Path(self.folder).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"CorruptedArrays.folder {root} is not a folder.")
        every = ((name, root / f"{name}.npy") for name in (*STANDARD, *EXTRA))
        paths = {name: path for name, path in every if path.exists()}
        if not paths:
            raise ValueError(f"{root} holds no file of a corruption: {STANDARD[0]}.npy")
        return paths

    @functools.cached_property
    def cells(self) -> dict[tuple[int, int], Source]:
        m = len(self.test)
        return {
            (i, j): Rows(str(path), (severity - 1) * m, self.test)
            for i, path in enumerate(self.paths.values())
            for j, severity in enumerate(self.severities)
        }

    @property
    def size(self) -> int:
        """Height of the images."""
        return self.sources[0][0]["image"].shape[0]

    def check(self) -> None:
        """Compares sizes and labels with those of the test set; reads no image.

        Warns where some of the standard corruptions are missing, as the mean is then
        not the published one.
        """
        path = next(iter(self.paths.values())).with_name("labels.npy")
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; it is published with it.")
        labels, own = np.load(path, allow_pickle=False), labels_of(self.test)
        if not np.array_equal(labels.ravel(), np.tile(own, len(SEVERITIES))):
            raise ValueError(
                f"{path} are not the labels of CorruptedArrays.test, {self.test!r}, "
                f"{len(SEVERITIES)} times; give the test set that was corrupted."
            )
        for source in self.sources:
            len(source)
        self.warn_of_missing()


@dataclasses.dataclass(frozen=True)
class Rows:
    """Images of a file from row `first` on, as many and of the classes as in `test`."""

    file: str
    first: int
    test: Source

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.test.class_names

    @functools.cached_property
    def all_labels(self) -> Int32[np.ndarray, " m"]:
        """The labels of all records."""
        return labels_of(self.test)

    @functools.cached_property
    def images(self) -> UInt8[np.ndarray, "m h w c"]:
        """The images, mapped and not read."""
        try:
            whole = np.load(self.file, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(
                f"{self.file} is damaged ({error}); download it again."
            ) from error
        wanted = len(SEVERITIES) * len(self.test)
        if whole.dtype != np.uint8 or whole.ndim != 4 or len(whole) != wanted:
            raise ValueError(
                f"{self.file} holds {whole.dtype} {list(whole.shape)}; expected uint8 "
                f"[{wanted}, h, w, c], the {len(self.test)} test images in "
                f"{len(SEVERITIES)} severities."
            )
        return whole[self.first : self.first + len(self.test)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Record:
        return {"image": np.array(self.images[index]), "label": self.all_labels[index]}
