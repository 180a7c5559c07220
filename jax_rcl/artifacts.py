"""What evaluators show beside numbers: records from which figures are drawn."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Int, Integer


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class was taken for each.

    Attributes:
      matrix: counts [k, k]; rows are true classes, columns predicted ones.
    """

    matrix: Int[np.ndarray, "k k"]
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """A map of images: near in the plane when near in feature space.

    Attributes:
      points: places [m, 2]; distances have no unit.
      labels: class of each point [m].
      method: how the map was made and of how many of how many images, for a caption.
    """

    points: Float32[np.ndarray, "m 2"]
    labels: Integer[np.ndarray, " m"]
    class_names: tuple[str, ...]
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class MeanCosines:
    """How similar the directions of the subclass means are.

    Attributes:
      matrix: cosines [s, s] between means, in [-1, 1].
      subclass_names: of row and column i; those of one class stand together.
      parents: the class of each subclass [s].
    """

    matrix: Float[np.ndarray, "s s"]
    subclass_names: tuple[str, ...]
    parents: Integer[np.ndarray, " s"]
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class ClassPlane:
    """Embeddings and the means of classes and subclasses, projected onto a plane.

    Attributes:
      points: some of the embeddings [m, 2].
      labels: the class of each point [m].
      parents: the class of each subclass [s].
      method: which plane it is and how much of the whole it shows, for a caption.
    """

    points: Float[np.ndarray, "m 2"]
    labels: Integer[np.ndarray, " m"]
    class_means: Float[np.ndarray, "k 2"]
    subclass_means: Float[np.ndarray, "s 2"]
    parents: Integer[np.ndarray, " s"]
    class_names: tuple[str, ...]
    subclass_names: tuple[str, ...]
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class Spectra:
    """How the spread of each class is distributed over directions.

    Attributes:
      values: for each class its singular values, falling; their squares sum to its
        spread.
      effective_ranks: for each class [k], how many directions hold it, 1 or more.
    """

    values: tuple[Float[np.ndarray, "_"], ...]
    effective_ranks: Float[np.ndarray, " k"]
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Spreads:
    """Mean squared distances of embeddings from the mean of their class or subclass."""

    of_subclasses: Float[np.ndarray, " s"]
    of_classes: Float[np.ndarray, " k"]
    parents: Integer[np.ndarray, " s"]
    class_names: tuple[str, ...]
    subclass_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """Images in rows that belong together column by column.

    Attributes:
      images: rows of images [r, m, h, w, c] in [0, 1].
      row_names: what each row shows.
      labels: class of each column [m]; None without classes.
      method: what was drawn of how much, for a caption.
    """

    images: Float32[np.ndarray, "r m h w c"]
    row_names: tuple[str, ...]
    labels: Integer[np.ndarray, " m"] | None
    class_names: tuple[str, ...]
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A share in [0, 1] for every pair of conditions, such as corruption and severity.

    Attributes:
      method: what the shares are of, for a caption.
    """

    values: Float[np.ndarray, "r c"]
    row_names: tuple[str, ...]
    column_names: tuple[str, ...]
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """Shares over the level of something, such as a distortion, in one or more lines.

    Attributes:
      places: of the levels on the axis [l]; None if they are not single numbers and
        stand side by side in their order.
      means: shares in [0, 1] of each line at each level [r, l]; NaN if unknown.
      deviations: standard deviations of these [r, l]; NaN if unknown.
      references: of each line [r] at no level, such as of clean images; NaN if unknown.
      axis: what the levels are of.
      method: what the shares are of, for a caption.
    """

    places: Float[np.ndarray, " l"] | None
    level_names: tuple[str, ...]
    means: Float[np.ndarray, "r l"]
    deviations: Float[np.ndarray, "r l"]
    references: Float[np.ndarray, " r"]
    line_names: tuple[str, ...]
    axis: str
    method: str


Finding = (
    Confusion
    | Embedding
    | MeanCosines
    | ClassPlane
    | Spectra
    | Spreads
    | Pictures
    | Grid
    | Curves
)
"""What an evaluator found that a picture says better than a number.

An evaluator with findings offers `findings(encode)`, which gives them by name.
"""
