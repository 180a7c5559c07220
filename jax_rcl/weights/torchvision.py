"""Weights of torchvision's ResNets, into `networks/resnet.py` and back, exactly."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_rcl.weights.rules import (
    CONV,
    LINEAR,
    SAME,
    Rule,
    flatten,
    rename,
    rename_back,
    unflatten,
)

PREFIX = "module."
"""What PyTorch's data parallelism puts before every name."""

_NORM = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}


def norm_rules(source: str, target: str) -> tuple[Rule, ...]:
    """Rules of one batch normalisation: parameters and running statistics."""
    return tuple(
        Rule(f"{source}.{leaf}", path.replace("{}", target), SAME)
        for leaf, path in _NORM.items()
    )


_SOURCE, _TARGET = "layer{stage}.{block}.", "stage{stage}_block{block+1}/"

RESNET = (
    Rule("conv1.weight", "params/stem/kernel", CONV),
    *norm_rules("bn1", "stem_norm"),
    Rule(f"{_SOURCE}conv{{k}}.weight", f"params/{_TARGET}conv{{k}}/kernel", CONV),
    *norm_rules(f"{_SOURCE}bn{{k}}", f"{_TARGET}norm{{k}}"),
    Rule(
        f"{_SOURCE}downsample.0.weight", f"params/{_TARGET}downsample_conv/kernel", CONV
    ),
    *norm_rules(f"{_SOURCE}downsample.1", f"{_TARGET}downsample_norm"),
)
"""Names of a ResNet there and here."""

HEAD = (
    Rule("fc.weight", "head/out/kernel", LINEAR),
    Rule("fc.bias", "head/out/bias", SAME),
)
"""Names of the classifier there, and of a `Linear` here."""


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Variables of a `ResNet` from a state dict of torchvision's.

    The classifier (`fc`) is left out unless it is asked for, and so is
    `num_batches_tracked`, a count that nothing reads; everything else is used exactly
    once. torchvision's weights for ImageNet expect images normalised by mean
    (0.485, 0.456, 0.406) and standard deviation (0.229, 0.224, 0.225): put the network
    into `Normalized`, which keeps the names.

    Args:
      state: arrays by torchvision's names, as `files.read` gives them, with or without
        the `module.` that PyTorch's data parallelism puts in front.
      shapes: `params` and `batch_stats` as `jax.eval_shape` of the network's `init`
        gives them, or any arrays of these shapes and types; for the classifier, too,
        `head` with the parameters of a `Linear`.

    Returns:
      `{"params": ..., "batch_stats": ...}`, and `head` if asked for, in the shapes and
      types asked for.

    Raises:
      WeightsMismatch: if the two do not fit; the message lists what is left over.
    """
    state = {name.removeprefix(PREFIX): array for name, array in state.items()}
    left_out = ("*.num_batches_tracked", *(() if "head" in shapes else ("fc.*",)))
    ignore = [pattern for pattern in left_out if fnmatch.filter(state, pattern)]
    wanted = flatten(shapes)
    filled = rename(
        state,
        (*RESNET, *HEAD),
        {path: x.shape for path, x in wanted.items()},
        ignore=ignore,
    )
    return unflatten({path: filled[path].astype(x.dtype) for path, x in wanted.items()})


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict in torchvision's names from variables of a `ResNet`.

    The inverse of `to_variables`, bit for bit. Without `head` there is no `fc`;
    PyTorch's `load_state_dict` takes that with `strict=False`.

    Args:
      variables: `params` and `batch_stats` of a network with batch normalisation, and
        `head` if there is one.

    Raises:
      WeightsMismatch: if some array is none of a ResNet's.
    """
    flat = {path: np.asarray(x) for path, x in flatten(variables).items()}
    named = rename_back(flat, (*RESNET, *HEAD))
    return {name: np.ascontiguousarray(x) for name, x in named.items()}
