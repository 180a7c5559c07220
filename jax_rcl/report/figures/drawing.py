"""What the pictures share: colours, empty axes, and the way to a PNG.

Pictures have no background, and their colours read on light and on dark paper alike,
so that a page can show one file in both schemes. Nothing here touches pyplot: figures
can be made in any thread and need no display.
"""

import functools
import io
from collections.abc import Sequence
from typing import Literal

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text

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
    name = "".join(x if _is_drawn(x) else _escaped(x) for x in name)
    short = name if len(name) <= length else name[: length - 1] + "…"
    return short.replace("$", r"\$")


def class_name(label: int, class_names: Sequence[str]) -> str:
    """The name of a class, or its number where there is none that can be drawn."""
    name = class_names[label] if label < len(class_names) else ""
    return plain(name) if name and all(map(_is_drawn, name)) else str(label)


def _escaped(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode("ascii")


def _is_drawn(letter: str) -> bool:
    """Whether a font on this machine has the letter."""
    if letter.isascii():
        return letter.isprintable()
    return bool(_family_with(letter))


@functools.cache
def _family_with(letter: str) -> str:
    """A family of fonts with the letter, matplotlib's own first; "" if none has it."""
    own = font_manager.findfont(font_manager.FontProperties())
    fonts = {own: "", **{font.fname: font.name for font in _others()}}
    for path, name in fonts.items():
        try:
            font = font_manager.get_font(path)
            if font.scalable and font.get_char_index(ord(letter)):
                return name or str(font.family_name)
        except (OSError, RuntimeError):  # damaged, or of a kind that is not drawn
            continue
    return ""


def _others() -> list[font_manager.FontEntry]:
    """Fonts on this machine, but for those that have a box for every letter."""
    every = font_manager.fontManager.ttflist
    return [font for font in every if not font.name.startswith("Last Resort")]


def to_png(picture: Figure, *, scale: int | float = 2) -> bytes:
    """The figure as a PNG without a background, `scale` times as large as the page."""
    for text in picture.findobj(Text):
        assert isinstance(text, Text)
        letters = [letter for letter in set(text.get_text()) if not letter.isascii()]
        families = {_family_with(letter) for letter in letters} - {""}
        if families:
            text.set_fontfamily([*text.get_fontfamily(), *sorted(families)])
    buffer = io.BytesIO()
    # No Software entry: the bytes would change with the version of matplotlib.
    options = {"metadata": {"Software": None}, "facecolor": "none"}
    picture.savefig(buffer, format="png", dpi=_DPI * scale, **options)
    return buffer.getvalue()
