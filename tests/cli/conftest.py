"""What the tests of several commands share: trained runs, one device, a quiet log."""

import json
import logging
from pathlib import Path

import jax
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.report.figures import drawing
from tests.runs import begun

TINY = Path(__file__).parents[1] / "tiny.py"
COMPARED = f"""
from jax_rcl import config as configs
from jax_rcl.augment.corruptions.table import Corruption
from jax_rcl.augment.distortions.pixelwise import RandomMask
from jax_rcl.config import node, parse
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.evaluate.shifts.robustness import Corrupted, Robustness
from jax_rcl.evaluate.when import Never

def get_config(arg=""):
    options = parse(arg, seed=0, count=20)
    config = configs.load("{TINY}:count=32,epochs=1", [("seed", str(options.seed))])
    test = node(Synthetic, classes=4, size=8, count=20, seed=1)
    other = node(Synthetic, classes=4, size=8, count=options.count, seed=2)
    names = ("brightness", "contrast")
    corruptions = tuple(node(Corruption, name, 32) for name in names)
    probe = node(
        LinearProbe, config.source, test, strengths=(0.1,), mapped=0, batch_size=20
    )
    sets = {{"c": node(Corrupted, test, corruptions, (1, 5)), "other": other}}
    mask = node(RandomMask, (0.5, 0.5))
    with config.unlocked():
        config.evaluators = config.evaluators.copy_and_resolve_references()
        config.evaluators.unlock()
        config.evaluators.robust = node(Robustness, probe, sets, when=node(Never))
        config.evaluators.masks = node(LevelSweep, probe, mask, (0.5, 0.75), repeats=3)
        config.evaluators.lock()
    return config
"""


@pytest.fixture(autouse=True)
def quiet():
    """The loggers, put back as they were: commands let them speak."""
    logger, absl = logging.getLogger("jax_rcl"), logging.getLogger("absl").level
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
    logging.getLogger("absl").setLevel(absl)


@pytest.fixture(scope="module")
def one_device():
    """One device: its programs compile faster."""
    real = parallel.make_mesh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures are drawn, but not turned into files, which takes the longest."""
    monkeypatch.setattr(drawing, "to_png", lambda figure: b"")


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory):
    """Runs `a0` and `a1` of two seeds, with robustness and a sweep; and their config.

    As training leaves them, for all tests, which copy what they change.
    """
    root = tmp_path_factory.mktemp("runs")
    (root / "compared.py").write_text(COMPARED)
    for seed in (0, 1):
        made = configs.load(f"{root / 'compared.py'}:seed={seed}")
        workdir = begun(made, root / f"a{seed}", seed=seed)
        levels = {"clean": 0.5, "0.5": 0.4 + seed / 10, "0.75": 0.3}
        numbers = {f"masks/{level}/top1": x for level, x in levels.items()}
        numbers |= {f"masks/{level}/top1_std": 0.125 for level in ("0.5", "0.75")}
        lines = {"masks": "logistic regression on features", "knn": "a vote"}
        record = {"step": 2, "results": numbers, "protocols": lines}
        (workdir / "results.json").write_text(json.dumps(record))
    return root


@pytest.fixture
def read_tables():
    """Cells of printed tables: by title, by the first of their line."""

    def read(text):
        found = {}
        for line in text.splitlines():
            if line.startswith("**"):
                own = found[line.strip("*")] = {}
            elif line.startswith("| ") and not line.startswith("| :"):
                name, *values = (cell.strip() for cell in line[1:-1].split("|"))
                own[name] = values
        return found

    return read
