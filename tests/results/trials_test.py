"""Runs of a table, one per seed: what is filled in, and where their files are found."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jax_rcl.config.types import ConfigError
from jax_rcl.results.table import Column, Row, Run, Table
from jax_rcl.results.trials import check_evaluators, trials


def table(*runs, number="knn/top1"):
    row = Row("row", {"top1": (runs[-1].name, number)})
    return Table("Title", runs, (row,), (Column("top1", "Accuracy"),), seeds=(0, 7))


@pytest.fixture
def place(tmp_path):
    """A folder with config files on two levels."""
    for path in ("a.py", "tables/a.py", "configs/b.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return tmp_path


def test_names_in_braces_are_filled_in_seed_after_seed(place):
    made = table(
        Run("a", "a.py:seed={seed}"),
        Run(
            "b", "configs/b.py:start={a}", {"seed": "{seed}", "k": (1, None), "s": "x"}
        ),
    )
    found = trials(made, Path("runs"), str(place / "tables" / "table.py"))
    assert [str(trial) for trial in found] == [
        "run a, seed 0",
        "run b, seed 0",
        "run a, seed 7",
        "run b, seed 7",
    ]
    first, last = found[0], found[-1]
    assert first.config.endswith("a.py:seed=0") and first.needs == ()
    assert last.workdir == Path("runs/b/seed7") and last.needs == (
        Path("runs/a/seed7"),
    )
    assert last.config == f"{place / 'configs' / 'b.py'}:start=runs/a/seed7"
    assert last.overrides == (("seed", "7"), ("k", "(1, None)"), ("s", "x"))


def test_a_config_is_looked_for_here_and_above_the_table_file(place, monkeypatch):
    (place / "here").mkdir()
    monkeypatch.chdir(place / "here")

    def config(name):
        made = table(Run("a", name))
        return trials(made, Path("runs"), "../tables/table.py")[0].config

    assert config("a.py") == str(place / "tables" / "a.py")
    assert config("configs/b.py") == str(place / "configs" / "b.py")
    (place / "here" / "a.py").touch()
    assert config("a.py:x=1") == "a.py:x=1"
    with pytest.raises(
        ConfigError, match=r"'a': there is no config file configs/d\.py"
    ):
        config("configs/d.py")


def test_numbers_of_the_best_state_are_known_where_one_is_kept(place):
    config = ConfigDict({"evaluators": {"test/knn": {}}, "best": None})

    def check(number):
        made = table(Run("a", "a.py"), number=number)
        trial = trials(made, Path("runs"), str(place / "tables" / "table.py"))[0]
        check_evaluators(made, trial, config)

    check("test/knn/top1")
    with pytest.raises(
        ConfigError, match=r"makes 'best/test/knn/top1'; there are: test"
    ):
        check("best/test/knn/top1")
    config.best = {"monitor": "val/top1"}
    check("best/test/knn/top1")
    with pytest.raises(
        ConfigError, match=r"'row', column 'top1': .* run a, seed 0 makes"
    ):
        check("best/knn/top1")
