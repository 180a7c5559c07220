"""Runs side by side: means, deviations and single runs, by row and by level."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jax_rcl.artifacts import Curves
from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.drawing import LINE, PALETTE, TEXT, plain
from jax_rcl.report.tables import NOTHING, Cell, Column, Line, Rows

_ROW = 13  # Pixels of the page that a method takes in a row of several.
_CURVES = 290  # Pixels of the page that a diagram of curves is high,
_LEGEND = 24  # and a line of four names above all diagrams.


def draw_table(columns: Sequence[Column], lines: Sequence[Line]) -> Figure:
    """One diagram per column: a dot for each seed, a bar from mean - to + deviation."""
    across = min(2, len(columns))
    down = -(-len(columns) // across)
    figure = drawing.figure(drawing.WIDTH, down * (70 + 30 * len(lines)))
    grid = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes in grid[len(columns) :]:
        axes.set_visible(False)
    for axes, column in zip(grid, columns, strict=False):
        drawing.style(axes, title=plain(column.heading, 44))
        axes.grid(False, axis="y")
        for place, line in enumerate(lines):
            cell = line.cells.get(column.name)
            text = NOTHING if cell is None else cell.text(column.digits)
            style = {"color": TEXT, "fontsize": 8.5, "va": "center"}
            edge = axes.get_yaxis_transform()
            axes.text(1.02, place, plain(text, 40), transform=edge, **style)
            mark = {"marker": "|", "markersize": 13, "markeredgewidth": 2.2}
            _dots(axes, place, cell, PALETTE[place % len(PALETTE)], **mark)
    _name_rows(grid[0], lines)
    return figure


def draw_runs(rows: Mapping[str, Rows], curves: Mapping[str, Curves]) -> Figure:
    """Diagrams of rows above each other, then diagrams of curves, two side by side.

    Columns of rows and lines of curves are methods; one has the same colour everywhere.
    Large dots are means, small ones single runs, bars reach from mean - to + deviation.
    A dashed line is the share without any level, such as that of clean images. Both
    mappings, of which one may be empty, are by title; rows hold shares in percent.
    """
    named = [[column.title for column in columns] for columns, _ in rows.values()]
    named += [finding.line_names for finding in curves.values()]
    names = list(dict.fromkeys(name for each in named for name in each))
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    across = min(2, len(curves))
    heights = [
        60 + len(lines) * max(20, _ROW * len(columns) - 6)
        for columns, lines in rows.values()
    ]
    heights += [_CURVES] * -(-len(curves) // 2)
    width = drawing.WIDTH if rows or across > 1 else 0.75 * drawing.WIDTH
    figure = drawing.figure(width, sum(heights) + _LEGEND * -(-len(names) // 4))
    grid = figure.add_gridspec(len(heights), max(1, across), height_ratios=heights)
    handles: dict[str, Any] = {}
    for place, (title, (columns, lines)) in enumerate(rows.items()):
        axes = figure.add_subplot(grid[place, :])
        drawing.style(axes, title=plain(title, 60), x="top-1 accuracy (%)")
        handles |= _rows(axes, columns, lines, colours)
    for place, (title, finding) in enumerate(curves.items()):
        axes = figure.add_subplot(grid[len(rows) + place // 2, place % 2])
        drawing.style(axes, title=plain(title, 44), x=finding.axis, y="accuracy (%)")
        handles |= _curves(axes, finding, colours)
    figure.legend(
        [handles[name] for name in names],
        [plain(name, 30) for name in names],
        loc="outside upper left",
        ncols=4,
        frameon=False,
        labelcolor=TEXT,
        fontsize=9,
    )
    return figure


def _rows(
    axes: Axes,
    columns: Sequence[Column],
    lines: Sequence[Line],
    colours: Mapping[str, str],
) -> dict[str, Any]:
    """A row for each line, with a dot for each column; gives dots for the legend."""
    axes.grid(False, axis="y")
    for row in range(1, len(lines)):
        axes.axhline(row - 0.5, color=LINE, linewidth=0.8)
    handles = {}
    for place, column in enumerate(columns):
        offset = (place - (len(columns) - 1) / 2) * 0.7 / len(columns)
        for row, line in enumerate(lines):
            cell, colour = line.cells.get(column.name), colours[column.title]
            drawn = _dots(axes, row + offset, cell, colour, marker="o", markersize=5)
            handles.setdefault(column.title, drawn)
    _name_rows(axes, lines)
    return handles


def _dots(
    axes: Axes, place: int | float, cell: Cell | None, colour: str, **mark: Any
) -> Any:
    """A mark at the mean, a bar of the deviation, and a small dot for each run."""
    if cell is None or cell.mean is None:
        return None
    style = {"color": colour, "elinewidth": 1.6, **mark}
    drawn = axes.errorbar(cell.mean, place, xerr=cell.deviation, **style)
    places = [place] * len(cell.values)
    axes.scatter(cell.values, places, s=20, color=colour, alpha=0.5, linewidths=0)
    return drawn


def _name_rows(axes: Axes, lines: Iterable[Line]) -> None:
    """Titles at the left edge, the first row on top."""
    titles = [plain(line.title, 34) for line in lines]
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)


def _curves(axes: Axes, finding: Curves, colours: Mapping[str, str]) -> dict[str, Any]:
    """Draws the lines of one diagram; gives them by name, for the legend."""
    places = finding.places
    if places is None:
        places = np.arange(len(finding.level_names), dtype=float)
        axes.set_xticks(places, [plain(name) for name in finding.level_names])
        axes.margins(x=0.1)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    handles: dict[str, Any] = {}
    for row, name in enumerate(finding.line_names):
        mean, deviation = 100 * finding.means[row], 100 * finding.deviations[row]
        order = np.argsort(places, kind="stable")
        known = order[np.isfinite(mean[order])]  # from the lowest level
        bar = np.nan_to_num(deviation[known])
        style = {"color": colours[name], "marker": "o", "markersize": 4}
        style |= {"linewidth": 1.6, "capsize": 2.5}
        drawn = axes.errorbar(places[known], mean[known], yerr=bar, **style)
        handles[name] = drawn
        if np.isfinite(finding.references[row]):
            height = 100 * float(finding.references[row])
            axes.axhline(height, color=colours[name], linestyle="--", linewidth=1)
    return handles
