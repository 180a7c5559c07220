"""Data sets in memory: digits, CIFAR, idx files, npz files, synthetic images."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int32

from jax_rcl.data import formats
from jax_rcl.data.archives import Archive, data_folder, fetch
from jax_rcl.data.published.files import CIFAR, CIFAR_PYTHON, CIFAR_UNPACKED, IDX
from jax_rcl.data.records import Held, Record, Seed, balanced_share
from jax_rcl.ranges import Count, ranged

Split = Literal["train", "test"]
SPLITS = get_args(Split)

SYSTEM_FOLDER = Path("/usr/share/datasets")
"""Where Debian's packages `dataset-…` put their files."""

TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
"""What torchvision calls the folders of these sets."""


class InMemory:
    """Random access to the arrays that a source calls `arrays`."""

    arrays: formats.Arrays
    PLACES = frozenset({"folder"})

    @property
    def class_names(self) -> tuple[str, ...]:
        """What each label means."""
        return self.arrays.class_names

    @property
    def all_labels(self) -> Int32[np.ndarray, " m"] | None:
        """The labels of all records; None where there are none."""
        return self.arrays.labels

    def __len__(self) -> int:
        return len(self.arrays.images)

    def __getitem__(self, index: int) -> Record:
        record = {"image": self.arrays.images[index]}
        labels = self.arrays.labels
        return record if labels is None else {**record, "label": labels[index]}

    def stored(self, index: int) -> bytes:
        """See `records.stored_bytes`."""
        return self.arrays.images[index].tobytes()


@dataclasses.dataclass(frozen=True)
@ranged
class Digits(InMemory):
    """1,797 handwritten digits, gray, 8x8, that come with scikit-learn.

    The test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin
    and Kaynak 1998). It has no split of its own: `test` is a share of every class,
    `held_out`, drawn by `seed`. The original 0 .. 16 becomes 0 .. 255.
    """

    split: Split = "train"
    held_out: Held = 0.2
    seed: Seed = 0

    @functools.cached_property
    def arrays(self) -> formats.Arrays:
        return _digits(self.split, self.held_out, self.seed)


@functools.cache
def _digits(split: Split, held_out: float, seed: int) -> formats.Arrays:
    # Imported here because it takes a second, which other sources need not wait.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    test = balanced_share(labels.astype(np.int32), held_out, seed)
    train = np.setdiff1d(np.arange(len(labels)), test)
    rows = train if split == "train" else test
    images = np.rint(pixels[rows] * (255 / 16)).reshape(-1, 8, 8, 1)
    return formats.shared(images, labels[rows], tuple("0123456789"))


@dataclasses.dataclass(frozen=True)
@ranged
class Cifar(InMemory):
    """CIFAR-10 or CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 colour images, 32x32.

    Read from the folder of an unpacked archive, such as torchvision's
    `cifar-10-batches-py`, or straight out of a published archive, whose checksum is
    verified: the binary version or the one for Python, whichever lies there. If there
    is none, the binary one is downloaded once.

    Attributes:
      folder: where the archive or its folder lies, or the path of either; None for
        $JAX_RCL_DATA or ~/.cache/jax_rcl.
      labels: of CIFAR-100: the 100 `fine` classes, or the 20 `coarse` ones.
    """

    classes: Literal[10, 100] = 10
    split: Split = "train"
    folder: str | None = None
    labels: Literal["fine", "coarse"] = "fine"

    def __post_init__(self) -> None:
        if self.classes == 10 and self.labels == "coarse":
            raise ValueError(
                "Cifar(classes=10) has no coarse labels; write classes=100, or group "
                "the ten classes with Relabel."
            )

    @functools.cached_property
    def arrays(self) -> formats.Arrays:
        return formats.cifar(*self._place, self.classes, self.split, self.labels)

    @property
    def _place(self) -> tuple[Path, Archive | None]:
        """A folder with the files, or the path of an archive, there or to be there."""
        archives = CIFAR[self.classes], CIFAR_PYTHON[self.classes]
        folder = data_folder(self.folder, *archives)
        unpacked = [folder / name for name in CIFAR_UNPACKED[self.classes]]
        lists = ("batches.meta", "batches.meta.txt")
        if self.classes == 100:
            lists = ("meta", "fine_label_names.txt")
        for place in (*unpacked, folder):
            if any((place / name).exists() for name in lists):
                return place, None
        there = [each for each in archives if (folder / each.name).exists()]
        archive = (there or archives)[0]
        return folder / archive.name, archive


@dataclasses.dataclass(frozen=True)
@ranged
class Idx(InMemory):
    """Gray images in MNIST's format: MNIST, Fashion-MNIST, or your own files.

    The files `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`, each as it
    is or with `.gz`, are looked for in `<data folder>/<name>`, where torchvision puts
    them (`<data folder>/MNIST/raw`), in `folder` itself if it is given, then where
    Debian's packages (`dataset-fashion-mnist`) put them. Otherwise those of `IDX` are
    downloaded, and only then compared with the published checksum.

    Attributes:
      folder: the data folder, or that of the files; None for $JAX_RCL_DATA or
        ~/.cache/jax_rcl.
    """

    name: str = "fashion-mnist"
    split: Split = "train"
    folder: str | None = None

    @functools.cached_property
    def arrays(self) -> formats.Arrays:
        part = "train" if self.split == "train" else "t10k"
        known = IDX.get(self.name)
        return formats.idx(
            self._file(f"{part}-images-idx3-ubyte"),
            self._file(f"{part}-labels-idx1-ubyte"),
            known.class_names if known else (),
        )

    def _file(self, name: str) -> Path:
        data = data_folder(self.folder)
        own, places = data / self.name, [data / self.name]
        if self.name in TORCHVISION:
            places.append(data / TORCHVISION[self.name] / "raw")
        places += [data] if self.folder else []
        for folder in (*places, SYSTEM_FOLDER / self.name):
            for path in (folder / name, folder / f"{name}.gz"):
                if path.exists():
                    return path
        for archive in IDX[self.name].archives if self.name in IDX else ():
            if archive.name == f"{name}.gz":
                return fetch(archive, own)
        raise FileNotFoundError(
            f"Idx({self.name!r}) found no {name} and no {name}.gz in {own} or "
            f"{SYSTEM_FOLDER / self.name}; put it there, or name the folder above by "
            f"`folder`. Only {' and '.join(map(repr, IDX))} can be downloaded."
        )


@dataclasses.dataclass(frozen=True)
class Npz(InMemory):
    """Your own arrays, saved by `numpy.savez`.

    Attributes:
      image: key of the images, uint8, [m, h, w] or [m, h, w, c] with 1 or 3 channels.
      label: key of the labels, integers [m] or [m, 1]; None where there are none.
      names: of the classes; empty calls them 0, 1, … up to the highest label.
    """

    file: str
    image: str = "image"
    label: str | None = "label"
    names: tuple[str, ...] = ()
    PLACES = frozenset({"file"})

    @functools.cached_property
    def arrays(self) -> formats.Arrays:
        path = Path(self.file).expanduser()
        return formats.npz(path, self.image, self.label, self.names)


@dataclasses.dataclass(frozen=True)
@ranged
class Synthetic:
    """Coloured gratings that show their class: endless, free, for tests and benchmarks.

    Record i is of class i mod `classes`. The class sets the direction of the waves and
    their colour; wavelength, phase and noise are drawn from (seed, i). The same classes
    look alike under every seed, so that another seed is a test set.
    """

    classes: Count = 10
    size: Count = 32
    channels: Count = 3
    count: Count = 1000
    seed: Seed = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(f"grating {i}" for i in range(self.classes))

    @property
    def all_labels(self) -> Int32[np.ndarray, " m"]:
        return np.arange(self.count, dtype=np.int32) % np.int32(self.classes)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self.count:
            raise IndexError(f"record {index} of {self.count}")
        label = index % self.classes
        turn = label / self.classes
        shape = (self.size, self.size, self.channels)
        # Raw bits, as they are the same in every version of numpy; see `permutation`.
        bits = np.random.Philox(key=self.seed, counter=[0, 0, 0, index])
        waves, phase = bits.random_raw(2) / 2**64 * [2, 2 * np.pi] + [2, 0]
        noise = bits.random_raw(-(-np.prod(shape) // 8)).view(np.uint8)
        noise = noise[: np.prod(shape)].reshape(shape).astype(np.float32) - 127.5
        across = np.linspace(0, 2 * np.pi, self.size, endpoint=False)
        slope = np.cos(np.pi * turn) * across + np.sin(np.pi * turn) * across[:, None]
        grating = np.sin(waves * slope + phase).astype(np.float32)[..., None]
        channel = np.arange(self.channels) / self.channels
        colour = (0.6 + 0.4 * np.cos(2 * np.pi * (turn + channel))).astype(np.float32)
        # Amplitudes 100 and 0.2 · 127.5 sum to less than 127.5: nothing to clip.
        image = 127.5 + 100 * grating * colour + 0.2 * noise
        return {"image": image.astype(np.uint8), "label": np.int32(label)}
