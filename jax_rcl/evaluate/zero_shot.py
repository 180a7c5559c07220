"""Zero-shot classification: images against embeddings of the names of classes."""

import dataclasses
import zipfile
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32
from sklearn.preprocessing import normalize

from jax_rcl.artifacts import Finding
from jax_rcl.core import Encode, Source, When
from jax_rcl.data.folders import in_short
from jax_rcl.evaluate.classifier import DistortableClassifier
from jax_rcl.evaluate.features import check_labelled, once
from jax_rcl.evaluate.when import Every


@runtime_checkable
class ClassEmbeddings(Protocol):
    """Vectors in the space of an encoder's features, one for each class; hashable."""

    def __call__(self, class_names: tuple[str, ...]) -> Float32[np.ndarray, "k d"]:
        """One row for each of the classes, in their order; only directions count."""
        ...


@dataclasses.dataclass(frozen=True)
class FromFile:
    """Class embeddings of a file that `jax-rcl prepare class_embeddings` wrote.

    Attributes:
      file: `.npz` with `embedding`, floats [k, d], and `names`, text [k]: what the test
        set calls the class of each row (`class_names`). Their order does not matter,
        and there may be more than are asked for.
    """

    file: str

    def __str__(self) -> str:
        return self.file

    def __call__(self, class_names: tuple[str, ...]) -> Float32[np.ndarray, "k d"]:
        """The rows of these classes; `FileNotFoundError` without the file."""
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
        held = {key: file[key] for key in file.files}
    embedding, names = (held.get(key, np.zeros(0)) for key in ("embedding", "names"))
    kinds = embedding.dtype.kind + names.dtype.kind
    if kinds != "fU" or embedding.ndim != 2 or names.shape != embedding.shape[:1]:
        arrays = [f"`{key}` {x.dtype} {list(x.shape)}" for key, x in held.items()]
        raise ValueError(
            f"{path} holds {' and '.join(arrays)}; class embeddings must be "
            f"`embedding`, floats [k, d], and `names`, text [k]."
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
      classes: an embedding for each class of the test set, as wide as the layer.
    """

    test: Source
    classes: ClassEmbeddings
    _: dataclasses.KW_ONLY
    when: When = dataclasses.field(default=Every(epochs=1))

    @property
    def protocol(self) -> str:
        return (
            f"highest cosine of {self.layer!r} with the class embeddings of "
            f"{self.classes} for {len(self.test)} test images of "
            f"{len(self.test.class_names)} classes{self.distortion_protocol}"
        )

    def check(self) -> None:
        """Looks for an embedding of every class; `run` checks that the width fits."""
        check_labelled(self.test)
        self.classes(self.test.class_names)

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Which classes are taken for which."""
        return self.show(encode)

    def scored(
        self, encode: Encode, values: Float[np.ndarray, "n f"]
    ) -> Float[np.ndarray, "n k"]:
        """Cosines, in [-1, 1]; features and embeddings must have one width."""
        names = self.test.class_names
        key = ("class embeddings", self.classes, names)
        classes = once(encode, key, lambda: normalize(self.classes(names)))
        if values.shape[1] != classes.shape[1]:
            raise ValueError(
                f"layer {self.layer!r} gives {values.shape[1]} numbers for each image, "
                f"but the class embeddings of {self.classes} have {classes.shape[1]}; "
                f"both must come from the same model."
            )
        return normalize(values) @ classes.T
