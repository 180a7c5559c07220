"""Runs side by side: dots in rows, curves over levels, and what is missing."""

import math

import numpy as np
from matplotlib.collections import LineCollection

from jax_rcl.artifacts import Curves
from jax_rcl.report.figures import plots
from jax_rcl.report.figures.comparison import draw_runs, draw_table
from jax_rcl.report.figures.drawing import PALETTE, WIDTH, to_png
from jax_rcl.report.tables import Cell, Column, Line

FINE, SPREAD = Column("fine", "Fine accuracy"), Column("q2", "Spread", "", digits=3)
LINES = [
    Line("SupCon", {"fine": Cell((50.0, 52.0, 57.0), 3, 51.8), "q2": Cell((0.25,), 1)}),
    Line("Thanos", {"fine": Cell((), 3)}),
]

NAN = np.nan
MASK = Curves(
    places=np.array([0.9, 0.5, 0.75]),
    level_names=("0.9", "0.5", "0.75"),
    means=np.array([[0.2, 0.6, 0.4], [NAN, 0.7, 0.5]]),
    deviations=np.array([[0.01, 0.02, NAN], [NAN, NAN, NAN]]),
    references=np.array([0.8, NAN]),
    line_names=("student", "teacher"),
    axis="level of mask",
    method="as told",
)
BLUR = Curves(
    places=None,
    level_names=("21x5", "37x9"),
    means=np.array([[0.5, 0.25]]),
    deviations=np.array([[NAN, NAN]]),
    references=np.array([0.75]),
    line_names=("teacher",),
    axis="level of blur",
    method="as told",
)


def points(line):
    return np.stack(line.get_data(), axis=1).tolist()


def test_the_picture_has_a_dot_for_each_seed_and_a_bar_of_the_deviation():
    figure = draw_table([FINE, SPREAD], LINES)
    fine, spread = figure.axes
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Fine accuracy (%)", "Spread"]
    (dots,) = (c for c in fine.collections if len(c.get_offsets()) == 3)
    np.testing.assert_allclose(dots.get_offsets(), [[50, 0], [52, 0], [57, 0]])
    (bar,) = (c for c in fine.collections if hasattr(c, "get_segments"))
    np.testing.assert_allclose(
        bar.get_segments()[0][:, 0], 53 + np.array([-1, 1]) * math.sqrt(13)
    )
    assert [text.get_text() for text in fine.texts] == ["53.0 ± 3.6", "not yet run"]
    assert [text.get_text() for text in spread.texts] == ["0.250", "–"]
    assert [label.get_text() for label in fine.get_yticklabels()] == [
        "SupCon",
        "Thanos",
    ]
    assert to_png(figure).startswith(b"\x89PNG")


def test_what_was_never_run_and_what_is_not_finite_can_be_drawn():
    strange = Line("$odd", {"fine": Cell((math.nan, 1.0), 2), "q2": Cell((), 3)})
    assert to_png(draw_table([FINE, SPREAD, FINE], [strange]), scale=1)


def test_lines_go_from_the_lowest_level_and_leave_out_what_is_unknown():
    (axes,) = draw_runs({}, {"mask": MASK}).axes
    student, teacher = (x for x in axes.lines if x.get_marker() == "o")
    assert points(student) == [[0.5, 60], [0.75, 40], [0.9, 20]]
    assert points(teacher) == [[0.5, 70], [0.75, 50]]
    assert axes.get_xlabel() == "level of mask"


def test_bars_are_as_long_as_the_deviation_and_clean_images_a_dashed_line():
    (axes,) = draw_runs({}, {"mask": MASK}).axes
    bars = next(x for x in axes.collections if isinstance(x, LineCollection))
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[58, 62], [40, 40], [19, 21]])
    (dashed,) = (x for x in axes.lines if x.get_linestyle() == "--")
    assert set(np.ravel(dashed.get_ydata())) == {80}
    assert dashed.get_color() == PALETTE[0]


def test_levels_of_several_numbers_stand_side_by_side_by_their_names():
    (axes,) = draw_runs({}, {"blur": BLUR}).axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["21x5", "37x9"]
    assert points(axes.lines[0]) == [[0, 50], [1, 25]]


def test_a_name_has_one_colour_in_all_diagrams_and_stands_once_above_them():
    figure = draw_runs({}, {"mask": MASK, "blur": BLUR, "more": MASK})
    assert figure.get_size_inches()[0] * 100 <= WIDTH
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == ["mask", "blur", "more"]
    assert shown[1].lines[0].get_color() == PALETTE[1]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["student", "teacher"]


def test_it_is_drawn_for_the_page():
    caption, figure = plots.draw(MASK)
    assert caption == "as told"
    assert to_png(figure).startswith(b"\x89PNG")
