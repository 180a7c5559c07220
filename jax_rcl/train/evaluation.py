"""Evaluation of a run: its encoder, evaluators, results.json and the report page."""

import contextlib
import dataclasses
import json
import logging
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int32
from ml_collections import ConfigDict

import jax_rcl
from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import Which
from jax_rcl.config.experiment import OF_BEST
from jax_rcl.config.types import ConfigError
from jax_rcl.config.workdir import stored_config
from jax_rcl.core import Encode, Source, Variables
from jax_rcl.report import console, log, page, tables
from jax_rcl.report.figures import plots
from jax_rcl.train import batches
from jax_rcl.train.claim import PAGE, RESULTS, set_aside, warn_of_data
from jax_rcl.train.facts import measured
from jax_rcl.train.plan import sources_of
from jax_rcl.train.run import Run, has_checkpoint
from jax_rcl.train.state import restore_variables
from jax_rcl.train.step import TrainState

logger = logging.getLogger(__name__)

EVALUATION = "evaluation.json"
"""File of a workdir with what `evaluate` has found last."""

EXAMPLES = 8
"""How many examples the picture of the views shows."""


def make_encoder(run: Run) -> Callable[[Variables], Encode]:
    """Returns `encoder(variables) -> encode`; a program per image shape and layers."""

    def encode_layers(
        variables: Variables, images: jax.Array, layers: tuple[str, ...] | None
    ) -> dict[str, jax.Array]:
        outputs = run.experiment.objective.encode(variables, images)
        vectors = tuple(name for name, x in outputs.items() if x.ndim == 2)
        return {name: outputs[name] for name in layers or vectors}

    # The compiler drops what the result does not need, such as a decoder.
    apply = jax.jit(encode_layers, static_argnums=2)

    def encoder(variables: Variables) -> Encode:
        def encode(images: Any, layers: tuple[str, ...] | None = None) -> dict:
            """Named vectors [n, f] of images [n, h, w, c] in [0, 1]; all, or these."""
            if not jnp.issubdtype(images.dtype, jnp.floating):
                raise ValueError(
                    f"encode takes images in [0, 1], and these are {images.dtype}; "
                    "divide them by 255: np.float32(images) / 255."
                )
            rows = parallel.on_devices(images, run.mesh)
            outputs = apply(variables, rows, layers)
            return {k: x[: len(images)] for k, x in parallel.fetch(outputs).items()}

        return encode

    return encoder


class EvaluatorFailed(RuntimeError):
    """An evaluator refused what it was given; the state so far is saved."""


def run_evaluators(
    run: Run, encode: Encode, step: int, names: list[str]
) -> dict[str, float]:
    """Numbers of the named evaluators, as `<evaluator>/<number>`.

    Raises:
      EvaluatorFailed: one raised ValueError or OSError, whose message says what to do.
      RuntimeError: one raised something else.
    """
    numbers: dict[str, float] = {}
    for name in names:
        try:
            found = run.experiment.evaluators[name].run(encode)
        except Exception as error:
            told = isinstance(error, ValueError | OSError)
            text = str(error).split("\n--------------------\n")[0]  # JAX's own footnote
            raise (EvaluatorFailed if told else RuntimeError)(
                f"evaluator '{name}' failed at step {step}: {text}"
            ) from error
        numbers |= {f"{name}/{key}": float(value) for key, value in found.items()}
    return numbers


def run_evaluators_on_best(
    run: Run,
    encoder: Callable[[Variables], Encode],
    names: list[str],
    newest: tuple[int, Mapping[str, float]],
) -> dict[str, float]:
    """Numbers of evaluators on the best state, as `best/<evaluator>/<number>`.

    Its step is there as `best/step`; nothing is, with a warning, if no state has had a
    finite number to be chosen by. `newest` has the step and the numbers of the newest
    state, which need not be found again if it is the best.
    """
    if not has_checkpoint(run.workdir, "best"):
        logger.warning("%s has no best state yet.", run.workdir)
        return {}
    step, variables = restore_variables(run, "best")
    found = newest[1]
    if step != newest[0]:
        found = run_evaluators(run, encoder(variables), step, names)
    numbers = {f"{OF_BEST}{name}": value for name, value in found.items()}
    return {f"{OF_BEST}step": float(step)} | numbers


def evaluate(
    config: ConfigDict, workdir: str | os.PathLike[str], *, mesh: Mesh | None = None
) -> dict[str, float]:
    """Runs every evaluator of `config` on the newest checkpoint of `workdir`.

    Also on the best state's, if `config.best` is not None. The objective must be the
    one that was trained; the evaluators may be others. The numbers, which are also
    written to evaluation.json there, with the data that they are of, are called
    `<evaluator>/<number>` and `best/<evaluator>/<number>`. An evaluation that is there
    already is renamed to evaluation-1.json and so on, unless it is the same.

    Raises:
      ConfigError: there is no run in `workdir`, or it trained another objective.
    """
    old = stored_config(Path(workdir))
    lines = configs.differences(old["objective"], config["objective"], "objective")
    if lines:
        raise ConfigError(
            f"{workdir} was trained with another objective (there -> now):\n  "
            + "\n  ".join(lines)
        )
    run = Run.prepare(config, workdir, mesh)
    writes = parallel.is_main() and can_write(run.workdir)
    if parallel.is_main() and not writes:
        logger.warning(
            "%s cannot be written to: the numbers are printed, and not stored in %s.",
            *(run.workdir, EVALUATION),
        )
    warn_of_data(run, old)
    step, variables = restore_variables(run)
    encoder, names = make_encoder(run), list(run.experiment.evaluators)
    numbers = run_evaluators(run, encoder(variables), step, names)
    if run.experiment.best is not None:
        numbers |= run_evaluators_on_best(run, encoder, names, (step, dict(numbers)))
    write_results(run, step, numbers, EVALUATION if writes else None)
    return numbers


def can_write(folder: Path) -> bool:
    """Whether a file can be made in a folder, which permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def trained(
    workdir: str | os.PathLike[str], which: Which = "newest"
) -> tuple[Run, Encode]:
    """The run that a workdir holds, and the encoder of one of its checkpoints.

    `encode(images)` takes images [n, h, w, c] in [0, 1] and gives named features
    [n, f]; evaluators take it, too.

    Raises:
      ConfigError: there is no run, or no checkpoint yet.
    """
    run = Run.prepare(stored_config(Path(workdir)), workdir)
    return run, make_encoder(run)(restore_variables(run, which)[1])


def latest_numbers(run: Run, history: list[dict[str, Any]]) -> dict[str, float]:
    """The last numbers of the evaluators, also on the best state, in metrics.jsonl."""
    names = (*(f"{name}/" for name in run.experiment.evaluators), OF_BEST)
    latest: dict[str, dict[str, float]] = {}
    for line in history:
        found: dict[str, dict[str, float]] = {}
        for key, value in line.items():
            name = max((x for x in names if key.startswith(x)), key=len, default="")
            found.setdefault(name, {})[key] = value
        latest |= found  # all that one found: it may have been another one before
    latest.pop("", None)
    return {key: x for numbers in latest.values() for key, x in numbers.items()}


def write_results(
    run: Run, step: int, numbers: Mapping[str, float], file: str | None = RESULTS
) -> None:
    """Prints the closing table and writes it as JSON, on the main process.

    What the file held before is kept under another name, unless it is the same.
    """
    if not parallel.is_main():
        return
    protocols = run.protocols()
    console.show(tables.closing(numbers, protocols))
    if file is None:
        return
    of: dict[str, Any] = {}
    if file == RESULTS:  # found earlier, perhaps on other data than these
        last, now = measured(run.workdir), run.data["evaluators"]
        of["evaluators"] = {k: last.get(k, {"data": x})["data"] for k, x in now.items()}
    record = {
        "step": step,
        "results": dict(numbers),
        "protocols": protocols,
        "data": run.data | of | {"sources": sources_in_words(run)},
    }
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    path = run.workdir / file
    if path.exists() and path.read_bytes() == text.encode():
        return
    aside = set_aside(path)
    if aside is not None:
        logger.info("what %s held before is now in %s", path, aside.name)
    beside = path.with_suffix(".tmp")
    beside.write_bytes(text.encode())
    beside.replace(path)


def sources_in_words(run: Run) -> dict[str, list[str]]:
    """The sources of every evaluator, as Python writes them."""
    return {
        name: [repr(source) for source, _ in sources_of(evaluator)]
        for name, evaluator in run.experiment.evaluators.items()
    }


# The page.


@dataclasses.dataclass(frozen=True)
class FirstViews:
    """The first examples of a run as its objective saw them."""

    images: Float[np.ndarray, "m v h w c"]  # in [0, 1]
    labels: Int32[np.ndarray, " m"] | None
    titles: tuple[str, ...]  # of the v columns: the views, then their negatives

    def sheet(self) -> np.ndarray:
        """All views in one image, a row for each example."""
        m, v, h, w, c = self.images.shape
        return self.images.transpose(0, 2, 1, 3, 4).reshape(m * h, v * w, c)


def first_views(run: Run, key: jax.Array) -> FirstViews | None:
    """The input of step 0, with the key of `TrainState`; None where it has no views."""
    if not {"views", "clean"} & set(run.plan.augmented):
        return None
    batch = batches.first_batch(run, key)
    labels = batch["label"][:EXAMPLES] if "label" in batch else None
    if "views" not in batch:
        sides = ("clean", "distorted")
        pairs = np.stack([batch[side][:EXAMPLES] for side in sides], axis=1)
        return FirstViews(np.clip(pairs, 0, 1), labels, sides)  # noise goes beyond
    kinds = {"view": batch["views"]}
    negatives = batch.get("negatives")
    # Only of the size of the views can they be put beside these.
    if negatives is not None and negatives.shape[2:] == batch["views"].shape[2:]:
        kinds["negative"] = negatives
    titles = [f"{kind} {i + 1}" for kind, x in kinds.items() for i in range(x.shape[1])]
    images = np.concatenate([x[:EXAMPLES] for x in kinds.values()], axis=1)
    return FirstViews(np.clip(images, 0, 1), labels, tuple(titles))


def write_page(
    run: Run,
    state: TrainState,
    encode: Encode,
    views: FirstViews | None,
    seconds: float,
) -> Path:
    """Writes report/index.html: numbers, pictures, facts and the config of a run.

    `state` is its last one and `encode` that one's, with which evaluators that it has
    served need not encode again; `views` are those of `first_views`.
    """
    figures = {}
    if views is not None:
        names = run.experiment.source.class_names
        with without("the picture of the views"):
            sheet = plots.views(views.images, views.labels, names, views.titles)
            figures["Views: examples (columns) as the network saw them at step 0"] = (
                sheet
            )
    for name, evaluator in run.experiment.evaluators.items():
        findings = getattr(evaluator, "findings", None)
        for title, finding in findings(encode).items() if findings else ():
            with without(f"{title} of evaluator {name!r}"):
                caption, figure = plots.draw(finding)
                figures[f"{title.capitalize()} ({name}): {caption}"] = figure
    if not parallel.is_main():
        return page_of(run)
    history = log.read(run.workdir)
    page.write_page(
        page_of(run),
        title=run.workdir.name,
        config_json=configs.to_json(run.config),
        results=latest_numbers(run, history),
        protocols=run.protocols(),
        history=history,
        figures=figures,
        facts=describe_run(run, state, seconds),
        command=f"python -m jax_rcl.main --workdir={shlex.quote(_shown(run.workdir))}",
        steps_per_epoch=run.plan.steps_per_epoch,
    )
    return page_of(run)


def _shown(path: Path) -> str:
    """A path as it is typed: from the folder that one is in, if it is below that."""
    below = path.absolute().is_relative_to(Path.cwd())
    return os.path.relpath(path) if below else str(path.absolute())


@contextlib.contextmanager
def without(picture: str) -> Iterator[None]:
    """Leaves a picture out of the page if it cannot be drawn, and says so."""
    try:
        yield
    except Exception as error:  # a library that draws may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        logger.warning("%s could not be drawn and is left out: %s", picture, reason)


def page_of(run: Run) -> Path:
    """Where the report of a run is."""
    return run.workdir / PAGE


def describe_run(run: Run, state: TrainState, seconds: float) -> dict[str, str]:
    """Facts beside the numbers: what was trained, where, when, with what, how long."""
    sizes = [x.size for x in jax.tree.leaves(state.variables.params)]
    minutes, rest = divmod(round(seconds), 60)
    made = provenance(seconds, run.mesh)
    return {
        "method": type(run.experiment.objective).__name__,
        "data": describe_source(run.experiment.source),
        "steps": f"{run.plan.total_steps:,} of {run.experiment.batch_size:,} examples",
        "epochs": f"{run.plan.total_steps / run.plan.steps_per_epoch:g}",
        "time": f"{minutes} min {rest} s, evaluation included",
        "devices": made["device"],
        "parameters": f"{sum(sizes):,}",
        **{name: made[name] for name in ("date", "commit", "versions")},
    }


def describe_source(source: Source) -> str:
    """Size and origin of a source: what it reads from, whatever is around that.

    Fields that have their default are left out, and so are long tuples.
    """
    inner: Any = source
    while hasattr(inner, "source"):
        inner = inner.source
    fields = dataclasses.fields(inner) if dataclasses.is_dataclass(inner) else ()
    told = (
        f"{field.name}={value!r}"
        for field in fields
        if field.repr
        and (value := getattr(inner, field.name)) != field.default
        and not (isinstance(value, tuple) and len(value) > 3)
    )
    return f"{len(source):,} of {type(inner).__name__}({', '.join(told)})"


def provenance(seconds: float, mesh: Mesh | None = None) -> dict[str, Any]:
    """Where numbers are from: commit, date, devices, seconds taken, and versions."""
    devices = (mesh or parallel.make_mesh()).size
    return {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "device": f"{devices} × {parallel.device_name()}",
        "seconds": seconds,
        "versions": f"jax_rcl {jax_rcl.__version__}, jax {jax.__version__}",
    }


def commit() -> str:
    """The commit of the code that runs, with + where files were changed; or unknown."""
    folder = str(Path(jax_rcl.__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty=+"]
    silent = subprocess.DEVNULL
    try:
        return subprocess.check_output(command, stderr=silent, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
