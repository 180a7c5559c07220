"""Starting from another run: a rule of `Experiment.init_from`."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jax_rcl.checkpoint import Which, flat, leftovers, progress, read_variables
from jax_rcl.core import Variables
from jax_rcl.ranges import ranged

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
@ranged
class Restore:
    """Takes variables from a checkpoint of another run; a rule of `init_from`.

    The other run may be unfinished; a warning says so.

    Attributes:
      paths: for each prefix of this run's variables, the prefix of the other's that
        fills it, such as {"params/encoder": "params/encoder"}. Every array below the
        one must have its counterpart, of the same shape, below the other. A network
        that the other run kept frozen, as a probe does, is found by the same name.
      which: the newest checkpoint; the best state, of a run that keeps it; or a step,
        of which there is a checkpoint.
    """

    workdir: str
    paths: Mapping[str, str]
    which: Which = "newest"

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what `paths` names; ValueError if the two runs do not fit."""
        theirs = read_variables(Path(self.workdir), self.which)
        made, planned = progress(Path(self.workdir))
        chosen = isinstance(self.which, int)  # who names a step knows
        if not chosen and planned is not None and made < planned:
            logger.warning(
                "Restore: the run of %s is unfinished: it was saved at step %d of %d.",
                self.workdir,
                made,
                planned,
            )
        own = flat(variables)
        filled: dict[str, np.ndarray] = {}
        for target, source in self.paths.items():
            wanted = below(own, target)
            given = below(theirs, source) or below(theirs, _if_frozen(source))
            if not wanted and not given and _holds_statistics(target):
                continue  # the network has none
            if not wanted:
                raise nothing_below(target, own, "Restore")
            if not given:
                raise nothing_below(source, theirs, "Restore", self.workdir)
            lines = leftovers(
                {path: tuple(x.shape) for path, x in given.items()},
                {path: tuple(x.shape) for path, x in wanted.items()},
                given_at=source,
                wanted_at=target,
            )
            if lines:
                raise ValueError(
                    "Restore: the two runs do not hold the same arrays "
                    "(- the other run, + this one):\n"
                    + "\n".join(_first_of_both(lines))
                    + f"\n{_trained(Path(self.workdir), source)}"
                    "Give this run the network of the other one, or start it from a "
                    "run of its own."
                )
            filled |= {f"{target}{rest}": array for rest, array in given.items()}
        return replace_leaves(variables, filled)


def replace_leaves(variables: Variables, arrays: Mapping[str, Any]) -> Variables:
    """`variables` with some leaves replaced by `arrays`, by path."""

    def one(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return arrays.get(name, leaf)

    return jax.tree_util.tree_map_with_path(one, variables)


def below(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Arrays at or below a prefix, by what follows it: "" or "/stem/kernel"."""
    return {
        path.removeprefix(prefix): array
        for path, array in arrays.items()
        if path == prefix or path.startswith(prefix + "/")
    }


def _if_frozen(path: str) -> str:
    """Where a run that keeps a network frozen has what others have at `path`."""
    kind, _, rest = path.partition("/")
    name, _, inner = rest.partition("/")
    arrays = {"params": "params", "memory": "batch_stats"}.get(kind, kind)
    return f"frozen/{name}/{arrays}/{inner}".rstrip("/")


def _holds_statistics(path: str) -> bool:
    """Whether batch statistics are kept below a path; parameters must be there."""
    return path.startswith("memory/") or "batch_stats" in path.split("/")


def nothing_below(
    prefix: str, arrays: Mapping[str, Any], rule: str, where: str = "this run"
) -> ValueError:
    """The error for a prefix that no array of a run has."""
    tops = sorted({"/".join(path.split("/")[:2]) for path in arrays})
    return ValueError(
        f"{rule}: nothing below '{prefix}' in {where}; there are: {', '.join(tops)}."
    )


def _first_of_both(lines: list[str], most: int = 20) -> list[str]:
    """Lines of `leftovers`: all of them, or if they are many the first of each side."""
    if len(lines) <= 2 * most:
        return lines
    kept: list[str] = []
    for sign in "-+":
        side = [line for line in lines if line.startswith(f"  {sign} ")]
        more = len(side) - most
        kept += side[:most] + ([f"  {sign} … {more} more"] if more > 0 else [])
    return kept


def _trained(workdir: Path, source: str) -> str:
    """The other run's part of that name, from its config; "" if it does not say."""
    try:
        objective = json.loads((workdir / "config.json").read_text())["objective"]
        name = next(part for part in source.split("/") if part in objective)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return ""
    return f"The other run's {name} is {_written(objective[name])}. "


def _written(value: Any) -> str:
    """A part of a config as a program would write it."""
    if isinstance(value, list):
        return f"({', '.join(map(_written, value))})"
    if not isinstance(value, dict) or "class" not in value:
        return repr(value)
    fields = [f"{k}={_written(x)}" for k, x in value.items() if k != "class"]
    return f"{value['class'].rpartition(':')[2]}({', '.join(fields)})"
