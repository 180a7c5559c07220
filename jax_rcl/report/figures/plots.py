"""Pictures of what went into a network and of what came out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm, to_rgba
from matplotlib.figure import Figure

from jax_rcl.artifacts import (
    ClassPlane,
    Confusion,
    Curves,
    Embedding,
    Finding,
    Grid,
    MeanCosines,
    Pictures,
    Spectra,
    Spreads,
)
from jax_rcl.report.figures import drawing, geometry
from jax_rcl.report.figures.comparison import draw_runs
from jax_rcl.report.figures.drawing import LINE, PALETTE, TEXT, class_name, plain
from jax_rcl.report.figures.geometry import embedding
from jax_rcl.report.figures.sheets import pictures
from jax_rcl.report.tables import format_number

_COUNTED = 20  # Classes up to which a confusion matrix holds counts,
_NAMED = 40  # and names beside rows and columns;
_LISTED = 14  # else so many lines about the most frequent errors.


def draw(finding: Finding) -> tuple[str, Figure]:
    """The picture of what an evaluator found, and a caption that explains it."""
    match finding:
        case Confusion():
            text = "rows are true classes, columns predicted; colour is the row's share"
            return text, confusion(finding.matrix, finding.class_names)
        case Embedding():
            names = finding.class_names
            return finding.method, embedding(finding.points, finding.labels, names)
        case MeanCosines():
            text = "cosines of subclass means with each other; classes are framed"
            return text, geometry.cosines(finding)
        case ClassPlane():
            return finding.method, geometry.plane(finding)
        case Spectra():
            text = "singular values of unit features around the mean of their class"
            return text, geometry.spectra(finding)
        case Spreads():
            text = (
                "dots are subclasses around their own means, lines classes around "
                "theirs; dots left of the line are what subclasses explain"
            )
            return text, geometry.spreads(finding)
        case Pictures():
            return finding.method, pictures(finding)
        case Grid():
            return finding.method, grid(finding)
        case Curves():
            return finding.method, draw_runs({}, {"": finding})


def views(
    views: Float[np.ndarray, "n v h w c"],
    labels: Integer[np.ndarray, " n"] | None = None,
    class_names: Sequence[str] = (),
    titles: Sequence[str] = (),
) -> Figure:
    """A contact sheet: one column per example, one row per view.

    Images are in [0, 1], gray or in colour. The class is written above each column, and
    one of `titles` before each row, by default "view 1", "view 2", ….
    """
    n, v, *_, c = views.shape
    if not n * v or c not in (1, 3):
        raise ValueError(
            f"views has shape {views.shape}; write [n, v, h, w, c] with at least one "
            f"image and c of 1 or 3."
        )
    titles = titles or [f"view {j + 1}" for j in range(v)]
    rows = views.swapaxes(0, 1).astype(np.float32)
    sheet = Pictures(rows, tuple(titles), labels, tuple(class_names), method="")
    return pictures(sheet)


def confusion(
    matrix: Integer[np.ndarray, "k k"], class_names: Sequence[str] = ()
) -> Figure:
    """Which class (row) was taken for which (column).

    Colour is the share of the row, blue where right and orange where wrong, with small
    shares lifted so that rare errors show. Up to twenty classes, cells hold counts and
    the margin the recall of each class; beyond forty, names are too small to read, and
    the most frequent confusions are listed instead.
    """
    k = len(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    if k > _NAMED:
        # A square beside a list leaves no room to choose: 410 pixels, and 320.
        figure = drawing.figure(drawing.WIDTH, 470, layout=None)
        axes = figure.add_axes((52 / 800, 50 / 470, 410 / 800, 410 / 470))
        beside = figure.add_axes((478 / 800, 50 / 470, 320 / 800, 410 / 470))
    else:
        side = min(190 + max(34 * k, 240), drawing.WIDTH)
        figure = drawing.figure(side + 40, side)
        axes, beside = figure.add_subplot(), None
    drawing.style(axes, x="predicted", y="true", lines=False)
    right = np.eye(k, dtype=bool)
    for colour, cells in ((PALETTE[0], right), (PALETTE[1], ~right)):
        ends = [to_rgba(colour, 0), to_rgba(colour, 1)]
        fade = LinearSegmentedColormap.from_list("", ends)
        values = np.ma.masked_array(share, ~cells)
        axes.imshow(values, cmap=fade, norm=PowerNorm(0.5, 0, 1), interpolation="none")
    names = [class_name(label, class_names) for label in range(k)]
    if beside is not None:
        axes.grid(True, color=LINE, linewidth=0.5)
        _worst(beside, share, names)
        return figure
    size = float(np.clip(330 / k, 6, 9))
    axes.set_xticks(range(k), names, rotation=90 if k > 5 else 0, fontsize=size)
    axes.set_yticks(range(k), names, fontsize=size)
    _frame_cells(axes, k, k)
    if k <= _COUNTED:
        _counts(axes, matrix, share)
    return figure


def grid(finding: Grid) -> Figure:
    """Shares in percent, the higher the darker, and beside each row its mean."""
    r, c = finding.values.shape
    rows = [plain(name.replace("_", " "), 30) for name in finding.row_names]
    columns = [plain(name.replace("_", " ")) for name in finding.column_names]
    cell = max(44, 14 + 5.8 * max(map(len, columns)))
    width = 80 + 6.2 * max(map(len, rows)) + cell * c
    figure = drawing.figure(min(drawing.WIDTH, width), 60 + 24 * r)
    axes = figure.add_subplot()
    drawing.style(axes, lines=False)
    # Without a hole for the paper, dark or light: numbers need a colour of their own.
    fade = LinearSegmentedColormap.from_list("", ["#eef5fa", PALETTE[0]])
    shown = {"cmap": fade, "norm": Normalize(0, 1), "interpolation": "none"}
    axes.imshow(finding.values, aspect="auto", **shown)
    axes.set_yticks(range(r), rows)
    axes.set_xticks(range(c), columns)
    axes.xaxis.tick_top()
    _frame_cells(axes, r, c)
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


def _frame_cells(axes: Axes, rows: int, columns: int) -> None:
    """Lines between the cells of a matrix."""
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color=LINE, linewidth=0.8)
    axes.tick_params(which="minor", length=0)


def _counts(axes: Axes, matrix: np.ndarray, share: np.ndarray) -> None:
    """Counts in the cells, empty ones left empty, and recall right of each row."""
    k = len(matrix)
    for i, j in np.argwhere(matrix > 0):
        # White where the cell is dark enough to carry it.
        colour = "white" if share[i, j] > 0.3 else TEXT
        count = str(matrix[i, j])
        axes.text(j, i, count, ha="center", va="center", size=8.5, color=colour)
    margin = {"textcoords": "offset points", "size": 8.5, "color": TEXT}
    for i in range(k):
        recall = format_number("recall", float(share[i, i])) if matrix[i].sum() else "–"
        axes.annotate(recall, (k - 0.5, i), xytext=(6, 0), va="center", **margin)
    axes.annotate("recall", (k - 0.5, -0.5), xytext=(6, 6), **margin)


def _worst(axes: Axes, share: np.ndarray, names: Sequence[str]) -> None:
    """The most frequent confusions as lines of text in axes of their own."""
    axes.set_axis_off()
    wrong = np.where(np.eye(len(share), dtype=bool), 0.0, share)
    ranked = np.argsort(-wrong, axis=None, kind="stable")[:_LISTED]
    pairs = np.stack(np.unravel_index(ranked, wrong.shape), axis=1)
    lines = [
        f"{format_number('recall', float(share[i, j]))}  {names[i]} → {names[j]}"
        for i, j in pairs
        if wrong[i, j]
    ]
    title = "Taken most often for another class" if lines else "All are right"
    text = axes.text(0, 1, "\n".join([title, *lines]), va="top")
    text.set(size=8.5, color=TEXT, linespacing=1.7)
