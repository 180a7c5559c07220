"""What a person sees in the terminal while a run goes on."""

import codecs
import collections
import contextlib
import dataclasses
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsFloat

import tqdm

_WINDOW = 30.0  # Speeds are averages over the last so many seconds,
_MARK = 1.0  # of readings that lie at least so many seconds apart.
_LINE = 10.0  # Seconds between lines where there is no terminal to redraw.


_PLAIN = str.maketrans(
    {
        "─": "-",
        "–": "-",
        "—": "-",
        "…": "...",
        "×": "x",
        "→": "->",
        "≥": ">=",
        "≤": "<=",
    }
)
_REPLACED = "jax_rcl.plain"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a stream cannot take: plain ones, or escapes."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(_REPLACED, _replace)


def take_any_text() -> None:
    """Lets standard output and error take characters that their encodings lack."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_REPLACED)


def show(*texts: str, stream: Any = None) -> None:
    """Prints texts, whatever the stream is: what is shown cannot end a run.

    Characters that its encoding lacks are replaced by plain ones, and what is no longer
    there, such as the end of a pipe, is not written to.
    """
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    for text in texts:
        fitting = text.encode(encoding, _REPLACED).decode(encoding)
        try:
            print(fitting, file=stream, flush=True)
        except BrokenPipeError:
            # Or the interpreter would try again, and complain, when it ends.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (OSError, ValueError):  # closed, or a disk that is full
            return


SHOWN = {
    "loss": "loss {:.4g}",
    "contrastive_top1": "acc@1 {:.1%}",
    "contrastive_top5": "acc@5 {:.1%}",
    "top1": "top1 {:.1%}",
    "centroid_alignment": "alignment {:.4f}",
}
"""Metrics that are shown as training goes on, and how: what the papers' code prints."""


def _number(name: str, value: float, mean: float | None) -> str:
    """A metric, and its mean over the epoch in brackets."""
    word, _, form = SHOWN[name].partition(" ")
    inside = "" if mean is None else f" ({form.format(mean)})"
    return f"{word} {form.format(value)}{inside}"


@dataclasses.dataclass(frozen=True)
class _Reading:
    """The clock, the step and the seconds waited for data, all counted up."""

    seconds: float
    step: int
    waited: float


class Progress(contextlib.AbstractContextManager[Any]):
    """Epoch, step, loss, speed and time left, as training goes on.

    On a terminal this is one bar that redraws itself. Elsewhere (a file, a pipe, a
    notebook) it is a line at the first update, at most one every ten seconds, and one
    at the last step. The first update starts the clock, so that compilation counts
    neither as speed nor as time left. Of the run's `total_steps`, 0 where nothing is
    trained, `start_step` were made before. The batch is the global one. The clock gives
    seconds since any moment, and the stream is standard error by default.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        *,
        batch_size: int,
        steps_per_epoch: int,
        stream: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._step = total_steps, start_step
        self._batch_size, self._steps_per_epoch = batch_size, steps_per_epoch
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._paused, self._waited = clock, 0.0, 0.0
        self._readings: collections.deque[_Reading] = collections.deque()
        self._latest: _Reading | None = None
        self._numbers: dict[str, tuple[float, float | None]] = {}
        self._line_at, self._line_step = -math.inf, -1
        self._bar = _bar(total_steps, start_step, self._epoch(), self._stream)

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(
        self,
        step: int,
        metrics: Mapping[str, SupportsFloat] | None = None,
        data_wait: float = 0.0,
        means: Mapping[str, float] | None = None,
    ) -> None:
        """Says that `step` updates have been made, one or more since the last call.

        Of `metrics`, those named as in `SHOWN`, or `…/<name>`, are shown until the
        next, each with its mean over the epoch in brackets, of `means` by name.
        `data_wait` are seconds that training stood still for data since the last call.
        """
        made, self._step = step - self._step, step
        for path, value in (metrics or {}).items():
            name = path.rpartition("/")[2]
            if name in SHOWN:
                self._numbers[name] = float(value), (means or {}).get(name)
        now = self._clock() - self._paused
        # What came before the first update, compilation included, is not counted.
        self._waited += data_wait if self._readings else 0.0
        self._latest = _Reading(now, step, self._waited)
        self._remember(self._latest)
        if self._bar is not None:
            self._bar.set_description_str(self._epoch(), refresh=False)
            self._bar.fields = tuple(self._fields())
            self._bar.update(made)
        elif now - self._line_at >= _LINE or step == self._total:
            self._line(now)

    @property
    def speed(self) -> dict[str, float]:
        """Examples per second, and the share of the time waited for data, in [0, 1].

        Averages over the last half minute or so, under the names
        `time/examples_per_second` and `time/data_wait`; empty before the second update.
        """
        if not self._readings or self._latest is None:
            return {}
        oldest, latest = self._readings[0], self._latest
        seconds = latest.seconds - oldest.seconds
        if seconds <= 0:
            return {}
        examples = (latest.step - oldest.step) * self._batch_size
        return {
            "time/examples_per_second": examples / seconds,
            "time/data_wait": min(1.0, (latest.waited - oldest.waited) / seconds),
        }

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock while something other than training runs, such as a probe."""
        start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - start

    def note(self, text: str) -> None:
        """Writes a line that stays, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            show(text, stream=self._stream)

    def close(self) -> None:
        """Leaves the last state on the screen; further calls do nothing."""
        if self._bar is not None:
            self._bar.close()
        elif self._latest is not None and self._line_step != self._step:
            self._line(self._latest.seconds)

    def _remember(self, reading: _Reading) -> None:
        """Keeps readings about a second apart, back to the start of the window."""
        readings = self._readings
        if not readings or reading.seconds - readings[-1].seconds >= _MARK:
            readings.append(reading)
        while len(readings) > 1 and reading.seconds - readings[1].seconds >= _WINDOW:
            readings.popleft()

    def _line(self, now: float) -> None:
        self._line_at, self._line_step = now, self._step
        count = f"step {self._step:>{len(str(self._total))}}/{self._total}"
        self.note("  ".join([self._epoch(), count, *self._fields()]))

    def _epoch(self) -> str:
        """The epoch that the last update belongs to, counted from 1."""
        epochs = -(-self._total // self._steps_per_epoch)
        epoch = max(self._step - 1, 0) // self._steps_per_epoch + 1
        return f"epoch {epoch:>{len(str(epochs))}}/{epochs}"

    def _fields(self) -> list[str]:
        """What is known, the most important first: a narrow terminal drops the last."""
        numbers = [_number(x, *self._numbers[x]) for x in SHOWN if x in self._numbers]
        fields, others = numbers[:1], numbers[1:]
        speed = self.speed
        if speed:
            rate = speed["time/examples_per_second"]
            if rate > 0:
                left = (self._total - self._step) * self._batch_size / rate
                fields.append(f"{tqdm.tqdm.format_interval(left)} left")
            fields.append(f"{rate:,.{0 if rate >= 10 else 2}f} examples/s")
        fields += others
        if speed:
            fields.append(f"data wait {100 * speed['time/data_wait']:.1f} %")
        return fields


class _Bar(tqdm.tqdm):
    """A bar with fields of our own, as many as leave room for the bar itself."""

    fields: tuple[str, ...] = ("compiling",)

    @property
    def format_dict(self) -> dict[str, Any]:
        known = super().format_dict
        fields = list(self.fields)
        room = known["ncols"] or 80
        room -= len(known["prefix"]) + 2 * len(str(self.total)) + len("  /") + 12
        while fields and len("  ".join(fields)) > room:
            fields.pop()
        return {**known, "fields": "  ".join(fields)}


def _bar(total: int, start: int, epoch: str, stream: Any) -> _Bar | None:
    """A bar that follows the width of the terminal; None where lines are better."""
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return _Bar(
        desc=epoch,
        total=total,
        initial=start,
        file=stream,
        dynamic_ncols=True,
        mininterval=0.2,
        bar_format="{desc} {bar} {n_fmt}/{total_fmt}  {fields}",
    )
