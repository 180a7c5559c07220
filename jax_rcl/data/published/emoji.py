"""Emoji: the same 1,906 objects in two drawing styles, in groups and subgroups."""

import dataclasses
import functools
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from jax_rcl.data import formats, host_ops
from jax_rcl.data.archives import data_folder, fetch
from jax_rcl.data.folders import in_short
from jax_rcl.data.kept import read_once
from jax_rcl.data.published.files import EMOJI
from jax_rcl.data.records import Held, Seed, balanced_share
from jax_rcl.data.sources import InMemory, Split
from jax_rcl.ranges import Count, Share, ranged

LEAST = 10
"""Objects that a subgroup needs to be a class."""

# Skin tones are patches of colour to combine with others, not objects.
_NO_OBJECT = "Component"

# A man, a woman and a person who do the same, or a family whose child is a boy or a
# girl, differ in a few pixels: these code points are read as the person or the child.
_ONE_FIGURE = {
    "1F468": "1F9D1",
    "1F469": "1F9D1",
    "1F466": "1F9D2",
    "1F467": "1F9D2",
    "1F474": "1F9D3",
    "1F475": "1F9D3",
}
_GENDER_SIGN = re.compile("-200D-264[02]-FE0F")

# Territories under another one's flag: the pictures are identical, bit for bit.
_SAME_FLAGS = (
    ("flag-au", "flag-hm"),
    ("flag-io", "flag-dg"),
    ("flag-no", "flag-bv", "flag-sj"),
    ("flag-sa", "flag-sark"),
    ("es", "flag-ea"),
    ("fr", "flag-cp", "flag-mf"),
    ("us", "flag-um"),
)
_FLAG_KIND = {name: names[0] for names in _SAME_FLAGS for name in names}


@dataclasses.dataclass(frozen=True)
@ranged
class Emoji(InMemory):
    """1,906 objects as Google (Noto) or Twitter (Twemoji) draws them, in colour, 64x64.

    The npm packages `emoji-datasource-google` and `emoji-datasource-twitter`, 16.0.0
    (https://github.com/iamcal/emoji-data; drawings under Apache 2.0 and CC BY 4.0).
    Read straight out of the published archive, `emoji-datasource-<vendor>-16.0.0.tgz`,
    whose checksum is verified and which is downloaded once if it is not there; or out
    of the unpacked package, if the folder has `emoji-datasource-<vendor>/`, as npm's
    `node_modules` has: then nothing is verified.

    Record i is the same object in both styles. There is no published split: a share of
    every subgroup, drawn by `seed`, is held out, the same objects in both styles and
    with both kinds of labels. Objects that look alike fall on the same side: skin tones
    and genders of a figure, families, flags that are equal. So training shows nothing
    of the test split in either style. Classes differ in size: of the groups, People &
    Body has 386 objects, Activities 85.

    Attributes:
      split: `train`, or `test` for what is held out.
      size: height and width; other than 64 by bicubic resizing.
      labels: the 9 groups, such as Food & Drink, or the 58 `subgroup`s that have 10
        objects or more, such as food-fruit; others are omitted.
      folder: where the archive or the package lies; None for $JAX_RCL_DATA or
        ~/.cache/jax_rcl.
      held_out: fraction of every subgroup in `test`.
      background: colour that the transparent drawings are laid on, red, green and blue.
      variants: `train` adds the drawings of 5 skin tones (or 25 pairs of them) to the
        train split, after the objects themselves; they make People & Body six times as
        large. The test split has none.
    """

    vendor: Literal["google", "twitter"]
    split: Split = "train"
    size: Count = 64
    labels: Literal["group", "subgroup"] = "group"
    folder: str | None = None
    held_out: Held = 0.2
    seed: Seed = 0
    background: tuple[Share, Share, Share] = (1.0, 1.0, 1.0)
    variants: Literal["none", "train"] = "none"

    @functools.cached_property
    def arrays(self) -> formats.Arrays:
        rows, class_names = self._rows
        files = tuple(row.file for row in rows)
        root = data_folder(self.folder)
        images = _images(self.vendor, root, files, self.size, self.background)
        labels = np.array(
            [class_names.index(getattr(row, self.labels)) for row in rows]
        )
        return formats.shared(images, labels, class_names)

    @property
    def names(self) -> tuple[str, ...]:
        """What the object of each record is called, such as `flag-fr`; unique to it."""
        return tuple(row.name for row in self._rows[0])

    @property
    def keywords(self) -> tuple[tuple[str, ...], ...]:
        """Words of the Unicode name and of the short names of each record's object.

        Lower-case, each once, sorted: ("face", "grinning"). Names of classes are not
        added, but a name may reveal its class: every flag's has the word "flag".
        """
        return tuple(row.keywords for row in self._rows[0])

    @property
    def _rows(self) -> tuple[tuple["_Drawing", ...], tuple[str, ...]]:
        """The drawings of this split, and the names of the classes."""
        objects = _package(self.vendor, data_folder(self.folder))[0]
        held = _held_out(objects, self.held_out, self.seed)
        sizes = Counter(getattr(x, self.labels) for x in objects)
        least = 1 if self.labels == "group" else LEAST
        class_names = tuple(sorted(name for name in sizes if sizes[name] >= least))
        kept = [
            x
            for x in objects
            if sizes[getattr(x, self.labels)] >= least
            and (x.kind in held) == (self.split == "test")
        ]
        if self.split == "train" and self.variants == "train":
            kept += [x._replace(file=file) for x in kept for file in x.variants]
        return tuple(kept), class_names


class _Drawing(NamedTuple):
    """An object as one vendor draws it; `kind` is shared by those that look alike."""

    file: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    kind: str
    variants: tuple[str, ...]


def _read_drawing(entry: dict[str, Any]) -> _Drawing:
    words = " ".join((entry["name"], *entry["short_names"])).lower()
    code = _GENDER_SIGN.sub("", entry.get("obsoleted_by") or entry["unified"])
    figures = "-".join(_ONE_FIGURE.get(point, point) for point in code.split("-"))
    return _Drawing(
        file=entry["image"],
        name=entry["short_name"],
        keywords=tuple(sorted(set(re.findall(r"\w+", words.replace("_", " "))))),
        group=entry["category"],
        subgroup=entry["subcategory"],
        kind=_FLAG_KIND.get(entry["short_name"], figures),
        variants=tuple(
            variant["image"]
            for variant in entry.get("skin_variations", {}).values()
            if _drawn_by_both(variant)
        ),
    )


def _drawn_by_both(entry: dict[str, Any]) -> bool:
    return all(entry[f"has_img_{vendor}"] for vendor in EMOJI)


# Splits, sizes and backgrounds share what is read.
@read_once()
def _package(vendor: str, root: Path) -> tuple[tuple[_Drawing, ...], dict[str, bytes]]:
    """The objects of a vendor's package, and its encoded images by file name.

    It lies unpacked below `root` or is the published archive.
    """
    unpacked = root / f"emoji-datasource-{vendor}"
    folder = f"img/{vendor}/64"
    if unpacked.is_dir():
        where = unpacked
        paths = [unpacked / "emoji.json", *(unpacked / folder).glob("*.png")]
        files = {
            path.relative_to(unpacked).as_posix(): path.read_bytes()
            for path in paths
            if path.exists()
        }
    else:
        where = fetch(EMOJI[vendor], root)
        files = formats.members_of(where, {"emoji.json"}, folder)
    entries = [
        entry
        for entry in json.loads(files.get("emoji.json", "[]"))
        if entry["category"] != _NO_OBJECT and _drawn_by_both(entry)
    ]
    objects = tuple(map(_read_drawing, entries))
    wanted = [file for x in objects for file in (x.file, *x.variants)]
    needed = ["emoji.json", *(f"{folder}/{file}" for file in wanted)]
    if missing := [name for name in needed if name not in files]:
        raise ValueError(
            f"{where} lacks {in_short(missing, len(needed), 'files')}; get the package "
            f"again."
        )
    return objects, {file: files[f"{folder}/{file}"] for file in wanted}


def _held_out(
    objects: tuple[_Drawing, ...], fraction: float, seed: int
) -> frozenset[str]:
    """Kinds of the test split: a share of those of every subgroup."""
    subgroup_of: dict[str, str] = {}
    for x in objects:
        subgroup_of.setdefault(x.kind, x.subgroup)
    kinds, subgroups = list(subgroup_of), sorted(set(subgroup_of.values()))
    strata = np.array([subgroups.index(subgroup_of[kind]) for kind in kinds], np.int32)
    held = balanced_share(strata, fraction, seed)
    return frozenset(kinds[place] for place in held)


@read_once()
def _images(
    vendor: str,
    root: Path,
    files: tuple[str, ...],
    size: int,
    background: tuple[float, float, float],
) -> np.ndarray:
    """The drawings of these names on a background, uint8 [m, size, size, 3]."""
    encoded = _package(vendor, root)[1]
    below = 255 * np.array(background, np.float32)
    images = []
    for file in files:
        with Image.open(io.BytesIO(encoded[file])) as image:
            drawn = np.asarray(image.convert("RGBA"), np.float32)
        share = drawn[..., 3:] / 255
        laid = np.rint(share * drawn[..., :3] + (1 - share) * below).astype(np.uint8)
        # Resized last, as the colours of transparent pixels mean nothing.
        images.append(laid if len(laid) == size else host_ops.fit(laid, size))
    return np.stack(images)
