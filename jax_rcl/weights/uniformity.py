"""Checkpoints of decoupled uniformity as its authors' code writes them, and back.

The code is https://github.com/Duplums/contrastive-decoupled-uniformity.
"""

import fnmatch
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_rcl.weights.rules import (
    WeightsMismatch,
    below,
    flatten,
    head_rules,
    rename,
    rename_back,
    unflatten,
)
from jax_rcl.weights.torchvision import PREFIX, RESNET

_ENCODER = below("encoder", "encoder", RESNET)
_NOW = (
    *_ENCODER,
    *below("encoder", "fc", head_rules(out="fc")),
    *below("head", "projector", head_rules(hidden1="1", out="3")),
)
# Until 23 May 2023 the projector was the encoder's `fc`, without the layer before it.
_BEFORE = (
    *_ENCODER,
    *below("encoder.fc", "projector", head_rules(hidden1="1", out="3")),
)

# Which names are left out where a part is not asked for.
_NAMES_NOW = {"fc": "encoder.fc.*", "projector": "head.*"}
_NAMES_BEFORE = {"projector": "encoder.fc.*"}


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Parts of a run of decoupled uniformity from the `state_dict` of a checkpoint.

    The parts are

    - `encoder`: `params` and `batch_stats` of a `ResNet`;
    - `fc`: `params` of the layer after it, a `Linear`, which evaluation keeps;
    - `projector`: `params` of the head, an `Mlp` of two layers with first="relu".

    Code of before 23 May 2023 had no `fc`: its projector reads the pooled features.
    Names of parts that are not asked for are left out, and `num_batches_tracked` is;
    everything else is used exactly once.

    Args:
      state: arrays by the authors' names, with or without `module.` in front.
      shapes: parts with arrays, or what has their shapes and types, as leaves.

    Returns:
      The same parts, in the shapes and types asked for.

    Raises:
      WeightsMismatch: if there is no encoder in it; if `fc` is asked for and is not
        there; if the projector is asked for without the `fc` that is there; or if the
        two do not fit: the message lists what is left over.
    """
    state = {name.removeprefix(PREFIX): array for name, array in state.items()}
    if not fnmatch.filter(state, "encoder.*"):
        raise WeightsMismatch(
            f"no name begins with {PREFIX}encoder, as those of decoupled uniformity's "
            f"checkpoints do; the first is {next(iter(state), 'none')!r}. The weights "
            f"of a plain ResNet are read by `ImportResNet`, those of MoCo by "
            f"`ImportMoCo`."
        )
    has_fc = "encoder.fc.weight" in state
    _check_fc(has_fc, shapes)
    left_out = _NAMES_NOW if has_fc else _NAMES_BEFORE
    ignore = [
        pattern
        for pattern in (
            *(names for part, names in left_out.items() if part not in shapes),
            "*.num_batches_tracked",
        )
        if fnmatch.filter(state, pattern)
    ]
    wanted = flatten(shapes)
    found = rename(
        state,
        _NOW if has_fc else _BEFORE,
        {path: x.shape for path, x in wanted.items()},
        ignore=ignore,
    )
    return unflatten({path: found[path].astype(x.dtype) for path, x in wanted.items()})


def _check_fc(has_fc: bool, shapes: Mapping[str, Any]) -> None:
    """Makes sure that the layer after the encoder is there if, and only if, wanted."""
    if "fc" in shapes and not has_fc:
        raise WeightsMismatch(
            f"no name is {PREFIX}encoder.fc.weight: the file has no layer `fc` between "
            f"encoder and projector, as files of the authors' code of before 23 May "
            f"2023. Import without it (parts='encoder', or 'encoder and projector' for "
            f"a run without `fc`)."
        )
    if "projector" in shapes and "fc" not in shapes and has_fc:
        raise WeightsMismatch(
            f"the projector of this file reads what {PREFIX}encoder.fc gives, not the "
            f"pooled features; import `fc`, too (parts='everything')."
        )


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A `state_dict` in the authors' names, `module.` in front, from parts of a run.

    The inverse of `to_variables`, bit for bit. Saved by PyTorch as `{"state_dict": …}`
    with tensors, it is what the authors' linear evaluation takes. A projector without
    `fc` gets the names of before 23 May 2023.

    Args:
      variables: any of the parts that `to_variables` names.

    Raises:
      WeightsMismatch: if some array is none of a ResNet, of such a layer or head.
    """
    flat = {path: np.asarray(x) for path, x in flatten(variables).items()}
    before = "projector" in variables and "fc" not in variables
    named = rename_back(flat, _BEFORE if before else _NOW)
    return {f"{PREFIX}{name}": np.ascontiguousarray(x) for name, x in named.items()}
