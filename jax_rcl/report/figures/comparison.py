"""Methods side by side: numbers over seeds as a table of text and as a picture."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.drawing import PALETTE, TEXT, plain

NOT_RUN = "not yet run"
"""What a cell says when none of its runs is finished."""

NOTHING = "–"
"""What a cell says that no run is meant to fill."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A number that the rows of a table are compared by.

    Attributes:
      name: by which rows refer to it.
      title: its heading.
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

    def shown(self, number: float) -> float:
        """A number of an evaluator in the unit of this column."""
        return 100 * number if self.unit == "%" else number


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is known of one number of one row, in the unit of its column.

    Attributes:
      values: of the seeds whose runs are finished.
      seeds: how many there will be.
      paper: what the paper reports, or None.
    """

    values: tuple[float, ...]
    seeds: int
    paper: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the finished seeds; None where there is none."""
        return math.fsum(self.values) / len(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """sqrt(Σ (x - mean)² / (n - 1)), of a sample; None below two seeds."""
        if len(self.values) < 2:
            return None
        finite = all(map(math.isfinite, self.values))
        return statistics.stdev(self.values) if finite else math.nan

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
    """A row of the table.

    Attributes:
      title: what it is about.
      cells: by the name of the column; one that is missing is left empty.
    """

    title: str
    cells: Mapping[str, Cell]


def markdown(columns: Sequence[Column], lines: Sequence[Line]) -> str:
    """The table in Markdown, padded so that it can be read as it is.

    Beside a column for which some row has a number of the paper there is one with these
    numbers, as the paper gives them.
    """
    head, aligned = [""], [":--"]
    for column in columns:
        head.append(column.heading)
        aligned.append("--:")
        if _has_paper(column, lines):
            head.append("paper")
            aligned.append("--:")
    table = [head, *(_texts(columns, lines, line) for line in lines)]
    table = [[text.replace("|", r"\|") for text in row] for row in table]
    widths = [max(3, *map(len, texts)) for texts in zip(*table, strict=True)]
    padded = [
        [t.rjust(w) if i else t.ljust(w) for i, (t, w) in enumerate(pairs)]
        for pairs in (list(zip(row, widths, strict=True)) for row in table)
    ]
    rule = [
        mark.replace("--", "-" * (width - 1))
        for mark, width in zip(aligned, widths, strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:]))


def draw(columns: Sequence[Column], lines: Sequence[Line]) -> Figure:
    """One diagram per column: a dot for each seed, a bar from mean - to + deviation.

    Raises:
      ValueError: without a column or a line.
    """
    if not columns or not lines:
        raise ValueError(
            f"a picture needs a column and a line; got {len(columns)} and {len(lines)}."
        )
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
            _row(axes, place, line.cells.get(column.name), column)
    grid[0].set_yticks(range(len(lines)), [plain(line.title, 34) for line in lines])
    grid[0].set_ylim(len(lines) - 0.5, -0.5)  # the first row on top
    return figure


def _row(axes: Axes, place: int, cell: Cell | None, column: Column) -> None:
    """Dots and bar of one cell, and at the right edge what the table says."""
    text = NOTHING if cell is None else cell.text(column.digits)
    axes.text(
        1.02,
        place,
        plain(text, 40),
        transform=axes.get_yaxis_transform(),
        color=TEXT,
        fontsize=8.5,
        va="center",
    )
    if cell is None or cell.mean is None:
        return
    colour = PALETTE[place % len(PALETTE)]
    axes.errorbar(
        cell.mean,
        place,
        xerr=cell.deviation,
        color=colour,
        marker="|",
        markersize=13,
        markeredgewidth=2.2,
        elinewidth=1.6,
    )
    places = [place] * len(cell.values)
    axes.scatter(cell.values, places, s=26, color=colour, alpha=0.5, linewidths=0)


def _has_paper(column: Column, lines: Sequence[Line]) -> bool:
    cells = [line.cells.get(column.name) for line in lines]
    return any(cell is not None and cell.paper is not None for cell in cells)


def _texts(columns: Sequence[Column], lines: Sequence[Line], line: Line) -> list[str]:
    """The texts of one line, from left to right."""
    texts = [line.title]
    for column in columns:
        cell = line.cells.get(column.name)
        texts.append(NOTHING if cell is None else cell.text(column.digits))
        if _has_paper(column, lines):
            paper = None if cell is None else cell.paper
            texts.append(NOTHING if paper is None else f"{paper:.{column.digits}f}")
    return texts
