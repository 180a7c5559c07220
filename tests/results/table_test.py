"""A table is checked when it is written down: names, order, seeds."""

from pathlib import Path

import pytest

from jax_rcl.config.types import ConfigError
from jax_rcl.results.table import Column, Row, Run, Table, load

TOP1 = Column("top1", "Accuracy")
A, B, C = Run("a", "a.py:{seed}"), Run("b", "b.py:{seed},{a}"), Run("c", "c.py:{seed}")


def table(runs=(A, B, C), rows=None, columns=(TOP1,), **fields):
    if rows is None:
        rows = [Row(run.name, {"top1": (run.name, "knn/top1")}) for run in runs]
    return Table("Title", tuple(runs), tuple(rows), columns, **fields)


def names(parts):
    return [part.name for part in parts]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"runs": (A, A)}, "the runs of a table have different names: two .* 'a'"),
        ({"rows": ()}, "the rows of a table have different names: there are none"),
        ({"columns": (TOP1, TOP1)}, "the columns .* two are called 'top1'"),
        ({"seeds": ()}, r"seeds must be different and at least 0; got \(\)"),
        ({"seeds": (1, 1)}, "seeds must be different"),
        ({"seeds": (-1,)}, "seeds must be different and at least 0"),
        ({"runs": (B, A)}, "run 'b' mentions {a}, which does not come before it"),
        ({"runs": (Run("a", "a.py:{a}"),)}, "run 'a' mentions {a}, which does not"),
        ({"runs": (A, Run("b", "b.py:{aa}"))}, "no run 'aa'.*Did you mean 'a'"),
        (
            {"runs": (A, Run("b", "b.py", {"start": "{c}"}), C)},
            "run 'b' mentions {c}, which does not come before it",
        ),
        ({"rows": (Row("r", {"top": ("a", "x/y")}),)}, "'r': there is no column 'top'"),
        ({"rows": (Row("r", {}, {"fine": 1.0}),)}, "there is no column 'fine'"),
        ({"rows": (Row("r", {"top1": ("d", "x/y")}),)}, "'r': there is no run 'd'"),
    ],
)
def test_what_cannot_be_is_one_message(fields, words):
    with pytest.raises(ConfigError, match=words):
        table(**fields)


@pytest.mark.parametrize("name", ["", "a b", "../a", "seed", "{a}", "-a"])
def test_a_run_is_called_like_a_folder(name):
    with pytest.raises(ConfigError, match="a run cannot be called"):
        Run(name, "a.py")


def test_a_run_mentions_others_in_its_config_and_its_overrides():
    run = Run("b-fine", "b.py:from={a-1},{seed}", {"x": "{c.d}", "y": 3, "z": "{'k'}"})
    assert run.mentions() == ["a-1", "seed", "c.d"]


def test_rows_bring_the_runs_that_they_need():
    both = table(runs=(C, A, B))
    assert names(both.restrict(["b"], None).runs) == ["a", "b"]
    only = both.restrict(("b", "c"), (4,))
    assert names(only.runs) == ["c", "a", "b"] and names(only.rows) == ["c", "b"]
    assert only.seeds == (4,)
    assert both.restrict(None, None) == both
    with pytest.raises(ConfigError, match=r"no row 'd'; there are: c, a, b"):
        both.restrict(["d"], None)


def test_a_table_file_takes_options_like_a_config_file(tmp_path):
    file = tmp_path / "table.py"
    file.write_text(
        "from jax_rcl.results import Column, Row, Run, Table\n"
        "def get_table(arg=''):\n"
        "    row = Row('r', {'c': ('a', 'x/y')})\n"
        "    return Table(arg, (Run('a', 'a.py'),), (row,), (Column('c', 'C'),))\n"
    )
    assert load(f"{file}:option=1").title == "option=1"


@pytest.mark.parametrize("text", ["", "def get_table(arg=''):\n    return 1\n"])
def test_a_file_without_a_table_is_refused(tmp_path, text):
    (tmp_path / "table.py").write_text(text)
    with pytest.raises(ConfigError, match=r"no get_table|must return a Table"):
        load(str(tmp_path / "table.py"))
    with pytest.raises(ConfigError, match=r"no table file .*Did you mean .*/table.py"):
        load(str(Path(tmp_path, "tables.py")))
