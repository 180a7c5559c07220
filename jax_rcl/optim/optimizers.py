"""Optimizers and groups of parameters, as values.

An optimizer is a frozen dataclass of hyperparameters; `build` makes an optax
transformation of it, once the parameters and the length of the run are known. Schedules
count updates in optax's own state, so that they resume with it.
"""

import abc
import dataclasses
import difflib
import functools
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax

from jax_rcl.core import Tree
from jax_rcl.optim.schedules import Constant, Plateau, Rate, Schedule
from jax_rcl.ranges import Count, NotNegative, Positive, Within, ranged

Decay = Annotated[float, Within(0, 1, "high")]
"""How much of a running mean or sum is kept, in [0, 1)."""


@dataclasses.dataclass(frozen=True)
@ranged
class Group:
    """What holds for parameters by path, instead of what holds for all.

    Several groups may match a parameter, such as one for a learning rate and one for a
    weight decay, as long as no two of them set the same field.

    Attributes:
      pattern: regular expression for a whole path such as `encoder/stem_norm/scale`.
      learning_rate_scale: multiplies the learning rate; None leaves it.
      weight_decay: replaces the optimizer's; None leaves it.
    """

    pattern: str
    learning_rate_scale: NotNegative | None = None
    weight_decay: NotNegative | None = None

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(
                f"Group.pattern {self.pattern!r} is not a regular expression: {error}."
            ) from error
        if self.learning_rate_scale is None and self.weight_decay is None:
            raise ValueError(
                f"Group {self.pattern!r} changes nothing; set learning_rate_scale, "
                "weight_decay or both."
            )


def _check_patterns(groups: tuple[Group, ...], paths: list[str]) -> None:
    for group in groups:
        if not any(re.fullmatch(group.pattern, path) for path in paths):
            near = difflib.get_close_matches(group.pattern, paths, n=5, cutoff=0.0)
            raise ValueError(
                f"Group.pattern {group.pattern!r} matches no parameter's whole path. "
                f"The nearest of {len(paths)} paths: {', '.join(near)}."
            )


def _of_group(
    groups: tuple[Group, ...], field: str, path: str, otherwise: float
) -> float:
    """The value of one field for one parameter."""
    setting = [
        group
        for group in groups
        if getattr(group, field) is not None and re.fullmatch(group.pattern, path)
    ]
    if len(setting) > 1:
        patterns = " and ".join(repr(group.pattern) for group in setting)
        raise ValueError(
            f"the groups {patterns} both set {field} of {path}; narrow one of them."
        )
    return getattr(setting[0], field) if setting else otherwise


def _by_value(
    values: Tree, make: Callable[[float], optax.GradientTransformation], neutral: float
) -> optax.GradientTransformation:
    """For each parameter `make` of its value; nothing where that is `neutral`."""
    parts = [
        optax.masked(
            make(value), jax.tree.map(lambda x, value=value: x == value, values)
        )
        for value in sorted(set(jax.tree.leaves(values)) - {neutral})
    ]
    return optax.chain(*parts) if parts else optax.identity()


def _promoting(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, also in programs with strict promotion of types.

    They refuse what optax does with its whole-number count of updates.
    """
    inner = optax.with_extra_args_support(inner)

    def update(
        updates: Tree, state: Any, params: Tree | None = None, **extra: Any
    ) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _accumulating(
    inner: optax.GradientTransformation, every: int
) -> optax.GradientTransformation:
    """`inner` once in `every` calls, of the means of their gradients and losses."""
    inner = optax.with_extra_args_support(inner)

    # The loss is averaged along with the gradient: otherwise optax would give `inner`
    # the loss of the last call alone.
    def init_inner(params: Any) -> Any:
        return inner.init(params[0])

    def update_inner(updates: Any, state: Any, params: Tree | None = None) -> Any:
        gradient, loss = updates
        updates, state = inner.update(gradient, state, params, value=loss)
        return (updates, loss), state

    pair = optax.GradientTransformation(init_inner, update_inner)
    means = optax.MultiSteps(pair, every)

    def init(params: Tree) -> Any:
        return means.init((params, jnp.zeros((), jnp.float32)))

    def update(
        updates: Tree, state: Any, params: Tree | None = None, *, value: Any = 0.0
    ) -> Any:
        both: Any = (updates, jnp.asarray(value, jnp.float32))
        (updates, _), state = means.update(both, state, params)  # pyright: ignore[reportGeneralTypeIssues] of the structure it is given
        return updates, state

    return optax.GradientTransformationExtraArgs(init, update)


@dataclasses.dataclass(frozen=True)
@ranged
class Descent(abc.ABC):
    """What all optimizers here have in common.

    Attributes:
      learning_rate: the peak of the schedule.
      weight_decay: pulls parameters to zero, in a way that depends on the optimizer.
      decayed: "weights" spares parameters named `bias` or `scale` (offsets and
        normalisation), "all" none, as PyTorch does by default.
      reference_batch: the batch size that `learning_rate` is meant for; another one
        multiplies it by batch size / reference_batch (Goyal et al. 2017,
        https://arxiv.org/abs/1706.02677). None takes it as it is.
      clip_norm: the largest length of the gradient over all parameters; longer ones are
        shortened before anything else. None for no limit.
      accumulate: steps per update, which takes the mean of their gradients and the
        learning rate of the first; schedules go by steps. It is *not* equivalent to a
        larger batch where a loss compares examples, as contrastive ones do, where batch
        statistics are used, or where the method carries memory. `reference_batch`
        counts the examples of an update; steps at the end that do not fill one are
        lost.
      plateau: lowers the learning rate further where the loss stops falling.
    """

    learning_rate: Positive
    schedule: Schedule = dataclasses.field(default=Constant())
    weight_decay: NotNegative = 0.0
    decayed: Literal["weights", "all"] = "weights"
    groups: tuple[Group, ...] = ()
    reference_batch: Count | None = None
    clip_norm: Positive | None = None
    accumulate: Count = 1
    plateau: Plateau | None = None

    def build(
        self, params: Tree, *, total_steps: int, steps_per_epoch: int, batch_size: int
    ) -> optax.GradientTransformation:
        """The optax transformation for these parameters (arrays, or just shapes)."""
        every = self.accumulate
        if every > max(total_steps, 1):
            raise ValueError(
                f"{type(self).__name__}.accumulate {every} is more than the "
                f"{total_steps} steps of the run: nothing would ever move."
            )
        named = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
        paths = jax.tree_util.tree_map_with_path(lambda path, _: named(path), params)
        _check_patterns(self.groups, jax.tree.leaves(paths))

        def each(field: str, otherwise: Callable[[str], float]) -> Tree:
            return jax.tree.map(
                lambda path: _of_group(self.groups, field, path, otherwise(path)), paths
            )

        decays = each("weight_decay", lambda p: self.weight_decay * self._decays(p))
        scales = each("learning_rate_scale", lambda _: 1.0)
        of_step = self._rate(total_steps, steps_per_epoch, batch_size)
        rate = optax.chain(
            optax.scale_by_learning_rate(lambda count: of_step(count * every)),
            _by_value(scales, optax.scale, neutral=1.0),
        )
        if self.plateau is not None:
            updates_per_epoch = max(1, round(steps_per_epoch / every))
            rate = optax.chain(rate, self.plateau.build(updates_per_epoch))
        decay = _by_value(decays, optax.add_decayed_weights, neutral=0.0)
        rule = self._rule(paths, decay, rate)
        if self.clip_norm is not None:
            rule = optax.chain(optax.clip_by_global_norm(self.clip_norm), rule)
        return _promoting(_accumulating(rule, every) if every > 1 else rule)

    def learning_rate_at(
        self, step: int, *, total_steps: int, steps_per_epoch: int, batch_size: int
    ) -> float:
        """The learning rate of step `step`, from 0, without groups and plateau."""
        rate = self._rate(total_steps, steps_per_epoch, batch_size)
        return float(rate(step - step % self.accumulate))

    def _rate(self, total_steps: int, steps_per_epoch: int, batch_size: int) -> Rate:
        seen = batch_size * self.accumulate
        peak = self.learning_rate * seen / (self.reference_batch or seen)
        return self.schedule.build(
            peak, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )

    def _decays(self, path: str) -> bool:
        offset_or_scale = path.rpartition("/")[2] in ("bias", "scale")
        return self.decayed == "all" or not offset_or_scale

    @abc.abstractmethod
    def _rule(
        self,
        paths: Tree,
        decay: optax.GradientTransformation,
        rate: optax.GradientTransformation,
    ) -> optax.GradientTransformation:
        """From gradients to updates, with `decay` and `rate` in their places."""


def _momentum(decay: float, nesterov: bool = False) -> optax.GradientTransformation:
    """A running sum of updates; without momentum nothing, and no memory for it."""
    return optax.trace(decay, nesterov) if decay else optax.identity()


@dataclasses.dataclass(frozen=True)
@ranged
class Sgd(Descent):
    """Stochastic gradient descent as PyTorch defines it.

        g ← g + weight_decay·w,   v ← momentum·v + g,   w ← w - learning_rate·v

    or, with Nesterov's momentum, w ← w - learning_rate·(g + momentum·v).
    """

    momentum: Decay = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("Sgd.nesterov True must be off without momentum.")

    def _rule(self, paths, decay, rate):
        return optax.chain(decay, _momentum(self.momentum, self.nesterov), rate)


@dataclasses.dataclass(frozen=True)
@ranged
class Adam(Descent):
    """Adam, Kingma and Ba 2015 (https://arxiv.org/abs/1412.6980), algorithm 1.

    Weight decay is added to the gradient, as in PyTorch's Adam; see `AdamW` for
    decoupled decay.

    Attributes:
      beta1, beta2: decays of the running means of gradients and of their squares.
    """

    beta1: Decay = 0.9
    beta2: Decay = 0.999
    epsilon: Positive = 1e-8

    def _rule(self, paths, decay, rate):
        return optax.chain(decay, self._adam(), rate)

    def _adam(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)


@dataclasses.dataclass(frozen=True)
@ranged
class AdamW(Adam):
    """Adam with decoupled weight decay: w ← w - learning_rate·(step + weight_decay·w).

    Loshchilov and Hutter 2019 (https://arxiv.org/abs/1711.05101), in PyTorch's form,
    where the learning rate multiplies the decay, and with PyTorch's default of it.
    """

    weight_decay: NotNegative = 0.01

    def _rule(self, paths, decay, rate):
        return optax.chain(self._adam(), decay, rate)


@dataclasses.dataclass(frozen=True)
@ranged
class Lars(Descent):
    """Layer-wise adaptive rates, You et al. 2017 (https://arxiv.org/abs/1708.03888).

        g ← g + weight_decay·w,   r = trust_coefficient·‖w‖ / ‖g‖
        v ← momentum·v + learning_rate·r·g,   w ← w - v

    with one norm for each parameter array. Parameters that `decayed` spares take r = 1,
    too, as is usual since SimCLR.

    Attributes:
      trust_coefficient: length of a step relative to that of the parameter.
      at_zero: what an array does while all of it is zero: "step" takes r = 1; "stay"
        takes r = 0 and never moves, as in the released code of decoupled uniformity
        (with `decayed="all"`).
    """

    momentum: Decay = 0.9
    trust_coefficient: Positive = 0.001
    at_zero: Literal["step", "stay"] = "step"

    def _rule(self, paths, decay, rate):
        adapted = jax.tree.map(self._decays, paths)
        trust = optax.scale_by_trust_ratio(trust_coefficient=self.trust_coefficient)
        if self.at_zero == "stay":
            still = optax.stateless_with_tree_map(
                lambda x, p: jnp.where(jnp.any(p != 0), x, jnp.zeros_like(x))
            )
            trust = optax.chain(still, trust)
        return optax.chain(
            decay, optax.masked(trust, adapted), rate, _momentum(self.momentum)
        )
