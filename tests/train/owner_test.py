"""One owner at a time: who runs is respected, who was killed is followed."""

import json
import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from jax_rcl import parallel
from jax_rcl.config.types import ConfigError
from jax_rcl.train import owner
from jax_rcl.train.owner import (
    RECORD,
    Owner,
    WorkdirGone,
    WorkdirInUse,
    refusing,
)

BRIEF = {"beat": 0.05, "patience": 0.4}


def record_of(folder):
    return json.loads((folder / RECORD).read_text())


def left_by(folder, **fields):
    """The record of another job, which differs from this process in some fields."""
    mine = owner._this_process()
    record = {"token": "theirs", "beats": 1, "since": "yesterday", **mine, **fields}
    folder.mkdir(exist_ok=True)
    (folder / RECORD).write_text(json.dumps(record))
    return record


def test_who_owns_a_folder_is_written_there_and_goes_at_the_end(tmp_path):
    folder = tmp_path / "run"
    with Owner(folder, **BRIEF) as mine:
        assert record_of(folder)["pid"] == os.getpid()
        before = record_of(folder)["beats"]
        deadline = time.monotonic() + 5
        while record_of(folder)["beats"] == before:
            assert time.monotonic() < deadline
        mine.check()
    assert list(folder.iterdir()) == []
    with pytest.raises(ZeroDivisionError), Owner(folder):
        raise ZeroDivisionError
    assert list(folder.iterdir()) == []


def test_a_folder_that_disappears_is_noticed_and_said(tmp_path):
    folder = tmp_path / "run"
    with Owner(folder, **BRIEF) as mine:
        assert not mine.lost
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(WorkdirGone, match=r"run has disappeared .* continues from"):
            mine.check()
        wait_until(lambda: mine.lost)
        (tmp_path / "elsewhere").rename(folder)  # away for a moment only
        wait_until(lambda: not mine.lost)
        mine.check()
    assert list(folder.iterdir()) == []


def wait_until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_the_main_process_finds_wrong_is_raised_by_all(tmp_path, monkeypatch):
    with (
        pytest.raises(
            ConfigError, match=r"cannot be written to \(full\); choose another"
        ),
        refusing(tmp_path),
    ):
        raise OSError("full")
    with pytest.raises(ZeroDivisionError), refusing(tmp_path):
        raise ZeroDivisionError
    with refusing(tmp_path):
        pass
    monkeypatch.setattr(parallel, "agree", lambda flag: True)  # with the main one
    with pytest.raises(parallel.Elsewhere, match="process 0 has ended the run"):
        with refusing(tmp_path):
            pass


def test_a_second_one_is_told_who_is_there(tmp_path):
    with Owner(tmp_path):
        with pytest.raises(WorkdirInUse) as told, Owner(tmp_path):
            pass
        assert f"process {os.getpid()} on " in str(told.value)
        assert "choose another --workdir" in str(told.value)
        assert record_of(tmp_path)["pid"] == os.getpid()
    with Owner(tmp_path):
        pass


def test_of_many_at_once_one_wins(tmp_path):
    left_by(tmp_path, pid=2**22 + 1)  # larger than any
    started, end, won, lost = threading.Barrier(8), threading.Event(), [], []

    def work():
        started.wait()
        try:
            with Owner(tmp_path, **BRIEF):
                won.append(1)
                end.wait(10)
        except WorkdirInUse:
            lost.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(lost) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    end.set()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)


def test_a_process_that_was_killed_is_followed_at_once(tmp_path, caplog):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = owner._start_of(child.pid)
    left_by(tmp_path, pid=child.pid, started=started)
    with pytest.raises(WorkdirInUse, match=f"process {child.pid} on"):
        with Owner(tmp_path):
            pass
    child.kill()
    deadline = time.monotonic() + 10
    while owner._start_of(child.pid):  # a zombie until its parent asks for it
        assert time.monotonic() < deadline
    began = time.monotonic()
    with Owner(tmp_path, beat=10.0, patience=1000.0):
        assert record_of(tmp_path)["pid"] == os.getpid()
    assert time.monotonic() - began < 5
    assert f"process {child.pid}" in caplog.text and "runs no more" in caplog.text
    child.communicate()


@pytest.mark.parametrize(
    "fields",
    [
        {"started": "1"},  # its number belongs to another process by now
        {"pid": 2**22 + 1},
        {},  # of this very process, from a block that it has left
    ],
)
def test_a_number_that_means_another_process_is_no_owner(tmp_path, fields):
    left_by(tmp_path, **{"pid": os.getppid(), "started": "1"} | fields)
    with Owner(tmp_path, beat=10.0, patience=1000.0):
        pass


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'{"pid": 1}', b"\xff\xfe"])
def test_a_record_that_nobody_can_read_is_watched(tmp_path, text):
    (tmp_path / RECORD).write_bytes(text)
    with Owner(tmp_path, **BRIEF):
        assert record_of(tmp_path)["pid"] == os.getpid()


@pytest.mark.parametrize("field", ["host", "boot", "space"])
def test_elsewhere_who_beats_no_more_is_dead(tmp_path, field, caplog):
    left_by(tmp_path, **{field: "other"})
    began = time.monotonic()
    with Owner(tmp_path, **BRIEF):
        assert time.monotonic() - began >= BRIEF["patience"]
    assert "watching for up to 0.4 s" in caplog.text


def test_elsewhere_who_beats_is_alive_whatever_the_clocks_say(tmp_path):
    record, end = left_by(tmp_path, host="other", since="tomorrow"), threading.Event()

    def beat():
        while not end.wait(0.05):
            record["beats"] += 1
            beside = tmp_path / "beside"
            beside.write_text(json.dumps(record))
            beside.replace(tmp_path / RECORD)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(WorkdirInUse, match="on other, since tomorrow"):
            with Owner(tmp_path, beat=0.05, patience=10.0):
                pass
    finally:
        end.set()
        thread.join()


def test_who_slept_too_long_finds_that_the_folder_is_anothers(tmp_path):
    with Owner(tmp_path, beat=1000.0) as mine:
        theirs = left_by(tmp_path, host="other")
        with pytest.raises(WorkdirInUse, match="on other"):
            mine.check()
    assert record_of(tmp_path) == theirs, "it is not removed either"


def test_who_asks_while_an_owner_ends_comes_next(tmp_path):
    left_by(tmp_path, host="other")
    ends = threading.Timer(0.1, (tmp_path / RECORD).unlink)
    ends.start()
    with Owner(tmp_path, beat=0.05, patience=1000.0):
        assert record_of(tmp_path)["host"] != "other"


def test_a_guard_that_someone_was_killed_with_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "_GUARD", 0.1)
    (tmp_path / f"{RECORD}.guard").touch()
    with Owner(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_for_a_moment_ends_nothing(tmp_path, monkeypatch, caplog):
    with Owner(tmp_path, **BRIEF) as mine:
        with monkeypatch.context() as patch:

            def full(*arguments):
                raise OSError(28, "No space left on device")

            patch.setattr(os, "replace", full)
            time.sleep(0.2)
            before = record_of(tmp_path)["beats"]
        deadline = time.monotonic() + 5
        while record_of(tmp_path)["beats"] == before:
            assert time.monotonic() < deadline
        mine.check()
    assert list(tmp_path.iterdir()) == []
    assert not [x for x in caplog.records if x.levelno >= logging.ERROR]
