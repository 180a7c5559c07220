"""Weights of torchvision's ResNets, into `networks/resnet.py` and back, exactly."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jax_rcl.weights import rules

_NORM = {
    "weight": "params/{}/scale",
    "bias": "params/{}/bias",
    "running_mean": "batch_stats/{}/mean",
    "running_var": "batch_stats/{}/var",
}


def norm_rules(source: str, target: str) -> tuple[rules.Rule, ...]:
    """Rules of one batch normalisation: parameters and running statistics."""
    return tuple(
        rules.Rule(f"{source}.{leaf}", path.replace("{}", target))
        for leaf, path in _NORM.items()
    )


_SOURCE, _TARGET = "layer{stage}.{block}.", "stage{stage}_block{block+1}/"

RESNET = (
    rules.Rule("conv1.weight", "params/stem/kernel", rules.CONV),
    *norm_rules("bn1", "stem_norm"),
    rules.Rule(
        f"{_SOURCE}conv{{k}}.weight", f"params/{_TARGET}conv{{k}}/kernel", rules.CONV
    ),
    *norm_rules(f"{_SOURCE}bn{{k}}", f"{_TARGET}norm{{k}}"),
    rules.Rule(
        f"{_SOURCE}downsample.0.weight",
        f"params/{_TARGET}downsample_conv/kernel",
        rules.CONV,
    ),
    *norm_rules(f"{_SOURCE}downsample.1", f"{_TARGET}downsample_norm"),
)
"""Names of a ResNet without its classifier there and here."""

HEAD = rules.linear_rules("fc", "head/out")
"""Names of the classifier there, and of the parameters of a `Linear` here."""


def to_variables(
    state: Mapping[str, np.ndarray],
    shapes: Mapping[str, Any],
    *,
    outputs: Literal["all", "first"] = "all",
) -> dict[str, Any]:
    """Variables of a `ResNet` from a state dict in torchvision's names.

    They are `params`, `batch_stats` and, if it is asked for, `head`, the classifier
    (`fc`) as parameters of a `Linear`. Names may begin with PyTorch's `module.`.
    torchvision's weights for ImageNet expect images normalised by mean (0.485, 0.456,
    0.406) and standard deviation (0.229, 0.224, 0.225): put the network into
    `Normalized`, which keeps the names. Of the classifier's outputs the `first` are as
    many as the head asked for has.
    """
    state, parts = rules.without_prefix(state), {"head": ("fc.*",)}
    if outputs == "first" and "head" in shapes:
        k = shapes["head"]["out"]["bias"].shape[0]
        state |= {name: state[name][:k] for name in state if name.startswith("fc.")}
    return rules.import_arrays(state, (*RESNET, *HEAD), shapes, parts=parts)


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`, bit for bit; without `head` there is no `fc`.

    PyTorch's `load_state_dict` takes a state dict without it with `strict=False`.
    """
    return rules.export_arrays(variables, (*RESNET, *HEAD))
