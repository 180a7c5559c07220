"""Accuracies on shifted test sets, side by side: tables of text, and pictures."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from jax_rcl.artifacts import Grid
from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.comparison import Cell, Column, Line
from jax_rcl.report.figures.drawing import LINE, PALETTE, TEXT, plain

_BAR = 26  # Pixels of the page from which on a bar has room for its number,
_ROW = 13  # and those of a corruption for each method.


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """What one run reaches, as shares of the images.

    Attributes:
      sets: by the name of the test set, that of clean images first.
      corruptions: by corrupted set, for each corruption the mean over severities.
      severities: by corrupted set, for each severity the mean over corruptions.
      counted: by corrupted set, the corruptions that means over them are over.
    """

    sets: Mapping[str, float]
    corruptions: Mapping[str, Mapping[str, float]]
    severities: Mapping[str, Mapping[str, float]]
    counted: Mapping[str, tuple[str, ...]]


Methods = Mapping[str, Sequence[Accuracies]]
"""The runs of each method, all on the same sets."""

Rows = tuple[list[Column], list[Line]]
"""A table: its columns and its rows."""


@dataclasses.dataclass(frozen=True)
class Difference(Cell):
    """A cell whose mean has a sign, unless it is shown as zero."""

    def text(self, digits: int) -> str:
        """Signed mean ± deviation."""
        text = super().text(digits)
        mean = round(self.mean or 0.0, digits)
        if mean > 0:
            return f"+{text}"
        return text if mean else text.removeprefix("-")


# Text.


def overall(methods: Methods) -> Rows:
    """A row for each method, a column for each test set."""
    names = list(_first(methods).sets)
    columns = [Column(name, name, digits=2) for name in names]
    lines = [
        Line(method, {name: _cell(runs, lambda r, n=name: r.sets[n]) for name in names})
        for method, runs in methods.items()
    ]
    return columns, lines


def by_corruption(methods: Methods, part: str) -> Rows:
    """A column for each method; rows for corruptions, their mean, and severities.

    Args:
      methods: the runs.
      part: name of a corrupted set.
    """
    first = _first(methods)
    rows: dict[str, Callable[[Accuracies], float]] = {}
    for name in first.corruptions[part]:
        rows[plain_name(name)] = lambda run, name=name: run.corruptions[part][name]
    rows[f"mean of {len(first.counted[part])}"] = lambda run: run.sets[part]
    for name in first.severities[part]:
        rows[f"severity {name}"] = lambda run, name=name: run.severities[part][name]
    lines = [
        Line(row, {method: _cell(runs, of) for method, runs in methods.items()})
        for row, of in rows.items()
    ]
    return [Column(method, method) for method in methods], lines


def against(methods: Methods, baseline: str) -> Rows:
    """How much each method gains on the mean of the baseline's runs.

    Differences of accuracy in points for every set, and `relative_error` in percent for
    every corrupted one.
    """
    base, first = methods[baseline], _first(methods)
    columns = [Column(name, name, "points", 2) for name in first.sets]
    levels = {
        name: statistics.fmean(run.sets[name] for run in base) for name in first.sets
    }
    errors = {f"{name}, error": name for name in first.corruptions}
    columns += [
        Column(key, f"{name}: relative mean corruption error")
        for key, name in errors.items()
    ]
    lines = []
    for method, runs in methods.items():
        cells: dict[str, Cell] = {}
        for name, level in levels.items():
            gains = tuple(100 * (run.sets[name] - level) for run in runs)
            cells[name] = Difference(gains, len(gains))
        for key, name in errors.items():
            cells[key] = _cell(runs, lambda r, n=name: relative_error(r, base, n))
        lines.append(Line(method, cells))
    return columns, lines


def relative_error(run: Accuracies, baseline: Sequence[Accuracies], part: str) -> float:
    """The mean corruption error, where the baseline's mean over its runs has 1.

    mean_c (Σ_s error_{c,s} / Σ_s error of the baseline_{c,s}) over corruptions c and
    severities s, Hendrycks and Dietterich 2019, section 4.1
    (https://arxiv.org/abs/1903.12261), with AlexNet in the place of the baseline. It is
    infinite, or not a number, where the baseline makes no error.

    Args:
      run: whose error.
      baseline: runs whose errors are averaged first.
      part: name of a corrupted set.
    """
    ratios = []
    for name in run.counted[part]:
        known = 1 - statistics.fmean(
            other.corruptions[part][name] for other in baseline
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(np.float64(1 - run.corruptions[part][name]) / known)
    return float(np.mean(ratios))


def tables(methods: Methods, baseline: str | None) -> dict[str, Rows]:
    """Columns and rows of everything there is to say, by title."""
    found = {"Top-1 accuracy": overall(methods)}
    if baseline is not None:
        title = f"Difference from the mean of {baseline}"
        found[title] = against(methods, baseline)
    for name in _first(methods).corruptions:
        found[f"Top-1 accuracy on {name}"] = by_corruption(methods, name)
    return found


# Pictures.


def draw(methods: Methods) -> Figure:
    """Accuracies of the methods on all sets, and on each corruption of corrupted ones.

    Bars and large dots are means over runs, small dots single runs, lines reach from
    mean - to + deviation.
    """
    first = _first(methods)
    heights = [250]
    for name in first.corruptions:
        rows = len(first.corruptions[name]) + 1
        heights.append(60 + rows * max(20, _ROW * len(methods) - 6))
    figure = drawing.figure(drawing.WIDTH, sum(heights) + 30)
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    top, *below = panels[:, 0]
    _sets(top, methods)
    for axes, name in zip(below, first.corruptions, strict=True):
        _corruptions(axes, methods, name)
    handles, names = top.get_legend_handles_labels()
    figure.legend(
        handles,
        [plain(name, 30) for name in names],
        loc="outside upper left",
        ncols=4,
        frameon=False,
        labelcolor=TEXT,
        fontsize=9,
    )
    return figure


def grid(finding: Grid) -> Figure:
    """Shares in percent, the higher the darker, and beside each row its mean."""
    r, c = finding.values.shape
    rows = [plain(plain_name(name), 30) for name in finding.row_names]
    columns = [plain(plain_name(name)) for name in finding.column_names]
    cell = max(44, 14 + 5.8 * max(map(len, columns)))
    width = 80 + 6.2 * max(map(len, rows)) + cell * c
    figure = drawing.figure(min(drawing.WIDTH, width), 60 + 24 * r)
    axes = figure.add_subplot()
    drawing.style(axes)
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    # Without a hole for the paper, dark or light: numbers need a colour of their own.
    fade = LinearSegmentedColormap.from_list("", ["#eef5fa", PALETTE[0]])
    shown = {"cmap": fade, "norm": Normalize(0, 1), "interpolation": "none"}
    axes.imshow(finding.values, aspect="auto", **shown)
    axes.set_yticks(range(r), rows)
    axes.set_xticks(range(c), columns)
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(c + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(r + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color=LINE, linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    for i, j in np.ndindex(r, c):
        value = finding.values[i, j]
        colour = "white" if value > 0.75 else "#20242a"
        text = f"{100 * value:.1f}"
        axes.text(j, i, text, ha="center", va="center", size=8.5, color=colour)
    margin = {"textcoords": "offset points", "size": 8.5, "color": TEXT}
    for i, mean in enumerate(finding.values.mean(axis=1)):
        text, place = f"{100 * mean:.1f}", (c - 0.5, i)
        axes.annotate(text, place, xytext=(8, 0), va="center", **margin)
    axes.annotate("mean", (c - 0.5, -0.5), xytext=(8, 5), **margin)
    return figure


def plain_name(name: str) -> str:
    """A name of a corruption as it reads: `jpeg_compression` as `jpeg compression`."""
    return name.replace("_", " ")


def _sets(axes: Axes, methods: Methods) -> None:
    """Bars in groups: a group for each set, a bar for each method."""
    drawing.style(axes, y="top-1 accuracy (%)")
    axes.grid(False, axis="x")
    columns, lines = overall(methods)
    width = 0.8 / len(lines)
    room = width * (drawing.WIDTH - 60) / len(columns)
    for place, line in enumerate(lines):
        colour = PALETTE[place % len(PALETTE)]
        cells = [line.cells[column.name] for column in columns]
        means = [cell.mean or 0.0 for cell in cells]
        where = np.arange(len(columns)) + (place - (len(lines) - 1) / 2) * width
        axes.bar(where, means, 0.9 * width, color=colour, alpha=0.75, label=line.title)
        for x, cell, mean in zip(where, cells, means, strict=True):
            deviation = cell.deviation or 0.0
            axes.errorbar(x, mean, deviation, color=TEXT, elinewidth=1.6)
            dots = np.full(len(cell.values), x)
            axes.scatter(dots, cell.values, s=8, color=TEXT, linewidths=0, zorder=3)
            if room >= _BAR:
                high = max(*cell.values, mean + deviation)
                over = {"xytext": (0, 3), "textcoords": "offset points"}
                style = {"ha": "center", "color": TEXT, "fontsize": 7.5}
                axes.annotate(f"{mean:.1f}", (float(x), high), **over, **style)
    names = [plain(column.title, 40).replace(", ", ",\n") for column in columns]
    axes.set_xticks(range(len(columns)), names)
    axes.margins(x=0.02, y=0.1)


def _corruptions(axes: Axes, methods: Methods, part: str) -> None:
    """A row for each corruption and for their mean, in it a dot for each method."""
    drawing.style(axes, title=plain(part, 60), x="top-1 accuracy (%)")
    columns, lines = by_corruption(methods, part)
    lines = lines[: len(_first(methods).corruptions[part]) + 1]
    axes.grid(False, axis="y")
    for row in range(1, len(lines)):
        axes.axhline(row - 0.5, color=LINE, linewidth=0.8)
    for place, column in enumerate(columns):
        colour = PALETTE[place % len(PALETTE)]
        offset = (place - (len(columns) - 1) / 2) * 0.7 / len(columns)
        for row, line in enumerate(lines):
            cell = line.cells[column.name]
            if cell.mean is None:
                continue
            style = {"color": colour, "elinewidth": 1.6, "marker": "o", "ms": 5}
            axes.errorbar(cell.mean, row + offset, xerr=cell.deviation, **style)
            dots = [row + offset] * len(cell.values)
            axes.scatter(cell.values, dots, s=10, color=colour, alpha=0.4, linewidths=0)
    axes.set_yticks(range(len(lines)), [plain(line.title, 30) for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)


def _first(methods: Methods) -> Accuracies:
    return next(iter(methods.values()))[0]


def _cell(runs: Sequence[Accuracies], of: Callable[[Accuracies], float]) -> Cell:
    values = tuple(100 * of(run) for run in runs)
    return Cell(values, len(values))
