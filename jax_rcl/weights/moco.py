"""Checkpoints of MoCo as its authors' code writes them, into our variables and back.

The code is https://github.com/facebookresearch/moco; forks of it keep the names.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_rcl.weights import rules
from jax_rcl.weights.torchvision import RESNET

_CURSOR = rules.Layout(
    "[1] to a scalar",
    lambda x, _: (x.reshape(()),),
    lambda parts: parts[0].reshape(1).astype(np.int64),
)


def _rules(is_mlp: bool) -> tuple[rules.Rule, ...]:
    """Names of a checkpoint there and here; heads are those of MoCo v2, or of v1."""
    head = rules.linear_rules("fc.2" if is_mlp else "fc", "params/out")
    head += rules.linear_rules("fc.0", "params/hidden1") if is_mlp else ()
    return (
        *rules.below("encoder_q", "encoder", RESNET),
        *rules.below("encoder_q", "projector", head),
        *rules.below("encoder_k", "slow/encoder", RESNET),
        *rules.below("encoder_k", "slow/projector", head),
        rules.Rule("queue", "queue", rules.LINEAR),
        rules.Rule("queue_ptr", "cursor", _CURSOR),
    )


_NAMES = {
    "projector": ("encoder_q.fc.*",),
    "slow": ("encoder_k.*",),
    "queue": ("queue",),
    "cursor": ("queue_ptr",),
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

    Parts that are not asked for are left out. What
    precedes the names, such as `module.`, is found.
    Released weights expect images normalised as torchvision's (see
    `torchvision.to_variables`).
    """
    state = rules.without_prefix(state, ("encoder_q.conv1.weight",))
    rules.require(
        state,
        ("encoder_q.",),
        "MoCo's query encoder",
        "The weights of a plain ResNet, or of a linear probe, are read by "
        "`ImportResNet`.",
    )
    is_mlp = any(
        name.startswith(("encoder_q.fc.0.", "encoder_k.fc.0.")) for name in state
    )
    return rules.import_arrays(state, _rules(is_mlp), shapes, parts=_NAMES)


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`, bit for bit, with `module.` before each name.

    Saved by PyTorch as `{"state_dict": …}` with tensors, it is what the authors' linear
    evaluation takes. Any of the parts may be absent.
    """
    heads = (variables, variables.get("slow", {}))
    is_mlp = any("hidden1" in x.get("projector", {}).get("params", {}) for x in heads)
    return rules.export_arrays(variables, _rules(is_mlp), rules.PREFIX)
