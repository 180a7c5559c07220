"""What a person reads before and after a run: its arrays, its results."""

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Mapping
from typing import Any, Literal

import jax
from clu import parameter_overview

from jax_rcl.core import Variables
from jax_rcl.report.results import grouped

_ROWS = 40


def overview(
    variables: Variables, *, detail: Literal["modules", "all"] = "modules"
) -> str:
    """A table of every array a method owns: name, shape, size, bytes.

    Args:
      variables: arrays or their shapes (`jax.ShapeDtypeStruct`).
      detail: "all" has one row per array. "modules" has at most forty: names are cut
        where they fit, and a row stands for all arrays below that name.

    Returns:
      The table, and one line with the totals of `params`, `frozen` and `memory`.
    """
    leaves = {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]
    }
    depth = max(map(len, leaves), default=1)
    if detail == "modules":
        while depth > 1 and len({path[:depth] for path in leaves}) > _ROWS:
            depth -= 1
    rows = _rows(leaves, depth)
    totals = [
        f"{row.name} {row.size.strip()} ({row.bytes.strip()})"
        for row in _rows(leaves, 1)
    ]
    table = parameter_overview.make_table(rows) if rows else "(no arrays)"
    return "\n".join([table, "Total: " + (", ".join(totals) or "0")])


def closing(
    results: Mapping[str, float], protocols: Mapping[str, str], *, width: int = 100
) -> str:
    """The last table of a run: each evaluator's numbers next to what they mean.

    Args:
      results: numbers by name, `<evaluator>/<number>`; shares in [0, 1] become percent.
      protocols: one line per evaluator, by its name.
      width: columns to fill; protocols are wrapped.
    """
    groups = grouped(results, protocols)
    if not groups:
        return "No evaluator has run."
    names = max(len(group.evaluator) for group in groups)
    labels = max(len(label) for group in groups for label, _ in group.numbers)
    values = max(len(value) for group in groups for _, value in group.numbers)
    room = max(30, width - names - labels - values - 6)
    lines = []
    for group in groups:
        protocol = textwrap.wrap(group.protocol, room)
        rows = itertools.zip_longest(group.numbers, protocol)
        for index, (number, text) in enumerate(rows):
            label, value = number or ("", "")
            name = "" if index else group.evaluator
            cells = (
                f"{name:<{names}}  {label:<{labels}}  {value:>{values}}  {text or ''}"
            )
            lines.append(cells.rstrip())
    rule = "─" * max(map(len, lines))
    return "\n".join([rule, *lines, rule])


@dataclasses.dataclass(frozen=True)
class _Row:
    """A line of the overview; clu's table takes its columns from the fields."""

    name: str
    shape: str
    size: str
    bytes: str


def _rows(leaves: Mapping[tuple[str, ...], Any], depth: int) -> list[_Row]:
    """One row per name cut at `depth`, numbers flush right."""
    below: dict[str, list[Any]] = {}
    for path, leaf in leaves.items():
        below.setdefault("/".join(path[:depth]), []).append(leaf)
    sizes = {
        name: f"{sum(math.prod(leaf.shape) for leaf in group):,}"
        for name, group in below.items()
    }
    widest = max(map(len, sizes.values()), default=0)
    rows = []
    for name, group in below.items():
        single = len(group) == 1
        shape = str(tuple(group[0].shape)) if single else f"{len(group)} arrays"
        count = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in group)
        size = f"{sizes[name]:>{widest}}"
        rows.append(_Row(name, shape, size, f"{_memory(count):>10}"))
    return rows


def _memory(count: int) -> str:
    """Bytes in the largest unit that leaves at least one of it."""
    exponent = min((max(count, 1).bit_length() - 1) // 10, 3)
    unit = ("B", "KiB", "MiB", "GiB")[exponent]
    return f"{count} B" if exponent == 0 else f"{count / 1024**exponent:.1f} {unit}"
