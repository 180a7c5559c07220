"""Progress is readable on a terminal and in a file, and its numbers are true."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pytest

from jax_rcl.report import console
from jax_rcl.report.console import Progress


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def progress(stream, clock, **changed):
    settings = {"total_steps": 100, "batch_size": 10, "steps_per_epoch": 20, **changed}
    return Progress(**settings, stream=stream, clock=clock)


def train(bar, clock, steps, seconds=1.0, wait=0.25):
    for step in steps:
        clock.now += seconds
        bar.update(step, {"train/loss": 1 / step}, data_wait=wait)


def test_the_first_update_starts_the_clock():
    clock = Clock()
    bar = progress(io.StringIO(), clock)
    clock.now += 1000  # Compilation.
    bar.update(1, data_wait=500.0)
    assert bar.speed == {}
    train(bar, clock, [2, 3], seconds=2.0, wait=0.5)
    assert bar.speed == {"time/examples_per_second": 5.0, "time/data_wait": 0.25}


def test_several_steps_in_one_update_count_as_such():
    clock = Clock()
    bar = progress(io.StringIO(), clock)
    train(bar, clock, [10, 20, 30], seconds=4.0, wait=0.0)
    assert bar.speed["time/examples_per_second"] == 25.0


def test_paused_time_is_not_training_time():
    clock = Clock()
    bar = progress(io.StringIO(), clock)
    train(bar, clock, [1, 2])
    with bar.paused():
        clock.now += 1000
    train(bar, clock, [3])
    assert bar.speed["time/examples_per_second"] == 10.0


def test_speed_forgets_what_is_long_past():
    clock = Clock()
    bar = progress(io.StringIO(), clock, total_steps=1000)
    train(bar, clock, range(1, 101), seconds=10.0)
    train(bar, clock, range(101, 301), seconds=0.5)
    assert bar.speed["time/examples_per_second"] == pytest.approx(20.0)


def test_waiting_is_never_more_than_all_of_the_time():
    clock = Clock()
    bar = progress(io.StringIO(), clock)
    train(bar, clock, [1, 2], seconds=1.0, wait=5.0)
    assert bar.speed["time/data_wait"] == 1.0


def test_a_file_gets_plain_lines_with_every_field():
    stream, clock = io.StringIO(), Clock()
    with progress(stream, clock) as bar:
        train(bar, clock, range(1, 101))
    written = stream.getvalue()
    assert "\r" not in written and "\x1b" not in written
    assert written.splitlines()[-2] == (
        "epoch 5/5  step  91/100  loss 0.01099  00:09 left  "
        "10 examples/s  data wait 25.0 %"
    )


def test_a_file_gets_the_first_and_the_last_line_and_few_between():
    stream, clock = io.StringIO(), Clock()
    with progress(stream, clock) as bar:
        train(bar, clock, range(1, 101))
    steps = [
        int(line.split()[3].split("/")[0]) for line in stream.getvalue().splitlines()
    ]
    assert steps == [*range(1, 100, 10), 100]


def test_a_run_that_stops_early_still_says_where():
    stream, clock = io.StringIO(), Clock()
    with progress(stream, clock) as bar:
        train(bar, clock, range(1, 6))
    assert stream.getvalue().splitlines()[-1].startswith("epoch 1/5  step   5/100")


def test_the_loss_stays_until_the_next_one():
    stream, clock = io.StringIO(), Clock()
    with progress(stream, clock) as bar:
        bar.update(1, {"loss": 4.0, "other": 1.0})
        clock.now += 60
        bar.update(2, None)
    assert "loss 4 " in stream.getvalue().splitlines()[-1] + " "


def test_what_papers_print_is_shown_with_the_mean_of_the_epoch():
    stream = io.StringIO()
    with progress(stream, Clock()) as bar:
        numbers = {"train/contrastive_top1": 0.5, "train/loss": 4.0, "train/spread": 1}
        bar.update(1, numbers, 0.0, {"loss": 5.0, "contrastive_top1": 0.25})
    line = stream.getvalue().splitlines()[-1]
    assert line.endswith("loss 4 (5)  acc@1 50.0% (25.0%)")


def test_epochs_are_counted_from_one_and_end_with_their_last_step():
    stream, clock = io.StringIO(), Clock()
    bar = progress(stream, clock, total_steps=50)
    for step in (1, 20, 21, 40, 41, 50):
        clock.now += 60
        bar.update(step)
    epochs = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert epochs == ["1/3", "1/3", "2/3", "2/3", "3/3", "3/3"]


def test_long_times_are_written_with_hours():
    stream, clock = io.StringIO(), Clock()
    bar = progress(stream, clock, total_steps=1002)
    train(bar, clock, [1, 2], seconds=10.0)
    assert "2:46:40 left" in stream.getvalue()


def test_a_terminal_gets_one_bar_and_notes_above_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Terminal(), Clock()
    with progress(stream, clock, start_step=40) as bar:
        train(bar, clock, range(41, 45))
        bar.note("epoch 3  knn top1 97.2 %")
        train(bar, clock, range(45, 101))
    written = stream.getvalue()
    assert "compiling" in written
    assert written.count("\n") == 2  # The note and the end of the bar.
    assert "epoch 3  knn top1 97.2 %\n" in written
    last = written.rstrip().rsplit("\r", 1)[-1]
    assert last.startswith("epoch 5/5") and "100/100  loss 0.01" in last


@pytest.mark.parametrize(
    ("columns", "end"),
    [(50, "loss 0.01"), (60, "00:00 left"), (80, "examples/s"), (120, "25.0 %")],
)
def test_a_narrow_terminal_shows_fewer_fields_rather_than_cut_ones(
    monkeypatch, columns, end
):
    monkeypatch.setenv("TERM", "xterm")
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(inner, "w", encoding="utf-8") as stream, open(outer, "rb") as screen:
        clock = Clock()
        with progress(stream, clock) as bar:
            train(bar, clock, range(1, 101))
        stream.flush()
        written = b""
        while not written.endswith(b"\n"):
            written += screen.read1()
    last = written.decode("utf-8").rstrip().rsplit("\r", 1)[-1]
    assert last.endswith(end)
    assert columns - 2 <= len(last) <= columns


def test_a_note_in_a_file_is_a_line():
    stream = io.StringIO()
    progress(stream, Clock()).note("hello")
    assert stream.getvalue() == "hello\n"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "── bl\\udce9 猫 …"),
        ("latin-1", "-- bl\\udce9 \\u732b ..."),
        ("ascii", "-- bl\\udce9 \\u732b ..."),
    ],
)
def test_any_text_is_shown_on_any_stream(encoding, expected):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console.show("── bl\udce9 猫 …", "end", stream=stream)
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown == f"{expected}\nend\n"


def test_standard_output_takes_any_text_once_it_is_told_to(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    console.take_any_text()
    print("→ 猫", flush=True)
    assert stream.buffer.getvalue() == b"-> \\u732b\n"


def test_a_stream_that_is_gone_ends_nothing():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    stream.close()
    console.show("text", stream=stream)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        console.show("text", "more", stream=pipe)
