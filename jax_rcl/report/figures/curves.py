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
    measured only once is no curve.

    Args:
      history: lines of the log.
      steps_per_epoch: if given, the axis counts epochs instead of steps.
      panels: which to draw, side by side; by default all that are `available`.

    Raises:
      ValueError: if a panel has nothing to show, or none has.
    """
    present = available(history)
    chosen = present if panels is None else tuple(panels)
    if not chosen or not set(chosen) <= set(present):
        raise ValueError(
            f"the history has nothing to draw for {chosen or 'any panel'}; draw what "
            f"available(history) names: {present}."
        )
    measured = _measured_twice(history)
    height = 300 + 18 * len(_scores_of(measured))  # Alike, whichever is drawn alone.
    figure = drawing.figure((drawing.WIDTH / 2 - 10) * len(chosen), height)
    grid = figure.add_gridspec(3, len(chosen))
    unit = "step" if steps_per_epoch is None else "epoch"
    for column, panel in enumerate(chosen):
        split = panel == "training" and "train/learning_rate" in measured
        axes = figure.add_subplot(grid[: 2 if split else 3, column])
        if panel == "scores":
            drawing.style(axes, title="Evaluation (%)", x=unit)
            _scores(axes, history, steps_per_epoch or 1)
            continue
        drawing.style(axes, title="Training loss", x="" if split else unit)
        _loss(axes, history, steps_per_epoch or 1)
        if split:
            axes.tick_params(labelbottom=False)
            below = figure.add_subplot(grid[2, column], sharex=axes)
            drawing.style(below, title="Learning rate", x=unit)
            _learning_rate(below, history, steps_per_epoch or 1)
    return figure


def _measured_twice(history: History) -> dict[str, int]:
    """How often each number was measured, in order of appearance; twice at least."""
    counts: dict[str, int] = {}
    for line in history:
        for name, value in line.items():
            if np.isfinite(value):
                counts[name] = counts.get(name, 0) + 1
    return {name: count for name, count in counts.items() if count > 1}


def _scores_of(measured: Mapping[str, int]) -> list[str]:
    """The shares that evaluators measured, at most as many as a diagram can hold."""
    outside = [name for name in measured if not name.startswith(("train/", "time/"))]
    shares = [name for name in outside if is_share(name)]
    most = sorted(shares, key=lambda name: -measured[name])[:_MOST]
    return [name for name in shares if name in most]


def _series(history: History, name: str, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in steps or epochs, and values."""
    pairs = [(line["step"] / unit, line[name]) for line in history if name in line]
    x, y = np.array(pairs, float).T
    return x, y


def _axis(axes: Axes) -> None:
    """The axis that counts: whole numbers, little air at the ends."""
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.02)


def _loss(axes: Axes, history: History, unit: int) -> None:
    x, y = _series(history, "train/loss", unit)
    many = len(y) >= 20
    axes.plot(x, y, color=PALETTE[0], alpha=0.3 if many else 1, linewidth=1)
    if many:
        axes.plot(x, _smooth(y, len(y) // 60 + 1), color=PALETTE[0], linewidth=1.8)
    # Rare spikes may leave the picture; they must not flatten the rest.
    low, high = np.percentile(y[np.isfinite(y)], (0, 99.5))
    pad = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - pad, high + pad)
    _axis(axes)


def _learning_rate(axes: Axes, history: History, unit: int) -> None:
    x, y = _series(history, "train/learning_rate", unit)
    axes.plot(x, y, color=PALETTE[2], linewidth=1.6)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(bottom=0)
    _axis(axes)


def _scores(axes: Axes, history: History, unit: int) -> None:
    names = _scores_of(_measured_twice(history))
    for name, colour in zip(names, PALETTE, strict=False):
        x, y = _series(history, name, unit)
        label = f"{plain(name, 36)}  {format_number(name, y[-1])}"
        line = axes.plot(x, 100 * y, color=colour, linewidth=1.6, label=label)[0]
        line.set(marker="o", markersize=3.5)
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
    _axis(axes)


def _smooth(y: np.ndarray, reach: int) -> np.ndarray:
    """Average of the values up to `reach` away, near ones counting more; NaN skipped.

    Centred, unlike an exponential average, which lags behind a falling loss.
    """
    weights = np.hanning(2 * reach + 3)
    known = np.isfinite(y)
    total = np.convolve(np.where(known, y, 0.0), weights, "same")
    weight = np.convolve(known, weights, "same")
    return np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), np.nan)
