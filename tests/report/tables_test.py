"""Tables say what is there, what is missing, and numbers in their own units."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_rcl.core import Variables
from jax_rcl.report.tables import (
    Cell,
    Column,
    Line,
    closing,
    format_number,
    group_numbers,
    is_share,
    markdown,
    overview,
    size,
)

FINE, SPREAD = Column("fine", "Fine accuracy"), Column("q2", "Spread", "", digits=3)
LINES = [
    Line("SupCon", {"fine": Cell((50.0, 52.0, 57.0), 3, 51.8), "q2": Cell((0.25,), 1)}),
    Line("Thanos", {"fine": Cell((), 3)}),
]


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def small():
    return Variables(
        params={"encoder": {"conv": {"kernel": floats(3, 3, 1, 8), "bias": floats(8)}}},
        frozen={},
        memory={"slow": Variables({"w": floats(1024, 256)}, {}, {}), "key": floats()},
    )


def deep(blocks):
    layer = {"conv": {"kernel": floats(2, 2)}, "norm": {"scale": floats(2)}}
    stages = {f"block{i:03d}": layer for i in range(blocks)}
    return Variables({"encoder": stages, "head": {"kernel": floats(2, 5)}}, {}, {})


def rows(table):
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.splitlines()
        if line.startswith("| ") and not line.startswith("| Name")
    ]


def test_every_array_of_a_small_net_has_a_row():
    assert rows(overview(small())) == [
        ["params/encoder/conv/bias", "(8,)", "8", "32 B"],
        ["params/encoder/conv/kernel", "(3, 3, 1, 8)", "72", "288 B"],
        ["memory/key", "()", "1", "4 B"],
        ["memory/slow/params/w", "(1024, 256)", "262,144", "1 MiB"],
    ]


def test_totals_are_given_per_owner():
    last = overview(small()).splitlines()[-1]
    assert last == "Total: params 80 (320 B), memory 262,145 (1 MiB)"


def test_deep_nets_are_cut_at_forty_rows_without_losing_a_number():
    table = overview(deep(60))
    assert rows(table) == [
        ["params/encoder", "120 arrays", "360", "1.406 KiB"],
        ["params/head", "(2, 5)", "10", "40 B"],
    ]
    assert "Total: params 370" in table
    assert len(rows(overview(deep(30)))) == 31


def test_nothing_is_said_of_nothing():
    assert overview(Variables({}, {}, {})) == "(no arrays)\nTotal: 0"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (3 * 2**29, "1.5 GiB")],
)
def test_sizes_have_readable_units(count, text):
    assert size(count) == text


def test_the_closing_table_has_percents_next_to_protocols():
    table = closing(
        {"knn/top1": 0.97231, "knn/top5": 1.0, "geometry/rank": 412.0},
        {"knn": "20 nearest neighbours", "geometry": "of unit features"},
    )
    assert table.splitlines()[1:-1] == [
        "knn       top1   97.2 %  20 nearest neighbours",
        "          top5  100.0 %",
        "geometry  rank      412  of unit features",
    ]


def test_long_protocols_are_wrapped_into_the_width():
    table = closing({"knn/top1": 0.5}, {"knn": "word " * 40}, width=60)
    assert max(map(len, table.splitlines())) <= 60
    assert table.count("word") == 40


def test_no_results_are_said_in_words():
    assert closing({}, {"knn": "p"}) == "No evaluator has run."


@pytest.mark.parametrize(
    "name",
    ["top1", "knn/top5", "val/accuracy", "Acc", "probe/balanced", "x/auroc", "a/top-1"],
)
def test_accuracies_are_shares(name):
    assert is_share(name)


@pytest.mark.parametrize("name", ["alignment", "rank", "stopping", "vacc", "converged"])
def test_other_numbers_are_not_shares(name):
    assert not is_share(name)


def test_a_share_is_written_in_percent():
    assert format_number("knn/top1", 0.9723) == "97.2 %"
    assert format_number("knn/top1", 1.0) == "100.0 %"
    assert format_number("knn/top1", 0.0) == "0.0 %"


def test_what_cannot_be_a_share_is_written_as_it_is():
    assert format_number("accuracy", 97.2) == "97.2"
    assert format_number("accuracy", math.nan) == "nan"


def test_other_numbers_have_four_digits():
    assert format_number("uniformity", -3.21456) == "-3.215"
    assert format_number("rank", 412.0) == "412"


def test_numbers_follow_the_longest_fitting_evaluator_in_the_order_of_protocols():
    results = {"a/b/top1": 0.5, "a/rank": 3.0, "other/top1": 0.25, "z/top1": 0.75}
    groups = group_numbers(
        results, {"z": "last", "a": "short", "a/b": "long", "idle": "none"}
    )
    assert [(group.evaluator, group.protocol) for group in groups] == [
        ("z", "last"),
        ("a", "short"),
        ("a/b", "long"),
        ("other", ""),
    ]
    assert groups[2].numbers == (("top1", "50.0 %"),)


def test_the_headline_of_a_group_is_its_first_share():
    (group,) = group_numbers({"a/rank": 3.0, "a/top1": 0.5, "a/top5": 0.75}, {"a": ""})
    assert group.numbers[0] == ("top1", "50.0 %")
    (group,) = group_numbers({"a/rank": 3.0, "a/alignment": 0.5}, {"a": ""})
    assert group.numbers[0] == ("rank", "3")


def markdown_rows(text):
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
        (Cell((50.0,), 1, repeats=2.0), "50.0 ± 2.0"),
        (Cell((50.0, 52.0), 2, repeats=9.0), "51.0 ± 1.4"),
        (Cell((50.0, math.nan), 2), "nan ± nan"),
        (Cell((math.inf,), 1), "inf"),
    ],
)
def test_a_cell_says_how_many_seeds_it_is_of(cell, text):
    assert cell.text(1) == text


def test_a_share_is_shown_in_percent_and_other_numbers_as_they_are():
    assert FINE.heading == "Fine accuracy (%)" and FINE.convert(0.5) == 50
    assert SPREAD.heading == "Spread" and SPREAD.convert(0.25) == 0.25
    assert Column("t", "Time", "s").heading == "Time (s)"


def test_the_numbers_of_the_paper_stand_beside_ours():
    assert markdown_rows(markdown([FINE, SPREAD], LINES)) == [
        ["", "Fine accuracy (%)", "paper", "Spread"],
        ["SupCon", "53.0 ± 3.6", "51.8", "0.250"],
        ["Thanos", "not yet run", "–", "–"],
    ]


def test_markdown_can_be_read_as_it_is():
    lines = markdown([FINE], [*LINES, Line("a | b", {})]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert set(lines[1]) == set("| :-") and r"a \| b" in lines[-1]
