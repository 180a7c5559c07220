"""Ranges in annotations: what constructors and config nodes refuse, and how."""

import ast
import dataclasses
import importlib
import math
from pathlib import Path
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_rcl
from jax_rcl import ranges
from jax_rcl.config.nodes import node
from jax_rcl.config.overrides import override
from jax_rcl.config.types import ConfigError
from jax_rcl.ranges import (
    Above,
    AtLeast,
    Count,
    NotNegative,
    Positive,
    Rising,
    Share,
    Within,
    check,
    check_choice,
    ranged,
)


@dataclasses.dataclass(frozen=True)
@ranged
class Example:
    count: Count = 1
    share: Share = 0.5
    rate: Annotated[float, Above(0, "try 0.1")] = 1.0
    momentum: Annotated[float, Within(0, 1, open="high")] = 0.9
    pair: Annotated[
        tuple[float, float], Rising(Within(0, 1, "low"), "shares", (0.1, 1.0))
    ] = (0.1, 0.2)
    widths: Annotated[tuple[float, float], Rising(Above(0), "widths")] = (1, 2)
    maybe: Annotated[int, AtLeast(2)] | None = None
    limit: NotNegative | None = None
    width: Annotated[int, AtLeast(1, "or None for all")] | None = None
    sides: tuple[Count, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("Example.name must be good.")


class Layer(nn.Module):
    width: Count = 1
    inner: "nn.Module | None" = None


ranged(Layer)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("count", 0, "Example.count 0 must be at least 1."),
        ("share", 1.5, "Example.share 1.5 must be in [0, 1]."),
        ("share", math.nan, "Example.share nan must be in [0, 1]."),
        ("rate", 0.0, "Example.rate 0.0 must be above 0 and finite, try 0.1."),
        ("rate", math.inf, "Example.rate inf must be above 0 and finite, try 0.1."),
        ("momentum", 1.0, "Example.momentum 1.0 must be in [0, 1)."),
        (
            "pair",
            (0.3, 0.2),
            "Example.pair (0.3, 0.2) must be two shares, 0 < low <= high <= 1, such as "
            "(0.1, 1.0).",
        ),
        (
            "widths",
            (0.1, math.inf),
            "Example.widths (0.1, inf) must be two widths, 0 < low <= high and finite.",
        ),
        ("maybe", 1, "Example.maybe 1 must be at least 2, or None."),
        ("limit", -1.0, "Example.limit -1.0 must be at least 0 and finite, or None."),
        ("width", 0, "Example.width 0 must be at least 1, or None for all."),
        ("sides", (1, 0), "Example.sides (1, 0) must be at least 1."),
    ],
)
def test_a_value_out_of_range_is_refused_by_constructor_and_node(field, value, words):
    with pytest.raises(ValueError) as direct:
        Example(**{field: value})
    assert str(direct.value) == words
    with pytest.raises(ConfigError) as written:
        node(Example, **{field: value})
    assert str(written.value) == words


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", np.int64(0)),
        ("count", np.uint8(0)),
        ("share", np.float32(1.5)),
        ("share", np.float64(math.nan)),
        ("rate", np.float16(0)),
        ("maybe", np.int32(1)),
        ("pair", (np.float32(0.3), np.float32(0.2))),
        ("sides", (1, np.int64(0))),
    ],
)
def test_numbers_of_numpy_are_checked_like_python_s(field, value):
    with pytest.raises(ValueError, match=f"^Example.{field} .* must be "):
        Example(**{field: value})
    with pytest.raises(ConfigError, match=f"^Example.{field} "):
        node(Example, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("count", True, "Example.count True must be a whole number."),
        ("count", 2.5, "Example.count 2.5 must be a whole number."),
        ("count", np.float32(2), "Example.count 2.0 must be a whole number."),
        ("share", "0.1", "Example.share '0.1' must be a number."),
        ("rate", np.bool_(True), "Example.rate True must be a number."),
        ("maybe", "3", "Example.maybe '3' must be a whole number or None."),
        ("share", np.array(1.5), "Example.share 1.5 must be in [0, 1]."),
        (
            "rate",
            jnp.array(-1.0),
            "Example.rate -1.0 must be above 0 and finite, try 0.1.",
        ),
    ],
)
def test_what_is_no_number_is_refused_by_constructors(field, value, words):
    with pytest.raises(ValueError) as direct:
        Example(**{field: value})
    assert str(direct.value) == words


def test_numbers_of_numpy_in_range_are_taken():
    made = Example(np.int64(3), np.float32(0.5), jnp.array(2.0), maybe=np.int32(2))
    assert (made.count, made.share, made.rate, made.maybe) == (3, 0.5, 2.0, 2)


def test_a_number_that_is_traced_is_not_checked():
    @jax.jit
    def double(rate):
        check(rate, Positive, "rate")
        return 2 * rate

    assert double(-1.0) == -2


def test_an_override_is_refused_in_the_words_of_its_path():
    config = node(Example)
    with pytest.raises(ConfigError, match=r"^share 2.0 must be in \[0, 1\]"):
        override(config, "share", "2.0")
    assert config.share == 0.5


def test_a_large_bound_is_written_in_full():
    assert str(Within(0, 2**32, "high")) == "in [0, 4294967296)"


def test_a_type_is_named_without_its_ranges():
    with pytest.raises(ConfigError, match=r"takes tuple\[int, \.\.\.\]; got 5"):
        node(Example, sides=5)


def test_what_is_in_range_is_made():
    made = Example(3, 0.0, 1e-9, 0.0, (1.0, 1.0), maybe=2, sides=(1, 5))
    assert made.sides == (1, 5) and Example(maybe=None).maybe is None


def test_a_setting_that_does_not_exist_is_refused():
    check_choice("Digits.split", "test", ("train", "test"))
    with pytest.raises(ValueError, match="is 'val'; write one of 'train', 'test'"):
        check_choice("Digits.split", "val", ("train", "test"))


def test_other_checks_of_the_class_still_run():
    with pytest.raises(ValueError, match="must be good"):
        Example(name="bad")


def test_a_linen_module_is_checked_as_well():
    assert Layer(2).width == 2
    with pytest.raises(ValueError, match=r"Layer\.width 0 must be at least 1"):
        Layer(0)


@pytest.mark.parametrize(
    "path", sorted(Path(jax_rcl.__file__).parent.rglob("*.py")), ids=lambda p: p.stem
)
def test_every_class_with_ranges_checks_them(path):
    parts = path.relative_to(Path(jax_rcl.__file__).parent).with_suffix("").parts
    for found in ast.parse(path.read_text()).body:
        if isinstance(found, ast.ClassDef) and parts != ("ranges",):
            module = importlib.import_module(".".join(("jax_rcl", *parts)))
            cls = getattr(module, found.name)
            hints = ranges._annotated(cls) if dataclasses.is_dataclass(cls) else {}
            if "Annotated[" in repr(hints):
                assert cls.__post_init__.__doc__.startswith("Checks the ranges"), cls
