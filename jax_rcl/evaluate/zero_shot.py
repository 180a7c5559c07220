"""Zero-shot classification: images against embeddings of the names of classes."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int32

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.data.folders import in_short
from jax_rcl.evaluate.classifier import accuracies, check_draws, seed_of, told
from jax_rcl.evaluate.features import features, once
from jax_rcl.evaluate.findings import confusion
from jax_rcl.evaluate.when import Every


@runtime_checkable
class ClassEmbeddings(Protocol):
    """Vectors in the space of an encoder's features, one for each class; hashable."""

    def __call__(self, class_names: tuple[str, ...]) -> Float32[np.ndarray, "k d"]:
        """One row for each of the classes, in their order; only directions count.

        Raises:
          ValueError: naming a class for which there is none.
        """
        ...


@dataclasses.dataclass(frozen=True)
class FromFile:
    """Class embeddings of a file, such as `prepare.class_embeddings` writes.

    Attributes:
      file: `.npz` with `embedding`, floats [k, d], and `names`, text [k]: what the test
        set calls the class of each row (`class_names`). Their order does not matter,
        and there may be more than are asked for.
    """

    file: str

    def __str__(self) -> str:
        """The path."""
        return self.file

    def __call__(self, class_names: tuple[str, ...]) -> Float32[np.ndarray, "k d"]:
        """The rows of these classes, in their order.

        Raises:
          FileNotFoundError: if there is no such file.
          ValueError: if the file is not as it should be, or lacks some of the classes.
        """
        path = Path(self.file).expanduser()
        embedding, names = _read(path)
        place = {name: row for row, name in enumerate(names)}
        if len(place) < len(names):
            twice = sorted(name for name in place if names.count(name) > 1)[0]
            raise ValueError(f"{path} has two rows for {twice!r}; leave one of them.")
        missing = [name for name in class_names if name not in place]
        if missing:
            lacking = in_short(missing, len(class_names), "classes")
            raise ValueError(
                f"{path} has no embedding of {lacking}. Its own {len(names)} are "
                f"{', '.join(names[:3])} …; `names` must hold what the test set calls "
                f"its classes."
            )
        rows = embedding[[place[name] for name in class_names]]
        bad = ~np.isfinite(rows).all(axis=1) | ~rows.any(axis=1)
        if bad.any():
            name = class_names[int(bad.argmax())]
            raise ValueError(
                f"the embedding of {name!r} in {path} is zero or not finite; make the "
                f"file again."
            )
        return rows


def _read(path: Path) -> tuple[Float32[np.ndarray, "k d"], list[str]]:
    """The embeddings and the names of a file."""
    if not path.exists():
        raise FileNotFoundError(
            f"FromFile.file {path} does not exist; `python -m "
            f"jax-rcl prepare class_embeddings` makes it of CLIP weights."
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged or no .npz file; make it again.")
    # numpy leaves a file that it cannot read open, so that the opening is done here.
    with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
        absent = [key for key in ("embedding", "names") if key not in file]
        if absent:
            raise ValueError(
                f"{path} has no array {absent[0]!r}, but "
                f"{', '.join(map(repr, file.files))}; class embeddings are "
                f"`embedding` [k, d] and `names` [k]."
            )
        embedding, names = file["embedding"], file["names"]
    if (
        embedding.ndim != 2
        or embedding.dtype.kind != "f"
        or names.dtype.kind != "U"
        or names.shape != embedding.shape[:1]
    ):
        raise ValueError(
            f"{path} holds `embedding` {embedding.dtype} {list(embedding.shape)} and "
            f"`names` {names.dtype} {list(names.shape)}; they must be floats [k, d] "
            f"and text [k]."
        )
    return embedding.astype(np.float32), names.tolist()


@dataclasses.dataclass(frozen=True)
class ZeroShot:
    """Accuracy of the class whose embedding points most nearly as an image's features.

    The score of class c for an image of features x is cos(x, e_c), e_c being the
    embedding of the class, such as CLIP's of the text "A photo of a dog" (Radford et
    al. 2021, https://arxiv.org/abs/2103.00020, section 3.1). Nothing is fitted. CLIP
    multiplies by a positive scale, which changes no order.

    Attributes:
      test: the images that are classified.
      classes: an embedding for each class of the test set.
      layer: which of the encoder's features; as wide as the embeddings.
      preprocess: deterministic operation on each image, or None.
      distortion: what is done to each image after `preprocess`, or None.
      draws: the seed of the distortion.
      batch_size: images per call of the encoder.
      when: when it is measured.

    Raises:
      ValueError: if a number is out of its range.
    """

    test: Source
    classes: ClassEmbeddings
    layer: str = "features"
    preprocess: Operation | None = None
    distortion: Operation | None = None
    draws: int = 0
    batch_size: int = 256
    when: When = dataclasses.field(default=Every(epochs=1))

    def __post_init__(self) -> None:
        """Checks the numbers; what needs the data is in `check`."""
        check_draws("ZeroShot.draws", self.draws)
        if self.batch_size < 1:
            raise ValueError(
                f"ZeroShot.batch_size {self.batch_size} must be at least 1."
            )

    @property
    def needs(self) -> frozenset[str]:
        """Names of the layers that it reads."""
        return frozenset({self.layer})

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean."""
        return (
            f"highest cosine of {self.layer!r} with the class embeddings of "
            f"{self.classes} for {len(self.test)} test images of "
            f"{len(self.test.class_names)} classes"
            f"{told(self.distortion, self.draws)}"
        )

    def check(self) -> None:
        """Looks for an embedding of every class; `run` checks that the width fits.

        Raises:
          FileNotFoundError: if there is no file of them.
          ValueError: if the test set has no classes, or one of them no embedding.
        """
        if len(self.test.class_names) < 2:
            raise ValueError(f"{self.test} names no classes; use a labelled source.")
        self.classes(self.test.class_names)

    def run(self, encode: Encode) -> dict[str, float]:
        """`top1`, `balanced`, `top5` beyond five classes, `auroc` for two.

        With a distortion, `clean/top1` and so on are of the test images without it.

        Raises:
          ValueError: if the features have another width than the embeddings.
        """
        return accuracies(self, encode, self.distortion)

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which."""
        scores, labels = self.scores(encode, self.test)
        names = self.test.class_names
        return {"confusion": confusion(labels, scores.argmax(axis=1), names)}

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """A score for every class of every image of a source, and the labels.

        The images are prepared and distorted as those of the test set, and their
        classes are its own.
        """
        given, labels = features(
            encode,
            source,
            layer=self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
            distortion=self.distortion,
            seed=seed_of("test", self.draws),
        )
        return self.scored(encode, given), labels

    def scored(
        self, encode: Encode, given: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """The scores that belong to what `layer` gave: cosines, in [-1, 1].

        Raises:
          ValueError: if it has another width than the embeddings.
        """
        names = self.test.class_names
        key = ("class embeddings", self.classes, names)
        classes = once(encode, key, lambda: _unit(self.classes(names)))
        if given.shape[1] != classes.shape[1]:
            raise ValueError(
                f"layer {self.layer!r} gives {given.shape[1]} numbers for each image, "
                f"but the class embeddings of {self.classes} have {classes.shape[1]}; "
                f"both must come from the same model."
            )
        return _unit(given) @ classes.T


def _unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, np.finfo(np.float32).tiny)
