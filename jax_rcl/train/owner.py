"""One owner of a workdir at a time: a record of who trains there, and a heartbeat.

A lock of the operating system would end with its process, but not everywhere: `flock`
fails on some network file systems, is local to each machine on others (NFS mounted
with `local_lock`, Lustre with `localflock`), and where it is passed on to the server it
may outlive a machine that died. So the owner writes its name into a file, and a number
that rises every few seconds. Whoever finds the file

* on the same machine, since the same boot, asks whether that process is still there;
* anywhere else, watches whether the number rises, and compares no clocks.

A job that was killed is thus followed at once on its own machine, and after `PATIENCE`
on another. One that was only asleep finds that the file names another owner, and writes
no more.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jax_rcl import parallel
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import CONFIG

logger = logging.getLogger(__name__)

RECORD = "running.json"
"""File of a workdir that names its owner; it goes when the run ends."""

BEAT = 5.0
"""Seconds between two heartbeats."""

PATIENCE = 45.0
"""Seconds after which an owner on another machine is taken for dead."""

_GUARD = 5.0
"""Seconds after which a guard, held for a moment only, is taken for a dead one's."""

_HERE: set[str] = set()
"""Tokens of the owners in this process."""


class WorkdirInUse(RuntimeError):
    """Another job trains in this workdir."""


class WorkdirGone(RuntimeError):
    """A workdir has disappeared while a run was under way."""


@contextlib.contextmanager
def refusing(workdir: Path) -> Iterator[None]:
    """What the main process finds wrong with a workdir, all others are told.

    They do nothing in the `with` block but wait for its end. What it cannot write makes
    it a ConfigError.
    """
    refused: Exception | None = None
    try:
        yield
    except OSError as error:
        refused = ConfigError(
            f"the workdir {workdir} cannot be written to ({error}); choose another "
            "with --workdir."
        )
    except Exception as error:
        refused = error
    parallel.raise_everywhere(refused)


class Owner(contextlib.AbstractContextManager[Any]):
    """Owns a folder, made if it is missing, within its `with` block.

    Attributes:
      lost: whether the folder was found to be another's or gone; `check` says which.
    """

    def __init__(
        self, folder: Path, *, beat: float = BEAT, patience: float = PATIENCE
    ) -> None:
        """Names the folder; entering the block makes it one's own."""
        self._path, self._beat, self._patience = folder / RECORD, beat, patience
        self._token, self._beats = uuid.uuid4().hex, 0
        self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._over, self.lost = threading.Event(), False
        self._heart = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> "Owner":
        """Raises WorkdirInUse if another job runs there; OSError if it cannot write."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        _HERE.add(self._token)
        try:
            self._take()
        except BaseException:
            _HERE.discard(self._token)
            raise
        self._heart.start()
        return self

    def _take(self) -> None:
        seen: str | None = None  # what did not change while it was watched
        while True:
            with self._guard():
                text = _text(self._path)
                if text is None or text == seen or _is_dead(_parsed(text)):
                    if text is not None:
                        logger.warning(
                            "%s was left by a job that runs no more (%s).",
                            *(self._path, _told(_parsed(text))),
                        )
                    self._write()
                    break
            record = _parsed(text)
            if _runs_here(record):
                raise self._in_use(record)
            logger.warning(
                "%s is in use by %s; watching for up to %g s whether it still runs.",
                *(self._path.parent, _told(record), self._patience),
            )
            end = time.monotonic() + self._patience
            while _text(self._path) == text:
                if time.monotonic() > end:
                    seen = text
                    break
                time.sleep(min(0.5, self._beat))
            else:
                latest = _text(self._path)
                if latest is not None:
                    raise self._in_use(_parsed(latest))

    def __exit__(self, *error: object) -> None:
        """Gives the folder back, unless someone else has taken it."""
        self._over.set()
        self._heart.join()
        _HERE.discard(self._token)
        with contextlib.suppress(OSError):
            if self._is_mine():
                self._path.unlink()

    def check(self) -> None:
        """Raises WorkdirInUse if another job has taken the folder since.

        And WorkdirGone if it has disappeared.
        """
        folder = self._path.parent
        text = _text(self._path)
        # Of one that was removed while a checkpoint was written, that may come back.
        if text is None and not (folder / CONFIG).exists():
            raise WorkdirGone(
                f"the workdir {folder} has disappeared while the run was under way. If "
                "it comes back, the same command continues from its newest checkpoint; "
                "otherwise it begins anew."
            )
        if text is not None and not self._is_mine():
            raise self._in_use(_parsed(text))

    def _in_use(self, record: dict[str, Any]) -> WorkdirInUse:
        return WorkdirInUse(
            f"{self._path.parent} is in use: {_told(record)} trains there. Wait until "
            f"it ends, or choose another --workdir. (If it does not run, remove "
            f"{self._path}.)"
        )

    def _live(self) -> None:
        failed = False
        while not self._over.wait(self._beat):
            # A disk that is full or away for a moment is no reason to end a run.
            with contextlib.suppress(OSError):
                try:
                    self.check()
                except (WorkdirInUse, WorkdirGone):
                    self.lost = failed
                    failed = True
                    continue
                self.lost = failed = False
                if self._is_mine():
                    self._write()

    def _is_mine(self) -> bool:
        text = _text(self._path)
        return text is not None and _parsed(text).get("token") == self._token

    def _write(self) -> None:
        self._beats += 1
        record = {
            "token": self._token,
            "beats": self._beats,
            "since": self._since,
            **_this_process(),
        }
        beside = self._path.with_name(f"{RECORD}.{self._token}")
        try:
            beside.write_text(json.dumps(record))
            os.replace(beside, self._path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Lets one process at a time look at the record and replace it.

        Exclusive creation of a file is atomic, on NFS since version 3.
        """
        path, end = self._path.with_name(f"{RECORD}.guard"), time.monotonic() + _GUARD
        while True:
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                break
            except FileExistsError:
                if time.monotonic() > end:  # killed between two lines
                    path.unlink(missing_ok=True)
                time.sleep(0.05)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _text(path: Path) -> str | None:
    """What a record says; opening it makes NFS ask the server."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _parsed(text: str | None) -> dict[str, Any]:
    """The record; empty for one that nobody of this library wrote."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _this_process() -> dict[str, Any]:
    """What tells this process from any other one that may ever use the folder."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "boot": _system("sys/kernel/random/boot_id"),
        # In two containers of one machine a number means two processes.
        "space": _link("self/ns/pid"),
    }


def _is_comparable(record: dict[str, Any]) -> bool:
    """Whether process numbers of a record mean the same here."""
    here = _this_process()
    return all(record.get(key) == here[key] for key in ("host", "boot", "space"))


def _runs_here(record: dict[str, Any]) -> bool:
    """Whether it is known that the owner runs on this machine."""
    return _is_comparable(record) and not _is_dead(record)


def _is_dead(record: dict[str, Any]) -> bool:
    """Whether it is known that the owner does not run any more."""
    if not _is_comparable(record):
        return False
    pid = record["pid"]
    if pid == os.getpid():
        return record["token"] not in _HERE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    return _start_of(pid) != record["started"]


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the boot; empty where that is unknown."""
    line = _system(f"{pid}/stat")
    # A name may hold spaces and brackets.
    fields = line.rpartition(")")[2].split()
    # A zombie is done, though its parent has not asked for its status.
    return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""


def _system(name: str) -> str:
    try:
        return (Path("/proc") / name).read_text().strip()
    except OSError:
        return ""


def _link(name: str) -> str:
    try:
        return os.readlink(Path("/proc") / name)
    except OSError:
        return ""


def _told(record: dict[str, Any]) -> str:
    """The owner in words."""
    if not record:
        return "a job that left no name"
    return (
        f"process {record.get('pid')} on {record.get('host')}, since "
        f"{record.get('since')}"
    )
