"""How the numbers of a run went over time."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.drawing import PALETTE, TEXT, plain
from jax_rcl.report.tables import format_number, is_share

Panel = Literal["training", "scores"]
"""One diagram of `curves`."""

History = Sequence[Mapping[str, int | float]]
"""Lines of the log, each with a `step`; see `jax_rcl.report.log.read`."""

Series = Mapping[str, np.ndarray]
"""Places and values [2, n] of each number."""

_MOST = 6  # Lines in one diagram.


def available(history: History) -> tuple[Panel, ...]:
    """The panels of `curves` that this history has numbers for."""
    measured = _measured_twice(history)
    panels: list[Panel] = ["training"] if "train/loss" in measured else []
    return (*panels, "scores") if _scores_of(measured) else tuple(panels)


def curves(
    history: History,
    *,
    steps_per_epoch: int | None = None,
    panels: Sequence[Panel] | None = None,
) -> Figure:
    """How the training loss, the learning rate and evaluators' scores went.

    "training" shows `train/loss`, every value lightly and a running average, and below
    it `train/learning_rate`. "scores" shows the shares (see `is_share`) outside
    `train/` and `time/`, the six measured most often if there are more. What was
    measured only once is no curve. By default all panels that are `available` are drawn
    side by side. With `steps_per_epoch` the axis counts epochs instead of steps.
    """
    present = available(history)
    chosen = present if panels is None else tuple(panels)
    if not chosen or not set(chosen) <= set(present):
        raise ValueError(
            f"the history has nothing to draw for {chosen or 'any panel'}; draw what "
            f"available(history) names: {present}."
        )
    measured = _measured_twice(history, steps_per_epoch or 1)
    scores, rate = _scores_of(measured), "train/learning_rate"
    height = 300 + 18 * len(scores)  # Alike, whichever is drawn alone.
    figure = drawing.figure((drawing.WIDTH / 2 - 10) * len(chosen), height)
    grid = figure.add_gridspec(3, len(chosen))
    unit = "step" if steps_per_epoch is None else "epoch"
    for column, panel in enumerate(chosen):
        split = panel == "training" and rate in measured
        axes = figure.add_subplot(grid[: 2 if split else 3, column])
        if panel == "scores":
            drawing.style(axes, title="Evaluation (%)", x=unit)
            _scores(axes, scores)
        else:
            drawing.style(axes, title="Training loss", x="" if split else unit)
            _loss(axes, *measured["train/loss"])
        if split:
            axes.tick_params(labelbottom=False)
            axes = figure.add_subplot(grid[2, column], sharex=axes)
            drawing.style(axes, title="Learning rate", x=unit)
            axes.plot(*measured[rate], color=PALETTE[2], linewidth=1.6)
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.02)
    return figure


def _measured_twice(history: History, unit: int = 1) -> Series:
    """Places in steps or epochs, and values, of numbers with two finite ones."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in history:
        for name, value in line.items():
            found.setdefault(name, []).append((line["step"] / unit, value))
    arrays = {name: np.array(pairs, float).T for name, pairs in found.items()}
    return {name: xy for name, xy in arrays.items() if np.isfinite(xy[1]).sum() > 1}


def _scores_of(measured: Series) -> Series:
    """The shares that evaluators measured, at most as many as a diagram can hold."""
    outside = [name for name in measured if not name.startswith(("train/", "time/"))]
    shares = [name for name in outside if is_share(name)]
    most = sorted(shares, key=lambda name: -measured[name].shape[1])[:_MOST]
    return {name: measured[name] for name in shares if name in most}


def _loss(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    many = len(y) >= 20
    axes.plot(x, y, color=PALETTE[0], alpha=0.3 if many else 1, linewidth=1)
    if many:
        axes.plot(x, _smooth(y, len(y) // 60 + 1), color=PALETTE[0], linewidth=1.8)
    # Rare spikes may leave the picture; they must not flatten the rest.
    low, high = np.percentile(y[np.isfinite(y)], (0, 99.5))
    pad = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - pad, high + pad)


def _scores(axes: Axes, scores: Series) -> None:
    for (name, (x, y)), colour in zip(scores.items(), PALETTE, strict=False):
        label = f"{plain(name, 36)}  {format_number(name, y[-1])}"
        style = {"linewidth": 1.6, "marker": "o", "markersize": 3.5}
        axes.plot(x, 100 * y, color=colour, label=label, **style)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.5), min(high, 100.5))  # there is no share beyond
    # Below the axes, where no line can run through it.
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.17),
        frameon=False,
        fontsize=8.5,
        labelcolor=TEXT,
        handlelength=1.2,
        borderaxespad=0,
    )


def _smooth(y: np.ndarray, reach: int) -> np.ndarray:
    """Average of the values up to `reach` away, near ones counting more; NaN skipped.

    Centred, unlike an exponential average, which lags behind a falling loss.
    """
    weights = np.hanning(2 * reach + 3)
    known = np.isfinite(y)
    total = np.convolve(np.where(known, y, 0.0), weights, "same")
    weight = np.convolve(known, weights, "same")
    return np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), np.nan)
