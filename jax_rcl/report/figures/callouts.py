"""Names beside a picture, each with a line to its place."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_rcl.report.figures.drawing import TEXT, plain

_ROW = 20  # Pixels of the page that a name is high, with air.


def name_beside(
    axes: Axes,
    places: Float[np.ndarray, "m 2"],
    names: list[str],
    colours: list[str],
    bold: list[bool],
) -> None:
    """Names in the margins left and right, each with a line to its place."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # Fixes the axes, hence pixels per unit.
    pixels = axes.transData.transform(places)
    box = axes.get_window_extent()
    # Each name at the nearer side, the innermost at the other where that is full.
    order = np.argsort(pixels[:, 0], kind="stable")
    # Points of paper, since a picture may be saved with more pixels than it has here.
    point = 72 / figure.dpi
    room = int(box.height // _ROW)
    left = int((pixels[:, 0] < (box.x0 + box.x1) / 2).sum())
    left = int(np.clip(left, len(order) - room, room))
    margins = ((order[:left], box.x0, -1), (order[left:], box.x1, 1))
    for rows, edge, side in margins:
        heights = _spaced(pixels[rows, 1], box.y0 + _ROW / 2, box.y1 - _ROW / 2)
        for row, height in zip(rows.tolist(), heights, strict=True):
            axes.annotate(
                plain(names[row], 16 if bold[row] else 18),
                tuple(pixels[row] * point),
                xycoords="figure points",
                xytext=((edge + 6 * side) * point, height * point),
                textcoords="figure points",
                ha="left" if side > 0 else "right",
                va="center",
                color=TEXT,
                size=8.5,
                weight="bold" if bold[row] else "normal",
                arrowprops={
                    "relpos": ((1 - side) / 2, 0.5),
                    "arrowstyle": "-",
                    "color": colours[row],
                    "linewidth": 0.8,
                    "shrinkA": 1,
                    "shrinkB": 0,
                },
            )


def _spaced(
    heights: Float[np.ndarray, " m"], low: float, high: float
) -> Float[np.ndarray, " m"]:
    """Heights moved as little as it takes to be a row apart, between low and high."""
    order = np.argsort(heights, kind="stable")
    gap = min(_ROW, (high - low) / max(len(heights) - 1, 1))
    steps = gap * np.arange(len(heights))
    # Less its step, a height may not be below the one before it. Half way between what
    # only rising and what only falling would give, gaps are kept, too.
    wanted = np.clip(heights[order], low, high) - steps
    risen = np.maximum.accumulate(wanted)
    fallen = np.minimum.accumulate(wanted[::-1])[::-1]
    spaced = np.empty_like(heights)
    spaced[order] = np.clip((risen + fallen) / 2, low, high - steps[-1:]) + steps
    return spaced
