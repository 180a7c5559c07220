"""Curves draw the numbers of the log, and only what was measured more than once."""

import math

import numpy as np
import pytest

from jax_rcl.report.figures.curves import available, curves
from jax_rcl.report.figures.drawing import to_png


def history(steps=60):
    lines = [
        {"step": step, "train/loss": 3 / step, "train/learning_rate": 0.1}
        for step in range(1, steps + 1)
    ]
    scores = [
        {"step": step, "knn/top1": step / 100, "knn/rank": 3.0} for step in (20, 60)
    ]
    return [*lines, *scores, {"step": 60, "probe/top1": 0.9}]


def drawn(figure):
    """Every line of the figure by the title of its axes."""
    return {axes.get_title(loc="left"): axes.lines for axes in figure.axes}


def test_there_is_a_diagram_for_everything_measured_twice():
    lines = drawn(curves(history()))
    assert list(lines) == ["Training loss", "Learning rate", "Evaluation (%)"]
    (score,) = lines["Evaluation (%)"]
    np.testing.assert_allclose(score.get_xydata(), [[20, 20], [60, 60]])
    assert score.get_label() == "knn/top1  60.0 %"


def test_the_loss_is_drawn_raw_and_smoothed():
    raw, smooth = drawn(curves(history()))["Training loss"]
    np.testing.assert_allclose(raw.get_ydata(), 3 / np.arange(1, 61))
    assert raw.get_alpha() < 0.5 and smooth.get_alpha() is None


def test_smoothing_averages_noise_and_keeps_lines_straight():
    noise = [{"step": s, "train/loss": 2.0 + (-1) ** s} for s in range(1, 401)]
    smooth = drawn(curves(noise))["Training loss"][1].get_ydata()
    np.testing.assert_allclose(smooth[20:-20], 2.0, atol=0.05)
    straight = [{"step": s, "train/loss": 1.0 * s} for s in range(1, 401)]
    smooth = drawn(curves(straight))["Training loss"][1].get_ydata()
    np.testing.assert_allclose(smooth[20:-20], np.arange(21, 381))


def test_epochs_replace_steps_where_their_length_is_known():
    figure = curves(history(), steps_per_epoch=20, panels=("scores",))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "epoch"
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 3])


def test_nan_leaves_a_gap_and_no_warning():
    lines = history()
    lines[5]["train/loss"] = math.nan
    lines[6]["train/loss"] = math.inf
    assert to_png(curves(lines))


def test_a_short_history_has_no_panels_and_cannot_be_drawn():
    assert available([]) == ()
    assert available([{"step": 1, "train/loss": 1.0, "knn/top1": 0.5}]) == ()
    with pytest.raises(ValueError, match="nothing to draw"):
        curves([])
    with pytest.raises(ValueError, match="'scores'"):
        curves(history()[:10], panels=("scores",))


def test_at_most_six_scores_are_drawn_the_most_measured_ones():
    lines = [
        {"step": step} | {f"e{i}/top1": 0.5 for i in range(10) if step <= 2 or i % 2}
        for step in (1, 2, 3)
    ]
    labels = [line.get_label() for line in curves(lines).axes[0].lines]
    assert [label.split("/")[0] for label in labels] == [
        "e0",
        "e1",
        "e3",
        "e5",
        "e7",
        "e9",
    ]
