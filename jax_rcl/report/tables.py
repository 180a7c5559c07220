"""Tables of text: the arrays of a run, its numbers, and runs side by side."""

import dataclasses
import itertools
import math
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from clu import parameter_overview

from jax_rcl.core import Variables

NOT_RUN = "not yet run"
"""What a cell says when none of its runs is finished."""

NOTHING = "–"
"""What a cell says that no run is meant to fill."""

_ROWS = 40  # Of the overview, at most.

_SHARE = re.compile(
    r"(?<![a-z])(top[-_]?\d+|acc|accuracy|balanced|recall|precision|f1|auc|auroc)(?![a-z])"
)

# Arrays.


def overview(variables: Variables) -> str:
    """A table of the arrays a method owns, or their shapes: name, shape, size, bytes.

    Of more than forty arrays, names are cut until a table of forty rows holds them, and
    a row stands for all arrays below its name. The last line has the totals of
    `params`, `frozen` and `memory`.
    """
    leaves = {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]
    }
    depth = max(map(len, leaves), default=1)
    while depth > 1 and len({path[:depth] for path in leaves}) > _ROWS:
        depth -= 1
    rows = _rows(leaves, depth)
    totals = [
        f"{row.name} {row.size.strip()} ({row.bytes.strip()})"
        for row in _rows(leaves, 1)
    ]
    table = parameter_overview.make_table(rows) if rows else "(no arrays)"
    return "\n".join([table, "Total: " + (", ".join(totals) or "0")])


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
    rows = []
    for name, group in below.items():
        shape = f"{len(group)} arrays" if len(group) > 1 else str(group[0].shape)
        elements = sum(math.prod(leaf.shape) for leaf in group)
        count = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in group)
        rows.append(_Row(name, shape, f"{elements:>13,}", f"{size(count):>10}"))
    return rows


def size(count: int) -> str:
    """Bytes in a readable unit, such as `1.5 GiB`."""
    exponent = min(int(math.log2(max(count, 1)) // 10), 4)
    return f"{count / 1024**exponent:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[exponent]}"


# Numbers of evaluators.


@dataclasses.dataclass(frozen=True)
class Group:
    """The numbers of one evaluator.

    Attributes:
      protocol: the line that says what the numbers mean, or "".
      numbers: pairs of a name without the evaluator's and a number, as text; `top1`
        first, then other shares, then the rest.
    """

    evaluator: str
    protocol: str
    numbers: tuple[tuple[str, str], ...]


def is_share(name: str) -> bool:
    """Whether the number of this name is a share in [0, 1], shown in percent.

    Those with a word such as `top1`, `accuracy`, `recall` or `auroc` are. Other numbers
    (an alignment, a rank) have scales of their own.
    """
    return _SHARE.search(name.lower()) is not None


def format_number(name: str, value: float) -> str:
    """`97.2 %` for a share, four digits otherwise."""
    # Outside [0, 1] it is not a share, whatever its name: show it as it is.
    percent = is_share(name) and 0 <= value <= 1
    return f"{100 * value:.1f} %" if percent else f"{value:.4g}"


def group_numbers(
    results: Mapping[str, float], protocols: Mapping[str, str]
) -> list[Group]:
    """Groups numbers by the evaluator they come from, in the order of `protocols`.

    A number is called `<evaluator>/<number>`; if two evaluators fit, the longer name
    wins. Those without a protocol come last, under what is before the last slash.
    """
    owned: dict[str, list[tuple[str, str]]] = {name: [] for name in protocols}
    for name, value in results.items():
        fitting = [owner for owner in protocols if name.startswith(owner + "/")]
        owner = max(fitting, key=len, default=name.rpartition("/")[0])
        short = name[len(owner) :].lstrip("/")
        owned.setdefault(owner, []).append((short, format_number(name, value)))
    for numbers in owned.values():
        numbers.sort(key=lambda pair: (pair[0] != "top1", not is_share(pair[0])))
    return [
        Group(owner, protocols.get(owner, ""), tuple(numbers))
        for owner, numbers in owned.items()
        if numbers
    ]


def closing(
    results: Mapping[str, float], protocols: Mapping[str, str], *, width: int = 100
) -> str:
    """The last table of a run: each evaluator's numbers next to what they mean.

    Shares in [0, 1] become percent; protocols are wrapped, so that lines fill `width`.
    """
    groups = group_numbers(results, protocols)
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


# Runs side by side.


@dataclasses.dataclass(frozen=True)
class Column:
    """A number that the rows of a table are compared by.

    Attributes:
      name: by which rows refer to it.
      unit: of what is shown, behind the title. "%" shows 100 times the number of the
        evaluator, which is a share; any other unit, or "", the number as it is.
      digits: behind the decimal point.
    """

    name: str
    title: str
    unit: str = "%"
    digits: int = 1

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def convert(self, number: float) -> float:
        """A number of an evaluator in the unit of this column."""
        return 100 * number if self.unit == "%" else number


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is known of one number of one row, in the unit of its column.

    Attributes:
      values: of the seeds whose runs are finished.
      seeds: how many there will be.
      paper: what the paper reports, or None.
      repeats: the deviation within a single run, such as over the repeats of a sweep;
        shown where there is only one value.
    """

    values: tuple[float, ...]
    seeds: int
    paper: float | None = None
    repeats: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the finished seeds; None where there is none."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """sqrt(Σ (x - mean)² / (n - 1)), of a sample; `repeats` of a single value."""
        if len(self.values) < 2:
            return self.repeats if self.values else None
        finite = all(map(math.isfinite, self.values))
        return statistics.stdev(self.values) if finite else math.nan

    def record(self) -> dict[str, Any]:
        """The numbers, for JSON."""
        numbers = {"mean": self.mean, "deviation": self.deviation}
        return {**numbers, "values": self.values}

    def text(self, digits: int) -> str:
        """Mean ± deviation, and how many seeds where some are missing."""
        if self.mean is None:
            return NOT_RUN
        text = f"{self.mean:.{digits}f}"
        if self.deviation is not None:
            text += f" ± {self.deviation:.{digits}f}"
        done = len(self.values)
        return text if done == self.seeds else f"{text} ({done} of {self.seeds} seeds)"


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the table: cells by the name of the column, some perhaps missing."""

    title: str
    cells: Mapping[str, Cell]


Rows = tuple[Sequence[Column], Sequence[Line]]
"""A table: its columns and its rows."""


def markdown(columns: Sequence[Column], lines: Sequence[Line]) -> str:
    """The table in Markdown, padded so that it can be read as it is.

    Beside a column for which some row has a number of the paper there is one with these
    numbers, as the paper gives them.
    """
    shown = [["", *(line.title for line in lines)]]
    for column in columns:
        digits = column.digits
        cells = [line.cells.get(column.name) for line in lines]
        papers = [None if cell is None else cell.paper for cell in cells]
        texts = [NOTHING if cell is None else cell.text(digits) for cell in cells]
        shown.append([column.heading, *texts])
        if any(paper is not None for paper in papers):
            texts = [NOTHING if x is None else f"{x:.{digits}f}" for x in papers]
            shown.append(["paper", *texts])
    padded = []
    for place, texts in enumerate(shown):
        texts = [text.replace("|", r"\|") for text in texts]
        width = max(3, *map(len, texts))
        rule = "-" * (width - 1)
        texts.insert(1, f"{rule}:" if place else f":{rule}")
        padded.append([t.rjust(width) if place else t.ljust(width) for t in texts])
    return "\n".join(f"| {' | '.join(row)} |" for row in zip(*padded, strict=True))
