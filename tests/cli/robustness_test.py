"""The command that compares the robustness of trained runs, continues, and refuses."""

import json
import logging
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.cli import robustness as command
from jax_rcl.cli.robustness import accuracies, main
from jax_rcl.report.figures import drawing
from jax_rcl.train.evaluation import trained
from jax_rcl.train.loop import train

TINY = Path(__file__).parents[1] / "tiny.py"
ROBUST = f"""
from jax_rcl import config as configs
from jax_rcl.augment.corruptions.table import Corruption
from jax_rcl.config import node, parse
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.robustness import Corrupted, Robustness
from jax_rcl.evaluate.when import Never

def get_config(arg=""):
    options = parse(arg, seed=0, count=20)
    config = configs.load("{TINY}:count=32,epochs=1", [("seed", str(options.seed))])
    test = node(Synthetic, classes=4, size=8, count=20, seed=1)
    other = node(Synthetic, classes=4, size=8, count=options.count, seed=2)
    names = ("brightness", "contrast")
    corruptions = tuple(node(Corruption, name, 32) for name in names)
    robust = node(
        Robustness,
        node(
            LinearProbe, config.source, test, strengths=(0.1,), mapped=0, batch_size=20
        ),
        {{"c": node(Corrupted, test, corruptions, (1, 5)), "other": other}},
        when=node(Never),
    )
    with config.unlocked():
        config.evaluators = config.evaluators.copy_and_resolve_references()
        config.evaluators.unlock()
        config.evaluators.robust = robust
        config.evaluators.lock()
    return config
"""
NUMBERS = {
    "clean/top1": 0.5,
    "c/top1": 0.25,
    "c/brightness/top1": 0.3,
    "c/contrast/top1": 0.2,
    "c/severity1/top1": 0.4,
    "c/severity5/top1": 0.1,
    "other/top1": 0.125,
}


@pytest.fixture(autouse=True, scope="module")
def alone():
    """One device."""
    real, absl = parallel.make_mesh, logging.getLogger("absl").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
        yield
    logging.getLogger("absl").setLevel(absl)


@pytest.fixture(autouse=True)
def logger():
    """The library's logger, put back as it was."""
    logger = logging.getLogger("jax_rcl")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two trained runs `a0` and `a1`, a copy `b0`, one without the evaluator `plain`.

    And the config file that they are of.
    """
    root = tmp_path_factory.mktemp("runs")
    (root / "robust.py").write_text(ROBUST)
    for seed in (0, 1):
        made = configs.load(f"{root / 'robust.py'}:seed={seed}")
        train(made, root / f"a{seed}")
    shutil.copytree(root / "a0", root / "b0")
    shutil.copytree(root / "a0", root / "plain")
    stored = configs.from_json((root / "plain" / "config.json").read_text())
    with stored.unlocked():
        del stored.evaluators.robust
    (root / "plain" / "config.json").write_text(configs.to_json(stored))
    return root


@pytest.fixture(scope="module")
def whole(place):
    """The folder of the tables of `a` (two runs) and `b`, compared with `a`."""
    out = place / "out"
    assert main(flags(place, "--baseline=a", f"--out={out}")) == 0
    return out


def flags(root, *others):
    """`a` and `b` of runs in a folder."""
    return [f"--runs=a={root / 'a0'},{root / 'a1'}", f"--runs=b={root / 'b0'}", *others]


@pytest.fixture
def runs(place, whole, tmp_path):
    """A copy of the folder of runs, evaluated ones."""
    del whole
    shutil.copytree(place, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def evaluated(monkeypatch):
    """Workdirs that are evaluated, of which NUMBERS are found."""
    given = []

    def evaluate(trained, run):
        given.append(trained.workdir.name)
        names = list(run.experiment.evaluators)
        facts = dict.fromkeys(("commit", "date", "device", "versions"), "fake")
        found = {
            "results": dict.fromkeys(names, NUMBERS),
            "protocols": dict.fromkeys(names, "as told"),
        }
        return {**trained.asked, **found, **facts}

    monkeypatch.setattr(command, "evaluate", evaluate)
    monkeypatch.setattr(drawing, "to_png", lambda figure: b"")  # takes the longest
    return given


def record(workdir):
    return json.loads((workdir / "robustness.json").read_text())


def tables(text):
    """Cells of printed tables: by title, by the first of their line."""
    found = {}
    for line in text.splitlines():
        if line.startswith("**"):
            own = found[line.strip("*")] = {}
        elif line.startswith("|"):
            name, *values = (cell.strip() for cell in line[1:-1].split("|"))
            own[name] = values
    return found


def test_the_numbers_are_those_of_the_evaluator_on_the_checkpoint(whole, place):
    del whole
    for name in ("a0", "a1"):
        run, encode = trained(place / name)
        expected = run.experiment.evaluators["robust"].run(encode)
        found = record(place / name)
        assert found["results"] == {"robust": expected}
        assert found["protocols"]["robust"].startswith("logistic regression")
        assert found["step"] == 2 and found["which"] == "newest"
        grid = found["grids"]["robust"]["c by severity"]
        assert grid["rows"] == ["brightness", "contrast"]
        assert np.mean(grid["values"]) == pytest.approx(expected["c/top1"])
        assert {"commit", "date", "device", "versions"} <= found.keys()


def test_the_table_holds_mean_and_deviation_over_the_runs_of_each_name(whole, place):
    found = tables((whole / "robustness.md").read_text())
    first = found["Top-1 accuracy"]
    assert first[""] == ["clean (%)", "c (%)", "other (%)"]
    for place_of, number in enumerate(("clean/top1", "c/top1", "other/top1")):
        values = [
            100 * record(place / name)["results"]["robust"][number]
            for name in ("a0", "a1", "b0")
        ]
        mean, deviation = np.mean(values[:2]), np.std(values[:2], ddof=1)
        assert first["a"][place_of] == f"{mean:.2f} ± {deviation:.2f}"
        assert first["b"][place_of] == f"{values[2]:.2f}"
    assert "Top-1 accuracy on c" in found
    gains = found["Difference from the mean of a"]
    assert gains[""][-1] == "c: relative mean corruption error (%)"
    assert gains["a"][-1].startswith("100.0")


def test_everything_is_written_down(whole):
    text = (whole / "robustness.md").read_text()
    assert "over runs: 2 of a, 1 of b. Evaluated on 1 × cpu; commit " in text
    assert "* robust: logistic regression on" in text
    assert (whole / "robustness.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((whole / "robustness.json").read_text())
    assert found["baseline"] == "a"
    assert [run["method"] for run in found["runs"]] == ["a", "a", "b"]
    assert found["cells"][0]["row"] == "a" and len(found["cells"][0]["values"]) == 2


def test_only_what_is_new_is_evaluated(runs, evaluated, tmp_path, capsys):
    out = f"--out={tmp_path / 'out'}"
    for name in ("a0", "a1", "b0"):  # a workdir may be moved
        assert record(runs / name)["step"] == 2
    assert main(flags(runs, out)) == 0
    assert evaluated == []
    (runs / "a1" / "robustness.json").unlink()
    (runs / "b0" / "robustness.json").write_text("{")
    assert main(flags(runs, out)) == 0
    assert evaluated == ["a1", "b0"]
    told = capsys.readouterr().out
    assert "run 1 of 2: a, " in told and "run 2 of 2: b, " in told
    assert "(about 1 min left)" in told
    assert "Difference" not in told
    evaluated.clear()
    assert main(flags(runs, out, "--again")) == 0
    assert evaluated == ["a0", "a1", "b0"]


def test_other_evaluators_and_other_steps_are_new(runs, evaluated, tmp_path):
    out = f"--out={tmp_path / 'out'}"
    seed = "--config.evaluators.robust.sets.c.seed=1"
    assert main(flags(runs, out, seed)) == 0
    assert evaluated == ["a0", "a1", "b0"]
    sets = record(runs / "a0")["evaluators"]["robust"]["sets"]
    assert sets["c"]["seed"] == 1
    evaluated.clear()
    (runs / "a0" / "checkpoints" / "2").rename(runs / "a0" / "checkpoints" / "3")
    assert main(flags(runs, out, seed)) == 0
    assert evaluated == ["a0"]


def test_evaluators_of_another_config_serve_runs_that_have_none(
    runs, evaluated, tmp_path
):
    own = [f"--runs=plain={runs / 'plain'}", f"--out={tmp_path / 'out'}"]
    assert main([*own, f"--config={runs / 'robust.py'}:count=10"]) == 0
    assert evaluated == ["plain"]
    sets = record(runs / "plain")["evaluators"]["robust"]["sets"]
    assert sets["other"]["count"] == 10
    # The run itself stays as it is.
    stored = json.loads((runs / "plain" / "config.json").read_text())
    assert list(stored["evaluators"]) == ["knn"]


def refused(capsys, evaluated, *argv):
    """The message of a command that cannot work; nothing was evaluated."""
    assert main(argv) == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err and told.err.startswith("\nConfigError: ")
    assert evaluated == [] and told.out == ""
    return told.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--runs=a={root}/a9"], "there is no folder {root}/a9."),
        (["--runs=a={root}"], "holds no run: there is no {root}/config.json"),
        (["--runs=a={root}/empty"], "empty holds no checkpoint yet"),
        (["--runs=a={root}/a0", "--which=best"], "a0 holds no best checkpoint yet"),
        (["--runs=a={root}/plain"], "plain has no Robustness evaluator; give a config"),
        (["--runs=a={root}/a0", f"--config={TINY}"], "tiny.py has no Robustness eval"),
        (
            ["--runs=a={root}/a0", "--runs=b={root}/a1", "--baseline=c"],
            "--baseline: there are no --runs 'c'; there are: a, b.",
        ),
        (
            ["--runs=a={root}/a0", "--runs=a={root}/a1"],
            "two --runs are called 'a'; write them as one.",
        ),
        (["--runs=a={root}/a0", "--runs=b={root}/a0/"], "a0 twice; a run counts once"),
        (["--runs={root}/a0"], "write NAME=workdir, or NAME=workdir,workdir."),
        (["--runs=a="], "--runs a=: write NAME=workdir"),
        (["--runs=a={root}/a0", "--agian"], "unknown argument --agian"),
        (
            ["--runs=a={root}/a0", "--config.evaluators.robust.sets.c.seeds=1"],
            "there is no 'seeds'",
        ),
        (
            ["--runs=a={root}/a0", "--config.evaluators.robust.classifier.layer=x"],
            "a0: evaluators.robust reads the layer x, but the objective gives",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_evaluated(
    runs, evaluated, capsys, argv, words
):
    shutil.copytree(runs / "a0", runs / "empty")
    shutil.rmtree(runs / "empty" / "checkpoints")
    argv = [each.format(root=runs) for each in argv]
    assert words.format(root=runs) in refused(capsys, evaluated, *argv)


def test_runs_of_different_evaluators_are_not_compared(runs, evaluated, capsys):
    path = runs / "b0" / "config.json"
    stored = json.loads(path.read_text())
    stored["evaluators"]["robust"]["sets"]["c"]["seed"] = 7
    path.write_text(json.dumps(stored))
    told = refused(capsys, evaluated, *flags(runs))
    assert "have different Robustness evaluators (robust.sets.c.seed: 0 -> 7)" in told


def test_a_checkpoint_that_cannot_be_read_is_named(runs, capsys, tmp_path):
    shutil.copytree(
        runs / "a0" / "checkpoints" / "2", runs / "a0" / "checkpoints" / "3"
    )
    for path in (runs / "a0" / "checkpoints" / "3").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(b"damaged")
    out = f"--out={tmp_path / 'out'}"
    assert main([f"--runs=a={runs / 'a0'}", out]) == 1
    assert "a0 cannot be read; remove it to evaluate step 2." in capsys.readouterr().err


def test_numbers_of_several_evaluators_keep_their_names_apart():
    found = accuracies(
        {"b": NUMBERS, "b/c": {"clean/top1": 0.75, "r/top1_present": 1.0}}
    )
    assert found.sets == {
        "b: clean": 0.5,
        "b: c": 0.25,
        "b: other": 0.125,
        "b/c: clean": 0.75,
        "b/c: r, classes present": 1.0,
    }
    assert found.corruptions == {"b: c": {"brightness": 0.3, "contrast": 0.2}}
    assert found.severities == {"b: c": {"1": 0.4, "5": 0.1}}
    assert found.counted == {"b: c": ("brightness", "contrast")}
    assert "clean" in accuracies({"b": NUMBERS}).sets
