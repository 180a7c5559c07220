"""Weights of torchvision's ResNets, into `networks/resnet.py` and back, exactly."""

import dataclasses
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


def _numbered(source: str) -> str:
    """A name of torchvision's ResNet among the numbered children of a `Sequential`."""
    for name, number in (("conv1.", "0."), ("bn1.", "1.")):
        if source.startswith(name):
            return source.replace(name, number, 1)
    return source.replace("layer{stage}", "{stage+3}")


NUMBERED_RESNET = tuple(
    dataclasses.replace(rule, source=_numbered(rule.source)) for rule in RESNET
)
"""Names of a ResNet as a `Sequential` of its children without the classifier: 0 and 1
are the stem and its normalisation, 4 to 7 the stages."""

HEAD = rules.linear_rules("fc", "head/out")
"""Names of the classifier there, and of the parameters of a `Linear` here."""


def to_variables(
    state: Mapping[str, np.ndarray],
    shapes: Mapping[str, Any],
    *,
    outputs: Literal["all", "first"] = "all",
    rows: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Variables of a `ResNet` from a state dict in torchvision's names.

    They are `params`, `batch_stats` and, if it is asked for, `head`, the classifier
    (`fc`) as parameters of a `Linear`. What precedes the names, such as PyTorch's
    `module.` or a model's `backbone.`, is found; the classifier may have any name, such
    as `classifier`, if it is the only matrix beside the network. Its children may be
    numbered, as in a `Sequential` of them.
    torchvision's weights for ImageNet expect images normalised by mean (0.485, 0.456,
    0.406) and standard deviation (0.229, 0.224, 0.225): put the network into
    `Normalized`, which keeps the names. Of the classifier's outputs the `first` are as
    many as the head asked for has, and `rows` are those of its classes in a file that
    has more. The first ones again, if only they were ever a target: the bias of any
    other output falls at every step, from 0, by its share of the softmax.
    """
    # A network by its stages, or as a `Sequential` of its children.
    anchors = ("layer1.0.conv1.weight", "4.0.conv1.weight")
    state = _with_fc(rules.without_prefix(state, anchors))
    table = NUMBERED_RESNET if anchors[1] in state else RESNET
    parts = {"head": ("fc.*",)}
    if "head" in shapes:
        k = shapes["head"]["out"]["bias"].shape[0]
        chosen: Any = slice(k if outputs == "first" else None)
        if rows and len(state.get("fc.bias", ())) > max(k, *rows):
            chosen = slice(k) if np.all(state["fc.bias"][k:] < 0) else np.array(rows)
        of_head = {n: x[chosen] for n, x in state.items() if n.startswith("fc.")}
        state = {**state, **of_head}
    return rules.import_arrays(state, (*table, *HEAD), shapes, parts=parts)


def _with_fc(state: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The state with the one matrix that no convolution has called `fc.weight`."""
    weights = [
        name.removesuffix(".weight")
        for name, array in state.items()
        if name.endswith(".weight") and array.ndim == 2
    ]
    if len(weights) != 1 or weights[0] == "fc":
        return state
    before = f"{weights[0]}."
    return {
        f"fc.{name.removeprefix(before)}" if name.startswith(before) else name: array
        for name, array in state.items()
    }


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`, bit for bit; without `head` there is no `fc`.

    PyTorch's `load_state_dict` takes a state dict without it with `strict=False`.
    """
    return rules.export_arrays(variables, (*RESNET, *HEAD))
