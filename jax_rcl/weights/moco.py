"""Checkpoints of MoCo as its authors' code writes them, into our variables and back.

The code is https://github.com/facebookresearch/moco; forks of it keep the names.
"""

import fnmatch
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_rcl.weights.rules import (
    PREFIX,
    Layout,
    Rule,
    WeightsMismatch,
    below,
    export_arrays,
    flatten,
    head_rules,
    import_arrays,
    without_prefix,
)
from jax_rcl.weights.torchvision import RESNET

_QUEUE = Layout("[d, q] to [q, d]", lambda x, _: (x.T,), lambda parts: parts[0].T)
_CURSOR = Layout(
    "[1] to a scalar",
    lambda x, _: (x.reshape(()),),
    lambda parts: parts[0].reshape(1).astype(np.int64),
)


_LINEAR_HEAD = head_rules(out="fc")  # MoCo v1
_MLP_HEAD = head_rules(hidden1="fc.0", out="fc.2")  # MoCo v2


def _rules(head: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Names of a checkpoint there and here; its two heads are of one kind."""
    return (
        *below("encoder_q", "encoder", RESNET),
        *below("encoder_q", "projector", head),
        *below("encoder_k", "slow/encoder", RESNET),
        *below("encoder_k", "slow/projector", head),
        Rule("queue", "queue", _QUEUE),
        Rule("queue_ptr", "cursor", _CURSOR),
    )


# Which names are left out where a part is not asked for.
_NAMES = {
    "projector": "encoder_q.fc.*",
    "slow": "encoder_k.*",
    "queue": "queue",
    "cursor": "queue_ptr",
}


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Parts of a MoCo run from the `state_dict` of a checkpoint.

    The parts are

    - `encoder`: `params` and `batch_stats` of the query encoder, a `ResNet`;
    - `projector`: `params` of its head, a `Linear` (v1) or an `Mlp` of two layers (v2);
    - `slow`: both again, of the key encoder, at `slow/encoder` and `slow/projector`;
    - `queue` [q, d], one key a row, and `cursor`, the place of the oldest key.

    The encoder is always asked for. Names of parts that are not asked for are left out,
    and so are counts of batches; everything else is used exactly once. Released weights
    expect images normalised as torchvision's (see `torchvision.to_variables`).

    Args:
      state: arrays by the authors' names, with or without `module.` in front.
      shapes: parts with arrays, or what has their shapes and types, as leaves.

    Raises:
      WeightsMismatch: if there is no query encoder in it, or if the two do not fit; the
        message lists what is left over.
    """
    state = without_prefix(state)
    if not fnmatch.filter(state, "encoder_q.*"):
        raise WeightsMismatch(
            f"no name begins with {PREFIX}encoder_q, as those of MoCo's query encoder "
            f"do; the first is {next(iter(state), 'none')!r}. The weights of a plain "
            f"ResNet, or of a linear probe, are read by `ImportResNet`."
        )
    left_out = [name for part, name in _NAMES.items() if part not in shapes]
    head = _MLP_HEAD if fnmatch.filter(state, "encoder_?.fc.?.*") else _LINEAR_HEAD
    return import_arrays(state, _rules(head), shapes, left_out=left_out)


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`, bit for bit, with `module.` before each name.

    Saved by PyTorch as `{"state_dict": …}` with tensors, it is what the authors' linear
    evaluation takes. Any of the parts may be absent.

    Raises:
      WeightsMismatch: if a ResNet, such a head or a queue has no such array.
    """
    flat = flatten(variables)
    hidden = fnmatch.filter(flat, "*projector/params/hidden1/*")
    head = _MLP_HEAD if hidden else _LINEAR_HEAD
    return export_arrays(variables, _rules(head), PREFIX)
