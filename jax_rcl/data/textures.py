"""Photographs with their textures: a source, and a tree of files that belong to it."""

import dataclasses
import functools
import inspect
import os
from pathlib import Path
from typing import Any

import numpy as np

from jax_rcl.core import Source
from jax_rcl.data import host_ops
from jax_rcl.data.records import Record
from jax_rcl.data.wrappers import AllOf
from jax_rcl.ranges import Count, ranged

TEXTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of textures, in any case; of several files the first of these is taken."""


@dataclasses.dataclass(frozen=True)
@ranged
class WithTexture(AllOf):
    """A source of files, each record with the texture synthesised from its photograph.

    The photograph `<anywhere>/<class>/<stem>.<any>` belongs to the texture
    `<folder>/<class>/<stem>.png` (or .jpg, .jpeg), as `jax-rcl prepare textures` makes
    them. Records gain `texture`, uint8 [size, size, 3], the central square of that
    file, resized where it has another size; negatives are made of it on the device
    (Ge et al. 2021, https://arxiv.org/abs/2110.14189).

    Attributes:
      source: with `files`, such as an `ImageFolder`; choose among the records of this
        one, `Subset(WithTexture(...), 0.1)`, not the other way round.
      folder: of the textures, with the class folders directly in it.
      size: height and width of the textures.
    """

    source: Source
    folder: str
    size: Count

    def __post_init__(self) -> None:
        # Without looking at the files: the folder may not be there yet.
        if inspect.getattr_static(self.source, "files", None) is None:
            raise ValueError(
                f"WithTexture needs a source of files, such as ImageFolder; got "
                f"{self.source!r}. Wrap the files first, then what is made of them: "
                f"Subset(WithTexture(ImageFolder(...), ...), 0.1)."
            )

    @functools.cached_property
    def textures(self) -> tuple[str, ...]:
        """The path of the texture of every record; only folders are read for it."""
        root = Path(self.folder).expanduser()
        photographs = [Path(path) for path, _ in _files_of(self.source)]
        found = {
            name: _textures_in(root / name)
            for name in {path.parent.name for path in photographs}
        }
        textures = [found[path.parent.name].get(path.stem) for path in photographs]
        missing = [
            path for path, one in zip(photographs, textures, strict=True) if not one
        ]
        if missing:
            first = ", ".join(f"{p.parent.name}/{p.stem}.png" for p in missing[:3])
            more = ", …" if len(missing) > 3 else ""
            raise FileNotFoundError(
                f"WithTexture.folder {root} lacks the textures of {len(missing)} of "
                f"{len(photographs)} photographs: {first}{more}. Make what is missing: "
                f"jax-rcl prepare textures "
                f"--images={missing[0].parent.parent} --out={root}"
            )
        return tuple(path for path in textures if path)

    def __len__(self) -> int:
        return len(self.textures)

    def __getitem__(self, index: int) -> Record:
        image = host_ops.decode(self.textures[index])
        texture = np.asarray(host_ops.center_square(image, self.size))
        return {**self.source[index], "texture": texture}


def _files_of(source: Any) -> tuple[tuple[str, int], ...]:
    return source.files


def _textures_in(folder: Path) -> dict[str, str]:
    """The path of each texture directly in `folder`, by its name without the suffix."""
    found: dict[str, str] = {}
    if not folder.is_dir():
        return found
    with os.scandir(folder) as entries:
        paths = [Path(entry.path) for entry in entries]
    for suffix in TEXTURE_SUFFIXES:
        for path in paths:
            if path.suffix.lower() == suffix:
                found.setdefault(path.stem, str(path))
    return found
