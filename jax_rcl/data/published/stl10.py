"""STL-10: few labelled colour images of ten classes, 96x96."""

import dataclasses
import functools

from jax_rcl.data import formats
from jax_rcl.data.archives import data_folder
from jax_rcl.data.published.files import STL10
from jax_rcl.data.sources import InMemory, Split
from jax_rcl.ranges import ranged


@dataclasses.dataclass(frozen=True)
@ranged
class Stl10(InMemory):
    """STL-10 (Coates et al. 2011): 5,000 + 8,000 labelled colour images, 96x96.

    Read straight out of the published archive, whose checksum is verified and which is
    downloaded once if it is not there: 2.6 GB, most of it images without labels, which
    are not read. Where the folder `stl10_binary` of that archive lies unpacked, its
    files are read instead. A copy that tfds has prepared is `Tfds("stl10", split)`.

    Attributes:
      split: `train`, 500 images of each class, or `test`, 800 of each.
      folder: where the archive lies, or its path; None for $JAX_RCL_DATA or
        ~/.cache/jax_rcl.
    """

    split: Split = "train"
    folder: str | None = None

    @functools.cached_property
    def arrays(self) -> formats.Arrays:
        folder = data_folder(self.folder, STL10)
        names = (f"{self.split}_X.bin", f"{self.split}_y.bin", "class_names.txt")
        for unpacked in (folder / "stl10_binary", folder):
            if all((unpacked / name).exists() for name in names):
                return formats.stl10(unpacked, None, self.split)
        return formats.stl10(folder / STL10.name, STL10, self.split)
