"""Tiny ImageNet as it is published: a folder of JPEG files in 200 classes."""

import dataclasses
import functools
from pathlib import Path

from jax_rcl.data.folders import InFiles, class_folders, images_in, in_short
from jax_rcl.data.published.tables import reading
from jax_rcl.data.sources import Split
from jax_rcl.ranges import Count, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class TinyImageNet(InFiles):
    """100,000 + 10,000 colour images, 64x64, of 200 classes of ImageNet.

    The published archive, http://cs231n.stanford.edu/tiny-imagenet-200.zip, unpacked:
    `train/<wnid>/images/*.JPEG` and `val/images/*.JPEG` with `val/val_annotations.txt`,
    or the files of `val` already moved into `val/<wnid>/` or `val/<wnid>/images/`.
    Classes are the WordNet ids in sorted order. Files are decoded when they are read.

    The published test images have no labels, so the published validation images are
    the test split here. Take a validation part from the training images:
    `Split(TinyImageNet(folder), "val")`.

    Attributes:
      folder: path of the unpacked archive, `…/tiny-imagenet-200`.
    """

    # Deviation: the released code of Fu et al. 2022 selects its checkpoint on the very
    # images that it reports on; here only the test split has them.

    folder: str
    split: Split = "train"
    size: Count = 64

    @functools.cached_property
    def wnids(self) -> tuple[str, ...]:
        """The WordNet id of each class."""
        return class_folders(self.root / "train", "TinyImageNet.folder")

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The words of `words.txt` for each class; where it is missing, the ids."""
        path, words = self.root / "words.txt", {}
        if path.exists():
            with reading(path, "TinyImageNet.folder is the unpacked archive"):
                lines = path.read_text("utf-8").splitlines()
            for line in lines:
                wnid, _, meaning = line.partition("\t")
                words[wnid] = meaning.strip()
        return tuple(words.get(wnid) or wnid for wnid in self.wnids)

    @functools.cached_property
    def files(self) -> tuple[tuple[str, int], ...]:
        """Path and label of every record, by class, then by name."""
        part = self.root / ("train" if self.split == "train" else "val")
        found = {
            path: label
            for label, wnid in enumerate(self.wnids)
            for folder in (part / wnid, part / wnid / "images")
            if folder.is_dir()
            for path in images_in(folder)
        }
        annotations = part / "val_annotations.txt"
        if self.split == "test" and annotations.exists():
            flat = images_in(part / "images") if (part / "images").is_dir() else ()
            found = self._read_labels(annotations, [*flat, *found])
        there = set(found.values())
        empty = [w for label, w in enumerate(self.wnids) if label not in there]
        if empty:
            raise ValueError(
                f"{part} has no images of {in_short(empty, len(self.wnids), 'classes')}"
                f". Unpack the archive again."
            )
        files = sorted(found.items(), key=lambda item: (item[1], Path(item[0]).name))
        return tuple(files)

    def _read_labels(self, annotations: Path, paths: list[str]) -> dict[str, int]:
        """The label of each path according to the annotations."""
        label_of = {wnid: label for label, wnid in enumerate(self.wnids)}
        with reading(annotations, "TinyImageNet.folder is the unpacked archive"):
            lines = annotations.read_text("utf-8").splitlines()
            labels = {x[0]: label_of[x[1]] for x in map(str.split, lines)}
        of_name = {Path(path).name: path for path in paths}
        if missing := [name for name in labels if name not in of_name]:
            raise FileNotFoundError(
                f"{annotations} lists {len(missing)} image(s) that are neither in "
                f"{annotations.parent / 'images'} nor in a class folder beside it, "
                f"first {missing[0]}. Unpack the archive again."
            )
        return {of_name[name]: label for name, label in labels.items()}
