"""Real processes: killed at any moment, told to stop, and two that train together."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jax_rcl.checkpoint import STATES, Checkpoints, flat
from jax_rcl.config.workdir import CONFIG
from jax_rcl.report import log
from jax_rcl.train.owner import RECORD, Owner, WorkdirInUse

HERE = Path(__file__).parent


def start(workdir, *args):
    """Starts a run of the tiny config with optimizations off, as in the other tests."""
    command = [sys.executable, "-m", "jax_rcl.main", f"--config={HERE / 'tiny.py'}"]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", *args],
        cwd=HERE.parent,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
            "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
            "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30),  # locks it, as others do
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, status=0):
    """What a process printed; it must have ended with this status."""
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == status, printed
    return printed


def wait_for(process, condition, seconds=120):
    """Waits until something holds while the process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.001)


def arrays(workdir):
    with Checkpoints(workdir / STATES) as saved:
        last = saved.steps()[-1]
        found = {item: saved.newest(item) for item in ("variables", "training")}
    return last, {path: np.asarray(x) for path, x in flat(found).items()}


def numbers(workdir):
    lines = log.read(workdir)
    return [{k: v for k, v in x.items() if not k.startswith("time/")} for x in lines]


def unfinished(workdir):
    return list((workdir / STATES).glob("*tmp*")) if workdir.exists() else []


def lines(workdir):
    record = workdir / "metrics.jsonl"
    return record.read_text().count("\n") if record.exists() else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdir of a run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(start(workdir, "--config.save_every=1"))
    return workdir


@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_checkpoint_ends_as_if_it_had_not(
    whole, tmp_path
):
    run = tmp_path / "run"
    process = start(run, "--config.save_every=1")
    wait_for(process, lambda: unfinished(run) and lines(run) > 2)
    process.send_signal(signal.SIGKILL)
    finish(process, -signal.SIGKILL)
    finish(start(run, "--config.save_every=1"))
    (step, a), (other, b) = arrays(whole), arrays(run)
    assert step == other == 12
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)
    assert numbers(whole) == numbers(run)


# Both signals, and the status of each: train/signals_test.py and cli/train_test.py; in
# this process: `train_until` of train/loop_test.py.
@pytest.mark.slow
def test_a_run_told_to_stop_saves_and_says_how_to_go_on(tmp_path):
    run = tmp_path / "run"
    process = start(run, "--config.epochs=100000")
    wait_for(process, lambda: lines(run) > 3)
    with pytest.raises(WorkdirInUse, match=f"process {process.pid} on"):
        with Owner(run):
            pass
    process.send_signal(signal.SIGTERM)
    printed = finish(process, 128 + signal.SIGTERM)
    found = re.search(r"SIGTERM: saved step (\d+); the same command", printed)
    assert not (run / RECORD).exists()
    assert found and arrays(run)[0] == int(found[1])
    assert "Traceback" not in printed


def start_two(workdir, *args):
    """Starts two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    joint = [f"--coordinator={address}", "--processes=2"]
    return [start(workdir, *args, *joint, f"--process={n}") for n in range(2)]


@pytest.mark.slow
def test_where_the_workdir_disappears_all_processes_end_at_once(tmp_path):
    run = tmp_path / "run"
    both = start_two(run, "--config.epochs=100000", "--config.log_every=5")
    wait_for(both[0], lambda: lines(run) > 2, seconds=240)
    shutil.rmtree(run)
    removed = time.monotonic()
    printed = [finish(process, 1) for process in both]
    assert time.monotonic() - removed < 60
    assert printed[0].endswith("otherwise it begins anew.\n")
    assert "Elsewhere: process 0 has ended the run, and says why." in printed[1]
    assert not any("Traceback" in text for text in printed)
    # A checkpoint that was being written may have made folders of its own again.
    assert not (run / CONFIG).exists() and not (run / log.METRICS).exists()


@pytest.mark.slow
def test_two_processes_train_as_one_and_one_continues_what_two_began(whole, tmp_path):
    run = tmp_path / "run"
    both = start_two(run, "--config.save_every=1")
    printed = [finish(process) for process in both]
    assert "knn" in printed[0] and "knn" not in printed[1]
    (step, a), (other, b) = arrays(whole), arrays(run)
    assert step == other == 12
    for path in a:
        np.testing.assert_allclose(a[path], b[path], rtol=1e-3, atol=1e-4, err_msg=path)
    # One process takes up the checkpoint before the last.
    for path in (run / STATES / "12", run / "report" / "index.html"):
        path.rename(tmp_path / path.name)
    finish(start(run, "--config.save_every=1"))
    assert arrays(run)[0] == 12
    results = json.loads((run / "results.json").read_text())["results"]
    assert results == json.loads((whole / "results.json").read_text())["results"]
