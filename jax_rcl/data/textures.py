"""Photographs with their textures: a source, and a tree of files that belong to it."""

import dataclasses
import functools
import inspect
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jax_rcl.core import Source
from jax_rcl.data import host_ops
from jax_rcl.data.folders import images_in, in_short
from jax_rcl.data.records import Record, names_of, stored_bytes
from jax_rcl.data.wrappers import AllOf
from jax_rcl.ranges import Count, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class WithTexture(AllOf):
    """A source of files, each record with the texture synthesised from its photograph.

    The photograph that the source calls `<class>/<stem>.<any>` (`names`) belongs to the
    texture `<folder>/<class>/<stem>.png`, as `jax-rcl prepare textures` makes them, or
    without one to an image file of another type. Records gain `texture`, uint8 [size,
    size, 3], the central square of that file, resized where it has another size;
    negatives are made of it on the device (Ge et al. 2021,
    https://arxiv.org/abs/2110.14189).

    Attributes:
      source: with `files`, such as an `ImageFolder`; choose among the records of this
        one, `Subset(WithTexture(...), 0.1)`, not the other way round.
      folder: of the textures, with the class folders directly in it.
    """

    source: Source
    folder: str
    size: Count
    PLACES = frozenset({"folder"})

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
        source: Any = self.source  # with `files`
        root, files = Path(self.folder).expanduser(), source.files
        called = names_of(self.source) or [
            "/".join(Path(p).parts[-2:]) for p, _ in files
        ]
        photographs = list(map(PurePosixPath, called))
        found = {
            place: _textures_in(root / place)
            for place in {path.parent for path in photographs}
        }
        missing = [
            i for i, p in enumerate(photographs) if p.stem not in found[p.parent]
        ]
        if missing:
            names = [str(photographs[i].with_suffix(".png")) for i in missing]
            images = Path(files[missing[0]][0])
            for _ in photographs[missing[0]].parts:
                images = images.parent
            raise FileNotFoundError(
                f"WithTexture.folder {root} lacks the textures of "
                f"{in_short(names, len(photographs), 'photographs')}. Make what is "
                f"missing: jax-rcl prepare textures "
                f"--images={images} --out={root}"
            )
        return tuple(found[path.parent][path.stem] for path in photographs)

    def __len__(self) -> int:
        return len(self.textures)

    def __getitem__(self, index: int) -> Record:
        image = host_ops.decode(self.textures[index])
        texture = np.asarray(host_ops.center_square(image, self.size))
        return {**self.source[index], "texture": texture}

    def stored(self, index: int) -> bytes | None:
        inside = stored_bytes(self.source, index)
        texture = Path(self.textures[index])
        return None if inside is None else inside + texture.read_bytes()


def _textures_in(folder: Path) -> dict[str, str]:
    """The path of each texture directly in `folder`, by its name without the suffix."""
    paths = images_in(folder) if folder.is_dir() else ()
    in_turn = sorted(paths, key=lambda path: path.lower().endswith(".png"))
    return {Path(path).stem: path for path in in_turn}
