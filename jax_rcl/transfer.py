"""Starting from weights that are there already: rules of `Experiment.init_from`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jax_rcl.checkpoint import flat, leftovers, read_variables
from jax_rcl.core import Tree, Variables
from jax_rcl.weights import files, torchvision
from jax_rcl.weights.rules import unflatten


@dataclasses.dataclass(frozen=True)
class Restore:
    """Takes variables from the newest checkpoint of another run; a rule of `init_from`.

    Attributes:
      workdir: of the other run.
      paths: for each prefix of this run's variables, the prefix of the other's that
        fills it, such as {"params/encoder": "params/encoder"}. Every array below the
        one must have its counterpart, of the same shape, below the other.
    """

    workdir: str
    paths: Mapping[str, str]

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what `paths` names.

        Raises:
          ValueError: a prefix that matches nothing on one of the two sides, an array
            without counterpart, or another shape.
        """
        theirs = read_variables(Path(self.workdir))
        own, empty = flat(variables), _empty(variables)
        filled: dict[str, np.ndarray] = {}
        for target, source in self.paths.items():
            wanted, given = _below(own, target), _below(theirs, source)
            if not wanted and not given and _below(empty, target):
                continue  # such as the statistics of a network that has none
            for prefix, arrays, where in (
                (target, own, "this run"),
                (source, theirs, self.workdir),
            ):
                if not _below(arrays, prefix):
                    raise ValueError(
                        f"Restore: nothing below '{prefix}' in {where}; there are: "
                        f"{', '.join(_tops(arrays))}."
                    )
            _compare(wanted, given, target, source)
            filled |= {f"{target}{rest}": array for rest, array in given.items()}
        return replace_leaves(variables, filled)


@dataclasses.dataclass(frozen=True)
class ImportResNet:
    """Takes a ResNet's weights from a file in torchvision's names.

    Attributes:
      file: `.npz`, `.safetensors`, or with the extra `torch` `.pt` or `.pth`.
      params: prefix of this run's variables that the parameters fill.
      batch_stats: prefix that the batch statistics fill; for a frozen encoder
        `frozen/encoder/params` and `frozen/encoder/batch_stats`.
    """

    file: str
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"

    def __call__(self, variables: Variables) -> Variables:
        """Replaces what is below the two prefixes.

        Raises:
          ValueError: nothing is below a prefix, or the file holds another network; the
            message lists what is left over on both sides.
        """
        own = flat(variables)
        prefixes = {"params": self.params, "batch_stats": self.batch_stats}
        shapes = {}
        for collection, prefix in prefixes.items():
            below = _below(own, prefix)
            if not below:
                raise ValueError(
                    f"ImportResNet: nothing below '{prefix}' in this run; there are: "
                    f"{', '.join(_tops(own))}."
                )
            shapes[collection] = unflatten({p.lstrip("/"): x for p, x in below.items()})
        found = torchvision.to_variables(files.read(self.file), shapes)
        filled = {
            f"{prefixes[collection]}/{path}": array
            for collection, tree in found.items()
            for path, array in flat(tree).items()
        }
        return replace_leaves(variables, filled)


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


def _empty(tree: Tree) -> dict[str, Any]:
    """Dicts without a leaf, by path."""

    def is_empty(node: Any) -> bool:
        return isinstance(node, Mapping) and not node

    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_empty)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in leaves
        if is_empty(leaf)
    }


def _tops(arrays: Mapping[str, Any]) -> list[str]:
    return sorted({"/".join(path.split("/")[:2]) for path in arrays})


def _compare(
    wanted: Mapping[str, Any], given: Mapping[str, Any], target: str, source: str
) -> None:
    lines = leftovers(
        {path: tuple(x.shape) for path, x in given.items()},
        {path: tuple(x.shape) for path, x in wanted.items()},
        given_at=source,
        wanted_at=target,
    )
    if lines:
        raise ValueError(
            "Restore: the two runs do not hold the same arrays "
            "(- the other run, + this one):\n" + "\n".join(lines)
        )
