"""The loop: what a run leaves, how it stops, and that it continues as if it had not."""

import dataclasses
import json
import os
import re
import shutil
import signal
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.compose import Chain, Pair, Views
from jax_rcl.augment.distortions.pixelwise import GaussianNoise
from jax_rcl.augment.geometry import CenterCrop
from jax_rcl.augment.negatives import Negatives, PatchMosaic
from jax_rcl.checkpoint import (
    BEST,
    FROZEN,
    STATES,
    Checkpoints,
    DamagedCheckpoint,
    NotSaved,
    checksums,
    flat,
    progress,
    read_variables,
    saved_steps,
)
from jax_rcl.config.experiment import Best
from jax_rcl.config.nodes import node
from jax_rcl.config.overrides import override
from jax_rcl.config.types import ConfigError
from jax_rcl.core import Outcome, Variables
from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.frames import Framed
from jax_rcl.data.sources import Npz, Synthetic
from jax_rcl.data.stream import Order
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Linear, Mlp
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.distill import Distill
from jax_rcl.objectives.moco import MoCo
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Cosine, Plateau
from jax_rcl.report import log
from jax_rcl.train import batches, evaluation, loop
from jax_rcl.train.batches import SourceError
from jax_rcl.train.evaluation import (
    EvaluatorFailed,
    evaluate,
    first_views,
    trained,
)
from jax_rcl.train.loop import Diverged, Loop, train
from jax_rcl.train.owner import RECORD, Owner, WorkdirGone, WorkdirInUse
from jax_rcl.train.run import Run
from jax_rcl.train.signals import Interrupted
from jax_rcl.train.state import BestSoFar, fresh_state, restore_variables
from jax_rcl.weights.restore import Restore
from tests.train.shared import mesh, tiny

# Reads that are still under way when another one fails end in a closed event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@dataclasses.dataclass(frozen=True)
class Once:
    """When a given number of updates have been made."""

    step: int

    def due(self, step, *, total_steps, steps_per_epoch):
        return step == self.step


@dataclasses.dataclass(frozen=True)
class Broken:
    """An evaluator that fails until it is mended."""

    when: Once

    protocol = "none"
    needs = frozenset()

    def check(self):
        pass

    def run(self, encode):
        if not Path(os.environ["MENDED"]).exists():
            raise ZeroDivisionError("broken")
        return {"done": 1.0}


@dataclasses.dataclass(frozen=True)
class Wave:
    """An evaluator whose number goes up and down as the encoder changes."""

    when: Every
    protocol = "the features, chopped"
    needs = frozenset({"features"})

    def check(self):
        pass

    def run(self, encode):
        images = np.linspace(0, 1, 8 * 8 * 3, dtype=np.float32).reshape(1, 8, 8, 3)
        mean = float(np.abs(np.asarray(encode(images)["features"])).mean())
        return {"height": 1e4 * mean % 1.0}


@dataclasses.dataclass(frozen=True)
class Torn:
    """A source with one record that cannot be read until it is mended."""

    bad: int
    inner: Synthetic

    @property
    def class_names(self):
        return self.inner.class_names

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        if index == self.bad and not Path(os.environ["MENDED"]).exists():
            raise ValueError(f"image{index}.png does not decode")
        return self.inner[index]


@pytest.fixture(autouse=True)
def mended(tmp_path, monkeypatch):
    """A file whose existence mends what is broken."""
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    return tmp_path / "mended"


@pytest.fixture(autouse=True, scope="module")
def blank_figures(whole):
    """Figures are made but not painted, which is most of the time of a page.

    But for those of `whole`, which alone shows its first views, too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax_rcl.report.page.to_png", lambda figure, *, scale: bytes(24))
        patch.setattr("jax_rcl.train.loop.first_views", lambda run, key: None)
        yield


def train_until(step, config, workdir, devices=1):
    """A run to which SIGTERM is sent at a step."""
    after_call = Loop.after_call

    def stop(self, state, before, now):
        if before < step <= now:
            os.kill(os.getpid(), signal.SIGTERM)
        after_call(self, state, before, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "after_call", stop)
        with pytest.raises(Interrupted, match=f"SIGTERM: saved step {step}"):
            train(config, workdir, mesh=mesh(devices))
    assert not (workdir / RECORD).exists()  # it belongs to nobody


def numbers(workdir):
    """Every logged number that does not depend on the clock."""
    lines = log.read(workdir)
    return [{k: v for k, v in x.items() if not k.startswith("time/")} for x in lines]


def arrays(workdir):
    """Every array of the newest checkpoint."""
    with Checkpoints(workdir / STATES) as saved:
        last = saved.steps()[-1]
        found = {item: saved.newest(item) for item in ("variables", "training")}
    return last, {path: np.asarray(x) for path, x in flat(found).items()}


def assert_same_run(one, other):
    (step, a), (other_step, b) = arrays(one), arrays(other)
    assert step == other_step and a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)
    assert numbers(one) == numbers(other)


def assert_close(one, other):
    """As equal as sums in another order can be."""
    (_, a), (_, b) = arrays(one), arrays(other)
    for path in a:
        np.testing.assert_allclose(a[path], b[path], rtol=1e-3, atol=1e-4, err_msg=path)


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """Runs of equal methods, shapes and devices share the compiled step and start."""
    kept, starts = {}, {}

    def compiled(run, state, data):
        part, plan = run.experiment, run.plan
        numbers = plan.total_steps, plan.steps_per_epoch, part.steps_per_call
        batch = str(batches.batch_shapes(run))
        shapes = str(jax.tree.map(np.shape, (state, data))), batch
        key = part.objective, part.augment, part.optimizer, numbers, shapes, run.mesh
        if key not in kept:
            kept[key] = batches.compile_step(run, state, data)
        return kept[key]

    def started(run):
        part, variables = run.experiment, run.plan.variables
        if jax.tree.leaves(variables.frozen) or part.init_from:
            return fresh_state(run)
        shapes = str(jax.tree.map(np.shape, variables))
        key = part.objective, part.optimizer, part.seed, shapes, run.mesh
        if key not in starts:
            starts[key] = fresh_state(run)
        return jax.tree.map(jnp.copy, starts[key])  # a step may donate its state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax_rcl.train.loop.compile_step", compiled)
        patch.setattr("jax_rcl.train.state.fresh_state", started)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, compiled_once):
    """The workdir of a run that was never stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(tiny(), workdir, mesh=mesh())
    return workdir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The workdir of the same run, stopped at step 6."""
    workdir = tmp_path_factory.mktemp("stopped") / "run"
    train_until(6, tiny(), workdir)
    return workdir


def test_a_run_leaves_what_it_promises(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "checkpoints",
        "config.json",
        "measured.json",
        "metrics.jsonl",
        "report",
        "results.json",
        "tensorboard",
    }
    stored = configs.from_json((whole / "config.json").read_text())
    assert configs.build(stored) == configs.build(tiny())
    results = json.loads((whole / "results.json").read_text())
    assert results["step"] == 12 and 0 <= results["results"]["knn/top1"] <= 1
    assert "k=5" in results["protocols"]["knn"]
    page = (whole / "report" / "index.html").read_text()
    assert page.count("<img") >= 2 and "knn" in page
    steps = [line["step"] for line in numbers(whole) if "train/loss" in line]
    assert steps == list(range(1, 13))
    evaluated = [line["step"] for line in numbers(whole) if "knn/top1" in line]
    assert evaluated == [4, 8, 12]
    with Checkpoints(whole / STATES) as saved:
        assert saved.steps() == [10, 12]


def test_a_finished_run_says_so_and_changes_nothing(whole, capsys):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    found = train(tiny(), whole, mesh=mesh())
    assert "finished: 12 steps" in capsys.readouterr().out
    assert (
        found["knn/top1"]
        == json.loads((whole / "results.json").read_text())["results"]["knn/top1"]
    )
    after = {p: p.stat().st_mtime_ns for p in whole.rglob("*") if p.is_file()}
    assert before == after


def test_a_terminated_run_continues_as_if_it_had_not_been(
    whole, stopped, tmp_path, capsys
):
    run = shutil.copytree(stopped, tmp_path / "run")
    train(tiny(), run, mesh=mesh())
    assert_same_run(whole, run)
    assert "frozen:" not in capsys.readouterr().out, "it has no frozen arrays"


def test_steps_in_one_call_give_the_same_run_also_after_a_stop(whole, tmp_path):
    made = tiny(steps_per_call="3")
    train(made, tmp_path / "calls", mesh=mesh())
    assert_close(whole, tmp_path / "calls")
    train_until(3, made, tmp_path / "run")
    train(made, tmp_path / "run", mesh=mesh())
    assert_same_run(tmp_path / "calls", tmp_path / "run")


def test_a_run_of_two_devices_continues_on_one(whole, tmp_path):
    train_until(6, tiny(), tmp_path / "run", devices=2)
    assert [x["step"] for x in numbers(tmp_path / "run") if "knn/top1" in x] == [4]
    train(tiny(), tmp_path / "run", mesh=mesh())
    assert_close(whole, tmp_path / "run")


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    whole, tmp_path, caplog
):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for file in (run / "checkpoints" / "12" / "variables").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    shutil.rmtree(run / "report")
    train(tiny(), run, mesh=mesh())
    assert re.search(r"checkpoints/12 is damaged", caplog.text)
    assert (run / "checkpoints" / "damaged-12").exists()
    assert_same_run(whole, run)


def test_a_loss_that_is_not_finite_stops_with_the_step_and_what_is_left(tmp_path):
    made = tiny()
    override(made, "optimizer.learning_rate", "1e30")
    override(made, "save_every", "1")
    with pytest.raises(
        Diverged, match=r"loss of step \d+ is nan.*last good checkpoint"
    ):
        train(made, tmp_path / "run", mesh=mesh())
    last, saved = arrays(tmp_path / "run")
    assert all(np.isfinite(x).all() for x in saved.values() if x.dtype.kind == "f")
    lines = [x for x in numbers(tmp_path / "run") if "train/loss" in x]
    assert lines[-1]["step"] == last
    assert all(np.isfinite(x["train/loss"]) for x in lines)


def test_a_failing_evaluator_is_named_and_nothing_is_lost(tmp_path, mended):
    made = tiny()
    with made.unlocked():
        made.evaluators["pull"] = node(Broken, node(Once, 6))
    with pytest.raises(RuntimeError, match="evaluator 'pull' failed at step 6: broken"):
        train(made, tmp_path / "run", mesh=mesh())
    assert arrays(tmp_path / "run")[0] == 6
    mended.touch()
    assert train(made, tmp_path / "run", mesh=mesh())["pull/done"] == 1.0


@pytest.mark.parametrize("at", [4, 12])  # after an epoch; at the end
def test_a_signal_ends_an_evaluation_at_once_and_nothing_is_lost(
    whole, tmp_path, monkeypatch, at
):
    run, looks = Neighbours.run, []

    def long(self, encode):
        looks.append(1)
        if len(looks) == at // 4:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("it went on")
        return run(self, encode)

    monkeypatch.setattr(Neighbours, "run", long)
    with pytest.raises(Interrupted, match=f"SIGTERM: saved step {at}"):
        train(tiny(), tmp_path / "run", mesh=mesh())
    train(tiny(), tmp_path / "run", mesh=mesh())
    assert_same_run(whole, tmp_path / "run")


def test_a_signal_while_the_page_is_written_ends_it_and_the_next_call_writes_it(
    tmp_path, monkeypatch
):
    def long(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    made = tiny("epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_page", long)
        with pytest.raises(Interrupted, match="SIGTERM: saved step 4"):
            train(made, tmp_path, mesh=mesh())
    assert not (tmp_path / RECORD).exists()
    train(made, tmp_path, mesh=mesh())
    assert (tmp_path / "report" / "index.html").exists()


def test_what_an_evaluator_refuses_is_one_sentence_and_nothing_is_lost(
    tmp_path, monkeypatch, caplog
):
    def refuse(self, encode):
        raise ValueError("image3.png does not decode")

    with monkeypatch.context() as patch:
        patch.setattr(Neighbours, "run", refuse)
        words = "evaluator 'knn' failed at step 4: image3.png does not decode"
        with pytest.raises(EvaluatorFailed, match=words):
            train(tiny(), tmp_path, mesh=mesh())
    assert "saved step 4; the same command continues" in caplog.text
    assert arrays(tmp_path)[0] == 4


def test_what_is_not_saved_is_not_said_to_be(tmp_path, monkeypatch, caplog):
    def full(self, *given):
        raise NotSaved("the disk is full")

    monkeypatch.setattr(Neighbours, "run", lambda self, encode: 1 / 0)
    monkeypatch.setattr(Checkpoints, "wait", full)
    with pytest.raises(RuntimeError, match="division by zero"):
        train(tiny(), tmp_path, mesh=mesh())
    assert "step 4 is not saved: the disk is full" in caplog.text
    assert "saved step" not in caplog.text


def test_an_image_of_the_first_batch_that_does_not_decode_is_one_sentence(tmp_path):
    made = tiny(resident="never")
    with made.unlocked():
        made.source = node(Torn, int(Order(64, 16, 0).indices(0)[5]), tiny().source)
    with pytest.raises(SourceError, match="the batch of step 0 cannot be read: image"):
        train(made, tmp_path, mesh=mesh())


def test_streamed_data_give_the_same_run_also_after_an_image_that_does_not_decode(
    whole, tmp_path, mended
):
    made = tiny(resident="never")
    bad = int(Order(64, 16, 0).indices(3)[5])  # needed by the fourth step, not before
    with made.unlocked():
        made.source = node(Torn, bad, tiny().source)
    with pytest.raises(SourceError, match=f"step 3.*image{bad}.png does not decode"):
        train(made, tmp_path / "run", mesh=mesh())
    assert arrays(tmp_path / "run")[0] == 3
    mended.touch()
    train(made, tmp_path / "run", mesh=mesh())
    assert_same_run(whole, tmp_path / "run")


def of_crops(resident):
    """The tiny config on crops of larger images; a step's picture of them."""
    made = tiny(evaluators={}, resident=resident)
    with made.unlocked():
        framed = node(Framed, node(Synthetic, classes=4, size=12, count=64), 14)
        made.source = node(RandomCrops, framed, 8, area=(0.2, 1.0))
    return made


@pytest.mark.parametrize("resident", ["never", "always"])
def test_crops_of_photographs_are_the_same_after_a_stop(resident, tmp_path):
    made = of_crops(resident)
    train(made, tmp_path / "whole", mesh=mesh())
    train_until(6, made, tmp_path / "run")
    train(made, tmp_path / "run", mesh=mesh())
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@dataclasses.dataclass(frozen=True)
class Kept:
    """Hands images on as its loss, to look at what a step was given."""

    needs = frozenset({"views"})

    def init(self, key, batch):
        return Variables(
            {"w": jnp.zeros(())}, {}, {"seen": jnp.zeros((16, 2, 8, 8, 3))}
        )

    def loss(self, variables, batch, clock):
        seen = parallel.gather_constant(batch["views"])
        value = variables.params["w"] * batch["views"].mean((1, 2, 3, 4))
        return Outcome(value, {"seen": seen}, {})

    def encode(self, variables, images):
        return {"features": images.mean((1, 2))}


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_crops_cut_on_the_device_are_those_of_the_host_to_one_level(tmp_path, devices):
    seen = {}
    for resident in ("never", "always"):
        made = of_crops(resident)
        with made.unlocked():
            made.objective, made.augment.operation = node(Kept), node(Chain, ())
            made.epochs, made.steps, made.augment.count = None, 2, 2
        workdir = tmp_path / resident
        train(made, workdir, mesh=mesh(devices))
        found = Checkpoints(workdir / STATES).newest("variables")["memory"]["seen"]
        seen[resident] = np.rint(255 * np.asarray(found)).astype(int)
    assert np.abs(seen["never"] - seen["always"]).max() <= 1
    assert len({view.tobytes() for each in seen["never"] for view in each}) == 32


def test_what_a_source_raises_is_one_sentence_with_its_step():
    def read(step):
        if step == 7:
            footnote = "\n--------------------\nFor simplicity"
            raise ValueError(f"a.png does not decode{footnote}")
        return {"index": np.array([step])}

    stream = map(read, range(6, 9))  # after an error it goes on with what follows
    assert batches.next_batch(stream, 6)["index"] == 6
    with pytest.raises(SourceError) as told:
        batches.next_batch(stream, 7)
    words = "the batch of step 7 cannot be read: a.png does not decode"
    assert str(told.value) == words


def test_a_workdir_of_another_config_is_left_alone(whole):
    with pytest.raises(ConfigError, match=r"batch_size: 16 -> 32") as told:
        train(tiny("batch_size=32"), whole, mesh=mesh())
    assert "another config" in str(told.value)
    assert not (whole / RECORD).exists()


def test_a_workdir_that_someone_trains_in_is_left_alone(tmp_path):
    with Owner(tmp_path):
        with pytest.raises(WorkdirInUse, match=f"process {os.getpid()} on"):
            train(tiny(), tmp_path, mesh=mesh())
    assert list(tmp_path.iterdir()) == []


def test_who_loses_the_workdir_writes_no_more(tmp_path, monkeypatch):
    after_call = Loop.after_call

    def taken(self, state, before, now):
        if now == 5:
            text = (tmp_path / RECORD).read_text()
            record = json.loads(text) | {"token": "theirs", "host": "other"}
            (tmp_path / RECORD).write_text(json.dumps(record))
        after_call(self, state, before, now)

    monkeypatch.setattr(Loop, "after_call", taken)
    with pytest.raises(WorkdirInUse, match="on other"):
        train(tiny(), tmp_path, mesh=mesh())
    with Checkpoints(tmp_path / STATES) as kept:
        assert kept.steps() == []
    assert json.loads((tmp_path / RECORD).read_text())["token"] == "theirs"


def test_a_run_whose_workdir_disappears_ends_with_one_sentence(tmp_path, monkeypatch):
    after_call = Loop.after_call

    def removed(self, state, before, now):
        if now == 5:
            shutil.rmtree(tmp_path / "run")
        if now == 6:
            self.owner.lost = True  # as its heartbeat finds within seconds
        after_call(self, state, before, now)

    monkeypatch.setattr(Loop, "after_call", removed)
    with pytest.raises(WorkdirGone, match="run has disappeared"):
        train(tiny(save_every="100"), tmp_path / "run", mesh=mesh())
    assert not (tmp_path / "run").exists()


def test_a_line_that_cannot_be_written_ends_the_run_for_all(tmp_path, monkeypatch):
    def full(self, step, metrics):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log.Log, "write", full)
    with pytest.raises(NotSaved, match=r"cannot be written any more \(.* No space"):
        train(tiny(), tmp_path / "run", mesh=mesh())


def test_a_finished_run_becomes_a_longer_one(tmp_path):
    def made(epochs):
        return tiny(f"epochs={epochs}", optimizer=node(Sgd, 0.02))

    train(made(3), tmp_path / "run", mesh=mesh())
    first = (tmp_path / "run" / "results.json").read_text()
    found = train(made(4), tmp_path / "run", mesh=mesh())
    train(made(4), tmp_path / "whole", mesh=mesh())
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert found == results_of(tmp_path / "run") == results_of(tmp_path / "whole")
    assert (tmp_path / "run" / "results-1.json").read_text() == first


def test_a_finished_run_is_looked_at_by_another_evaluator(whole, tmp_path, capsys):
    run, made = shutil.copytree(whole, tmp_path / "run"), tiny()
    with made.unlocked():
        made.evaluators["wave"] = node(Wave, node(Every, steps=1))
    override(made, "evaluators.knn.k", "3")
    found = train(made, run, mesh=mesh())
    assert found == results_of(run) == evaluate(made, run, mesh=mesh())
    assert "k=3" in (run / "results.json").read_text()
    assert (run / "results-1.json").read_text() == (whole / "results.json").read_text()
    assert (run / "report" / "index.html").exists()
    np.testing.assert_array_equal(
        *(next(iter(arrays(x)[1].values())) for x in (whole, run))
    )
    capsys.readouterr()
    assert train(made, run, mesh=mesh()) == found
    assert "finished: 12 steps" in capsys.readouterr().out


def test_every_so_many_checkpoints_stay_and_each_can_be_read(tmp_path):
    made = tiny(save_every=node(Every, steps=2), keep="1", keep_every="2")
    train(made, tmp_path, mesh=mesh())
    with Checkpoints(tmp_path / STATES) as kept:
        assert kept.steps() == [4, 8, 12]
    run, _ = trained(tmp_path, 4)
    step, variables = restore_variables(run, 4)
    paths = flat({"params": variables.params, "memory": variables.memory})
    read = read_variables(tmp_path, 4)
    assert step == 4 and read.keys() == paths.keys()
    for path, array in read.items():
        np.testing.assert_array_equal(array, paths[path])
    newest = read_variables(tmp_path)
    assert any((read[path] != newest[path]).any() for path in read)
    start = Restore(str(tmp_path), {"params": "params"}, which=4)
    filled = flat(start(run.plan.variables).params)
    for path, array in filled.items():
        np.testing.assert_array_equal(array, read[f"params/{path}"])
    with pytest.raises(ConfigError, match=r"no checkpoint of step 5.*4, 8, 12"):
        trained(tmp_path, 5)


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        train(tiny(), tmp_path / "file" / "run", mesh=mesh())


def test_evaluation_alone_gives_the_numbers_of_the_run(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = json.loads((run / "results.json").read_text())
    assert evaluate(tiny(), run, mesh=mesh()) == before["results"]
    made = tiny()
    override(made, "evaluators.knn.k", "3")
    first = (run / "evaluation.json").read_text()
    evaluate(tiny(), run, mesh=mesh())
    evaluate(made, run, mesh=mesh())
    assert "k=3" in (run / "evaluation.json").read_text()
    assert (run / "evaluation-1.json").read_text() == first
    assert not (run / "evaluation-2.json").exists(), "the same is not kept twice"
    data = json.loads(first)["data"]
    assert data["evaluators"]["knn"][1]["count"] == 20
    assert "Synthetic(classes=4" in data["sources"]["knn"][0]
    assert json.loads((run / "results.json").read_text()) == before


def test_who_cannot_write_there_is_told_first_and_gets_the_numbers(
    whole, monkeypatch, caplog, capsys
):
    files = {p.name for p in whole.iterdir()}
    monkeypatch.setattr(evaluation, "can_write", lambda folder: False)
    ran = Neighbours.run

    def run_later(self, encode):
        assert "cannot be written to" in caplog.text
        return ran(self, encode)

    monkeypatch.setattr(Neighbours, "run", run_later)
    found = evaluate(tiny(), whole, mesh=mesh())
    assert found == results_of(whole) and "knn" in capsys.readouterr().out
    assert {p.name for p in whole.iterdir()} == files


def test_evaluation_of_another_objective_is_refused(whole, tmp_path):
    made = tiny()
    override(made, "objective.temperature", "0.5")
    with pytest.raises(ConfigError, match=r"objective.temperature: 0.1 -> 0.5"):
        evaluate(made, whole, mesh=mesh())
    with pytest.raises(ConfigError, match="holds no run"):
        evaluate(tiny(), tmp_path / "nothing", mesh=mesh())


def test_a_run_continues_when_what_it_started_from_is_gone(stopped, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    made = tiny()
    with made.unlocked():
        made.init_from = (node(Restore, str(tmp_path / "gone"), {"params": "params"}),)
    (run / "config.json").write_text(configs.to_json(made))
    train(made, run, mesh=mesh())
    assert arrays(run)[0] == 12
    evaluate(made, run, mesh=mesh())


def test_a_run_of_no_steps_looks_at_what_it_starts_from(whole, tmp_path, capsys):
    made = tiny()
    with made.unlocked():
        made.init_from = (
            node(Restore, str(whole), {x: x for x in ("params", "memory")}),
        )
        made.epochs, made.steps = None, 0
    found = train(made, tmp_path / "run", mesh=mesh())
    assert found == json.loads((whole / "results.json").read_text())["results"]
    step, kept = arrays(tmp_path / "run")
    theirs = arrays(whole)[1]
    assert step == 0 and kept
    for path in theirs.keys() & kept.keys():
        if path.startswith(("params/", "memory/")):
            np.testing.assert_array_equal(kept[path], theirs[path])
    assert (tmp_path / "run" / "report" / "index.html").exists()
    assert train(made, tmp_path / "run", mesh=mesh()) == found
    assert "finished: 0 steps" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "{", '{"class": "os:system"}'])
def test_a_file_that_is_no_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json is not"):
        evaluate(tiny(), tmp_path, mesh=mesh())


def test_a_label_that_is_no_class_is_an_error_when_streamed_too(tmp_path):
    images = np.zeros((64, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "bad.npz", image=images, label=np.arange(64) % 5)
    made = tiny(resident="never")
    with made.unlocked():
        names = ("a", "b", "c", "d")
        made.source = node(Npz, str(tmp_path / "bad.npz"), names=names)
    with pytest.raises(SourceError, match=r"label 4; labels must be in \[0, 4\)"):
        train(made, tmp_path / "run", mesh=mesh())


# Frozen arrays.


def probing():
    """The tiny config with a frozen encoder and a head on it."""
    made = tiny("epochs=1")
    encoder, test = made.objective.encoder, made.evaluators["knn"].test
    with made.unlocked():
        made.augment = node(Views, made.augment.operation, count=1)
        made.objective = node(Classify, encoder, node(Linear, 4), encoder_is="frozen")
        made.evaluators = {"test": node(HeadAccuracy, test, mapped=0)}
    return made


def test_a_run_says_that_its_frozen_arrays_are_random_and_have_not_moved(
    tmp_path, capsys, caplog
):
    train(probing(), tmp_path / "run", mesh=mesh())
    assert "frozen/encoder" in caplog.text and "random" in caplog.text
    count = len(checksums(Checkpoints(tmp_path / "run" / FROZEN).newest(FROZEN)))
    words = f"frozen: {count} arrays, at the end as at the start, bit by bit"
    assert count == 2 and words in capsys.readouterr().out


def test_a_frozen_array_that_moved_is_an_error_in_place_of_results(
    tmp_path, monkeypatch
):
    def compiled(*given):
        step, cost = batches.compile_step(*given)

        def moving(*arguments):
            state, metrics = step(*arguments)
            variables = state.variables
            head, *others = jax.tree.leaves(variables.frozen)
            tree = jax.tree.structure(variables.frozen)
            frozen = jax.tree.unflatten(tree, [head * 2 + 1, *others])
            variables = dataclasses.replace(variables, frozen=frozen)
            return dataclasses.replace(state, variables=variables), metrics

        return moving, cost

    monkeypatch.setattr("jax_rcl.train.loop.compile_step", compiled)
    with pytest.raises(DamagedCheckpoint, match=r"1 of \d+ frozen arrays.*encoder/"):
        train(probing(), tmp_path / "run", mesh=mesh())
    assert not (tmp_path / "run" / "results.json").exists()
    monkeypatch.undo()
    with pytest.raises(DamagedCheckpoint, match="not what this run was trained with"):
        train(probing(), tmp_path / "run", mesh=mesh())


# The best state.


def waving(monitor="wave/height"):
    """The tiny config, looked at after every step, with a best state."""
    made = tiny()
    with made.unlocked():
        made.evaluators["wave"] = node(Wave, node(Every, steps=1))
        made.best = node(Best, monitor)
    return made


@pytest.fixture(scope="module")
def waved(tmp_path_factory):
    """The workdir of a run with a best state that was never stopped."""
    workdir = tmp_path_factory.mktemp("waved") / "run"
    train(waving(), workdir, mesh=mesh())
    return workdir


def best_arrays(workdir):
    """Step and arrays of the best state."""
    with Checkpoints(workdir / BEST) as saved:
        (step,) = saved.steps()
        return step, flat(saved.newest("variables"))


def heights(workdir):
    return {x["step"]: x["wave/height"] for x in numbers(workdir) if "wave/height" in x}


def results_of(workdir):
    return json.loads((workdir / "results.json").read_text())["results"]


def test_the_best_state_is_kept_and_looked_at_in_the_end(waved):
    seen, found = heights(waved), results_of(waved)
    step = max(seen, key=seen.__getitem__)
    assert 1 < step < 12 and len(set(seen.values())) == 12  # else this shows nothing
    assert best_arrays(waved)[0] == found["best/step"] == step
    assert found["best/wave/height"] == seen[step] > found["wave/height"] == seen[12]
    own = {name for name in found if not name.startswith("best/")}
    assert own == {"knn/top1", "knn/balanced", "wave/height"}
    assert found.keys() - own == {"best/step"} | {f"best/{name}" for name in own}
    protocols = json.loads((waved / "results.json").read_text())["protocols"]
    assert protocols["best"] == "the state of the highest wave/height"
    assert protocols["best/knn"] == protocols["knn"]
    assert "best/wave" in (waved / "report" / "index.html").read_text()
    assert [x["step"] for x in numbers(waved) if "best/step" in x] == [12]


def test_evaluation_alone_looks_at_the_best_state_too_unless_told_not_to(
    waved, tmp_path
):
    run = shutil.copytree(waved, tmp_path / "run")
    assert evaluate(waving(), run, mesh=mesh()) == results_of(run)
    made = waving()
    override(made, "best", "none")
    found = evaluate(made, run, mesh=mesh())
    assert found.keys() == {"knn/top1", "knn/balanced", "wave/height"}


def test_a_notebook_takes_the_best_state(waved):
    wave, found = Wave(Every(steps=1)), results_of(waved)
    for which, start in (("newest", ""), ("best", "best/")):
        _, encode = trained(waved, which)
        np.testing.assert_allclose(
            wave.run(encode)["height"], found[f"{start}wave/height"], atol=0.02
        )


class Killed(BaseException):
    """Nothing that a run may catch."""


def kill(monkeypatch, moment, last):
    """Kills the next run after checkpoint 5, at a moment of its step `last` or 10."""
    offer, save = BestSoFar.offer, Loop.save

    def offered(self, variables, step, names, numbers):
        if moment == "evaluated" and step == last:
            raise Killed
        better = offer(self, variables, step, names, numbers)
        if moment == "kept" and step == last:
            assert better
            raise Killed
        return better

    def saved(self, state, step):
        if moment == "logged" and step == 10:
            raise Killed
        save(self, state, step)
        if moment == "saved" and step == 10:
            raise Killed

    monkeypatch.setattr(BestSoFar, "offer", offered)
    monkeypatch.setattr(Loop, "save", saved)


@pytest.mark.parametrize(
    "moment",
    [
        "evaluated",
        pytest.param("kept", marks=pytest.mark.slow),
        pytest.param("logged", marks=pytest.mark.slow),
        pytest.param("saved", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_around_its_best_state_comes_to_the_same_one(
    waved, tmp_path, monkeypatch, moment
):
    best = best_arrays(waved)[0]
    assert best > 5  # so that a run killed there goes back behind it
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill(patch, moment, best)
        train(waving(), tmp_path / "run", mesh=mesh())
    train(waving(), tmp_path / "run", mesh=mesh())
    assert_same_run(waved, tmp_path / "run")
    (step, a), (other, b) = best_arrays(waved), best_arrays(tmp_path / "run")
    assert step == other and a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)
    assert results_of(waved) == results_of(tmp_path / "run")


def test_a_run_killed_before_it_looked_at_the_best_state_looks_at_it(waved, tmp_path):
    run = shutil.copytree(waved, tmp_path / "run")
    shutil.rmtree(run / "report")
    record = run / "metrics.jsonl"
    kept = [x for x in record.read_text().splitlines() if "best/" not in x]
    record.write_text("\n".join(kept) + "\n")
    train(waving(), run, mesh=mesh())
    assert_same_run(waved, run)
    assert results_of(waved) == results_of(run)


def test_a_number_that_the_evaluator_does_not_give_is_named_at_its_first(tmp_path):
    words = (
        r"no number 'wave/heights'; there are: wave/height\. Did you mean 'wave/height'"
    )
    with pytest.raises(ConfigError, match=words):
        train(waving("wave/heights"), tmp_path, mesh=mesh())
    assert heights(tmp_path) == {}


def test_a_best_state_that_another_number_chose_is_put_aside(waved, tmp_path, caplog):
    run, made = shutil.copytree(waved, tmp_path / "run"), waving()
    override(made, "best.mode", "min")
    with BestSoFar(Run.prepare(waving(), run, mesh())) as best:
        assert best._value == results_of(waved)["best/wave/height"]
    aside = run / f"best-{results_of(waved)['best/step']:g}"
    lower = Variables(params={"x": np.arange(3.0)}, memory={}, frozen={})
    with BestSoFar(Run.prepare(made, run, mesh())) as best:
        assert not best.offer(lower, 2, ["knn"], {"knn/top1": 0.5})
        assert not aside.exists() and caplog.records == []  # nothing to choose by yet
        assert best.offer(lower, 2, ["wave"], {"wave/height": -9.0})
    assert "chosen by wave/height" in caplog.text
    assert aside.is_dir() and saved_steps(run, "best") == [2]


def test_a_best_state_that_was_chosen_on_other_data_is_put_aside(tmp_path, caplog):
    def offered(first, step, value):
        labels = (first + np.arange(20)) % 4
        images = np.zeros((20, 8, 8, 3), np.uint8)
        made = waving("knn/top1")
        with made.unlocked():
            for name in ("train", "test"):
                np.savez(tmp_path / name, image=images, label=labels)
                made.evaluators.knn[name] = node(Npz, str(tmp_path / f"{name}.npz"))
        found = Variables(params={"x": np.arange(3.0)}, memory={}, frozen={})
        with BestSoFar(Run.prepare(made, tmp_path, mesh())) as best:
            return best.offer(found, step, ["knn"], {"knn/top1": value})

    assert offered(0, 4, 0.9)
    assert not offered(0, 8, 0.2) and caplog.records == []
    assert offered(1, 8, 0.2)
    assert (
        "temperature 0.07; other labels)" in caplog.text
        and "begins anew" in caplog.text
    )
    assert saved_steps(tmp_path, "best") == [8] and (tmp_path / "best-4").is_dir()
    assert not offered(1, 12, 0.1)


def test_what_evaluators_find_of_the_best_state_changes_with_them(waved, tmp_path):
    run, before = shutil.copytree(waved, tmp_path / "run"), results_of(waved)
    made = waving()
    override(made, "evaluators.knn.k", "1")
    found = train(made, run, mesh=mesh())
    assert found == evaluate(made, run, mesh=mesh()) == results_of(run)
    changed = {name for name in before if before[name] != found[name]}
    assert "best/knn/top1" in changed and "best/step" not in changed


@pytest.mark.slow
def test_numbers_that_are_none_make_no_best_state(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Wave, "run", lambda self, encode: {"height": float("nan")})
    found = train(waving(), tmp_path, mesh=mesh())
    assert not any(name.startswith("best/") for name in found)
    assert "has no best state" in caplog.text


# Optimizers that carry more.


@pytest.mark.slow
def test_an_optimizer_that_accumulates_and_waits_resumes_in_the_midst(tmp_path):
    plateau = node(Plateau, 0.5, patience=0, threshold=0.9)
    sgd = node(Sgd, 0.02, schedule=node(Cosine), accumulate=2, plateau=plateau)
    made = tiny()
    with made.unlocked():
        made.optimizer = sgd
    train(made, tmp_path / "whole", mesh=mesh())
    train_until(7, made, tmp_path / "run")
    assert progress(tmp_path / "run") == (7, 12)
    train(made, tmp_path / "run", mesh=mesh())
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    lines = [x for x in numbers(tmp_path / "whole") if "train/loss" in x]
    scales = [x["train/plateau"] for x in lines]
    assert scales == [1.0] * 8 + [0.5] * 4
    for line in lines:
        done = (line["step"] - 1) // 2 * 2 / 12
        expected = 0.02 * (1 + np.cos(np.pi * done)) / 2 * line["train/plateau"]
        np.testing.assert_allclose(line["train/learning_rate"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("relative_to", "loss", "count"),
    [("best", -1.0, 1), ("best", 1.0, 0), ("one", -1.0, 0)],
)
def test_a_plateau_that_a_negative_loss_cannot_reach_is_told_once(
    relative_to, loss, count, caplog
):
    optimizer = Sgd(0.1, plateau=Plateau(relative_to=relative_to))
    experiment = types.SimpleNamespace(optimizer=optimizer)
    run = types.SimpleNamespace(experiment=experiment)
    loop = types.SimpleNamespace(run=run, warned=False)
    for _ in range(3):
        Loop.warn_of_plateau(loop, {"train/loss": loss})
    assert caplog.text.count('Write Plateau(relative_to="one")') == count


# Negatives and a queue.


def queueing():
    """MoCo with mosaics on the tiny data; the queue holds three of the four batches."""
    made = tiny()
    views, encoder = made.augment, made.objective.encoder
    with made.unlocked():
        made.augment = node(Negatives, views, node(PatchMosaic, (2, 4)))
        made.objective = node(
            MoCo, encoder, node(Mlp, (8, 8)), queue_size=48, negatives=1, alpha=2.0
        )
    return made


@pytest.mark.slow
def test_a_queue_is_the_same_after_a_resume_and_on_many_devices(tmp_path):
    train(queueing(), tmp_path / "whole", mesh=mesh())
    train_until(6, queueing(), tmp_path / "run")
    train(queueing(), tmp_path / "run", mesh=mesh())
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    train(queueing(), tmp_path / "many", mesh=mesh(8))
    memories = {}
    for name in ("whole", "run", "many"):
        states = Checkpoints(tmp_path / name / STATES)
        memories[name] = states.newest("variables")["memory"]
    np.testing.assert_array_equal(memories["whole"]["queue"], memories["run"]["queue"])
    assert memories["many"]["cursor"] == 12 * 16 % 48
    np.testing.assert_allclose(
        memories["whole"]["queue"], memories["many"]["queue"], rtol=1e-3, atol=1e-4
    )


def test_the_picture_of_a_pair_shows_the_clean_image_beside_the_distorted_one(tmp_path):
    made = tiny()
    with made.unlocked():
        made.augment = node(Pair, node(CenterCrop, 8), node(GaussianNoise, (0.5, 0.5)))
        made.objective = node(Distill, made.objective.encoder)
    run = Run.prepare(made, tmp_path / "run", mesh())
    shown = first_views(run, jax.random.key(0))
    assert shown.titles == ("clean", "distorted")
    assert shown.images.shape == (8, 2, 8, 8, 3)
    assert shown.images.min() >= 0 and shown.images.max() <= 1
    assert (shown.images[:, 0] != shown.images[:, 1]).mean() > 0.5


def test_the_picture_of_the_views_shows_the_negatives_beside_them(tmp_path):
    run = Run.prepare(queueing(), tmp_path / "run", mesh())
    shown = first_views(run, jax.random.key(0))
    assert shown.titles == ("view 1", "view 2", "negative 1")
    assert shown.images.shape == (8, 3, 8, 8, 3)
    # Nothing but pixels of the query is in a mosaic of it.
    for query, mosaic in zip(shown.images[:, 0], shown.images[:, 2], strict=True):
        colours = {tuple(pixel) for pixel in query.reshape(-1, 3)}
        assert {tuple(pixel) for pixel in mosaic.reshape(-1, 3)} <= colours
