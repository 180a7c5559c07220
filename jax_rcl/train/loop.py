"""The loop: restores, trains, logs, evaluates, saves, reports, whatever the method."""

import collections
import contextlib
import dataclasses
import logging
import math
import os
import signal
import time
from collections.abc import Iterator

from jax.sharding import Mesh
from ml_collections import ConfigDict

from jax_rcl import parallel
from jax_rcl.checkpoint import STATES, Checkpoints, checksums
from jax_rcl.config.experiment import OF_BEST
from jax_rcl.core import Encode, Tree, Variables
from jax_rcl.report import console, log, tables
from jax_rcl.train.batches import calls, compiled_step, laid_out
from jax_rcl.train.evaluation import (
    FirstViews,
    first_views,
    latest,
    make_encoder,
    numbers_of_best,
    page_of,
    run_evaluators,
    write_page,
    write_results,
)
from jax_rcl.train.run import Run, claim
from jax_rcl.train.signals import Interrupted, Signals
from jax_rcl.train.state import BestSoFar, check_frozen, facts, items, starting_state
from jax_rcl.train.step import PLATEAU, TrainState

logger = logging.getLogger(__name__)

LOWERED = f"train/{PLATEAU}"
"""Logged factor of the learning rate, where the optimizer lowers it by the loss."""

AHEAD = 2
"""Calls under way before the host looks at the oldest one's metrics.

The device never waits for the host, and no more batches than these are in memory.
"""


class Diverged(ArithmeticError):
    """The loss or its gradient is not finite any more."""


def train(
    config: ConfigDict, workdir: str | os.PathLike[str], *, mesh: Mesh | None = None
) -> dict[str, float]:
    """Trains to the end, from the newest checkpoint of `workdir` if there is one.

    Stopped at any moment, even by SIGKILL, and called again, it ends with the numbers
    of a run that was never stopped.

    Args:
      config: a node of `config.Experiment`.
      workdir: made if missing; holds config.json, checkpoints, metrics.jsonl,
        TensorBoard events, results.json and report/index.html.
      mesh: the devices; all of them by default.

    Returns:
      The last numbers of every evaluator, as `<evaluator>/<number>`; and those of the
      best state, if the run keeps one, as `best/<evaluator>/<number>`.

    Raises:
      ConfigError: what is wrong with the config, before anything is compiled.
      Diverged: a loss that is not finite; the checkpoints before it are kept.
      DamagedCheckpoint: what was saved cannot be read, or a frozen array has changed.
      Interrupted: SIGTERM or Ctrl-C, after a checkpoint was written.
    """
    run = Run.prepare(config, workdir, mesh)
    claim(run)
    parallel.log_devices(run.mesh)
    keep, last = run.experiment.keep, run.plan.total_steps
    states = Checkpoints(run.workdir / STATES, keep=keep)
    with Signals() as signals, states as saved, BestSoFar(run) as best:
        done = saved.steps()[-1:] == [last]
        data = {} if done or not last else laid_out(run)
        state, seconds = starting_state(run, saved)
        first = int(state.step)
        if first == last and finished(run):
            return already(run)
        if done and first < last:  # the last checkpoint was damaged
            data = laid_out(run)
        if parallel.is_main():
            print(tables.overview(state.variables), flush=True)
        frozen = checksums(state.variables.frozen)
        views = first_views(run, state.key)
        with outputs(run, first) as (lines, progress):
            show(views, lines)
            loop = Loop(run, saved, best, lines, progress, signals, seconds)
            state = loop.to_the_end(state, data)
            unmoved = check_frozen(state, frozen)
            loop.evaluate_best()
    write_results(run, run.plan.total_steps, latest(run, log.read(run.workdir)))
    page = write_page(run, state, loop.encode_at(state), views, loop.seconds)
    if parallel.is_main():
        print(*filter(None, (unmoved, f"report: {page}")), sep="\n", flush=True)
    return latest(run, log.read(run.workdir))


class Loop:
    """Calls the compiled step until the end; looks, logs, evaluates and saves between.

    Attributes:
      seconds: spent on this run so far, earlier sittings included.
    """

    def __init__(
        self,
        run: Run,
        saved: Checkpoints,
        best: BestSoFar,
        lines: log.Log | None,
        progress: console.Progress | None,
        signals: Signals,
        seconds: float,
    ) -> None:
        """Takes the parts; `lines` and `progress` only on the main process."""
        self.run, self.saved, self.best, self.signals = run, saved, best, signals
        self.lines, self.progress, self.seconds = lines, progress, seconds
        self.encoder = make_encoder(run)
        self.evaluated: Encode | None = None
        self.pending: collections.deque[Pending] = collections.deque()

    def to_the_end(self, state: TrainState, data: Tree) -> TrainState:
        """Trains from `state` to the last step, on `data` or on what is streamed."""
        began, step = time.monotonic() - self.seconds, int(state.step)
        if not self.run.plan.total_steps and not self.saved.steps():
            self.save(state, step)  # what `init_from` brought is all there will be
        self.catch_up(state, step)
        if step == self.run.plan.total_steps:
            self.seconds = time.monotonic() - began
            return state
        update, _ = compiled_step(self.run, state, data)
        try:
            with contextlib.closing(calls(self.run, step)) as given:
                for count, own_count, batches, waited in given:
                    state, metrics = update(state, own_count, data, batches)
                    self.pending.append(Pending(step, count, metrics, waited))
                    before, step = step, step + count
                    while len(self.pending) > AHEAD:
                        self.look()
                    self.seconds = time.monotonic() - began
                    self.between(state, before, step)
        except Exception as error:
            self.rescue(state, step, error)
            raise
        self.seconds = time.monotonic() - began
        return state

    def between(self, state: TrainState, before: int, step: int) -> None:
        """What happens after a call: evaluation, a checkpoint, an interruption."""
        names, saves = self.run.due_evaluators(step), self.run.saves(step)
        if names:
            self.look_at_all()
            self.evaluate(state.variables, step, names)
        stop = self.asked_to_stop(before, step) and step < self.run.plan.total_steps
        if saves or stop:
            self.look_at_all()
            self.save(state, step)
        if stop:
            self.saved.wait()
            raise Interrupted(self.signals.number or signal.SIGTERM, step)

    def asked_to_stop(self, before: int, step: int) -> bool:
        """Whether a signal came; all processes of a run give the same answer.

        They hear of it at different moments, and asking the others waits for the
        devices: once between two logged steps is enough.
        """
        came = self.signals.number is not None
        every = self.run.experiment.log_every
        if parallel.process_count() == 1:
            return came
        return before // every != step // every and parallel.agree(came)

    def look_at_all(self) -> None:
        """Waits for the calls under way and looks at each."""
        while self.pending:
            self.look()

    def look(self) -> None:
        """Fetches the metrics of the oldest call under way, checks and logs them."""
        oldest = self.pending.popleft()
        metrics = {f"train/{n}": x for n, x in parallel.fetch(oldest.metrics).items()}
        numbers: dict[str, float] = {}
        for place in range(oldest.count):
            step = oldest.step + place + 1
            numbers = {name: float(values[place]) for name, values in metrics.items()}
            if not math.isfinite(numbers["train/loss"] + numbers["train/grad_norm"]):
                raise Diverged(self.diverged(step, numbers))
            if self.lines and self.progress and self.run.logs(step):
                rate = self.run.learning_rate(step) * numbers.get(LOWERED, 1.0)
                numbers["train/learning_rate"] = rate
                self.lines.write(step, numbers | self.progress.speed)
        if self.progress:
            done = oldest.step + oldest.count
            self.progress.update(done, numbers, oldest.waited)

    def diverged(self, step: int, numbers: dict[str, float]) -> str:
        """Says where it happened, and what is left."""
        self.saved.wait()
        steps = self.saved.steps()
        kept = (
            f"the last good checkpoint is step {steps[-1]}"
            if steps
            else "none was saved"
        )
        return (
            f"the loss of step {step} is {numbers['train/loss']:g} and the norm of its "
            f"gradient {numbers['train/grad_norm']:g}; {kept} in {self.saved.folder}. "
            "Try a lower learning rate, a longer warm-up or a higher temperature."
        )

    def evaluate(self, variables: Variables, step: int, names: list[str]) -> None:
        """Runs evaluators, logs and shows what they find."""
        pause = self.progress.paused() if self.progress else contextlib.nullcontext()
        encode = self.encoder(variables)
        with pause:
            numbers = run_evaluators(self.run, encode, step, names)
        # Before the log says that it was evaluated: what is logged is not done again.
        best = self.best.offer(variables, step, names, numbers)
        if step == self.run.plan.total_steps:
            self.evaluated = encode
        if self.lines and self.progress:
            self.lines.write(step, numbers)
            groups = tables.group_numbers(numbers, dict.fromkeys(names, ""))
            told = [f"{group.evaluator} {' '.join(group.headline)}" for group in groups]
            mark = " (the best so far)" if best else ""
            self.progress.note(f"step {step}: {', '.join(told)}{mark}")

    def evaluate_best(self) -> None:
        """Runs the evaluators of the last state on the best one, and logs it, once."""
        if self.run.experiment.best is None:
            return
        last, history = self.run.plan.total_steps, log.read(self.run.workdir)
        seen = any(key.startswith(OF_BEST) for line in history for key in line)
        if not parallel.agree(not seen):
            return
        self.best.wait()
        at_end = latest(self.run, [line for line in history if line["step"] == last])
        names = self.run.due_evaluators(last)
        pause = self.progress.paused() if self.progress else contextlib.nullcontext()
        with pause:
            found = numbers_of_best(self.run, self.encoder, names, (last, at_end))
        if self.lines and found:
            self.lines.write(last, found)

    def encode_at(self, state: TrainState) -> Encode:
        """The encoder of the last state: the one that evaluators have used, if any."""
        return self.evaluated or self.encoder(state.variables)

    def catch_up(self, state: TrainState, step: int) -> None:
        """Runs the evaluators of a checkpoint whose numbers were never logged."""
        seen = [line for line in log.read(self.run.workdir) if line["step"] == step]
        names = [
            name
            for name in self.run.due_evaluators(step)
            if not any(key.startswith(f"{name}/") for line in seen for key in line)
        ]
        if parallel.agree(bool(names)):
            self.evaluate(state.variables, step, names)

    def save(self, state: TrainState, step: int) -> None:
        """Starts writing a checkpoint, behind a log and a best that are on disk."""
        if self.lines:
            self.lines.flush()
        self.best.wait()
        total_steps = self.run.plan.total_steps
        self.saved.save(step, items(state), facts(state, self.seconds, total_steps))

    def rescue(self, state: TrainState, step: int, error: Exception) -> None:
        """Saves what is good when something else than the numbers went wrong."""
        alone = parallel.process_count() == 1
        known = isinstance(error, Interrupted | Diverged)
        if known or not alone or state.step.is_deleted():
            return
        with contextlib.suppress(Diverged):
            self.look_at_all()
            self.save(state, step)
            logger.warning("saved step %d; the same command continues from there", step)


@dataclasses.dataclass(frozen=True)
class Pending:
    """A call of the step that may still be under way.

    Attributes:
      step: updates made before it.
      count: updates it makes.
      metrics: of each, still on the device.
      waited: seconds that the host waited for its data.
    """

    step: int
    count: int
    metrics: Tree
    waited: float


# What a person sees.


@contextlib.contextmanager
def outputs(
    run: Run, first: int
) -> Iterator[tuple[log.Log | None, console.Progress | None]]:
    """The metrics log and the progress display; nothing on other processes."""
    if not parallel.is_main():
        yield None, None
        return
    progress = console.Progress(
        run.plan.total_steps,
        first,
        batch_size=run.experiment.batch_size,
        steps_per_epoch=run.plan.steps_per_epoch,
    )
    with log.Log(run.workdir, first) as lines, progress:
        yield lines, progress


def show(views: FirstViews | None, lines: log.Log | None) -> None:
    """Puts what the network sees where one can look at it from the start."""
    if lines is not None and views is not None:
        lines.write_images(0, {"views": views.sheet()})


def finished(run: Run) -> bool:
    """Whether an earlier call got as far as the report."""
    return page_of(run).exists()


def already(run: Run) -> dict[str, float]:
    """Says that there is nothing left to do; gives the numbers that were found."""
    numbers = latest(run, log.read(run.workdir))
    if parallel.is_main():
        print(tables.closing(numbers, run.protocols()))
        print(
            f"finished: {run.plan.total_steps} steps were made and reported in "
            f"{page_of(run)}",
            flush=True,
        )
    return numbers
