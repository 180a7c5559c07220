"""The command that lays runs side by side: it evaluates, reads, averages, refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jax_rcl import config as configs
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, RandomMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.cli import compare as command
from jax_rcl.config.nodes import node
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.main import main as jax_rcl
from jax_rcl.report.figures import drawing
from jax_rcl.train.evaluation import trained

TINY = Path(__file__).parents[1] / "tiny.py"

pytestmark = pytest.mark.usefixtures("one_device")

NUMBERS = {
    "clean/top1": 0.5,
    "c/top1": 0.25,
    "c/brightness/top1": 0.3,
    "c/contrast/top1": 0.2,
    "c/severity1/top1": 0.4,
    "c/severity5/top1": 0.1,
    "other/top1": 0.125,
}


def main(argv):
    return jax_rcl(["compare", *argv])


@pytest.fixture(scope="module")
def place(finished_runs, tmp_path_factory, one_device):
    """Runs `a0` and `a1`, evaluated; a copy `b0`; and `plain`, which only votes."""
    root = tmp_path_factory.mktemp("place") / "runs"
    shutil.copytree(finished_runs, root)
    shutil.copytree(root / "a0", root / "plain")
    stored = configs.from_json((root / "plain" / "config.json").read_text())
    with stored.unlocked():
        del stored.evaluators.robust, stored.evaluators.masks
    (root / "plain" / "config.json").write_text(configs.to_json(stored))
    runs = f"--runs=a={root / 'a0'},{root / 'a1'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "to_png", lambda figure: b"")  # see `no_pictures`
        assert main([runs, f"--out={root / 'first'}"]) == 0
    shutil.copytree(root / "a0", root / "b0")  # with what was found
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
def runs(place, whole, tmp_path, no_pictures):
    """A copy of the folder of runs, evaluated ones."""
    shutil.copytree(place, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def evaluated(monkeypatch):
    """Workdirs that are evaluated, of which NUMBERS are found."""
    calls = []

    def evaluate(evaluation, run):
        calls.append(evaluation.workdir.name)
        names = list(run.experiment.evaluators)
        facts = dict.fromkeys(("commit", "date", "device", "versions"), "fake")
        found = {
            "results": dict.fromkeys(names, NUMBERS),
            "protocols": dict.fromkeys(names, "a protocol"),
        }
        return {**evaluation.question, **found, **facts}

    monkeypatch.setattr(command, "evaluate", evaluate)
    return calls


def record(workdir):
    return json.loads((workdir / "robustness.json").read_text())


# Robustness evaluators.


def test_the_numbers_are_those_of_the_evaluator_on_the_checkpoint(place):
    run, encode = trained(place / "a1")
    expected = run.experiment.evaluators["robust"].run(encode)
    found = record(place / "a1")
    assert found["results"] == {"robust": expected}
    assert found["results"] != record(place / "a0")["results"]
    assert found["protocols"]["robust"].startswith("logistic regression")
    assert found["step"] == 2 and found["which"] == "newest"
    grid = found["grids"]["robust"]["c by severity"]
    assert grid["rows"] == ["brightness", "contrast"]
    assert np.mean(grid["values"]) == pytest.approx(expected["c/top1"])
    assert {"commit", "date", "device", "seconds", "versions"} <= found.keys()


def test_the_table_holds_mean_and_deviation_over_the_runs_of_each_name(
    whole, place, read_tables
):
    found = read_tables((whole / "compare.md").read_text())
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


def test_sweeps_of_the_same_runs_stand_below_with_the_numbers_that_the_runs_left(
    whole, place, read_tables
):
    found = read_tables((whole / "compare.md").read_text())
    masks = found["top1 under random mask (masks)"]
    numbers = json.loads((place / "a0" / "results.json").read_text())["results"]
    for level in ("0.5", "0.75"):
        mean, deviation = (numbers[f"masks/{level}/top1{x}"] for x in ("", "_std"))
        assert masks[level][1] == f"{100 * mean:.1f} ± {100 * deviation:.1f}"
    assert masks["clean"][1] == f"{100 * numbers['masks/clean/top1']:.1f}"


def test_everything_is_written_down(whole):
    text = (whole / "compare.md").read_text()
    assert "over runs: 2 of a, 1 of b. Of a single run, ± is" in text
    assert "\n\nEvaluated on 1 × cpu in 1 min; commit " in text
    assert "* robust: logistic regression on" in text
    assert "* masks, b: " in text
    assert (whole / "compare.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((whole / "compare.json").read_text())
    assert found["baseline"] == "a"
    assert [run["method"] for run in found["runs"]] == ["a", "a", "b"]
    assert found["runs"][0]["robustness"]["step"] == 2
    assert found["cells"][0]["row"] == "a" and len(found["cells"][0]["values"]) == 2
    assert found["cells"][-1]["table"] == "top1 under random mask (masks)"


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
    printed = capsys.readouterr().out
    assert "run 1 of 2: a, " in printed and "run 2 of 2: b, " in printed
    assert "(about 1 min left)" in printed
    assert "Difference" not in printed
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
    runs, evaluated, tmp_path, capsys
):
    own = [f"--runs=plain={runs / 'plain'}", f"--out={tmp_path / 'out'}"]
    assert main([*own, f"--config={runs / 'compared.py'}:count=10"]) == 0
    assert evaluated == ["plain"]
    sets = record(runs / "plain")["evaluators"]["robust"]["sets"]
    assert sets["other"]["count"] == 10
    assert "masks" not in capsys.readouterr().out
    # The run itself stays as it is.
    stored = json.loads((runs / "plain" / "config.json").read_text())
    assert list(stored["evaluators"]) == ["knn"]


def test_a_run_that_is_not_finished_is_evaluated_without_its_sweeps(
    runs, evaluated, tmp_path, capsys
):
    (runs / "a0" / "results.json").unlink()
    assert main([f"--runs={runs / 'a0'}", f"--out={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr().out
    assert "| a0 " in printed and "masks" not in printed


def test_what_is_stored_is_compared_without_checkpoints(
    runs, evaluated, tmp_path, capsys, read_tables
):
    out = f"--out={tmp_path / 'out'}"
    for name in ("a0", "a1", "b0"):
        shutil.rmtree(runs / name / "checkpoints")
    before = {name: record(runs / name)["results"] for name in ("a0", "a1", "b0")}
    assert main(flags(runs, out)) == 0
    found = read_tables(capsys.readouterr().out)
    assert [*found] == [
        "Top-1 accuracy",
        "Top-1 accuracy on c",
        "top1 under random mask (masks)",
    ]
    number = 100 * before["b0"]["robust"]["other/top1"]
    assert found["Top-1 accuracy"]["b"][2] == f"{number:.2f}"
    (runs / "a1" / "robustness.json").unlink()
    assert main(flags(runs, out)) == 0
    printed = capsys.readouterr()
    assert [*read_tables(printed.out)] == ["top1 under random mask (masks)"]
    assert "a1 holds no checkpoint yet. Its level sweeps alone" in printed.err
    assert evaluated == []
    for flag in ("--again", "--only=robustness", "--baseline=a"):
        assert "holds no checkpoint yet" in refuse(
            capsys, evaluated, *flags(runs, out, flag)
        )


def test_what_a_run_found_itself_is_not_evaluated_again(
    runs, evaluated, tmp_path, capsys, read_tables
):
    own = [f"--runs={runs / 'a0'}", f"--out={tmp_path / 'out'}"]
    (runs / "a0" / "robustness.json").unlink()
    path = runs / "a0" / "results.json"
    stored = json.loads(path.read_text())
    stored["results"] |= {f"robust/{key}": x for key, x in NUMBERS.items()}
    stored["protocols"]["robust"] = "how it was found"
    path.write_text(json.dumps(stored))
    assert main(own) == 0
    text = capsys.readouterr().out
    assert read_tables(text)["Top-1 accuracy"]["a0"] == ["50.00", "25.00", "12.50"]
    assert "* robust: how it was found" in text and "Evaluated on" not in text
    assert evaluated == []
    path.write_text(json.dumps(stored | {"step": 1}))
    seed = "--config.evaluators.robust.sets.c.seed=1"
    for flags_of_another in ([], [seed], ["--again"]):
        assert main([*own, *flags_of_another]) == 0
    assert evaluated == ["a0"] * 3


@pytest.mark.parametrize(
    ("only", "titles"),
    [
        ("sweeps", ["top1 under random mask (masks)"]),
        ("robustness", ["Top-1 accuracy", "Top-1 accuracy on c"]),
    ],
)
def test_one_kind_may_be_asked_for(
    runs, evaluated, tmp_path, capsys, read_tables, only, titles
):
    if only == "sweeps":  # is not evaluated, although it is new
        (runs / "a0" / "robustness.json").unlink()
    argv = flags(runs, f"--only={only}", f"--out={tmp_path / 'out'}")
    assert main(argv) == 0
    assert [*read_tables(capsys.readouterr().out)] == titles
    assert evaluated == []


def test_the_old_command_of_sweeps_only_reads(runs, evaluated, tmp_path, capsys):
    (runs / "a0" / "robustness.json").unlink()
    with pytest.warns(DeprecationWarning, match="--only=sweeps"):
        from jax_rcl.sweep import main as sweep
    assert sweep([str(runs / "a0"), f"--out={tmp_path / 'out'}"]) == 0
    assert evaluated == []
    assert "Top-1 accuracy" not in capsys.readouterr().out


def test_sweeps_that_cannot_be_read_do_not_keep_robustness_from_being_compared(
    runs, evaluated, tmp_path, capsys
):
    path = runs / "b0" / "config.json"
    stored = json.loads(path.read_text())
    stored["evaluators"]["masks"]["distortion"]["rate"] = [0.25, 0.25]
    path.write_text(json.dumps(stored))
    out = f"--out={tmp_path / 'out'}"
    assert main(flags(runs, out)) == 0
    printed = capsys.readouterr()
    assert "| b " in printed.out and "random mask" not in printed.out
    assert "note: without level sweeps: " in printed.err
    assert "sweep over different things" in printed.err
    assert main(flags(runs, "--only=robustness", out)) == 0
    assert capsys.readouterr().err == ""
    assert "different things" in refuse(
        capsys, evaluated, *flags(runs, "--only=sweeps", out)
    )


def refuse(capsys, evaluated, *argv):
    """The message of a command that cannot work; nothing was evaluated."""
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert "\nConfigError: " in f"\n{printed.err}"
    assert evaluated == [] and printed.out == ""
    return printed.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--runs=a={root}/a9"], "there is no folder {root}/a9."),
        (["--runs=a={root}"], "holds no run: there is no {root}/config.json"),
        (["--runs=a={root}/empty"], "empty holds no checkpoint yet"),
        (["--runs=a={root}/a0", "--which=best"], "a0 holds no best checkpoint yet"),
        (
            ["--runs=a={root}/plain"],
            "{root}/plain (knn) has no Robustness evaluator, and {root}/plain (knn) "
            "has no LevelSweep evaluator; choose a config",
        ),
        (["--runs=a={root}/a0", f"--config={TINY}"], "tiny.py has no Robustness eval"),
        (
            ["--runs=a={root}/a0", "--runs=b={root}/a1", "--baseline=c"],
            "--baseline: there are no --runs 'c'; there are: a, b.",
        ),
        (["--runs=a={root}/a0", "--agian"], "Did you mean --again?"),
        (["--runs=runs/rate=0.1"], "there is no folder runs/rate=0.1; nor, with the"),
        (
            ["--runs=a={root}/a0", "--only=sweeps", "--again"],
            "Robustness evaluators, and --only=sweeps compares none",
        ),
        (["--runs=a={root}/plain", "--only=sweeps"], "(knn) has no LevelSweep eval"),
        (["--baseline=a"], "give the runs: --runs NAME=dir"),
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
    for path in ("checkpoints", "robustness.json", "results.json"):
        path = runs / "empty" / path
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    argv = [each.format(root=runs) for each in argv]
    assert words.format(root=runs) in refuse(capsys, evaluated, *argv)


def test_runs_of_different_evaluators_are_not_compared(runs, evaluated, capsys):
    path = runs / "b0" / "config.json"
    stored = json.loads(path.read_text())
    stored["evaluators"]["robust"]["sets"]["c"]["seed"] = 7
    path.write_text(json.dumps(stored))
    message = refuse(capsys, evaluated, *flags(runs))
    assert "have different Robustness evaluators (robust.sets.c.seed: 0 -> 7)" in (
        message
    )


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


# Level sweeps of finished runs; nothing is trained for them.


def with_sweeps(config, **sweeps):
    """The config with these evaluators besides its own."""
    with config.unlocked():
        config.evaluators = config.evaluators.copy_and_resolve_references()
        config.evaluators.unlock()
        for name, sweep in sweeps.items():
            config.evaluators[name] = sweep
        config.evaluators.lock()
    return config


def sweep(levels=(0.5, 0.75), distortion=None, **fields):
    """A sweep of a probe, over masks."""
    test = node(Synthetic, classes=4, size=8, count=20, seed=1)
    train = node(Synthetic, classes=4, size=8, count=32)
    fixed = {"strengths": (0.1,), "mapped": 0, "batch_size": 20}
    distortion = distortion or node(RandomMask, (0.5, 0.5))
    probe = node(LinearProbe, train, test, **fixed)
    return node(LevelSweep, probe, distortion, levels, repeats=3, **fields)


@pytest.fixture
def finish(tmp_path, no_pictures):
    """Makes a folder as a finished run leaves it, of sweeps and their numbers."""

    def finish(name, numbers=None, **sweeps):
        config = with_sweeps(configs.load(str(TINY)), **(sweeps or {"masks": sweep()}))
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(configs.to_json(config))
        if numbers is not None:
            lines = {key: f"protocol of {key} in {name}" for key in config.evaluators}
            record = {"step": 2, "results": numbers, "protocols": lines}
            (tmp_path / name / "results.json").write_text(json.dumps(record))
        return tmp_path / name

    return finish


def shares(clean, half, more, name="masks", std=0.125):
    """Numbers of a sweep over 0.5 and 0.75."""
    found = {"clean/top1": clean, "0.5/top1": half, "0.75/top1": more}
    found |= {f"{level}/top1_std": std for level in ("0.5", "0.75")}
    return {f"{name}/{key}": value for key, value in found.items()} | {"knn/top1": 1.0}


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn as curves, by title."""
    calls = {}
    real = command.draw_runs
    monkeypatch.setattr(
        command, "draw_runs", lambda rows, x: calls.update(x) or real(rows, x)
    )
    return calls


@pytest.mark.parametrize("form", ["runs", "0.1"])
def test_runs_of_one_name_are_averaged_and_others_stand_beside(
    finish, drawn, capsys, tmp_path, read_tables, form
):
    first = finish("s0", shares(0.75, 0.5, 0.25))
    second = finish("s1", shares(0.75, 0.75, 0.5))
    other = finish("t", shares(1.0, 0.25, 0.125))
    facts = {"commit": "abc", "device": "1 × cpu", "seconds": 120, "versions": "v"}
    (first / "trained.json").write_text(json.dumps({**facts, "date": "2026-01-01"}))
    out = tmp_path / "out"
    if form == "0.1":
        argv = [*map(str, (first, other, second)), "--names=student,teacher,student"]
    else:
        argv = [f"--runs=student={first}", f"--runs=teacher={other}"]
        argv.append(f"--runs=student={second}")
    assert main([*argv, f"--out={out}"]) == 0
    text = (out / "compare.md").read_text()
    printed = capsys.readouterr()
    assert printed.out.strip() == text.strip()
    old = "RUN and --names are --runs NAME=dir,dir now.\n"
    assert printed.err == (old if form == "0.1" else "")
    found = read_tables(text)
    assert [*found] == ["top1 under random mask (masks)"]
    (masks,) = found.values()
    assert masks[""] == ["student (%)", "teacher (%)"]
    assert masks["clean"] == ["75.0 ± 0.0", "100.0"]
    assert masks["0.5"] == ["62.5 ± 17.7", "25.0 ± 12.5"]
    assert "over runs: 2 of student, 1 of teacher. Of a single run, ± is" in text
    assert "Trained on 1 × cpu in 2 min; commit abc, v, 2026-01-01." in text
    assert "* masks, teacher: protocol of masks in t" in text
    (curves,) = drawn.values()
    assert curves.line_names == ("student", "teacher")
    np.testing.assert_allclose(curves.means, [[0.625, 0.375], [0.25, 0.125]])
    np.testing.assert_allclose(curves.deviations[1], [0.125, 0.125])
    np.testing.assert_allclose(curves.references, [0.75, 1])


def test_each_sweep_has_a_table_and_a_diagram_of_the_runs_that_have_it(
    finish, drawn, tmp_path, capsys, read_tables
):
    blur = sweep(((21, 5.0), (7, 2.0)), node(GaussianBlur, 5, (1.0, 2.0)))
    numbers = {"blurs/clean/top1": 1.0, "blurs/21x5/top1": 0.5, "blurs/7x2/top1": 0.75}
    both = finish("both", shares(0.5, 0.5, 0.5) | numbers, masks=sweep(), blurs=blur)
    more = sweep((0.25, 0.75))
    own = shares(1.0, 0.5, 0.5) | {"masks/0.25/top1": 0.75}
    mask = finish("mask", own, masks=more)
    assert main([f"--runs={both},{mask}", f"--out={tmp_path / 'out'}"]) == 0
    found = read_tables(capsys.readouterr().out)
    assert [*found] == [
        "top1 under Gaussian blur (blurs)",
        "top1 under random mask (masks)",
    ]
    blurs, masks = found.values()
    assert masks["0.25"] == ["–", "75.0"] and masks["0.5"] == ["50.0 ± 12.5", "–"]
    assert [*masks][1:] == ["clean", "0.25", "0.5", "0.75"]
    assert blurs[""] == ["both (%)"] and [*blurs][1:] == ["clean", "21x5", "7x2"]
    assert [*drawn] == ["Gaussian blur (blurs)", "random mask (masks)"]
    assert drawn["Gaussian blur (blurs)"].places is None
    means = drawn["random mask (masks)"].means
    np.testing.assert_array_equal(means, [[np.nan, 0.5, 0.5], [0.75, np.nan, 0.5]])


def test_another_number_may_be_compared(finish, tmp_path, capsys):
    numbers = {
        "masks/clean/auroc": 0.75,
        "masks/0.5/auroc": 0.5,
        "masks/0.75/auroc": 1.0,
    }
    run = finish("covid", numbers)
    out = f"--out={tmp_path / 'out'}"
    assert main([f"--runs={run}", "--number=auroc", out]) == 0
    assert "auroc under random mask" in capsys.readouterr().out
    assert main([f"--runs={run}", out]) == 2
    message = capsys.readouterr().err
    assert "has for masks, clean no number 'top1'; there are: auroc." in message


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{root}/going"], "going is not finished: there is no {root}/going/results"),
        (["{root}/damaged"], "damaged/results.json is damaged"),
        (["{root}/a", "--names=a,b"], "must give a name to each of the 1 runs"),
        (
            ["{root}/a", "{root}/plain"],
            "plain (knn, masks) has no LevelSweep evaluator",
        ),
        (["{root}/a", "{root}/noise"], "over different things under one name (masks."),
        (["{root}/a", "{root}/other"], "under one name (masks.source.seed: 1 -> 7)"),
        (["{root}/a", "--config.seed", "1"], "level sweeps of finished runs stay as"),
        (
            ["{root}/a", "--again"],
            "evaluators, and {root}/a (knn, masks) has none",
        ),
        (["{root}/a", "--which=best"], "are for Robustness evaluators"),
    ],
)
def test_what_cannot_be_read_is_refused(finish, tmp_path, capsys, argv, words):
    good = shares(0.5, 0.5, 0.5)
    finish("a", good)
    finish("going")
    finish("plain", good, masks=configs.load(str(TINY)).evaluators.knn)
    finish("noise", good, masks=sweep(distortion=node(GaussianNoise, (0.1, 0.1))))
    other = node(Synthetic, classes=4, size=8, count=20, seed=7)
    finish("other", good, masks=sweep(source=other))
    (finish("damaged", good) / "results.json").write_text("{")
    argv = [each.format(root=tmp_path) for each in argv]
    message = refuse(capsys, [], *argv, f"--out={tmp_path / 'out'}")
    assert words.format(root=tmp_path) in message
    assert not (tmp_path / "out").exists()
