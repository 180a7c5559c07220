"""The command that draws the level sweeps of finished runs, averages, and refuses."""

import json
import logging
from pathlib import Path

import jax
import numpy as np
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, RandomMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.cli.sweep import main
from jax_rcl.config.nodes import node
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.report.figures import drawing, levels
from jax_rcl.train.loop import train

TINY = Path(__file__).parents[1] / "tiny.py"


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


def swept(config, **sweeps):
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
def place(tmp_path, monkeypatch):
    """Makes a folder as a finished run leaves it, of sweeps and their numbers."""
    monkeypatch.setattr(drawing, "to_png", lambda figure: b"")  # takes the longest

    def make(name, numbers=None, **sweeps):
        config = swept(configs.load(str(TINY)), **(sweeps or {"masks": sweep()}))
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(configs.to_json(config))
        if numbers is not None:
            told = {key: f"protocol of {key} in {name}" for key in config.evaluators}
            record = {"step": 2, "results": numbers, "protocols": told}
            (tmp_path / name / "results.json").write_text(json.dumps(record))
        return tmp_path / name

    return make


def shares(clean, half, more, name="masks", std=0.125):
    """Numbers of a sweep over 0.5 and 0.75."""
    found = {"clean/top1": clean, "0.5/top1": half, "0.75/top1": more}
    found |= {f"{level}/top1_std": std for level in ("0.5", "0.75")}
    return {f"{name}/{key}": value for key, value in found.items()} | {"knn/top1": 1.0}


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


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, by title."""
    given = {}
    real = levels.draw
    monkeypatch.setattr(levels, "draw", lambda x: given.update(x) or real(x))
    return given


def test_runs_of_one_name_are_averaged_and_others_stand_beside(
    place, drawn, capsys, tmp_path
):
    first = place("s0", shares(0.75, 0.5, 0.25))
    second = place("s1", shares(0.75, 0.75, 0.5))
    other = place("t", shares(1.0, 0.25, 0.125))
    out = tmp_path / "out"
    runs = [str(path) for path in (first, other, second)]
    assert main([*runs, "--names=student,teacher,student", f"--out={out}"]) == 0
    text = (out / "sweep.md").read_text()
    assert capsys.readouterr().out == text
    (found,) = tables(text).values()
    assert [*tables(text)] == ["top1 under random mask (masks)"]
    assert found[""] == ["student (%)", "teacher (%)"]
    assert found["clean"] == ["75.0 ± 0.0", "100.0"]
    assert found["0.5"] == ["62.5 ± 17.7", "25.0 ± 12.5"]
    assert "over runs: 2 of student. Of a single run, ± is" in text
    assert "* masks, teacher: protocol of masks in t" in text
    (curves,) = drawn.values()
    assert curves.line_names == ("student", "teacher")
    np.testing.assert_allclose(curves.means, [[0.625, 0.375], [0.25, 0.125]])
    np.testing.assert_allclose(curves.deviations[1], [0.125, 0.125])
    np.testing.assert_allclose(curves.references, [0.75, 1])


def test_each_sweep_has_a_table_and_a_diagram_of_the_runs_that_have_it(
    place, drawn, tmp_path, capsys
):
    blur = sweep(((21, 5.0), (7, 2.0)), node(GaussianBlur, 5, (1.0, 2.0)))
    numbers = {"blurs/clean/top1": 1.0, "blurs/21x5/top1": 0.5, "blurs/7x2/top1": 0.75}
    both = place("both", shares(0.5, 0.5, 0.5) | numbers, masks=sweep(), blurs=blur)
    more = sweep((0.25, 0.75))
    own = shares(1.0, 0.5, 0.5) | {"masks/0.25/top1": 0.75}
    mask = place("mask", own, masks=more)
    assert main([str(both), str(mask), f"--out={tmp_path / 'out'}"]) == 0
    found = tables(capsys.readouterr().out)
    assert [*found] == [
        "top1 under Gaussian blur (blurs)",
        "top1 under random mask (masks)",
    ]
    blurs, masks = found.values()
    assert masks["0.25"] == ["–", "75.0"] and masks["0.5"] == ["50.0 ± 12.5", "–"]
    assert [*masks][2:] == ["clean", "0.25", "0.5", "0.75"]
    assert blurs[""] == ["both (%)"] and [*blurs][2:] == ["clean", "21x5", "7x2"]
    assert [*drawn] == ["Gaussian blur (blurs)", "random mask (masks)"]
    assert drawn["Gaussian blur (blurs)"].places is None
    means = drawn["random mask (masks)"].means
    np.testing.assert_array_equal(means, [[np.nan, 0.5, 0.5], [0.75, np.nan, 0.5]])


def test_another_number_may_be_compared(place, tmp_path, capsys):
    numbers = {
        "masks/clean/auroc": 0.75,
        "masks/0.5/auroc": 0.5,
        "masks/0.75/auroc": 1.0,
    }
    run = place("covid", numbers)
    out = f"--out={tmp_path / 'out'}"
    assert main([str(run), "--number=auroc", out]) == 0
    assert "auroc under random mask" in capsys.readouterr().out
    assert main([str(run), out]) == 2
    told = capsys.readouterr().err
    assert "has for masks, clean no number 'top1'; there are: auroc." in told


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{root}/nowhere"], "there is no folder {root}/nowhere."),
        (["{root}"], "holds no run: there is no {root}/config.json"),
        (["{root}/going"], "going is not finished: there is no {root}/going/results"),
        (
            ["{root}/plain"],
            "plain has no LevelSweep evaluator; its evaluators are knn",
        ),
        (["{root}/damaged"], "damaged/results.json is damaged"),
        (["{root}/a", "{root}/a/"], "a is there twice; a run counts once"),
        (["{root}/a", "{root}/x/a"], "2 folders are called 'a'; name the runs by"),
        (["{root}/a", "--names=a,b"], "must give a name to each of the 1 runs"),
        (["{root}/a", "--names="], "must give a name to each of the 1 runs"),
        (["{root}/a", "{root}/noise"], "over different things under one name (masks."),
        (["{root}/a", "{root}/other"], "under one name (masks.source.seed: 1 -> 7)"),
        (["{root}/a", "--nmaes=b"], "unknown argument --nmaes=b"),
        (["{root}/a", "--config.seed=1"], "finished runs stay as they are"),
    ],
)
def test_what_cannot_be_is_refused(place, tmp_path, capsys, argv, words):
    good = shares(0.5, 0.5, 0.5)
    place("a", good)
    place("x/a", good)
    place("going")
    place("plain", good, masks=configs.load(str(TINY)).evaluators.knn)
    place("noise", good, masks=sweep(distortion=node(GaussianNoise, (0.1, 0.1))))
    other = node(Synthetic, classes=4, size=8, count=20, seed=7)
    place("other", good, masks=sweep(source=other))
    (place("damaged", good) / "results.json").write_text("{")
    argv = [each.format(root=tmp_path) for each in argv]
    assert main([*argv, f"--out={tmp_path / 'out'}"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("\nConfigError: ") and "Traceback" not in told.err
    assert words.format(root=tmp_path) in told.err
    assert told.out == "" and not (tmp_path / "out").exists()


def test_the_numbers_are_those_that_a_run_leaves(tmp_path, capsys):
    config = configs.load(f"{TINY}:count=32,epochs=1")
    workdir, out = tmp_path / "run", tmp_path / "out"
    train(swept(config, masks=sweep()), workdir)
    capsys.readouterr()
    assert main([str(workdir), f"--out={out}"]) == 0
    (found,) = tables(capsys.readouterr().out).values()
    numbers = json.loads((workdir / "results.json").read_text())["results"]
    for level in ("0.5", "0.75"):
        mean, deviation = (numbers[f"masks/{level}/top1{x}"] for x in ("", "_std"))
        assert found[level] == [f"{100 * mean:.1f} ± {100 * deviation:.1f}"]
    assert found["clean"] == [f"{100 * numbers['masks/clean/top1']:.1f}"]
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    page = (workdir / "report" / "index.html").read_text()
    assert "Accuracy under random mask (masks)" in page
    assert "Images under random mask (masks)" in page
