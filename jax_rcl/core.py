"""Records and protocols: how the parts of a training run fit together.

A method owns arrays, sorted by who may change them (`Variables`), and is three pure
functions of them (`Objective`). Everything else here is what the loop needs to bring a
method its data and to evaluate the result.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import numpy as np
import optax

Leaf = Any
"""An array; in trees that describe others, a shape or a sharding instead."""

Tree = Any
"""Nested dicts (or other pytrees) of leaves."""

Batch = Mapping[str, jax.Array]
"""Arrays that share their first axis, one row per example, by name.

A source gives `image` [n, h, w, c] uint8, `label` [n] int32 if it has labels and
`group` [n] int32 if it has groups; an augmentation adds what the objective reads, such
as `views` [n, v, h, w, c], floats in [0, 1].
"""

Encode = Callable[..., dict[str, jax.Array]]
"""`encode(images, layers=None)`: images [n, h, w, c] in [0, 1] to named features.

Without `layers`, every layer that is one vector [f] per image; with a tuple of names
those layers, of any shape. Other layers are not computed.
"""

Operation = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, image [h, w, c] in [0, 1]) to an image; random only through the key."""


@flax.struct.dataclass
class Variables:
    """Every array a method owns, sorted by who may change it.

    Attributes:
      params: moved by the optimizer, along the gradient of the loss.
      frozen: set before the first step (a teacher, say); nothing changes it.
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
    """The result of an objective for one batch.

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

    One that cannot work with every value of the source may offer `check(records)`:
    before anything is compiled it is called with some records, arrays by key of those
    in `needs`, and raises ValueError.
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
        """Inference: the layers for evaluators, each row from its own image alone."""
        ...


@runtime_checkable
class Network(Protocol):
    """What an objective asks of a network; every flax.linen module has it."""

    def init_with_output(self, rngs: Any, *args: Any, **kwargs: Any) -> Any: ...

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any: ...


@runtime_checkable
class Augment(Protocol):
    """Turns records of the source into what the objective reads, on the device."""

    def __call__(self, clock: Clock, batch: Batch) -> Batch:
        """Runs inside `parallel.data_parallel` on one device's share."""
        ...


@runtime_checkable
class Source(Protocol):
    """A data set on the host: random access to records of fixed shapes.

    One whose records are drawn anew at every step, such as `data.RandomCrops`, has a
    method `draw_record(index, *, seed, step, place)`, which training calls instead.

    Attributes:
      class_names: what each label means; empty if there are no labels.
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
        """The transformation; raises ValueError if a path pattern fits no parameter."""
        ...

    def learning_rate_at(
        self, step: int, *, total_steps: int, steps_per_epoch: int, batch_size: int
    ) -> float:
        """The base learning rate of the update number `step`, counted from 0."""
        ...


@runtime_checkable
class InitRule(Protocol):
    """Replaces some of the freshly initialised variables by others."""

    def __call__(self, variables: Variables) -> Variables:
        """Returns `variables` with arrays instead of some leaves, shapes kept.

        Leaves are arrays or `jax.ShapeDtypeStruct`, so that a rule can be checked
        before anything is compiled. Raises ValueError if paths or shapes do not agree.
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
        """Names of the layers of `encode` that it reads."""
        ...

    def check(self) -> None:
        """Raises ValueError if it cannot work, before anything is trained."""
        ...

    def run(self, encode: Encode) -> Mapping[str, float]: ...


def __getattr__(name: str) -> Any:
    """Finds the artifacts of evaluators, which were here before 0.2."""
    from jax_rcl import moved

    return moved.find(__name__, name)
