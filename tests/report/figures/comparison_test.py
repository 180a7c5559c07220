"""A comparison says what was measured, over how many seeds, and what was not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_rcl.report.figures.comparison import Cell, Column, Line, draw, markdown
from jax_rcl.report.figures.drawing import to_png

FINE, SPREAD = Column("fine", "Fine accuracy"), Column("q2", "Spread", "", digits=3)
LINES = [
    Line("SupCon", {"fine": Cell((50.0, 52.0, 57.0), 3, 51.8), "q2": Cell((0.25,), 1)}),
    Line("Thanos", {"fine": Cell((), 3)}),
]


def rows(text):
    """Cells of a Markdown table, the rule left out."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines()]
    return [[cell.strip(" |") for cell in line] for line in lines[:1] + lines[2:]]


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6))
def test_mean_and_deviation_are_those_of_a_sample(values):
    cell = Cell(tuple(values), len(values))
    assert cell.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert cell.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell((50.0, 52.0, 57.0), 3), "53.0 ± 3.6"),
        (Cell((50.04,), 1), "50.0"),
        (Cell((50.0,), 3), "50.0 (1 of 3 seeds)"),
        (Cell((50.0, 52.0), 3), "51.0 ± 1.4 (2 of 3 seeds)"),
        (Cell((), 3), "not yet run"),
        (Cell((50.0, math.nan), 2), "nan ± nan"),
        (Cell((math.inf,), 1), "inf"),
    ],
)
def test_a_cell_says_how_many_seeds_it_is_of(cell, text):
    assert cell.text(1) == text


def test_a_share_is_shown_in_percent_and_other_numbers_as_they_are():
    assert FINE.heading == "Fine accuracy (%)" and FINE.shown(0.5) == 50
    assert SPREAD.heading == "Spread" and SPREAD.shown(0.25) == 0.25
    assert Column("t", "Time", "s").heading == "Time (s)"


def test_the_numbers_of_the_paper_stand_beside_ours():
    assert rows(markdown([FINE, SPREAD], LINES)) == [
        ["", "Fine accuracy (%)", "paper", "Spread"],
        ["SupCon", "53.0 ± 3.6", "51.8", "0.250"],
        ["Thanos", "not yet run", "–", "–"],
    ]


def test_markdown_can_be_read_as_it_is():
    lines = markdown([FINE], [*LINES, Line("a | b", {})]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == set("| :-") and r"a \| b" in lines[-1]


def test_the_picture_has_a_dot_for_each_seed_and_a_bar_of_the_deviation():
    figure = draw([FINE, SPREAD], LINES)
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
    assert to_png(draw([FINE, SPREAD, FINE], [strange]), scale=1)


def test_an_empty_picture_is_refused():
    with pytest.raises(ValueError, match="a column and a line; got 1 and 0"):
        draw([FINE], [])
