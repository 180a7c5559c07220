"""Pictures of how classes and their subclasses lie in feature space."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_hex, to_rgba
from matplotlib.figure import Figure

from jax_rcl.artifacts import ClassPlane, MeanCosines, Spectra, Spreads
from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.callouts import name_beside
from jax_rcl.report.figures.drawing import LINE, PALETTE, TEXT, class_name, plain

_COUNTED = 14  # Subclasses up to which cells hold numbers,
_NAMED = 40  # and names; beyond, only classes are named.
_LISTED = 20  # Classes up to which each has a colour with a name beside it.
_MARGIN = 152  # Pixels of the page beside the plane, for names.
_FLOOR = 1e-6  # Smaller singular values are the rounding of float32 features.


def cosines(finding: MeanCosines) -> Figure:
    """A matrix of cosines between subclass means, classes as framed blocks.

    Blue is positive, orange negative, no colour 0. Up to fourteen subclasses, cells
    hold the numbers; up to forty, rows and columns are named. Classes are named where
    they have room.
    """
    s = len(finding.matrix)
    side = min(max(34 * s, 240), 400 if s <= _NAMED else 560)
    below = 130 if s <= _NAMED else 20
    figure = drawing.figure(min(drawing.WIDTH, side + 400), side + below)
    axes = figure.add_subplot()
    drawing.style(axes, lines=False)
    ends = [to_rgba(PALETTE[1], 1), to_rgba(PALETTE[1], 0)]
    ends += [to_rgba(PALETTE[0], 0), to_rgba(PALETTE[0], 1)]
    places = zip((0, 0.5, 0.5, 1), ends, strict=True)
    fade = LinearSegmentedColormap.from_list("", list(places))
    norm = Normalize(-1, 1)
    axes.imshow(finding.matrix, cmap=fade, norm=norm, interpolation="none")
    parts = np.flatnonzero(np.diff(finding.parents)) + 1
    many = len(parts) >= _LISTED
    line = {"color": LINE if many else TEXT, "linewidth": 0.5 if many else 1}
    for edge in parts - 0.5:
        axes.axhline(edge, **line)
        axes.axvline(edge, **line)
    starts, stops = np.r_[0, parts], np.r_[parts, s]
    blocks = [class_name(int(finding.parents[i]), finding.class_names) for i in starts]
    # A name takes twelve pixels; the names of blocks too thin for that are left out.
    centres, last = [], -np.inf
    for place, text in zip((starts + stops - 1) / 2, blocks, strict=True):
        if (place - last) * side / s >= 12:
            centres.append((place, text))
            last = place
    if s <= _NAMED:
        size = float(np.clip(270 / s, 6, 9))
        names = [plain(name) for name in finding.subclass_names]
        axes.set_xticks(range(s), names, rotation=90, fontsize=size)
        axes.set_yticks(range(s), names, fontsize=size)
        _name_right(axes, *zip(*centres, strict=True))
    else:
        axes.set_xticks([])
        axes.set_yticks(*zip(*centres, strict=True), fontsize=9)
    if s <= _COUNTED:
        for i, j in np.ndindex(s, s):
            value = finding.matrix[i, j]
            colour = "white" if abs(value) > 0.6 else TEXT
            text = f"{value:.2f}".replace("-", "−")
            axes.text(j, i, text, ha="center", va="center", size=7.5, color=colour)
    drawing.colour_bar(axes, norm, fade, "cosine")
    return figure


def plane(finding: ClassPlane) -> Figure:
    """Embeddings as dots, subclass means as discs, class means as diamonds.

    Colour is the class. Means are named in the margins, at the end of a line: all of
    them up to thirty, else those of classes up to forty.
    """
    k, s = len(finding.class_means), len(finding.subclass_means)
    figure, axes = _map([finding.points, finding.subclass_means, finding.class_means])
    colours = _colours(k)
    _dots(axes, finding.points, np.array(colours)[finding.labels], alpha=0.35)
    edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 1, "zorder": 3}
    small = 70 if s <= _NAMED else 34
    face = np.array(colours)[finding.parents]
    axes.scatter(*finding.subclass_means.T, c=face, s=small, **edge)
    axes.scatter(*finding.class_means.T, c=colours, s=110, marker="D", **edge)
    places, names = finding.class_means, list(finding.class_names)
    shades, bold = list(colours), [True] * k
    if s + k <= 30:
        places = np.concatenate([places, finding.subclass_means])
        names += list(finding.subclass_names)
        shades += [colours[parent] for parent in finding.parents]
        bold += [False] * s
    if k <= _NAMED:
        name_beside(axes, places, names, shades, bold)
    else:
        _class_bar(axes, k)
    return figure


def embedding(
    points: Float[np.ndarray, "m 2"],
    labels: Integer[np.ndarray, " m"],
    class_names: Sequence[str] = (),
) -> Figure:
    """Examples as points, coloured by class; neighbours are alike to the encoder.

    Up to forty classes are named in the margins, at the end of a line to their median.
    """
    if not len(points):
        raise ValueError("embedding draws at least one point; got none.")
    classes, rank = np.unique(labels, return_inverse=True)
    colours = _colours(len(classes))
    figure, axes = _map([points])
    # Of twenty classes, the second ten have the colours of the first.
    second = (rank >= len(PALETTE)) & (len(classes) <= _LISTED)
    for marker, part in (("o", ~second), ("^", second)):
        face = np.array(colours)[rank[part]]
        _dots(axes, points[part], face, alpha=0.65, marker=marker)
    if len(classes) > _NAMED:
        _class_bar(axes, int(classes[-1]) + 1)
        return figure
    medians = np.stack([np.median(points[labels == k], axis=0) for k in classes])
    names = [class_name(int(k), class_names) for k in classes]
    name_beside(axes, medians, names, colours, [False] * len(names))
    return figure


def _map(every: Sequence[Float[np.ndarray, "_ 2"]]) -> tuple[Figure, Axes]:
    """Axes at one scale, or collapsed classes would look spread, beside two margins."""
    low, high = np.concatenate(every).min(axis=0), np.concatenate(every).max(axis=0)
    span = np.maximum(1.08 * (high - low), 1e-3)
    inside = drawing.WIDTH - 2 * _MARGIN
    height = round(np.clip(inside * span[1] / span[0], 280, 520))
    half = max(span[0] / inside, span[1] / height) * np.array([inside, height]) / 2
    figure = drawing.figure(drawing.WIDTH, height + 20, layout=None)
    size = np.array([drawing.WIDTH, height + 20])
    axes = figure.add_axes((*(_MARGIN, 10) / size, *(inside, height) / size))
    (left, bottom), (right, top) = (low + high) / 2 - half, (low + high) / 2 + half
    drawing.style(axes, lines=False)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    return figure, axes


def _dots(axes: Axes, points: np.ndarray, face: np.ndarray, **style: Any) -> None:
    """In a fixed random order, so that no class lies on top of another."""
    order = np.random.default_rng(0).permutation(len(points))
    size = float(np.clip(20_000 / max(len(points), 1), 4, 24))
    axes.scatter(*points[order].T, c=face[order], s=size, linewidths=0, **style)


def spectra(finding: Spectra) -> Figure:
    """Singular values of the embeddings of each class around its mean, falling.

    The legend gives the effective rank of each class; of more than twenty classes, the
    smallest, the median and the largest stand above.
    """
    k = len(finding.values)
    rows = -(-k // 3) if k <= _LISTED else 0
    figure = drawing.figure(drawing.WIDTH, 360 + 22 * rows)
    axes = figure.add_subplot()
    ranks = finding.effective_ranks
    title = ""
    if k > _LISTED:
        low, middle, high = np.percentile(ranks, (0, 50, 100))
        title = f"Effective rank {low:.1f} to {high:.1f}, median {middle:.1f}"
    drawing.style(axes, title=title, x="direction", y="singular value")
    thick = 1.6 if k <= _LISTED else 0.8
    for place, (values, colour) in enumerate(
        zip(finding.values, _colours(k), strict=True)
    ):
        second = place >= len(PALETTE) and k <= _LISTED
        name = class_name(place, finding.class_names)
        axes.plot(
            np.arange(1, len(values) + 1),
            np.maximum(values, _FLOOR),
            color=colour,
            linewidth=thick,
            linestyle="--" if second else "-",
            label=f"{name}  {ranks[place]:.1f}",
        )
    axes.set_yscale("log")
    axes.tick_params(which="minor", length=0)
    axes.margins(x=0.02)
    if k > _LISTED:
        _class_bar(axes, k)
        return figure
    legend = figure.legend(
        loc="outside lower left",
        ncols=min(k, 3),
        frameon=False,
        fontsize=8.5,
        labelcolor=TEXT,
        title="class and its effective rank",
        title_fontsize=8.5,
        alignment="left",
    )
    legend.get_title().set_color(TEXT)
    return figure


def spreads(finding: Spreads) -> Figure:
    """Spread of every subclass as a dot, that of its class as a line.

    Up to forty subclasses each has a row and a name; of more, each class has a row.
    """
    k, s = len(finding.of_classes), len(finding.of_subclasses)
    alone = s <= _NAMED
    count = s if alone else k
    step = float(np.clip(560 / count, 13, 24))
    figure = drawing.figure(drawing.WIDTH, 60 + step * count)
    axes = figure.add_subplot()
    drawing.style(axes, x="mean squared distance from the mean")
    axes.grid(False, axis="y")
    colours = _colours(k)
    rows = np.arange(s) if alone else finding.parents
    for place in range(k):
        own = finding.parents == place
        first, last = rows[own].min() - 0.4, rows[own].max() + 0.4
        value, colour = finding.of_classes[place], colours[place]
        axes.plot([value, value], [first, last], color=colour, linewidth=2.5, alpha=0.6)
        axes.scatter(
            finding.of_subclasses[own],
            rows[own],
            c=colour,
            s=46 if alone else 26,
            alpha=1 if alone else 0.75,
            linewidths=0,
            zorder=3,
        )
    size = float(np.clip(0.42 * step, 6, 9))
    classes = [class_name(place, finding.class_names) for place in range(k)]
    if alone:
        names = [plain(name) for name in finding.subclass_names]
        axes.set_yticks(range(s), names, fontsize=size)
        edges = np.flatnonzero(np.diff(finding.parents)) + 0.5
        for edge in edges:
            axes.axhline(edge, color=LINE, linewidth=0.8)
        centres = [rows[finding.parents == place].mean() for place in range(k)]
        _name_right(axes, centres, classes)
    else:
        axes.set_yticks(range(k), classes, fontsize=size)
    axes.set_ylim(count - 0.4, -0.6)
    highest = max(finding.of_subclasses.max(), finding.of_classes.max(), 1e-3)
    axes.set_xlim(-0.02 * highest, 1.04 * highest)
    return figure


def _colours(k: int) -> list[str]:
    """A colour for each class; of more than twenty, one that says its number."""
    if k <= _LISTED:
        return [PALETTE[place % len(PALETTE)] for place in range(k)]
    return [to_hex(colormaps["viridis"](place / (k - 1))) for place in range(k)]


def _name_right(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Names of classes on the right, where subclasses are named on the left."""
    right = axes.secondary_yaxis("right")
    right.spines["right"].set_visible(False)
    right.set_yticks(places, names, fontsize=9)
    right.tick_params(colors=TEXT, length=0)


def _class_bar(axes: Axes, k: int) -> None:
    norm, colours = Normalize(0, k - 1), colormaps["viridis"]
    drawing.colour_bar(axes, norm, colours, "number of the class")
