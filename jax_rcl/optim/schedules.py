"""Learning rates by the number of updates made, or by the loss, as values."""

import abc
import dataclasses
import itertools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax

from jax_rcl.ranges import AtLeast, NotNegative, Positive, Within, ranged

Rate = Callable[[jax.typing.ArrayLike], jax.Array]
"""The learning rate by the number of updates made: an `optax.Schedule`."""


@dataclasses.dataclass(frozen=True)
@ranged
class Schedule(abc.ABC):
    """The learning rate of every update: a curve, after an optional warm-up.

    Attributes:
      warmup_epochs: length of a line from 0, at the first update, to 1; it multiplies
        the curve.
    """

    warmup_epochs: NotNegative = dataclasses.field(default=0.0, kw_only=True)

    def build(self, peak: float, *, total_steps: int, steps_per_epoch: int) -> Rate:
        """The learning rate, at most `peak`, by the number of updates made."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if warmup and warmup >= total_steps:
            raise ValueError(
                f"{type(self).__name__}.warmup_epochs {self.warmup_epochs} is {warmup} "
                f"updates; it must be shorter than the run of {total_steps}. "
                f"Try {total_steps / steps_per_epoch / 10:g}, or give the length as an "
                f"option of the config file, file.py:epochs=…, if it makes its warm-up "
                f"of it."
            )
        curve = self._curve(peak, warmup, total_steps, steps_per_epoch)

        def rate(count: Any) -> jax.Array:
            count = jnp.asarray(count, jnp.int32)
            if not warmup:
                return curve(count)
            return curve(count) * optax.linear_schedule(0.0, 1.0, warmup)(count)

        return rate

    @abc.abstractmethod
    def _curve(
        self, peak: float, warmup: int, total_steps: int, steps_per_epoch: int
    ) -> Callable[[jax.Array], jax.Array]:
        """The learning rate without the line of the warm-up, of an int32 count."""


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The peak throughout."""

    def _curve(self, peak, warmup, total_steps, steps_per_epoch):
        return lambda count: jnp.full(count.shape, peak, float)


@dataclasses.dataclass(frozen=True)
@ranged
class Cosine(Schedule):
    """Half a cosine from the peak, at the end of the warm-up, to `final`, at the end.

    The learning rate changes at every update. Loshchilov and Hutter 2017
    (https://arxiv.org/abs/1608.03983), without restarts.

    Attributes:
      final: the learning rate at the end; not a fraction of the peak.
    """

    final: NotNegative = 0.0

    def _curve(self, peak, warmup, total_steps, steps_per_epoch):
        steps = max(total_steps - warmup, 1)
        cosine = optax.cosine_decay_schedule(peak, steps, alpha=self.final / peak)
        return lambda count: cosine(jnp.maximum(count - warmup, 0).astype(float))


@dataclasses.dataclass(frozen=True)
@ranged
class EpochCosine(Schedule):
    """A cosine of the number of the epoch: the rate is constant within an epoch.

        final + (peak - final) (1 + cos(π epoch / period)) / 2,    epoch = 0, 1, …

    The schedule of recipes that step PyTorch's CosineAnnealingLR once an epoch. A
    warm-up multiplies it and does not shift it.

    Attributes:
      period: epochs from the peak to `final` (PyTorch's T_max); None for the whole run.
      final: the lowest learning rate (PyTorch's eta_min); not a fraction of the peak.
      beyond: what follows the period: "hold" stays at `final`; "rise" follows the
        cosine up to the peak again and down again, as PyTorch does.
    """

    period: Positive | None = None
    final: NotNegative = 0.0
    beyond: Literal["hold", "rise"] = "hold"

    def _curve(self, peak, warmup, total_steps, steps_per_epoch):
        period = self.period or total_steps / steps_per_epoch

        def curve(count: jax.Array) -> jax.Array:
            # Whole-number division: a rounded quotient could be an epoch early.
            epoch = (count // steps_per_epoch).astype(float)
            if self.beyond == "hold":
                epoch = jnp.minimum(epoch, period)
            height = (1 + jnp.cos(jnp.pi * (epoch / period))) / 2
            return self.final + (peak - self.final) * height

        return curve


@dataclasses.dataclass(frozen=True)
@ranged
class MultiStep(Schedule):
    """The peak, multiplied by `factor` at the start of each of `epochs`.

    Attributes:
      epochs: counted from 0 at the start of the run; increasing.
    """

    epochs: tuple[int, ...]
    factor: Positive = 0.1

    def __post_init__(self) -> None:
        if not all(a < b for a, b in itertools.pairwise((0, *self.epochs))):
            raise ValueError(
                f"MultiStep.epochs {self.epochs} must be above 0 and increasing."
            )

    def _curve(self, peak, warmup, total_steps, steps_per_epoch):
        bounds = {epoch * steps_per_epoch: self.factor for epoch in self.epochs}
        steps = optax.piecewise_constant_schedule(peak, bounds)
        return lambda count: steps(count.astype(float))


@dataclasses.dataclass(frozen=True)
@ranged
class Plateau:
    """Multiplies the learning rate by `factor` where the training loss stops falling.

    An epoch is an improvement if its mean loss is below the best one so far by more
    than `threshold`. After more than `patience` epochs in a row without one, the
    learning rate of the schedule is multiplied by `factor` from the first update of the
    next epoch on, and counting starts anew. This is PyTorch's ReduceLROnPlateau with
    mode="min", for which, as in optax, a negative loss that stands still improves by a
    share of itself: relative_to="best" never lowers its rate, and training warns of it.

    Attributes:
      patience: epochs in a row that may pass without an improvement.
      relative_to: what `threshold` is a share of: "best", the best mean itself, as in
        PyTorch by default; or "one", for losses that may be negative.
    """

    factor: Annotated[float, Within(0, 1, "both")] = 0.1
    patience: Annotated[int, AtLeast(0)] = 10
    threshold: Positive = 1e-4
    relative_to: Literal["best", "one"] = "best"

    def __post_init__(self) -> None:
        if self.relative_to == "best" and self.threshold >= 1:
            raise ValueError(
                f"Plateau.threshold {self.threshold} must be below 1, a share of "
                "the best loss."
            )

    def build(self, updates_per_epoch: int) -> optax.GradientTransformationExtraArgs:
        """Scales updates; asks for the loss of each as `value`."""
        relative = self.relative_to == "best"
        watch = optax.contrib.reduce_on_plateau(
            self.factor,
            self.patience + 1,
            rtol=self.threshold if relative else 0.0,
            atol=0.0 if relative else self.threshold,
            accumulation_size=updates_per_epoch,
        )

        # optax lowers the rate of the update that ends an epoch; PyTorch's program has
        # made it by then.
        def update(
            updates: Any,
            state: Any,
            params: Any = None,
            *,
            value: Any = 0.0,
            **extra: Any,
        ) -> tuple[Any, Any]:
            _, after = watch.update(updates, state, params, value=value, **extra)
            return jax.tree.map(lambda x: state.scale * x, updates), after

        return optax.GradientTransformationExtraArgs(watch.init, update)
