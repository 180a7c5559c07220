"""Checkpoints that survive a kill at any moment.

Orbax writes each checkpoint under a temporary name and renames it when it is whole. It
does not notice a byte that changed on disk, so a checksum of every array is stored with
the arrays and compared when they are read. The position in the data is not stored: the
order of examples is a function of (seed, step).
"""

import contextlib
import dataclasses
import logging
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jax_rcl import parallel
from jax_rcl.core import Tree
from jax_rcl.ranges import AtLeast

log = logging.getLogger(__name__)

STATES, FROZEN, BEST = "checkpoints", "frozen", "best"
"""Folders of a workdir: what changes from step to step, what never does, and the
variables that were best."""

Which = Literal["newest", "best"] | Annotated[int, AtLeast(0)]
"""Which of a run's checkpoints: by its step, or the newest; the best is in `BEST`."""

VARIABLES = "variables"
"""Item that holds `params` and `memory`."""


class DamagedCheckpoint(ValueError):
    """What was read is not what was written."""


class AnotherStructure(ValueError):
    """A checkpoint is whole, but of other arrays; the message lists both sides."""


class NotSaved(RuntimeError):
    """A checkpoint could not be written; the message says which one there is."""


class Checkpoints:
    """The newest few checkpoints of a folder, in one sub-folder a step."""

    def __init__(
        self,
        folder: Path,
        *,
        keep: int | None = None,
        keeps: Callable[[int], bool] = lambda step: False,
    ) -> None:
        """Opens a folder, made if it is missing; keeps its newest `keep` checkpoints.

        And those of all steps for which `keeps` holds. Without `keep` they are opened
        for reading only, and what another program may be writing there is left alone.
        """
        self.folder, self._reads_only = folder.absolute(), keep is None
        self._writing: int | None = None
        if keep is not None:
            for path in sorted(self.folder.glob("*tmp*")):
                log.warning(
                    "%s was not finished when its run was killed; it is removed.", path
                )
            self._remove_unfinished()
            logging.getLogger("absl").addFilter(_is_not_orbax)
        options = ocp.CheckpointManagerOptions(
            save_interval_steps=0 if keep is None else 1,
            preservation_policy=None if keep is None else _Kept(keep, keeps),
            create=keep is not None,
            read_only=keep is None,
        )
        with _quiet():
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        """Closes the folder at the end of the `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for what is still being written.

        If that fails, an error that is already on its way is more important. If that
        ends all processes, nobody comes to where Orbax would wait for the others.
        """
        if parallel.ends_everywhere(error):
            return
        try:
            self.wait()
        except NotSaved as failure:
            if error is None:
                raise
            if not isinstance(error, NotSaved):
                log.warning("%s", failure)
        finally:
            with contextlib.suppress(Exception):  # the same error once more
                self._manager.close()

    def steps(self) -> list[int]:
        """Steps that have a finished checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        items: Mapping[str, Tree],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts writing the checkpoint `step`; one that exists is left alone.

        `items` are trees of arrays, typed random keys among them, which may be changed
        as soon as it returns; `facts` are what else to store, as JSON.
        """
        if step in self._manager.all_steps():
            return
        stored: dict[str, Any] = {
            name: ocp.args.StandardSave(tree)  # pyright: ignore[reportCallIssue] its dataclass wrapper hides the signature
            for name, tree in items.items()
        }
        meta = {"checksums": checksums(items), "facts": dict(facts or {})}
        stored["meta"] = ocp.args.JsonSave(meta)  # pyright: ignore[reportCallIssue] as above
        with self._failures():  # also of what was still being written
            self._manager.wait_until_finished()
            self._writing = step
            self._manager.save(step, args=ocp.args.Composite(**stored))

    def wait(self) -> None:
        """Waits until what was saved is on disk; NotSaved if it cannot be."""
        with self._failures():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Turns what Orbax and TensorStore raise while they write into NotSaved."""
        try:
            yield
        except Exception as error:
            self._remove_unfinished()  # half a checkpoint fills the disk
            whole = max(map(int, _numbered(self.folder)), default=None)
            there = (
                "there is none" if whole is None else f"the newest is of step {whole}"
            )
            raise NotSaved(
                f"the checkpoint of step {self._writing} could not be written to "
                f"{self.folder}: {_reason(error)}. {there.capitalize()}. Once this is "
                "mended, the same command continues from there."
            ) from error

    def _remove_unfinished(self) -> None:
        if parallel.is_main():
            for path in self.folder.glob("*tmp*"):
                shutil.rmtree(path, ignore_errors=True)

    def restore(
        self, templates: Mapping[str, Tree], step: int | None = None
    ) -> tuple[int, dict[str, Tree], dict[str, Any]] | None:
        """The newest checkpoint that is whole: step, items and facts; None without any.

        A warning names a damaged one, and the one before it is used. If this folder is
        open for writing, the damaged one is renamed to `damaged-<step>`. `templates`
        has for each item a tree of `jax.ShapeDtypeStruct` with shardings. With `step`
        it is the one of that step, or none.

        Raises:
          ValueError: there is no checkpoint of this step.
          DamagedCheckpoint: there are checkpoints, but none of them is whole.
          AnotherStructure: the newest holds other arrays than the templates.
        """
        steps, failed = self.steps() if step is None else [self._found(step)], []
        for step in reversed(steps):
            try:
                self._check_structure(step, templates)
                found = self._read(step, templates)
            except AnotherStructure:
                raise
            except Exception as error:  # Orbax and TensorStore raise bare Exceptions
                log.warning(
                    "checkpoint %s is damaged (%s); the one before it is used.",
                    self.folder / str(step),
                    _in_short(error),
                )
                failed.append(step)
                continue
            # Only now: if none is whole, the next call must find them as they are.
            for damaged in failed:
                self._set_aside(damaged)
            return (step, *found)
        if steps:
            raise DamagedCheckpoint(
                f"none of the checkpoints {steps} in {self.folder} can be read; they "
                "stay as they are. If the file system failed for a moment, try again; "
                "otherwise give another --workdir to start afresh."
            )
        return None

    def _check_structure(self, step: int, templates: Mapping[str, Tree]) -> None:
        """Raises AnotherStructure if the saved arrays are not the templates'."""
        for item, template in templates.items():
            saved = {
                p: tuple(x.shape) for p, x in flat(self._saved(step, item)).items()
            }
            lines = leftovers(saved, {p: _shape(x) for p, x in flat(template).items()})
            if lines:
                raise AnotherStructure(
                    f"checkpoint {self.folder / str(step)} holds other arrays than "
                    "this run has (- saved, + this run):\n" + "\n".join(lines[:20])
                )

    def _saved(self, step: int, item: str) -> Tree:
        """Shapes and types of the arrays of an item."""
        with _quiet(), ocp.StandardCheckpointer() as reader:
            found = reader.metadata(self.folder / str(step) / item)
        if found is None or found.item_metadata is None:
            raise DamagedCheckpoint(f"{item} has no metadata of its arrays")
        return found.item_metadata.tree

    def newest(self, item: str, step: int | None = None) -> Tree:
        """One item of the newest checkpoint as numpy arrays, whatever its structure.

        Or of the one of a step. It may have been saved by any number of processes and
        devices. Random keys come as their raw data.

        Raises:
          ValueError: there is no finished checkpoint, or none of this step.
          DamagedCheckpoint: the arrays are not what was written.
        """
        step = self._found(step)
        with self._named(step):
            template = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(
                    x.shape, x.dtype, sharding=parallel.here()
                ),
                self._saved(step, item),
            )
            items, _ = self._read(step, {item: template})
        return jax.tree.map(_raw, items[item])

    def _found(self, step: int | None) -> int:
        """A step, the newest for None, of which there is a checkpoint."""
        steps = self.steps()
        if not steps:
            raise ValueError(f"{self.folder} holds no finished checkpoint.")
        if step is None:
            return steps[-1]
        if step not in steps:
            raise ValueError(
                f"{self.folder} holds no checkpoint of step {step}; there are those of "
                f"{', '.join(map(str, steps))}. A run keeps the newest `keep`, and "
                "every so many with `keep_every`."
            )
        return step

    def newest_facts(self) -> tuple[int, dict[str, Any]] | None:
        """Step and facts of the newest, or None; DamagedCheckpoint if unreadable."""
        steps = self.steps()
        if not steps:
            return None
        with self._named(steps[-1]):
            return steps[-1], self._read(steps[-1], {})[1]

    def readable_facts(self) -> tuple[int, dict[str, Any]] | None:
        """Step and facts of the newest whose facts can be read, or None."""
        for step in reversed(self.steps()):
            with contextlib.suppress(DamagedCheckpoint), self._named(step):
                return step, self._read(step, {})[1]
        return None

    @contextlib.contextmanager
    def _named(self, step: int) -> Iterator[None]:
        """Turns any error into one that names the checkpoint."""
        try:
            yield
        except Exception as error:  # as in `restore`
            raise DamagedCheckpoint(
                f"checkpoint {self.folder / str(step)} is damaged ({_in_short(error)})."
            ) from error

    def _read(
        self, step: int, templates: Mapping[str, Tree]
    ) -> tuple[dict[str, Tree], dict[str, Any]]:
        wanted: dict[str, Any] = {
            name: ocp.args.StandardRestore(tree)  # pyright: ignore[reportCallIssue] as above
            for name, tree in templates.items()
        }
        wanted["meta"] = ocp.args.JsonRestore()  # pyright: ignore[reportCallIssue] as above
        found = self._manager.restore(step, args=ocp.args.Composite(**wanted))
        items, meta = {name: found[name] for name in templates}, found["meta"]
        check_sums(items, meta["checksums"])
        return items, meta["facts"]

    def _set_aside(self, step: int) -> None:
        if self._reads_only:
            return
        if parallel.is_main():
            aside = self.folder / f"damaged-{step}"
            shutil.rmtree(aside, ignore_errors=True)  # from an earlier run
            (self.folder / str(step)).rename(aside)
        self._manager.reload()


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Orbax's protocol for which checkpoints stay; they come oldest first."""

    newest: int
    also: Callable[[int], bool]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Any:
        """One answer for each."""
        del context
        first = len(checkpoints) - self.newest
        return [i >= first or self.also(x.step) for i, x in enumerate(checkpoints)]


def folder_of(which: Which) -> str:
    """The folder of these checkpoints in a workdir."""
    if isinstance(which, str) and which not in ("newest", "best"):
        raise ValueError(f"which is {which!r}; write 'newest', 'best' or a step.")
    return BEST if which == "best" else STATES


def step_of(which: Which) -> int | None:
    """The step that is asked for; None where it is not by a step."""
    return which if isinstance(which, int) else None


def saved_steps(workdir: Path, which: Which = "newest") -> list[int]:
    """Steps of the finished checkpoints that are meant; no file is opened."""
    steps = sorted(map(int, _numbered(workdir / folder_of(which))))
    return [x for x in steps if step_of(which) in (None, x)]


def _numbered(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*") if path.name.isdigit()]


def read_variables(
    workdir: str | os.PathLike[str], which: Which = "newest"
) -> dict[str, np.ndarray]:
    """All variables of one of a run's checkpoints, by path, as numpy arrays.

    Paths start with `params`, `memory` or `frozen`. No checkpoint, or a damaged one,
    raises ValueError.
    """
    workdir = Path(workdir)
    arrays: dict[str, np.ndarray] = {}
    for folder, item in ((folder_of(which), VARIABLES), (FROZEN, FROZEN)):
        path = workdir / folder
        if folder == FROZEN and not path.is_dir():
            continue
        if folder == BEST and not path.is_dir() and (workdir / STATES).is_dir():
            raise ValueError(
                f"{workdir} holds no best checkpoint: its config has no `best`. Take "
                'its newest, or train it with best=node(Best, "<evaluator>/<number>").'
            )
        if not path.is_dir():
            raise ValueError(f"{workdir} holds no checkpoint to start from.")
        with Checkpoints(path) as checkpoints:
            step = None if folder == FROZEN else step_of(which)
            found = checkpoints.newest(item, step)
        arrays |= flat({FROZEN: found} if item == FROZEN else found)
    return arrays


def progress(workdir: Path) -> tuple[int, int | None]:
    """The last saved step of a run and its total number of steps.

    The second is None for a run from before this was stored. No checkpoint, or a
    damaged one, raises ValueError.
    """
    with Checkpoints(workdir / STATES) as checkpoints:
        found = checkpoints.newest_facts()
    if found is None:
        raise ValueError(f"{workdir} holds no finished checkpoint.")
    return found[0], found[1].get("total_steps")


def _is_not_orbax(record: logging.LogRecord) -> bool:
    """Threads of Orbax log each failure with its traceback, which is raised as well."""
    return "orbax" not in Path(record.pathname).parts


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences Orbax, which warns when it opens a folder only to read."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


# Arrays by path.


def flat(tree: Tree) -> dict[str, Any]:
    """Leaves by path, such as `params/encoder/stem/kernel`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): x for p, x in leaves}


def leftovers(
    given: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    *,
    given_at: str = "",
    wanted_at: str = "",
) -> list[str]:
    """Lines for shapes by path that differ: `  - path shape` given, `  +` wanted.

    `given_at` and `wanted_at` are written before the paths.
    """
    less = {f"  - {given_at}{p} {given[p]}" for p in given if p not in wanted}
    more = {f"  + {wanted_at}{p} {wanted[p]}" for p in wanted if p not in given}
    lines = [*sorted(less), *sorted(more)]
    for path in sorted(given.keys() & wanted.keys()):
        if given[path] != wanted[path]:
            lines.append(f"  - {given_at}{path} {given[path]}")
            lines.append(f"  + {wanted_at}{path} {wanted[path]}")
    return lines


def checksums(items: Tree) -> dict[str, int]:
    """CRC-32 of the bytes of every array, by path."""
    arrays = {path: np.ascontiguousarray(_raw(x)) for path, x in flat(items).items()}
    return {path: zlib.crc32(x.tobytes()) for path, x in arrays.items()}


def _in_short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else repr(error)


def _reason(error: BaseException) -> str:
    """What the system said, if that is known; else the first line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        told = re.search(
            r"(?:OS error |os_error_code=')(\d+)", str(cause)
        )  # TensorStore's words
        if told:
            return os.strerror(int(told[1]))
        cause = cause.__cause__ or cause.__context__
    return str(error).splitlines()[0][:200] if str(error) else repr(error)


def _shape(x: Any) -> tuple[int, ...]:
    """The shape under which an array, or the data of a random key, is stored."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.eval_shape(jax.random.key_data, x).shape
    return tuple(x.shape)


def _raw(x: Any) -> np.ndarray:
    """A replicated array, or the data of a random key, on the host."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return parallel.fetch(x)


def check_sums(items: Mapping[str, Tree], written: Mapping[str, int]) -> None:
    """Raises DamagedCheckpoint, naming the arrays that changed."""
    found = checksums(items)
    changed = [path for path, crc in found.items() if written.get(path) != crc]
    if changed:
        raise DamagedCheckpoint(f"checksum of {', '.join(changed[:3])} does not agree")
