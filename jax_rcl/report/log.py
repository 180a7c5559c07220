"""Numbers, images and texts of a run: JSON lines and TensorBoard events.

`metrics.jsonl` is the record: one object per line, `{"step": 50, "train/loss": 4.2}`.
Two runs of the same configuration write the same lines, except for names that start
with `time/`, where everything belongs that depends on the clock. TensorBoard events
are a view of the same numbers.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
import tensorboardX

METRICS = "metrics.jsonl"
"""File of a workdir with one line of numbers each."""

EVENTS = "tensorboard"
"""Folder of a workdir with the same for TensorBoard."""


class Log(contextlib.AbstractContextManager[Any]):
    """Appends to `<workdir>/metrics.jsonl` and `<workdir>/tensorboard`.

    Opening it forgets what an earlier process wrote after the checkpoint that the run
    continues from, so that a resumed run leaves the same record as one never stopped:
    lines with a later step are dropped (as is a last line torn by a kill), and
    TensorBoard is told to hide later events. `resume_step` is the number of updates
    already made. The workdir is made if it is missing.
    """

    def __init__(self, workdir: str | os.PathLike[str], resume_step: int = 0) -> None:
        folder = Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        _forget_after(folder / METRICS, resume_step)
        self._lines = open(folder / METRICS, "a", encoding="utf-8")
        earlier = len(list((folder / EVENTS).glob("events.out.tfevents.*")))
        self._events = tensorboardX.SummaryWriter(
            str(folder / EVENTS),
            purge_step=resume_step + 1 if earlier else None,
            # File names hold whole seconds: without a number of its own, a second
            # writer within a second would overwrite the file of the first.
            filename_suffix=f".{earlier:04d}",
            max_queue=1000,
            flush_secs=30,
        )

    def __exit__(self, *error: object) -> None:
        self.close()

    def write(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Adds one line, and one TensorBoard point per number.

        `step` counts the updates made when the numbers were measured. JSON has no NaN
        and no infinity; both are written as null, and `read` gives NaN.
        """
        if "step" in metrics:
            raise ValueError("a metric may not be named 'step'; write 'train/step'.")
        numbers = {name: float(value) for name, value in sorted(metrics.items())}
        record = {"step": step} | {
            name: value if math.isfinite(value) else None
            for name, value in numbers.items()
        }
        self._lines.write(json.dumps(record, allow_nan=False) + "\n")
        self._lines.flush()  # A killed process loses no line that was written.
        for name, value in numbers.items():
            self._events.add_scalar(name, value, step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Shows images [h, w, c] in TensorBoard, uint8 or floats in [0, 1]."""
        for name, image in images.items():
            if image.dtype != np.uint8:
                image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
            self._events.add_image(name, image, step, dataformats="HWC")

    def write_text(self, step: int, texts: Mapping[str, str]) -> None:
        """Shows texts in TensorBoard, which reads them as Markdown."""
        for name, text in texts.items():
            self._events.add_text(name, text, step)

    def flush(self) -> None:
        """Brings every line onto the disk, and TensorBoard up to date if it can be.

        Call it before a checkpoint is written: then no checkpoint is ahead of its log.
        Events go through a thread; the very last ones may follow a moment later.
        """
        self._lines.flush()
        os.fsync(self._lines.fileno())
        self._events.flush()

    def close(self) -> None:
        """Writes what is left and closes the files; further calls do nothing."""
        if not self._lines.closed:
            self.flush()
        self._lines.close()
        self._events.close()


def read(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of `<workdir>/metrics.jsonl`, in order; empty if there is no file.

    Each is a dict of `step` (int) and numbers (float), with NaN where null is written.
    A last line that a killed process left unfinished is not among them.
    """
    return [
        {name: math.nan if value is None else value for name, value in record.items()}
        for record in _records(Path(workdir) / METRICS)
    ]


class DamagedLog(ValueError):
    """A record of a run that is none."""


def _records(path: Path) -> list[dict[str, Any]]:
    """All complete lines of the file, parsed."""
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise DamagedLog(
                f"{path}, line {number} is not a JSON object with an integer 'step': "
                f"{line[:80]!r}. Remove that line, or the file to start a new record."
            )
        records.append(record)
    return records


def forget(
    workdir: str | os.PathLike[str], step: int, prefixes: tuple[str, ...]
) -> None:
    """Drops numbers of a step whose names start in one of these ways."""
    path = Path(workdir) / METRICS
    kept = []
    for record in _records(path):
        if record["step"] == step:
            record = {k: v for k, v in record.items() if not k.startswith(prefixes)}
        if len(record) > 1:
            kept.append(record)
    if path.exists():
        _rewrite(path, kept)


def _forget_after(path: Path, step: int) -> None:
    """Rewrites the file without later lines and without a torn one."""
    if path.exists():
        _rewrite(path, [x for x in _records(path) if x["step"] <= step])


def _rewrite(path: Path, kept: list[dict[str, Any]]) -> None:
    """Replaces all lines, or none."""
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in kept)
    beside = path.with_name(path.name + ".new")
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
