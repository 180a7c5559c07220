"""The loop: restore, train, log, evaluate, save and report, whatever the method."""

import collections
import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from jax.sharding import Mesh
from ml_collections import ConfigDict

from jax_rcl import parallel
from jax_rcl.checkpoint import STATES, Checkpoints, NotSaved, checksums
from jax_rcl.config.experiment import OF_BEST
from jax_rcl.core import Encode, Tree, Variables
from jax_rcl.report import console, log, tables
from jax_rcl.train.batches import compile_step, feed_calls, place_data
from jax_rcl.train.claim import claim, keep_length
from jax_rcl.train.evaluation import (
    first_views,
    latest_numbers,
    make_encoder,
    page_of,
    run_evaluators,
    run_evaluators_on_best,
    write_page,
    write_results,
)
from jax_rcl.train.facts import remember_measured
from jax_rcl.train.means import EpochMeans
from jax_rcl.train.owner import Owner, WorkdirGone, WorkdirInUse, refusing
from jax_rcl.train.run import Run
from jax_rcl.train.signals import Asked, Interrupted, Signals
from jax_rcl.train.state import BestSoFar, check_frozen, restore_or_create, save_state
from jax_rcl.train.step import PLATEAU, TrainState

logger = logging.getLogger(__name__)

# Calls under way before the host looks at the oldest one's metrics: the device never
# waits for the host, and no more batches than these are in memory.
AHEAD = 2


LOST = NotSaved, WorkdirInUse, WorkdirGone, parallel.Elsewhere
"""Errors after which nothing can be saved."""


class Diverged(ArithmeticError):
    """The loss or its gradient is no longer finite."""


def train(
    config: ConfigDict, workdir: str | os.PathLike[str], *, mesh: Mesh | None = None
) -> dict[str, float]:
    """Trains to the end, from the newest checkpoint of `workdir` if there is one.

    Stopped at any moment, even by SIGKILL, and called again, it ends with the numbers
    of a run that was never stopped: the last of every evaluator, as
    `<evaluator>/<number>`, and those of the best state, if the run keeps one, as
    `best/<evaluator>/<number>`. The workdir, made if it is missing, holds config.json,
    checkpoints, metrics.jsonl, TensorBoard events, results.json and report/index.html.

    Raises:
      ConfigError: what is wrong with the config, before anything is compiled.
      Diverged: a loss that is not finite; the checkpoints before it are kept.
      DamagedCheckpoint: what was saved cannot be read, or a frozen array has changed.
      NotSaved: a checkpoint cannot be written.
      WorkdirInUse: another job trains there.
      WorkdirGone: it has disappeared.
      Interrupted: SIGTERM or Ctrl-C, after a checkpoint was written.
    """
    run = Run.prepare(config, workdir, mesh)
    with own(run.workdir) as owner:
        run = keep_length(run)
        claim(run)
        return train_owned(run, owner)


def train_owned(run: Run, owner: Owner | None) -> dict[str, float]:
    """`train` in a workdir that is this run's."""
    counts = run.mesh.size, parallel.device_name(), parallel.process_count()
    logger.info("%d device(s) %s in %d process(es)", *counts)
    last = run.plan.total_steps
    keep, keeps = run.experiment.keep, run.keeps
    states = Checkpoints(run.workdir / STATES, keep=keep, keeps=keeps)
    with Signals() as signals, states as saved, BestSoFar(run) as best:
        done = saved.steps()[-1:] == [last]
        # Before the state, so that an unreadable record ends the run at once.
        data = {} if done or not last else place_data(run)
        state, seconds, means = restore_or_create(run, saved)
        first = int(state.step)
        if first == last and page_of(run).exists():
            return report_finished(run)
        if done and first < last:  # the last checkpoint was damaged
            data = place_data(run)
        if parallel.is_main():
            console.show(tables.overview(state.variables))
        frozen = checksums(state.variables.frozen)
        views = first_views(run, state.key)
        with open_outputs(run, first) as (lines, progress):
            if lines is not None and views is not None:
                lines.write_images(0, {"views": views.sheet()})
            outputs = lines, progress, seconds, means, owner
            loop = Loop(run, saved, best, signals, *outputs)
            state = loop.train_to_end(state, data)
            unmoved = check_frozen(state, frozen)
            loop.evaluate_best(state)
            loop.check_workdir()
        # One process of several would leave the others waiting.
        alone = parallel.process_count() == 1
        try:
            with signals.at_once() if alone else contextlib.nullcontext():
                numbers = latest_numbers(run, log.read(run.workdir))
                write_results(run, last, numbers)
                encode = loop.evaluated or loop.encoder(state.variables)
                page = write_page(run, state, encode, views, loop.seconds)
        except Asked:
            saved.wait()
            raise Interrupted(signals.number or signal.SIGTERM, last) from None
    if parallel.is_main():
        console.show(*filter(None, (unmoved, f"report: {page}")))
    return numbers


@contextlib.contextmanager
def own(workdir: Path) -> Iterator[Owner | None]:
    """Owns the workdir on the main process; all others hear if that is refused."""
    with contextlib.ExitStack() as stack:
        owner = None
        with refusing(workdir):
            if parallel.is_main():
                owner = stack.enter_context(Owner(workdir))
        yield owner


@contextlib.contextmanager
def open_outputs(
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


def report_finished(run: Run) -> dict[str, float]:
    """Says that there is nothing left to do; returns the numbers of the run."""
    numbers, steps = latest_numbers(run, log.read(run.workdir)), run.plan.total_steps
    if parallel.is_main():
        console.show(tables.closing(numbers, run.protocols()))
        made = f"finished: {steps} steps were made and reported in {page_of(run)}"
        console.show(made)
    return numbers


class Pending(NamedTuple):
    """A call of the step that may still be under way."""

    step: int  # updates made before it
    count: int  # updates that it makes
    metrics: Tree  # of each update, still on the device
    waited: float  # seconds that the host waited for its data


class Loop:
    """Calls the compiled step until the end; logs, evaluates and saves in between.

    Attributes:
      seconds: spent on this run so far, earlier sessions included.
    """

    def __init__(
        self,
        run: Run,
        saved: Checkpoints,
        best: BestSoFar,
        signals: Signals,
        lines: log.Log | None,
        progress: console.Progress | None,
        seconds: float,
        means: EpochMeans,
        owner: Owner | None,
    ) -> None:
        """Takes its parts; three of them are None but on the main process."""
        self.means, self.owner = means, owner
        self.run, self.saved, self.best, self.signals = run, saved, best, signals
        self.lines, self.progress, self.seconds = lines, progress, seconds
        self.encoder = make_encoder(run)
        self.evaluated: Encode | None = None
        self.warned = False
        self.pending: collections.deque[Pending] = collections.deque()
        self.unwritten: OSError | None = None

    def train_to_end(self, state: TrainState, data: Tree) -> TrainState:
        """Trains from `state` to the last step, on `data` or on what is streamed."""
        began, step = time.monotonic() - self.seconds, int(state.step)
        if not self.run.plan.total_steps and not self.saved.steps():
            self.save(state, step)  # what `init_from` brought is all there will be
        self.evaluate_unlogged(state, step)
        if step < self.run.plan.total_steps:
            update, _ = compile_step(self.run, state, data)
            try:
                with contextlib.closing(feed_calls(self.run, step, data)) as calls:
                    for count, device_count, batches, waited in calls:
                        state, metrics = update(state, device_count, data, batches)
                        self.pending.append(Pending(step, count, metrics, waited))
                        before, step = step, step + count
                        while len(self.pending) > AHEAD:
                            self.look()
                        self.seconds = time.monotonic() - began
                        self.after_call(state, before, step)
            except Exception as error:
                self.rescue(state, step, error)
                raise
        self.seconds = time.monotonic() - began
        return state

    def after_call(self, state: TrainState, before: int, step: int) -> None:
        """Evaluates, saves or stops, where it is time to."""
        names, saves = self.run.due_evaluators(step), self.run.saves(step)
        # Before the evaluators, which may take hours, or end the process.
        if saves:
            self.look_at_all()
            self.save(state, step)
        if names:
            self.look_at_all()
            with self.stopping(state, step):
                self.evaluate(state.variables, step, names)
        stop = self.asked_to_stop(before, step) and step < self.run.plan.total_steps
        if stop:
            self.stop(state, step)

    def stop(self, state: TrainState, step: int) -> NoReturn:
        """Ends the run, for now, when its state is saved."""
        self.look_at_all()
        self.save(state, step)
        self.saved.wait()
        raise Interrupted(self.signals.number or signal.SIGTERM, step)

    @contextlib.contextmanager
    def stopping(self, state: TrainState, step: int) -> Iterator[None]:
        """Evaluators within are left where they are when a signal comes.

        They begin anew when the run is continued. One process of several leaves none,
        since the others would wait for it.
        """
        if parallel.process_count() > 1:
            yield
            return
        try:
            with self.signals.at_once():
                yield
        except Asked:
            self.stop(state, step)

    def asked_to_stop(self, before: int, step: int) -> bool:
        """Whether a signal came; all processes of a run give the same answer.

        They see it at different moments, and asking the others waits for the devices:
        once between two logged steps is enough. A workdir that is lost, which the main
        process alone sees, ends the run here.
        """
        came, every = self.signals.number is not None, self.run.experiment.log_every
        lost = self.unwritten is not None or bool(self.owner and self.owner.lost)
        asks = parallel.process_count() == 1 or before // every != step // every
        if not asks or not parallel.agree(came or lost):
            return False
        self.check_workdir()
        return parallel.agree(came)

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
            self.check_numbers(step, numbers)
            self.warn_of_plateau(numbers)
            named = {n.removeprefix("train/"): x for n, x in numbers.items()}
            self.means.add(step, named)
            if self.lines and self.progress and self.run.logs(step):
                # The optimizer may have lowered it where the loss stopped falling.
                lowered = numbers.get(f"train/{PLATEAU}", 1.0)
                rate = self.run.learning_rate(step) * lowered
                numbers["train/learning_rate"] = rate
                means = {f"train/mean/{n}": x for n, x in self.means.means().items()}
                self.write(step, numbers | means | self.progress.speed)
        if self.progress:
            done = oldest.step + oldest.count
            self.progress.update(done, numbers, oldest.waited, self.means.means())

    def check_numbers(self, step: int, numbers: dict[str, float]) -> None:
        """Raises Diverged if the loss or its gradient is not finite."""
        if math.isfinite(numbers["train/loss"] + numbers["train/grad_norm"]):
            return
        self.saved.wait()
        steps = self.saved.steps()
        good = f"step {steps[-1]}" if steps else "none"
        raise Diverged(
            f"the loss of step {step} is {numbers['train/loss']:g} and the norm of its "
            f"gradient {numbers['train/grad_norm']:g}; the last good checkpoint in "
            f"{self.saved.folder} is {good}. Try a lower "
            "learning rate, a longer warm-up or a higher temperature."
        )

    def warn_of_plateau(self, numbers: dict[str, float]) -> None:
        """Warns once of a plateau that a negative loss cannot reach."""
        plateau = getattr(self.run.experiment.optimizer, "plateau", None)
        if self.warned or plateau is None or numbers["train/loss"] >= 0:
            return
        self.warned = plateau.relative_to == "best"
        if self.warned and parallel.is_main():
            logger.warning(
                "the loss is negative: of its best value, less a share of it, every "
                "loss that stands still is an improvement, and the learning rate is "
                'never lowered. Write Plateau(relative_to="one") in another workdir.'
            )

    def evaluate(self, variables: Variables, step: int, names: list[str]) -> None:
        """Runs evaluators, logs and shows their numbers."""
        encode = self.encoder(variables)
        with self.paused():
            numbers = run_evaluators(self.run, encode, step, names)
        self.check_workdir()
        # Before the log says that it was evaluated: what is logged is not done again.
        best = self.best.offer(variables, step, names, numbers)
        if step == self.run.plan.total_steps:
            self.evaluated = encode
        self.write(step, numbers, names)
        if self.lines and self.progress:
            groups = tables.group_numbers(numbers, dict.fromkeys(names, ""))
            texts = [f"{x.evaluator} {' '.join(x.numbers[0])}" for x in groups]
            mark = " (the best so far)" if best else ""
            self.progress.note(f"step {step}: {', '.join(texts)}{mark}")

    def evaluate_unlogged(self, state: TrainState, step: int) -> None:
        """Runs the evaluators of a checkpoint whose numbers were never logged."""
        seen = [line for line in log.read(self.run.workdir) if line["step"] == step]
        names = [
            name
            for name in self.run.due_evaluators(step)
            if not any(key.startswith(f"{name}/") for line in seen for key in line)
        ]
        if parallel.agree(bool(names)):
            with self.stopping(state, step):
                self.evaluate(state.variables, step, names)

    def evaluate_best(self, state: TrainState) -> None:
        """Runs the evaluators of the last state on the best one, and logs it, once."""
        if self.run.experiment.best is None:
            return
        last, history = self.run.plan.total_steps, log.read(self.run.workdir)
        # A run that became longer has looked at its best state before.
        at_end = [line for line in history if line["step"] == last]
        seen = any(key.startswith(OF_BEST) for line in at_end for key in line)
        if not parallel.agree(not seen):
            return
        self.best.wait()
        newest = (last, latest_numbers(self.run, at_end))
        names = self.run.due_evaluators(last)
        with self.stopping(state, last), self.paused():
            found = run_evaluators_on_best(self.run, self.encoder, names, newest)
        if found:
            self.write(last, found)

    def paused(self) -> contextlib.AbstractContextManager[object]:
        """The time of an evaluation does not count as slow training."""
        return self.progress.paused() if self.progress else contextlib.nullcontext()

    def write(
        self, step: int, numbers: Mapping[str, float], names: Collection[str] = ()
    ) -> None:
        """Adds to the log on the main process; `check_workdir` says what failed.

        `names` are those of the evaluators that gave the numbers.
        """
        try:
            if self.lines:
                if names:
                    data = self.run.data["evaluators"]
                    now = {name: data[name] for name in names}
                    remember_measured(self.run.workdir, step, now)
                self.lines.write(step, numbers)
        except OSError as error:  # of which the other processes know nothing
            self.unwritten = error

    def check_workdir(self) -> None:
        """Brings the log onto the disk; where that fails, all processes end.

        Raises WorkdirInUse, WorkdirGone or NotSaved on the main one, `Elsewhere` on the
        others.
        """
        problem: Exception | None = None
        try:
            if self.owner:
                self.owner.check()
            if self.unwritten:
                raise self.unwritten
            if self.lines:
                self.lines.flush()
        except (WorkdirInUse, WorkdirGone) as error:
            problem = error
        except OSError as error:
            problem = NotSaved(
                f"the log in {self.run.workdir} cannot be written any more ({error}). "
                "Once this is mended, the same command continues from the newest "
                "checkpoint there."
            )
        parallel.raise_everywhere(problem)

    def save(self, state: TrainState, step: int) -> None:
        """Starts writing a checkpoint once the log and the best are on disk."""
        self.check_workdir()
        self.best.wait()
        save_state(self.saved, self.run, state, step, self.seconds, self.means)

    def rescue(self, state: TrainState, step: int, error: Exception) -> None:
        """Saves the state when something other than the numbers went wrong."""
        known = isinstance(error, (Interrupted, Diverged, *LOST))
        # Other processes may have got further; a donated state is gone.
        if known or parallel.process_count() > 1 or state.step.is_deleted():
            return
        try:
            self.look_at_all()
            self.save(state, step)
            self.saved.wait()  # or it is not true
        except (Diverged, *LOST, OSError) as failure:
            logger.warning("step %d is not saved: %s", step, failure)
        else:
            logger.warning("saved step %d; the same command continues from there", step)
