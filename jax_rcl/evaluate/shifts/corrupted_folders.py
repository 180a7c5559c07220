"""A corrupted copy of a test set on disk, in the layout of ImageNet-C."""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from jax_rcl.augment.corruptions.table import EXTRA, STANDARD
from jax_rcl.core import Operation, Source
from jax_rcl.data import stream
from jax_rcl.data.folders import ImageFolder
from jax_rcl.evaluate.features import check_different, check_same
from jax_rcl.evaluate.shifts.corrupted import Batch, describe_counts
from jax_rcl.evaluate.shifts.distorted import prepare_images


class CorruptedCopy:
    """A corrupted copy of a test set on disk: a source for each cell.

    Attributes:
      cells: the images by place of the corruption and of the severity.
    """

    folder: str
    size: int
    severities: tuple[int, ...]
    preprocess: Operation | None
    paths: Mapping[str, Path]
    cells: Mapping[tuple[int, int], Source]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.paths)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.cells[0, 0].class_names

    @property
    def sources(self) -> tuple[Source, ...]:
        return cast(tuple[Source, ...], tuple(self.cells.values()))

    @property
    def protocol(self) -> str:
        prepared = f"by {self.preprocess}" if self.preprocess else "no further"
        return (
            f"{describe_counts(self.names, self.severities)} of {self.folder} at "
            f"{self.size} pixels, prepared {prepared}"
        )

    def check(self) -> None:
        """Compares what is there with what is expected; see the layouts."""
        raise NotImplementedError

    def warn_of_missing(self) -> None:
        """Warns where some of the standard corruptions are not there.

        The mean is then not the published one.
        """
        lacking = [name for name in STANDARD if name not in self.names]
        if lacking and len(lacking) < len(STANDARD):
            known = len(STANDARD) - len(lacking)
            logging.getLogger(__name__).warning(
                "%s has %d of the %d standard corruptions, without %s; their mean "
                "cannot be compared with published ones.",
                *(self.folder, known, len(STANDARD), ", ".join(lacking)),
            )

    def batches(self, preprocess: Operation | None, batch_size: int) -> Iterator[Batch]:
        """All images of all cells; `preprocess` is for clean images and not used."""
        del preprocess
        for cell, source in zip(self.cells, self.sources, strict=True):
            for rows, mask in stream.eval_batches(source, batch_size):
                images = np.asarray(prepare_images(self.preprocess, rows["image"]))
                yield cell, images, np.asarray(rows["label"][mask], np.int32)


@dataclasses.dataclass(frozen=True)
class CorruptedFolders(CorruptedCopy):
    """A corrupted copy of a test set on disk, in the layout of ImageNet-C.

    Images are at `<corruption>/<severity>/<class>/*`, or one level deeper, as they are
    published: `<group>/<corruption>/<severity>/<class>/*` with the groups noise, blur,
    weather, digital and extra (Hendrycks and Dietterich 2019,
    https://arxiv.org/abs/1903.12261). Which of the 15 standard and 4 extra corruptions
    there are is found by looking.

    Attributes:
      size: height and width of the images; published ones have 224 already.
      classes: as for `ImageFolder`, such as `IMAGENET_100`.
      missing: what to do about a class without a folder, as for `ImageFolder`.
      severities: which of them; each corruption must have them all.
      preprocess: deterministic operation on each image. None by default: corrupted
        images are published as crops, which are not resized again.
    """

    folder: str
    size: int = 224
    classes: tuple[str, ...] = ()
    missing: Literal["error", "skip"] = "error"
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    preprocess: Operation | None = None

    def __post_init__(self) -> None:
        check_different("CorruptedFolders.severities", self.severities)

    @functools.cached_property
    def paths(self) -> dict[str, Path]:
        """The folder of each corruption, standard ones first."""
        root = Path(self.folder).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"CorruptedFolders.folder {root} is not a folder.")
        order, paths = (*STANDARD, *EXTRA), {}
        for path in _folders(root):
            inner = _folders(path)
            group = path.name not in order and any(p.name in order for p in inner)
            for each in inner if group else [path]:
                if each.name not in order:
                    raise ValueError(
                        f"{each} is not one of the corruptions {', '.join(order)}; "
                        f"move it out of {root}."
                    )
                if each.name in paths:
                    raise ValueError(
                        f"{each} and {paths[each.name]} are the same corruption; "
                        f"remove one."
                    )
                paths[each.name] = each
        if not paths:
            raise ValueError(f"{root} holds no folder of a corruption: {STANDARD[0]}…")
        return {name: paths[name] for name in order if name in paths}

    @functools.cached_property
    def cells(self) -> dict[tuple[int, int], ImageFolder]:
        """The images by place of the corruption and of the severity."""
        settings: Any = {"classes": self.classes, "missing": self.missing}
        return {
            (i, j): ImageFolder(str(path / str(severity)), self.size, **settings)
            for i, path in enumerate(self.paths.values())
            for j, severity in enumerate(self.severities)
        }

    def check(self) -> None:
        """Looks for the folder of every severity and class; reads names only.

        Warns where some of the standard corruptions are missing, as the mean is then
        not the published one.
        """
        for path in self.paths.values():
            for severity in self.severities:
                if not (path / str(severity)).is_dir():
                    raise ValueError(
                        f"{path} has no severity {severity}; complete it, or omit "
                        "the severity from CorruptedFolders.severities."
                    )
        for source in self.cells.values():
            names, of = source.class_names, (source.folder, self.cells[0, 0].folder)
            check_same("classes", names, self.class_names, of=of)
            len(source)  # lists the images of every class
        self.warn_of_missing()


def _folders(path: Path) -> list[Path]:
    inside = sorted(path.iterdir())
    return [each for each in inside if each.is_dir() and each.name[0] != "."]
