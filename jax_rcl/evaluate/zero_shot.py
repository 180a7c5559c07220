"""Zero-shot classification: images against embeddings of the names of classes."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int32

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source, When
from jax_rcl.data.folders import in_short
from jax_rcl.evaluate.classifier import DistortableClassifier, accuracies, show
from jax_rcl.evaluate.features import once
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
            raise ValueError(f"{path} has two rows for {twice!r}; keep one of them.")
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
            f"FromFile.file {path} does not exist; `jax-rcl prepare class_embeddings` "
            f"makes it from CLIP weights."
        )
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is damaged or not an .npz file; make it again.")
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
class ZeroShot(DistortableClassifier):
    """Accuracy of the class whose embedding points most nearly as an image's features.

    The score of class c for an image of features x is cos(x, e_c), e_c being the
    embedding of the class, such as CLIP's of the text "A photo of a dog" (Radford et
    al. 2021, https://arxiv.org/abs/2103.00020, section 3.1). Nothing is fitted. CLIP
    multiplies by a positive scale, which changes no order.

    Attributes:
      test: the images that are classified.
      classes: an embedding for each class of the test set, as wide as the layer.
    """

    test: Source
    classes: ClassEmbeddings
    _: dataclasses.KW_ONLY
    when: When = dataclasses.field(default=Every(epochs=1))

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean."""
        return (
            f"highest cosine of {self.layer!r} with the class embeddings of "
            f"{self.classes} for {len(self.test)} test images of "
            f"{len(self.test.class_names)} classes{self.distortion_protocol}"
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

        Raises:
          ValueError: if the features have another width than the embeddings.
        """
        return accuracies(self, encode, self.distortion)

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which."""
        return show(self, encode)

    def scores(
        self, encode: Encode, source: Source
    ) -> tuple[Float[np.ndarray, "m k"], Int32[np.ndarray, " m"]]:
        """See `Classifier`."""
        values, labels = self.features(encode, source)
        return self.scored(encode, values), labels

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """Cosines, in [-1, 1].

        Raises:
          ValueError: if the features have another width than the embeddings.
        """
        names = self.test.class_names
        key = ("class embeddings", self.classes, names)
        classes = once(encode, key, lambda: unit_rows(self.classes(names)))
        if values.shape[1] != classes.shape[1]:
            raise ValueError(
                f"layer {self.layer!r} gives {values.shape[1]} numbers for each image, "
                f"but the class embeddings of {self.classes} have {classes.shape[1]}; "
                f"both must come from the same model."
            )
        return unit_rows(values) @ classes.T


def unit_rows(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1; zero rows stay zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, np.finfo(np.float32).tiny)
