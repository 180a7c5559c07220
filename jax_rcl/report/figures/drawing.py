"""What the pictures share: colours, empty axes, and the way to a PNG.

Pictures have no background, and their colours read on light and on dark paper alike,
so that a page can show one file in both schemes. Nothing here touches pyplot: figures
can be made in any thread and need no display.
"""

import io
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

TEXT = "#747a82"
"""Contrast 4.3 to white and 4.2 to nearly black; headings belong to the page."""

LINE = (0.5, 0.53, 0.57, 0.28)
"""Grid lines and frames."""

PALETTE = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#a6761d",
    "#7a5fd0",
    "#9aa000",
    "#7f7f7f",
)
"""Okabe and Ito's colours, which the colour-blind tell apart, and four more."""

WIDTH = 800
"""Widest picture, in pixels of the page."""

_DPI = 100  # Pixels of the page per inch of matplotlib.


def figure(
    width: int | float,
    height: int | float,
    *,
    layout: Literal["constrained"] | None = "constrained",
) -> Figure:
    """An empty figure of so many page pixels, without a background."""
    size = (round(width) / _DPI, round(height) / _DPI)
    blank = Figure(figsize=size, dpi=_DPI, facecolor="none", layout=layout)
    FigureCanvasAgg(blank)
    return blank


def style(
    axes: Axes, *, title: str = "", x: str = "", y: str = "", lines: bool = True
) -> None:
    """Title flush left, axis labels, a light grid behind the data, no box.

    Without `lines`, as for matrices and maps, there is neither grid nor axis.
    """
    axes.set_facecolor("none")
    axes.set_title(title, loc="left", color=TEXT, fontsize=10, fontweight="bold", pad=8)
    axes.set_xlabel(x, color=TEXT, fontsize=9)
    axes.set_ylabel(y, color=TEXT, fontsize=9)
    axes.tick_params(colors=TEXT, labelsize=8.5, length=0)
    axes.grid(lines, **({"color": LINE, "linewidth": 0.8} if lines else {}))
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(lines and side == "bottom")
        spine.set_color(LINE)


def colour_bar(axes: Axes, norm: Normalize, colours: Colormap, label: str) -> None:
    """A slim bar beside the axes that says what colours stand for."""
    figure, scale = axes.get_figure(), ScalarMappable(norm, colours)
    assert isinstance(figure, Figure)
    bar = figure.colorbar(scale, ax=axes, shrink=0.5, aspect=30, pad=0.01)
    bar.set_label(label, color=TEXT, fontsize=9)
    bar.ax.tick_params(colors=TEXT, labelsize=8.5, length=0)
    bar.ax.set_facecolor("none")
    bar.outline.set_visible(False)


def plain(name: str, length: int = 18) -> str:
    """A name as a label: shortened, and safe from matplotlib's reading `$` as TeX."""
    short = name if len(name) <= length else name[: length - 1] + "…"
    return short.replace("$", r"\$")


def class_name(label: int, class_names: Sequence[str]) -> str:
    """The name of a class, or its number where there is no name."""
    return plain(class_names[label]) if label < len(class_names) else str(label)


def to_png(picture: Figure, *, scale: int | float = 2) -> bytes:
    """The figure as a PNG without a background, `scale` times as large as the page."""
    buffer = io.BytesIO()
    # No Software entry: the bytes would change with the version of matplotlib.
    options = {"metadata": {"Software": None}, "facecolor": "none"}
    picture.savefig(buffer, format="png", dpi=_DPI * scale, **options)
    return buffer.getvalue()
