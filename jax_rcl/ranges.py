"""Ranges of fields, as annotations that every constructor checks.

    @dataclasses.dataclass(frozen=True)
    @ranged
    class Sgd:
        learning_rate: Annotated[float, Above(0)]
        momentum: Annotated[float, Within(0, 1, open="high")] = 0.9

`Sgd(0.1, momentum=1.0)` then raises "Sgd.momentum 1.0 must be in [0, 1)", and so does
the config node of the class, at the line where it is written. Numbers of NumPy are
checked like Python's. A field of type `Literal` has to be one of its values.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from jax.core import Tracer

Class = TypeVar("Class", bound=type)


@dataclasses.dataclass(frozen=True)
class Within:
    """Finite numbers between two bounds, both included unless `open` names an end.

    Attributes:
      low: the lower bound; -inf for none.
      high: the upper bound; inf for none.
      open: which of the bounds are excluded.
      hint: what to write instead or why, after the message.
    """

    low: int | float
    high: int | float
    open: Literal["", "low", "high", "both"] = ""
    hint: str = ""

    def holds(self, value: Any) -> bool:
        """Whether a number lies between the bounds; never for NaN and infinities."""
        above = value > self.low if self.open in ("low", "both") else value >= self.low
        below = (
            value < self.high if self.open in ("high", "both") else value <= self.high
        )
        # Whole numbers may be too large for `isfinite`, which takes floats.
        finite = isinstance(value, int) or math.isfinite(value)
        return bool(finite and above and below)

    def __str__(self) -> str:
        """The constraint as it follows "must be"."""
        if self.high == math.inf:
            words = "above" if self.open in ("low", "both") else "at least"
            return f"{words} {_number(self.low)}"
        left = "(" if self.open in ("low", "both") else "["
        right = ")" if self.open in ("high", "both") else "]"
        return f"in {left}{_number(self.low)}, {_number(self.high)}{right}"


def _number(value: int | float) -> str:
    """Whole numbers in full: a rounded bound could include what it refuses."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def AtLeast(low: int | float, hint: str = "") -> Within:
    """Finite numbers from `low` on."""
    return Within(low, math.inf, hint=hint)


def Above(low: int | float, hint: str = "") -> Within:
    """Finite numbers above `low`."""
    return Within(low, math.inf, "low", hint)


@dataclasses.dataclass(frozen=True)
class Rising:
    """Two numbers of a range, the second not below the first.

    Attributes:
      bounds: of both numbers.
      what: the two are, such as "shares of the pixels".
      example: two that fit.
    """

    bounds: Within
    what: str = "numbers"
    example: tuple[int | float, int | float] | None = None

    def holds(self, value: Any) -> bool:
        """Whether both lie in the range, in order."""
        pair = isinstance(value, tuple | list) and len(value) == 2
        if not pair or not all(isinstance(x, numbers.Real) for x in value):
            return False
        return all(map(self.bounds.holds, value)) and bool(value[0] <= value[1])

    @property
    def hint(self) -> str:
        """Two that fit."""
        return "" if self.example is None else f"such as {self.example}"

    def __str__(self) -> str:
        """The constraint as it follows "must be"."""
        low = "<" if self.bounds.open in ("low", "both") else "<="
        high = "<" if self.bounds.open in ("high", "both") else "<="
        top = f" {high} {self.bounds.high:g}" if self.bounds.high < math.inf else ""
        return f"two {self.what}, {self.bounds.low:g} {low} low <= high{top}"


Count = Annotated[int, AtLeast(1)]
"""A whole number of things, 1 or more."""

Share = Annotated[float, Within(0, 1)]
"""A share or a probability, in [0, 1]."""

Positive = Annotated[float, Above(0)]
"""A finite number above 0."""

NotNegative = Annotated[float, AtLeast(0)]
"""A finite number, 0 or above."""

Areas = Annotated[
    tuple[float, float],
    Rising(Within(0, 1, open="low"), "fractions of the image", (0.08, 1.0)),
]
"""Bounds of the area of a random crop."""

Aspects = Annotated[
    tuple[float, float], Rising(Above(0), "ratios width / height", (0.75, 1.333))
]
"""Bounds of its width / height."""


def ranged(cls: Class) -> Class:
    """Makes the constructor of a dataclass check the ranges and choices of its fields.

    Stands below `@dataclasses.dataclass`, and above nothing else of a linen module.
    """
    after = getattr(cls, "__post_init__", None)

    @functools.wraps(after or ranged)
    def checked(self: Any) -> None:
        check_fields(self)
        if after is not None:
            after(self)

    checked.__doc__ = "Checks the ranges of the fields, and what else has to hold."
    made: Any = cls
    made.__post_init__ = checked
    return cls


def check_fields(made: Any) -> None:
    """Raises ValueError for the first field whose value its annotation excludes."""
    cls = type(made)
    for name, hint in _annotated(cls).items():
        value, where = getattr(made, name), f"{cls.__name__}.{name}"
        if typing.get_origin(hint) is Literal:
            check_choice(where, value, typing.get_args(hint))
        else:
            check(value, hint, where)


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raises ValueError unless a setting is one of its possible values."""
    if value not in choices:
        raise ValueError(
            f"{name} is {value!r}; write one of {', '.join(map(repr, choices))}."
        )


def check(value: Any, hint: Any, where: str) -> None:
    """Raises ValueError if a value is out of the range of its annotation.

    Types are checked elsewhere; `Annotated` may stand anywhere in the hint. `where`
    begins the message, such as `Sgd.momentum`. Text, truth values and fractions of
    things that are counted are no numbers of the range.
    """
    if getattr(value, "ndim", None) == 0 and not isinstance(value, Tracer):
        value = np.asarray(value).item()
    if (
        isinstance(value, str | bool | float)
        and _counts(hint)
        and not _fits(value, hint)
    ):
        kind = "a number" if "float" in str(hint) else "a whole number"
        none = " or None" if types.NoneType in typing.get_args(hint) else ""
        raise ValueError(f"{where} {value!r} must be {kind}{none}.")
    broken = _broken(value, hint)
    if broken is None:
        return
    constraint, kind = broken
    bounds = constraint.bounds if isinstance(constraint, Rising) else constraint
    unbounded = bounds.high == math.inf and "float" in str(kind)
    words = [f"{constraint} and finite" if unbounded else str(constraint)]
    if types.NoneType in typing.get_args(hint) and "None" not in constraint.hint:
        words.append("or None")
    if constraint.hint:
        words.append(constraint.hint)
    raise ValueError(f"{where} {value} must be {', '.join(words)}.")


def bare(hint: Any) -> Any:
    """An annotation without what `Annotated` adds to it."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


@functools.cache
def _annotated(cls: type) -> dict[str, Any]:
    """Annotations with ranges or choices, by the names of fields."""
    found = {}
    for base in reversed(cls.__mro__):
        own = inspect.get_annotations(base)
        if any(isinstance(hint, str) for hint in own.values()):
            try:
                own = inspect.get_annotations(base, eval_str=True)
            except NameError:  # linen's own annotations name what it does not import
                own = {n: h for n, h in own.items() if not isinstance(h, str)}
        found |= own
    names = {field.name for field in dataclasses.fields(cls)}
    checked = {n: h for n, h in found.items() if n in names}
    marks = "Annotated[", "Literal["
    return {n: h for n, h in checked.items() if any(m in repr(h) for m in marks)}


def _broken(value: Any, hint: Any) -> tuple[Within | Rising, Any] | None:
    """The constraint that a value does not meet, and of what; None if it meets all."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        for constraint in inner[1:]:
            known = isinstance(constraint, Within | Rising)
            if known and _fits(value, inner[0]) and not constraint.holds(value):
                return constraint, inner[0]
        return _broken(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        arms = [arm for arm in inner if _fits(value, bare(arm))]
        broken = [_broken(value, arm) for arm in arms]
        return None if not broken or None in broken else broken[0]
    if origin is tuple and isinstance(value, tuple | list):
        each = [inner[0]] * len(value) if inner[1:] == (...,) else inner
        broken = (_broken(*pair) for pair in zip(value, each, strict=False))
        return next(filter(None, broken), None)
    return None


def _counts(hint: Any) -> bool:
    """Whether an annotation allows for numbers and None only."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(map(_counts, typing.get_args(hint)))
    return bare(hint) in (int, float, types.NoneType)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that a constraint on `hint` applies to."""
    origin = typing.get_origin(hint) or hint
    if origin is Annotated:
        return _fits(value, bare(hint))
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arm) for arm in typing.get_args(hint))
    if origin in (int, float):
        kind = numbers.Integral if origin is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, tuple | list)
    return isinstance(origin, type) and isinstance(value, origin)
