"""Checkpoints of decoupled uniformity as its authors' code writes them, and back.

The code is https://github.com/Duplums/contrastive-decoupled-uniformity.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_rcl.weights import rules
from jax_rcl.weights.torchvision import RESNET

_ENCODER = rules.below("encoder", "encoder", RESNET)
_NOW = (
    *_ENCODER,
    *rules.linear_rules("encoder.fc", "fc/params/out"),
    *rules.linear_rules("head.1", "projector/params/hidden1"),
    *rules.linear_rules("head.3", "projector/params/out"),
)
# Until 23 May 2023 the projector was the encoder's `fc`, without the layer before it.
_BEFORE = (
    *_ENCODER,
    *rules.linear_rules("encoder.fc.1", "projector/params/hidden1"),
    *rules.linear_rules("encoder.fc.3", "projector/params/out"),
)

_NAMES_NOW = {"fc": ("encoder.fc.*",), "projector": ("head.*",)}
_NAMES_BEFORE = {"projector": ("encoder.fc.*",)}


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Parts of a run of decoupled uniformity from the `state_dict` of a checkpoint.

    The parts are

    - `encoder`: `params` and `batch_stats` of a `ResNet`;
    - `fc`: `params` of the layer after it, a `Linear`, which evaluation keeps;
    - `projector`: `params` of the head, an `Mlp` of two layers with first="relu".

    Code of before 23 May 2023 had no `fc`: its projector reads the pooled features.
    Parts that are not asked for are left out. `module.` before names is optional.

    Raises:
      WeightsMismatch: also if `fc` is asked for and is not there, or the projector
        without the `fc` that is there.
    """
    state = rules.without_prefix(state, ("encoder.conv1.weight",))
    rules.require(
        state,
        ("encoder.",),
        "decoupled uniformity's checkpoints",
        "The weights of a plain ResNet are read by `ImportResNet`, those of MoCo by "
        "`ImportMoCo`.",
    )
    has_fc = "encoder.fc.weight" in state
    if "fc" in shapes and not has_fc:
        raise rules.WeightsMismatch(
            "no name is module.encoder.fc.weight: the file has no layer `fc` between "
            "encoder and projector, as files of the authors' code of before 23 May "
            "2023. Import without it (parts='encoder', or 'encoder and projector' for "
            "a run without `fc`)."
        )
    if "projector" in shapes and "fc" not in shapes and has_fc:
        raise rules.WeightsMismatch(
            "the projector of this file reads what module.encoder.fc gives, not the "
            "pooled features; import `fc`, too (parts='everything')."
        )
    table, parts = (_NOW, _NAMES_NOW) if has_fc else (_BEFORE, _NAMES_BEFORE)
    return rules.import_arrays(state, table, shapes, parts=parts)


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`, bit for bit, with `module.` before each name.

    Saved by PyTorch as `{"state_dict": …}` with tensors, it is what the authors' linear
    evaluation takes. A projector without `fc` gets the names of before 23 May 2023.
    """
    before = "projector" in variables and "fc" not in variables
    return rules.export_arrays(variables, _BEFORE if before else _NOW, rules.PREFIX)
