"""The tables before and after a run say what is there, in rows that fit."""

import jax
import numpy as np

from jax_rcl.core import Variables
from jax_rcl.report.tables import closing, overview


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
        ["memory/slow/params/w", "(1024, 256)", "262,144", "1.0 MiB"],
    ]


def test_totals_are_given_per_owner():
    last = overview(small()).splitlines()[-1]
    assert last == "Total: params 80 (320 B), memory 262,145 (1.0 MiB)"


def test_deep_nets_are_cut_at_forty_rows_without_losing_a_number():
    table = overview(deep(60))
    assert rows(table) == [
        ["params/encoder", "120 arrays", "360", "1.4 KiB"],
        ["params/head", "(2, 5)", "10", "40 B"],
    ]
    assert "Total: params 370" in table
    assert len(rows(overview(deep(30)))) == 31


def test_all_shows_every_array():
    assert len(rows(overview(deep(60), detail="all"))) == 121


def test_nothing_is_said_of_nothing():
    assert overview(Variables({}, {}, {})) == "(no arrays)\nTotal: 0"


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
