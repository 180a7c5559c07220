"""The command line: what it does, what it refuses, and how it says so."""

import json
import logging
import shutil
import signal
from pathlib import Path

import jax
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import DamagedCheckpoint, NotSaved
from jax_rcl.cli import train as command
from jax_rcl.main import main
from jax_rcl.train.evaluation import EvaluatorFailed
from jax_rcl.train.loop import Diverged
from jax_rcl.train.owner import WorkdirInUse
from jax_rcl.train.signals import Interrupted

TINY = f"--config={Path(__file__).parents[1] / 'tiny.py'}"


@pytest.fixture(autouse=True, scope="module")
def alone():
    """One device, no cluster; figures of the page are made but not painted."""

    def initialize(*arguments):
        raise ValueError("coordinator_address should be defined.")

    real, absl = parallel.make_mesh, logging.getLogger("absl").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.distributed, "initialize", initialize)
        patch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
        patch.setattr("jax_rcl.report.page.to_png", lambda figure, *, scale: bytes(24))
        yield
    logging.getLogger("absl").setLevel(absl)


def reset(logger):
    """The logger of a library that nobody has asked to speak."""
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of the test for what is written, and no handler of an earlier one."""
    monkeypatch.chdir(tmp_path)
    reset(logging.getLogger("jax_rcl"))
    yield
    reset(logging.getLogger("jax_rcl"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdir of a run from the command line."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert main([TINY, f"--workdir={workdir}", "--config.log_every=2"]) == 0
    return workdir


@pytest.fixture
def trained(monkeypatch):
    """Calls of `train`, which does nothing."""
    calls = []
    monkeypatch.setattr(command, "train", lambda *arguments: calls.append(arguments))
    return calls


def refused(capsys, *argv):
    """The message of a command that cannot work; nothing is printed but it."""
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith("\nConfigError: ")
    assert "Traceback" not in told.err and told.err.count("Error") == 1
    assert list(Path().iterdir()) == []
    return told.err


def test_check_says_what_a_run_would_cost_and_writes_nothing(capsys):
    assert main([TINY, "--mode=check"]) == 0
    told = capsys.readouterr().out
    assert "params/encoder/" in told and "Total: params" in told
    lines = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    assert lines["steps"].strip() == "12 (4 in an epoch)"
    assert "views [16, 2, 8, 8, 3] float32" in lines["batch"]
    assert float(lines["FLOPs of a step"]) > 1e4
    assert "iB of temporaries" in lines["memory of a step"]
    assert lines["data set"].strip() == "laid out, 12.25 KiB"
    assert list(Path().iterdir()) == []


def test_a_run_ends_with_the_table_and_results(whole):
    assert json.loads((whole / "results.json").read_text())["step"] == 12
    stored = configs.from_json((whole / "config.json").read_text())
    assert stored.log_every == 2


def test_the_workdir_alone_continues_its_run(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "12")
    shutil.rmtree(run / "report")
    (run / "results.json").unlink()
    assert main([f"--workdir={run}"]) == 0
    assert "continues from step 10" in capsys.readouterr().err
    assert (run / "results.json").read_text() == (whole / "results.json").read_text()
    assert main(["--workdir", str(run)]) == 0
    assert "finished: 12 steps" in capsys.readouterr().out


def test_a_field_that_differs_from_the_workdirs_is_refused(whole, capsys):
    message = refused(capsys, f"--workdir={whole}", "--config.seed=3")
    assert "seed: 0 -> 3" in message


def test_a_field_that_changes_no_number_may_differ(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    assert main([f"--workdir={run}", "--config.log_every=3"]) == 0
    assert "finished: 12 steps" in capsys.readouterr().out
    assert configs.from_json((run / "config.json").read_text()).log_every == 3


def test_evaluate_prints_the_table_again(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    assert main(["--mode=evaluate", f"--workdir={run}"]) == 0
    assert "knn" in capsys.readouterr().out
    found = (run / "evaluation.json").read_text()
    assert found == (whole / "results.json").read_text()


def test_records_that_are_none_are_one_message_and_cost_no_numbers(
    whole, tmp_path, capsys
):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "evaluation.json").write_bytes(b"\xff\xfe")
    assert main(["--mode=evaluate", f"--workdir={run}"]) == 0
    found = (run / "evaluation.json").read_text()
    assert found == (whole / "results.json").read_text()
    lines = (run / "metrics.jsonl").read_text().split("\n")
    (run / "metrics.jsonl").write_text("\n".join([*lines[:2], "garbage", *lines[3:]]))
    capsys.readouterr()
    assert main([f"--workdir={run}"]) == 1
    told = capsys.readouterr().err
    assert "metrics.jsonl, line 3 is not a JSON object" in told
    assert "Traceback" not in told


def test_evaluation_needs_a_run(capsys):
    message = refused(capsys, TINY, "--mode=evaluate", "--workdir=nothing")
    assert "nothing holds no run" in message


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            "--workdri=run",
            "unknown argument --workdri=run; fields are changed",
        ),
        ("run", "unknown argument run; "),
        ("--config.objective.temperatur=1", "Did you mean 'temperature'?"),
        ("--config.objective.temperature=hot", "takes float; got 'hot' (str)"),
        ("--config.batch_size=0", "batch_size 0 must be at least 1"),
        ("--config.batch_size=1000", "larger than the source, which has 64 examples"),
        ("--config.batch_size", "--config.batch_size needs a value"),
        (
            "--config.optimizer.learning_rate=-1",
            "optimizer.learning_rate -1 must be above 0",
        ),
    ],
)
def test_what_cannot_be_is_one_message_and_nothing_is_written(argument, words, capsys):
    assert words in refused(capsys, TINY, "--workdir=run", argument)


def test_a_value_is_not_the_next_flag(capsys):
    message = refused(capsys, TINY, "--config.seed", "--config.epochs=1")
    assert "--config.seed needs a value: --config.seed=…" in message


def test_a_config_file_or_a_workdir_is_needed(capsys):
    assert "give --config=<file>, or --workdir with a config.json" in refused(capsys)
    assert "there is no config file tiny.py" in refused(capsys, "--config=tiny.py")
    assert "nothing holds no run" in refused(capsys, "--workdir=nothing")


def test_a_mode_that_does_not_exist_names_those_that_do(capsys):
    assert main([TINY, "--mode=test"]) == 2
    told = capsys.readouterr().err
    assert all(mode in told for mode in ("train", "evaluate", "check"))


def test_overrides_come_in_both_forms_and_the_last_one_counts(trained):
    flags = ["--config.seed=1", "--config.seed", "2", "--config.objective.block=4"]
    assert main([TINY, "--workdir=run", *flags]) == 0
    ((made, workdir),) = trained
    assert (made.seed, made.objective.block, workdir) == (2, 4, "run")


def test_the_workdir_has_the_name_of_the_config_by_default(trained):
    assert main([f"{TINY}:epochs=5"]) == 0
    assert trained[0][1] == "runs/tiny" and trained[0][0].epochs == 5


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Interrupted(signal.SIGTERM, 7), 143, "Interrupted: SIGTERM: saved step 7"),
        (Interrupted(signal.SIGINT, 7), 130, "Interrupted: SIGINT: saved step 7"),
        (DamagedCheckpoint("none is whole"), 1, "DamagedCheckpoint: none is whole"),
        (Diverged("the loss is nan"), 1, "Diverged: the loss is nan"),
        (NotSaved("the disk is full"), 1, "NotSaved: the disk is full"),
        (WorkdirInUse("by a job"), 1, "WorkdirInUse: by a job"),
        (EvaluatorFailed("'knn' failed"), 1, "EvaluatorFailed: 'knn' failed"),
    ],
)
def test_the_status_tells_why_a_run_stopped(monkeypatch, capsys, error, status, words):
    def stop(config, workdir):
        raise error

    monkeypatch.setattr(command, "train", stop)
    assert main([TINY]) == status
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch):
    def fail(config, workdir):
        raise RuntimeError("evaluator 'knn' failed at step 3: broken")

    monkeypatch.setattr(command, "train", fail)
    with pytest.raises(RuntimeError, match="'knn' failed at step 3"):
        main([TINY])


def test_several_processes_are_described_in_full(capsys):
    message = refused(capsys, TINY, "--coordinator=host:1", "--processes=2")
    assert "missing: process." in message
