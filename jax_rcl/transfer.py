"""Starting from weights that are there already: rules of `Experiment.init_from`."""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jax_rcl.checkpoint import Which, flat, leftovers, progress, read_variables
from jax_rcl.core import Variables
from jax_rcl.weights import files, moco, torchvision, uniformity
from jax_rcl.weights.rules import flatten, unflatten

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restore:
    """Takes variables from a checkpoint of another run; a rule of `init_from`.

    A run that has not come to its end may be started from as well; a warning says so.

    Attributes:
      workdir: of the other run.
      paths: for each prefix of this run's variables, the prefix of the other's that
        fills it, such as {"params/encoder": "params/encoder"}. Every array below the
        one must have its counterpart, of the same shape, below the other.
      which: the newest checkpoint, or the one of the best state of a run that keeps it.
    """

    workdir: str
    paths: Mapping[str, str]
    which: Which = "newest"

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what `paths` names.

        Raises:
          ValueError: a prefix that matches nothing on one of the two sides, an array
            without counterpart, or another shape.
        """
        theirs = read_variables(Path(self.workdir), self.which)
        made, planned = progress(Path(self.workdir))
        if planned is not None and made < planned:
            logger.warning(
                "Restore: the run of %s is unfinished: it was saved at step %d of %d.",
                self.workdir,
                made,
                planned,
            )
        own = flat(variables)
        filled: dict[str, np.ndarray] = {}
        for target, source in self.paths.items():
            wanted, given = _below(own, target), _below(theirs, source)
            if not wanted and not given and _holds_statistics(target):
                continue  # of a network that has none
            for prefix, arrays, where in (
                (target, own, "this run"),
                (source, theirs, self.workdir),
            ):
                if not _below(arrays, prefix):
                    raise ValueError(
                        f"Restore: nothing below '{prefix}' in {where}; there are: "
                        f"{', '.join(_tops(arrays))}."
                    )
            self._compare(wanted, given, target, source)
            filled |= {f"{target}{rest}": array for rest, array in given.items()}
        return replace_leaves(variables, filled)

    def _compare(
        self, wanted: Mapping[str, Any], given: Mapping[str, Any], own: str, source: str
    ) -> None:
        """Raises ValueError with both sides, where they differ, and what to write."""
        lines = leftovers(
            {path: tuple(x.shape) for path, x in given.items()},
            {path: tuple(x.shape) for path, x in wanted.items()},
            given_at=source,
            wanted_at=own,
        )
        if lines:
            raise ValueError(
                "Restore: the two runs do not hold the same arrays "
                "(- the other run, + this one):\n"
                + "\n".join(_first_of_both(lines))
                + f"\n{_trained(Path(self.workdir), source)}"
                "Give this run the network of the other one, or start it from a run of "
                "its own."
            )


@dataclasses.dataclass(frozen=True)
class ImportResNet:
    """Takes a ResNet's weights from a file in torchvision's names.

    Also from a checkpoint of a training script around such a network, with the names
    below `state_dict` and `module.` before each, as the linear probes of MoCo's authors
    are; their classifier has 1000 outputs whatever the data.

    Attributes:
      file: `.npz`, `.safetensors`, or with the extra `torch` `.pt`, `.pth`, `.pth.tar`.
      params: prefix of this run's variables that the parameters fill.
      batch_stats: prefix that the batch statistics fill; for a frozen encoder
        `frozen/encoder/params` and `frozen/encoder/batch_stats`.
      head: prefix that the classifier (`fc`) fills, a `Linear`, such as `params/head`;
        None leaves it out.
    """

    file: str
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"
    head: str | None = None

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what is below the prefixes.

        Raises:
          ValueError: nothing is below a prefix, or the file holds another network; the
            message lists what is left over on both sides.
        """
        places = {"params": self.params, "batch_stats": self.batch_stats}
        if self.head is not None:
            places["head"] = self.head
        return _imported(self, variables, places, torchvision.to_variables)


@dataclasses.dataclass(frozen=True)
class ImportMoCo:
    """Takes a query encoder, or a whole run, from a checkpoint of MoCo's authors.

    The files of https://github.com/facebookresearch/moco and its forks, released or
    written by one's own runs of them (`checkpoint_0199.pth.tar`), v1 and v2. Of what is
    not asked for nothing is read; the optimizer's state never is.

    Attributes:
      file: `.pth.tar`, `.pth` or `.pt` with the extra `torch`, or its `state_dict` as
        `.npz` or `.safetensors`.
      parts: `encoder`, for a probe or fine-tuning; `encoder and projector`; or
        `everything`, to train on as MoCo: the key encoder with its projector, the queue
        and its cursor, too; then set `MoCo.slow_starts` to "as given", or the key
        encoder starts as a copy of the query encoder. The projector is a `Linear(d)` or
        `Mlp((f, d))`.
      params: prefix of this run's variables that the query encoder's parameters fill.
      batch_stats: prefix that its batch statistics fill; for a frozen encoder
        `frozen/encoder/params` and `frozen/encoder/batch_stats`.
    """

    file: str
    parts: Literal["encoder", "encoder and projector", "everything"] = "encoder"
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what the parts are, and nothing else.

        Raises:
          ValueError: this run has no such part, or another network, head or length of
            the queue than the file; the message lists what is left over on both sides.
        """
        places = {
            "encoder/params": self.params,
            "encoder/batch_stats": self.batch_stats,
        }
        if self.parts != "encoder":
            places["projector/params"] = "params/projector"
        if self.parts == "everything":
            places |= {part: f"memory/{part}" for part in ("slow", "queue", "cursor")}
        return _imported(self, variables, places, moco.to_variables)


@dataclasses.dataclass(frozen=True)
class ImportUniformity:
    """Takes an encoder, or a whole run, from decoupled uniformity's authors.

    The files of https://github.com/Duplums/contrastive-decoupled-uniformity
    (`checkpoint_0399.pth.tar`), with or without prior. Of what is not asked for nothing
    is read; the optimizer's state never is.

    A frozen probe of all that evaluation keeps, a `Classify` whose encoder is
    `Headed(ResNet(50), Linear(2048))`, is filled with parts="encoder and fc",
    params="frozen/encoder/params/encoder", fc="frozen/encoder/params/head" and
    batch_stats="frozen/encoder/batch_stats/encoder"; one of the pooled features, whose
    encoder is the `ResNet`, with parts="encoder", params="frozen/encoder/params" and
    batch_stats="frozen/encoder/batch_stats".

    Attributes:
      file: `.pth.tar`, `.pth` or `.pt` with the extra `torch`, or its `state_dict` as
        `.npz` or `.safetensors`.
      parts: `encoder`; `encoder and fc`, the layer of 2048 features after it, too;
        `everything`, to train on as `Uniformity`: also the projector, a
        `Mlp((2048, 256), first="relu")`; or `encoder and projector`, all that files of
        before 23 May 2023 have, whose projector reads the pooled features.
      params: prefix of this run's variables that the encoder's parameters fill.
      batch_stats: prefix that its batch statistics fill.
      fc: prefix that the parameters of the layer after it fill, a `Linear`.
    """

    file: str
    parts: Literal[
        "encoder", "encoder and fc", "encoder and projector", "everything"
    ] = "everything"
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"
    fc: str = "params/fc"

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what the parts are, and nothing else.

        Raises:
          ValueError: this run or the file has no such part, or they are of another
            network; the message lists what is left over on both sides.
        """
        places = {
            "encoder/params": self.params,
            "encoder/batch_stats": self.batch_stats,
        }
        if self.parts in ("encoder and fc", "everything"):
            places["fc/params"] = self.fc
        if self.parts in ("encoder and projector", "everything"):
            places["projector/params"] = "params/projector"
        return _imported(self, variables, places, uniformity.to_variables)


Importer = Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], dict[str, Any]]
"""(arrays of a file, shapes in a tree) to arrays in the same tree."""


def _imported(
    rule: ImportResNet | ImportMoCo | ImportUniformity,
    variables: Variables,
    places: Mapping[str, str],
    to_variables: Importer,
) -> Variables:
    """`variables` with a file's arrays; `places` maps the importer's paths to ours."""
    own = flat(variables)
    shapes, target_of = {}, {}
    for place, prefix in places.items():
        below = _below(own, prefix)
        if not below:
            raise ValueError(
                f"{type(rule).__name__}: nothing below '{prefix}' in this run; there "
                f"are: {', '.join(_tops(own))}."
            )
        shapes |= {f"{place}{rest}": leaf for rest, leaf in below.items()}
        target_of |= {f"{place}{rest}": f"{prefix}{rest}" for rest in below}
    found = flatten(to_variables(files.read(rule.file), unflatten(shapes)))
    return replace_leaves(variables, {target_of[path]: x for path, x in found.items()})


def replace_leaves(variables: Variables, arrays: Mapping[str, Any]) -> Variables:
    """`variables` with `arrays`, by path, in the place of some leaves."""

    def one(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return arrays.get(name, leaf)

    return jax.tree_util.tree_map_with_path(one, variables)


def _below(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        path.removeprefix(prefix): array
        for path, array in arrays.items()
        if path == prefix or path.startswith(prefix + "/")
    }


def _holds_statistics(path: str) -> bool:
    """Whether batch statistics are kept below a path; parameters must be there."""
    return path.startswith("memory/") or "batch_stats" in path.split("/")


def _tops(arrays: Mapping[str, Any]) -> list[str]:
    return sorted({"/".join(path.split("/")[:2]) for path in arrays})


def _first_of_both(lines: list[str], most: int = 20) -> list[str]:
    """Lines of `leftovers`: all of them, or if they are many the first of each side."""
    if len(lines) <= 2 * most:
        return lines
    shown: list[str] = []
    for sign in "-+":
        side = [line for line in lines if line.startswith(f"  {sign} ")]
        more = len(side) - most
        shown += side[:most] + ([f"  {sign} … {more} more"] if more > 0 else [])
    return shown


def _trained(workdir: Path, source: str) -> str:
    """What the other run trained there, as its config says; empty if it does not."""
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
