"""How runs are named on a command line, and where their numbers are said to be from."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jax_rcl.augment.compose import Pair
from jax_rcl.augment.distortions import GaussianNoise
from jax_rcl.augment.geometry import Flip
from jax_rcl.config.nodes import build, node, same
from jax_rcl.config.types import ConfigError
from jax_rcl.data.sources import Digits
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.results.runs import evaluators_of, in_words, origin, read_runs


def test_a_name_has_folders_and_a_folder_is_called_as_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("rate=0.1", "runs/rate=1", "runs/rate=2", "0"):
        Path(folder).mkdir(parents=True)
    texts = ["b = x/a, x/c", "x/d,x/e/", "b=y/rate=2", "rate=0.1"]
    texts += ["runs/rate=1,runs/rate=2", "a/b=0"]
    assert read_runs(texts) == {
        "b": [Path("x/a"), Path("x/c"), Path("y/rate=2")],
        "d": [Path("x/d")],
        "e": [Path("x/e")],
        "rate=0.1": [Path("rate=0.1")],
        "rate=1": [Path("runs/rate=1")],
        "rate=2": [Path("runs/rate=2")],
        "a/b": [Path("0")],
    }


def test_a_folder_may_have_a_comma_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=1,wd=2").mkdir()
    assert read_runs(["lr=1,wd=2"]) == {"lr=1,wd=2": [Path("lr=1,wd=2")]}
    assert read_runs(["a=lr=1,wd=2"]) == {"a": [Path("lr=1,wd=2")]}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a=x", "b=y/../x"], "x is there twice; a run counts once"),
        (["a=x,x/"], "x is there twice"),
        (["x/seed0", "y/seed0"], "2 folders are called 'seed0'; write --runs NAME="),
        (["a=x", "y/a"], "2 folders are called 'a'"),
        (["a="], "--runs a=: write NAME=dir"),
        (["=x"], "--runs =x: write NAME=dir"),
        ([","], "write NAME=dir"),
        (["a=x,"], "--runs a=x,: write NAME=dir"),
        (["a/b=,"], "write NAME=dir"),
        (["x/rate=0.1"], r"no folder x/rate=0\.1; nor, with the name 'x/rate', a .* 0"),
    ],
)
def test_what_is_not_a_run_is_refused(texts, words):
    with pytest.raises(ConfigError, match=words):
        read_runs(texts)


def test_where_numbers_are_from_is_one_sentence():
    first = {"commit": "b", "date": "d", "device": "1 × cpu", "seconds": 7000}
    second = first | {"commit": "a", "seconds": 800, "versions": "v"}
    assert origin("Trained", [first, second]) == (
        "Trained on 1 × cpu in 2 h 10 min; commit a, b, unknown, v, d."
    )
    assert origin("Trained", []) == "" and in_words(2.0) == "1 min"


def test_evaluators_hold_what_they_have_in_common_with_training():
    noise = node(GaussianNoise, (0.1, 0.3))
    sweep = node(
        LevelSweep, node(HeadAccuracy, node(Digits)), same("augment.distortion"), (0.1,)
    )
    augment = node(Pair, node(Flip), noise)
    config = ConfigDict({"augment": augment, "evaluators": {"sweep": sweep}})
    found = evaluators_of(config, LevelSweep)["sweep"]
    assert build(found, "sweep").distortion == GaussianNoise((0.1, 0.3))
