"""What the parts of a training run say to each other: records and protocols.

A method owns arrays. They are sorted by who may change them (`Variables`), and the
method is three pure functions of them (`Objective`). Everything else here is what the
loop needs to bring a method its data and to look at the result.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np
import optax
from jaxtyping import Float, Float32, Int, Integer

Leaf = Any
"""An array; in trees that describe others, a shape or a sharding in its place."""

Tree = Any
"""Nested dicts (or other pytrees) of leaves."""

Batch = Mapping[str, jax.Array]
"""Arrays that share their first axis, one row per example, by name.

A source gives `image` [n, h, w, c] uint8, `label` [n] int32 where it has labels and
`group` [n] int32 where it has groups;
an augmentation adds what the objective reads, such as `views` [n, v, h, w, c], floats
in [0, 1].
"""

Encode = Callable[..., dict[str, jax.Array]]
"""`encode(images, layers=None)`: images [n, h, w, c] in [0, 1] to named features.

Without `layers`, every layer that is one vector [f] for each image; with a tuple of
names those layers, of whatever shape. What is not asked for is not computed.
"""

Operation = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, image [h, w, c] in [0, 1]) to an image; random only through the key."""


@flax.struct.dataclass
class Variables:
    """Every array a method owns, sorted by who may change it.

    Attributes:
      params: moved by the optimizer, along the gradient of the loss.
      frozen: given before the first step (a teacher, say); nobody changes it.
      memory: carried from step to step by the method itself, without a gradient:
        batch statistics, a momentum encoder, a queue.
    """

    params: Tree
    frozen: Tree
    memory: Tree


@flax.struct.dataclass
class Clock:
    """Where training stands, and the randomness of this step.

    Attributes:
      key: the same on every device; `parallel.example_keys` spreads it over examples.
      step: number of updates already made, int32.
      progress: step / total steps, in [0, 1), for curricula and momentum schedules.
    """

    key: Leaf
    step: Leaf
    progress: Leaf


@flax.struct.dataclass
class Outcome:
    """What one evaluation of an objective gives back.

    Attributes:
      value: the loss, per example [b] or as a scalar; the step takes the mean.
      memory: the next `Variables.memory`.
      metrics: scalars or per-example arrays; the step reports their means.
    """

    value: Leaf
    memory: Tree
    metrics: Mapping[str, Leaf]


@runtime_checkable
class Objective(Protocol):
    """A method of representation learning: three pure functions of arrays.

    `loss` runs on one device's share of a batch, inside `parallel.data_parallel`;
    what it compares across the whole batch, it gathers with `parallel.gather`.

    One that cannot work with every value of what the source gives may offer
    `check(records)`: before anything is compiled it is called with some records, arrays
    by key of those in `needs`, and raises ValueError.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Keys of the batch that `loss` and `init` read."""
        ...

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh arrays, shaped by one augmented batch."""
        ...

    def loss(self, variables: Variables, batch: Batch, clock: Clock) -> Outcome:
        """The loss of one step, and the memory after it."""
        ...

    def encode(self, variables: Variables, images: jax.Array) -> dict[str, jax.Array]:
        """Inference: what evaluators see, each row from its own image alone."""
        ...


@runtime_checkable
class Network(Protocol):
    """What an objective asks of a network; every flax.linen module fulfils it."""

    def init_with_output(self, rngs: Any, *args: Any, **kwargs: Any) -> Any: ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class Augment(Protocol):
    """Makes what the objective reads out of what the source gives, on the device."""

    def __call__(self, clock: Clock, batch: Batch) -> Batch:
        """Runs inside `parallel.data_parallel` on one device's share."""
        ...


@runtime_checkable
class Source(Protocol):
    """A data set on the host: random access to records of fixed shapes.

    Attributes:
      class_names: what each label means; empty where there are no labels.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...


@runtime_checkable
class Optimizer(Protocol):
    """Hyperparameters of an optimizer; `build` turns them into one."""

    def build(
        self, params: Tree, *, total_steps: int, steps_per_epoch: int, batch_size: int
    ) -> optax.GradientTransformation:
        """The transformation for these parameters; raises if a path pattern is off."""
        ...

    def learning_rate_at(
        self, step: int, *, total_steps: int, steps_per_epoch: int, batch_size: int
    ) -> float:
        """The base learning rate of the update number `step`, counted from 0."""
        ...


@runtime_checkable
class InitRule(Protocol):
    """Replaces some of the freshly initialised variables by ones from elsewhere."""

    def __call__(self, variables: Variables) -> Variables:
        """Gives `variables` with arrays in the place of some leaves, shapes kept.

        Leaves are arrays or `jax.ShapeDtypeStruct`, so that a rule can be checked
        before anything is compiled. Raises ValueError where paths or shapes do not
        agree.
        """
        ...


@runtime_checkable
class When(Protocol):
    """When something happens during a run."""

    def due(self, step: int, *, total_steps: int, steps_per_epoch: int) -> bool:
        """Whether it happens once `step` updates have been made."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Measures an encoder; knows nothing of the method that trained it."""

    @property
    def when(self) -> When: ...

    @property
    def protocol(self) -> str:
        """One line that says what the numbers mean, printed and stored with them."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Names of the layers that it reads of what `encode` gives."""
        ...

    def check(self) -> None:
        """Raises ValueError for what cannot work, before anything is trained."""
        ...

    def run(self, encode: Encode) -> Mapping[str, float]: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class was taken for each.

    Attributes:
      matrix: counts [k, k]; rows are true classes, columns predicted ones.
      class_names: what row and column i stand for.
    """

    matrix: Int[np.ndarray, "k k"]
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """A map of images: near in the plane when near in feature space.

    Attributes:
      points: places [m, 2]; distances have no unit.
      labels: class of each point [m].
      class_names: what label i stands for.
      method: how the map was made and of how many of how many images, for a caption.
    """

    points: Float32[np.ndarray, "m 2"]
    labels: Integer[np.ndarray, " m"]
    class_names: tuple[str, ...]
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class MeanCosines:
    """How alike the means of subclasses point.

    Attributes:
      matrix: cosines [s, s] between means, in [-1, 1].
      subclass_names: of row and column i; those of one class stand together.
      parents: the class of each subclass [s].
      class_names: what class i stands for.
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
      class_means: one for each class [k, 2].
      subclass_means: one for each subclass [s, 2].
      parents: the class of each subclass [s].
      class_names: what class i stands for.
      subclass_names: what subclass i stands for.
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
    """How the spread of each class is shared out over directions.

    Attributes:
      values: for each class its singular values, falling; their squares sum to its
        spread.
      effective_ranks: for each class [k], how many directions hold it, 1 or more.
      class_names: what class i stands for.
    """

    values: tuple[Float[np.ndarray, "_"], ...]
    effective_ranks: Float[np.ndarray, " k"]
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Spreads:
    """Mean squared distances of embeddings from the mean of their class or subclass.

    Attributes:
      of_subclasses: for each subclass [s].
      of_classes: for each class [k].
      parents: the class of each subclass [s].
      class_names: what class i stands for.
      subclass_names: what subclass i stands for.
    """

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
      labels: class of each column [m]; None where there are no classes.
      class_names: what label i stands for.
      method: what was drawn of how much, for a caption.
    """

    images: Float32[np.ndarray, "r m h w c"]
    row_names: tuple[str, ...]
    labels: Integer[np.ndarray, " m"] | None
    class_names: tuple[str, ...]
    method: str


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A share for every pair of two conditions, such as corruption and severity.

    Attributes:
      values: shares [r, c] in [0, 1].
      row_names: the first condition.
      column_names: the second.
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
      places: of the levels on the axis [l]; None where they are no single numbers, and
        stand side by side in their order.
      level_names: of the levels.
      means: shares in [0, 1] of each line at each level [r, l]; NaN where unknown.
      deviations: of these [r, l]; NaN where unknown.
      references: of each line [r] where there is nothing of it, such as of clean
        images; NaN where unknown.
      line_names: what each line is of.
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

An evaluator that has such things offers `findings(encode)`, which gives them by name.
"""
