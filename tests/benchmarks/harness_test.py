"""What the benchmarks share: their flags, their clock, one form of JSON."""

import datetime
import json
import time

import pytest

from benchmarks import harness
from benchmarks.harness import Size
from jax_rcl import parallel

SIZES = {"batch": Size(8, "examples", 2)}


def test_the_json_says_where_when_and_with_what(tmp_path, capsys):
    path = tmp_path / "numbers.json"
    rows = [{"name": "one", "seconds": 0.5}]
    harness.report("losses", {"batch": 8}, rows, "the table", path)
    found = json.loads(path.read_text())
    assert found.pop("versions").startswith("jax_rcl ")
    assert found == {
        "benchmark": "losses",
        "device": parallel.device_name(),
        "date": datetime.date.today().isoformat(),
        "settings": {"batch": 8},
        "rows": rows,
    }
    printed = capsys.readouterr().out
    assert printed.endswith("batch 8\n\nthe table\n")


def test_the_time_is_the_median_and_does_not_count_the_first_run():
    naps = iter([0.2, 0.0, 0.03, 0.0])
    assert harness.median_seconds(lambda: time.sleep(next(naps)), 3) < 0.02


def test_ratios_are_to_the_first(capsys):
    rows = harness.ratios({"one": 0.5, "two": 1.25})
    assert rows[1] == {"name": "two", "seconds": 1.25, "ratio": 2.5}
    parser = harness.make_parser("losses", None, SIZES)
    arguments = harness.parse(parser, SIZES, [])
    columns = ("loss", "ms", "ratio")
    harness.report_ratios("losses", arguments, SIZES, rows, columns, digits=2)
    assert "batch 8\n\n| loss | ms | ratio |" in (printed := capsys.readouterr().out)
    assert printed.endswith("| one | 500 | 1.00 |\n| two | 1250 | 2.50 |\n")


def test_a_size_is_a_flag_with_a_default_and_a_least_value(capsys):
    parser = harness.make_parser("losses", None, SIZES)
    assert harness.parse(parser, SIZES, []).batch == 8
    assert harness.parse(parser, SIZES, ["--batch=2"]).batch == 2
    with pytest.raises(SystemExit, match="2"):
        harness.parse(parser, SIZES, ["--batch=1"])
    assert "--batch 1 must be at least 2" in capsys.readouterr().err


def test_what_was_not_measured_is_a_dash():
    assert harness.milliseconds(None) == "–"
    assert harness.milliseconds(0.0123456) == "12.35"
    assert harness.markdown(("a", "b"), [["1", "2"]]).splitlines()[-1] == "| 1 | 2 |"
