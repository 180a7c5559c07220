"""Learning rates by the number of updates made, or by the loss, as values."""

import abc
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

Rate = Callable[[jax.typing.ArrayLike], jax.Array]
"""The learning rate by the number of updates made: an `optax.Schedule`."""


def require(thing: object, constraint: str, **fields: bool) -> None:
    """Raises for the fields of `thing` that are not as the constraint says."""
    for name, fulfilled in fields.items():
        if not fulfilled:
            value = f"{type(thing).__name__}.{name} {getattr(thing, name)!r}"
            raise ValueError(f"{value} must be {constraint}.")


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """The learning rate of every update: a curve, after an optional warm-up.

    Attributes:
      warmup_epochs: length of a line from 0, at the first update, to 1, that multiplies
        the curve.
    """

    warmup_epochs: float = dataclasses.field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        require(self, "at least 0", warmup_epochs=self.warmup_epochs >= 0)

    def build(self, peak: float, *, total_steps: int, steps_per_epoch: int) -> Rate:
        """The function from the number of updates made to the learning rate.

        Args:
          peak: the highest learning rate.
          total_steps: updates in the whole run.
          steps_per_epoch: updates in an epoch.

        Raises:
          ValueError: for a warm-up as long as the run.
        """
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if warmup and warmup >= total_steps:
            raise ValueError(
                f"{type(self).__name__}.warmup_epochs {self.warmup_epochs} is {warmup} "
                f"updates; it must be shorter than the run of {total_steps}. "
                f"Try {total_steps / steps_per_epoch / 10:g}."
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
class Cosine(Schedule):
    """Half a cosine from the peak, at the end of the warm-up, to `final`, at the end.

    The learning rate changes at every update. Loshchilov and Hutter 2017
    (https://arxiv.org/abs/1608.03983), without restarts.

    Attributes:
      final: the learning rate at the end; not a fraction of the peak.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "at least 0", final=self.final >= 0)

    def _curve(self, peak, warmup, total_steps, steps_per_epoch):
        steps = max(total_steps - warmup, 1)
        cosine = optax.cosine_decay_schedule(peak, steps, alpha=self.final / peak)
        return lambda count: cosine(jnp.maximum(count - warmup, 0).astype(float))


@dataclasses.dataclass(frozen=True)
class EpochCosine(Schedule):
    """A cosine of the number of the epoch: the rate is constant within an epoch.

        final + (peak - final) (1 + cos(π epoch / period)) / 2,    epoch = 0, 1, …

    The schedule of recipes that step PyTorch's CosineAnnealingLR once per epoch. A
    warm-up multiplies it and does not shift it.

    Attributes:
      period: epochs from the peak to `final` (PyTorch's T_max); None for the whole run.
      final: the lowest learning rate (PyTorch's eta_min); not a fraction of the peak.
      beyond: what follows the period: "hold" stays at `final`; "rise" follows the
        cosine up to the peak again and down again, as PyTorch does.
    """

    period: float | None = None
    final: float = 0.0
    beyond: Literal["hold", "rise"] = "hold"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "at least 0", final=self.final >= 0)
        require(self, "above 0, or None", period=self.period is None or self.period > 0)

    def _curve(self, peak, warmup, total_steps, steps_per_epoch):
        period = self.period or total_steps / steps_per_epoch

        def curve(count: jax.Array) -> jax.Array:
            # Divided as whole numbers: a rounded quotient can be an epoch early.
            epoch = (count // steps_per_epoch).astype(float)
            if self.beyond == "hold":
                epoch = jnp.minimum(epoch, period)
            height = (1 + jnp.cos(jnp.pi * (epoch / period))) / 2
            return self.final + (peak - self.final) * height

        return curve


@dataclasses.dataclass(frozen=True)
class MultiStep(Schedule):
    """The peak, multiplied by `factor` at the start of each of `epochs`.

    Attributes:
      epochs: which, counted from 0 at the start of the run; increasing.
      factor: by how much.
    """

    epochs: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "above 0", factor=self.factor > 0)
        increasing = all(a < b for a, b in itertools.pairwise((0, *self.epochs)))
        require(self, "above 0 and increasing", epochs=increasing)

    def _curve(self, peak, warmup, total_steps, steps_per_epoch):
        bounds = {epoch * steps_per_epoch: self.factor for epoch in self.epochs}
        steps = optax.piecewise_constant_schedule(peak, bounds)
        return lambda count: steps(count.astype(float))


@dataclasses.dataclass(frozen=True)
class Plateau:
    """Multiplies the learning rate by `factor` where the training loss stops falling.

    What counts is the mean loss of an epoch. It is an improvement if it is below the
    best mean so far by more than `threshold`; after more than `patience` epochs in a
    row without one the learning rate, whatever its schedule gives, is multiplied by
    `factor` from the last update of that epoch on, and the counting begins anew.
    PyTorch's ReduceLROnPlateau of a loss, which is to fall: there is no mode to choose.

    Attributes:
      factor: in (0, 1).
      patience: epochs without an improvement that are let pass; at least 0.
      threshold: above 0; below 1 if relative.
      relative_to: what `threshold` is a share of: "best", that mean itself, as in
        PyTorch unless it is told otherwise; or "one", for losses that may be negative.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    relative_to: Literal["best", "one"] = "best"

    def __post_init__(self) -> None:
        require(self, "in (0, 1)", factor=0 < self.factor < 1)
        require(self, "at least 0", patience=self.patience >= 0)
        below = 1 if self.relative_to == "best" else float("inf")
        require(self, f"in (0, {below})", threshold=0 < self.threshold < below)

    def build(self, updates_per_epoch: int) -> optax.GradientTransformationExtraArgs:
        """Scales updates; asks for the loss of each as `value`."""
        relative = self.relative_to == "best"
        return optax.contrib.reduce_on_plateau(
            self.factor,
            self.patience + 1,
            rtol=self.threshold if relative else 0.0,
            atol=0.0 if relative else self.threshold,
            accumulation_size=updates_per_epoch,
        )
