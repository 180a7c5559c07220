"""ImageNet-100 out of ImageNet: `jax-rcl prepare imagenet100`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jax_rcl.augment.corruptions.table import FAMILIES, SEVERITIES, STANDARD
from jax_rcl.cli.prepare.trees import Part, copy_classes, link_classes
from jax_rcl.cli.prepare.work import folders_in
from jax_rcl.cli.shared import Command, Parser
from jax_rcl.config.types import ConfigError
from jax_rcl.data.folders import images_below, images_in, in_short
from jax_rcl.data.published.imagenet import (
    IMAGENET_100,
    IMAGENET_100_TRAIN,
    IMAGENET_100B,
    VALIDATION_IMAGES,
)

CLASSES = {"100": IMAGENET_100, "100B": IMAGENET_100B}
"""Lists of classes by the name that --classes gives them."""

DESCRIPTION = """\
Makes ImageNet-100 out of ImageNet: <out>/train/<wnid> and <out>/val/<wnid>.

With --corrupted, ImageNet-100-C out of ImageNet-C instead:
<out>/<group>/<corruption>/<severity>/<wnid>.
The same command again continues, or says that there is nothing to do.
"""


def add_flags(parser: Parser) -> None:
    """Adds the flags of the command."""
    source = parser.add_mutually_exclusive_group(required=True)
    about = "folder with train/<wnid> and val/<wnid>"
    source.add_argument("--imagenet", metavar="DIR", help=about)
    about = "folder of ImageNet-C, with groups or not"
    source.add_argument("--corrupted", metavar="DIR", help=about)
    parser.flag("out", "folder to make or complete", required=True, metavar="DIR")
    about = "ImageNet-100 or ImageNet-100B"
    parser.flag("classes", about, choices=tuple(CLASSES), default="100")
    about = "symbolic links to class folders, or copies of files"
    parser.flag("mode", about, choices=("link", "copy"), default="link")


def prepare(arguments: argparse.Namespace) -> None:
    """Makes what is missing, after everything has been checked."""
    root = Path(arguments.corrupted or arguments.imagenet).expanduser()
    out, classes = Path(arguments.out).expanduser(), CLASSES[arguments.classes]
    parts = corrupted_parts(root) if arguments.corrupted else clean_parts(root)
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"--out {out} lies inside {root}, which must not change; choose a folder "
            f"elsewhere."
        )
    for part in parts:
        check_part(part, out, classes)
    counts = {part.name: count_images(part, classes) for part in parts}
    warn(counts, arguments)
    make = link_classes if arguments.mode == "link" else copy_classes
    made, kept = make(parts, out, classes)
    total = sum(sum(images.values()) for images in counts.values())
    things = "links" if arguments.mode == "link" else "files"
    done = f"{made:,} {things} made, {kept:,} were there" if made else "nothing to do"
    print(
        f"{out}: {total:,} images of {len(classes)} classes in {len(parts)} part(s), "
        f"{', '.join(counts) if len(parts) <= 2 else 'one for each severity'}; {done}."
    )


# What is there.


def clean_parts(root: Path) -> tuple[Part, ...]:
    """Train and val of a folder of ImageNet, sorted into classes."""
    parts = tuple(Part(name, root / name) for name in ("train", "val"))
    if lacking := [part.name for part in parts if not part.source.is_dir()]:
        below = root / "Data" / "CLS-LOC"
        hint = f" Write --imagenet={below}." if (below / "train").is_dir() else ""
        raise ConfigError(
            f"--imagenet {root} is not an ImageNet folder: it has no folder "
            f"{' and no folder '.join(lacking)}.{hint}"
        )
    for part in parts:
        if not folders_in(part.source) and images_in(part.source):
            raise ConfigError(
                f"the images of {part.source} lie side by side, not in a folder for "
                f"each class. Sort them into {part.source}/<wnid>/ first, by the list "
                f"of labels that comes with ImageNet's development kit."
            )
    return parts


def corrupted_parts(root: Path) -> tuple[Part, ...]:
    """Every severity of every corruption of a folder of ImageNet-C."""
    parts, absent = [], []
    for group, names in FAMILIES.items():
        for name in names:
            places = [root / group / name, root / name]
            places = [place for place in places if place.is_dir()]
            if not places:
                absent.append(name)
                continue
            for severity in map(str, SEVERITIES):
                parts.append(Part(f"{group}/{name}/{severity}", places[0] / severity))
    if not parts:
        raise ConfigError(
            f"--corrupted {root} is not a folder of ImageNet-C: it has neither "
            f"noise/gaussian_noise nor gaussian_noise, nor any other corruption."
        )
    lacking = [part.name for part in parts if not part.source.is_dir()]
    if lacking:
        raise ConfigError(
            f"--corrupted {root} lacks {in_short(lacking, len(parts), 'severities')}. "
            f"Unpack the archives again."
        )
    standard = [name for name in absent if name in STANDARD]
    if standard:
        print(f"note: {root} lacks {in_short(standard, 15, 'standard corruptions')}")
    return tuple(parts)


def check_part(part: Part, out: Path, classes: Sequence[str]) -> None:
    """Raises ConfigError if the source lacks a class, or `out` holds other classes."""
    found = folders_in(part.source)
    if missing := [name for name in classes if name not in found]:
        raise ConfigError(
            f"{part.source} lacks {in_short(missing, len(classes), 'class folders')}. "
            f"Unpack their images there."
        )
    folder = out / part.name
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; delete it, or choose another --out.")
    others = folders_in(folder) - set(classes) if folder.is_dir() else ()
    if others:
        raise ConfigError(
            f"{folder} has {len(others)} folder(s) of other classes, such as "
            f"{min(others)}, which would get labels of their own. Choose another --out."
        )


def count_images(part: Part, classes: Sequence[str]) -> dict[str, int]:
    """Images of each class of a part; raises ConfigError if a class has none."""
    counts = {name: len(images_below(part.source / name)[0]) for name in classes}
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise ConfigError(
            f"{part.source} has no images of "
            f"{in_short(empty, len(classes), 'classes')}. Unpack them again."
        )
    return counts


def warn(counts: dict[str, dict[str, int]], arguments: argparse.Namespace) -> None:
    """Prints where numbers of images are not the published ones."""
    found = sum(counts.get("train", {}).values())
    if found not in (0, IMAGENET_100_TRAIN) and arguments.classes == "100":
        print(
            f"warning: train has {found:,} images of these classes, published are "
            f"{IMAGENET_100_TRAIN:,}."
        )
    strange = {}
    for name, images in counts.items():
        off = [wnid for wnid, count in images.items() if count != VALIDATION_IMAGES]
        if off and name != "train":
            strange[name] = in_short(off, len(images), "classes")
    if strange:
        name, classes = next(iter(strange.items()))
        more = f", and {len(strange) - 1} other parts" if len(strange) > 1 else ""
        print(
            f"warning: there should be {VALIDATION_IMAGES} images of each class, but "
            f"{name} has another number in {classes}{more}."
        )


main = Command("prepare imagenet100", DESCRIPTION, add_flags, prepare)
