"""How shares fall as the level of a distortion rises: a diagram for each distortion."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jax_rcl.artifacts import Curves
from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.drawing import PALETTE, TEXT, plain

_HEIGHT = 290  # Pixels of the page of a diagram,
_LEGEND = 24  # and of a row of four names above all of them.


def draw(findings: Mapping[str, Curves]) -> Figure:
    """Diagrams by their titles, two beside each other; lines of a name are of a colour.

    Dots are means, bars reach from mean - to + deviation, and a dashed line in the same
    colour is what there is without any level, such as of clean images.

    Raises:
      ValueError: without a diagram.
    """
    if not findings:
        raise ValueError("a picture of levels needs at least one diagram; got none.")
    names = list(
        dict.fromkeys(x for each in findings.values() for x in each.line_names)
    )
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    across = min(2, len(findings))
    down = -(-len(findings) // across)
    width = drawing.WIDTH if across > 1 else 0.75 * drawing.WIDTH
    figure = drawing.figure(width, _HEIGHT * down + _LEGEND * -(-len(names) // 4))
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[len(findings) :]:
        axes.set_visible(False)
    handles = {}
    for axes, (title, finding) in zip(grid, findings.items(), strict=False):
        drawing.style(axes, title=plain(title, 44), x=finding.axis, y="accuracy (%)")
        handles |= _lines(axes, finding, colours)
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


def _lines(
    axes: Axes, finding: Curves, colours: Mapping[str, str]
) -> dict[str, object]:
    """Draws the lines of one diagram; gives them by name, for the legend."""
    places = finding.places
    if places is None:
        places = np.arange(len(finding.level_names), dtype=float)
        axes.set_xticks(places, [plain(name) for name in finding.level_names])
        axes.margins(x=0.1)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    handles: dict[str, object] = {}
    for row, name in enumerate(finding.line_names):
        mean, deviation = 100 * finding.means[row], 100 * finding.deviations[row]
        style = {"color": colours[name], "marker": "o", "markersize": 4}
        known = _rising(places, mean)
        handles[name] = axes.errorbar(
            places[known],
            mean[known],
            yerr=np.nan_to_num(deviation[known]),
            linewidth=1.6,
            capsize=2.5,
            **style,
        )
        if np.isfinite(finding.references[row]):
            height = 100 * float(finding.references[row])
            axes.axhline(height, color=colours[name], linestyle="--", linewidth=1)
    return handles


def _rising(
    places: Float[np.ndarray, " l"], values: Float[np.ndarray, " l"]
) -> np.ndarray:
    """Which of the levels have a value, from the lowest."""
    order = np.argsort(places, kind="stable")
    return order[np.isfinite(values[order])]
