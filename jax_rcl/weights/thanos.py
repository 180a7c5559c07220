"""Checkpoints of Thanos as its authors' code writes them, into our variables.

The code is https://github.com/HazyResearch/thanos-code (Chen, Fu et al. 2022, Perfectly
Balanced), which writes Lightning's `.ckpt` files.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jax_rcl.weights import rules

HOLDER = "module_dict."
"""What precedes the name of a module; a file may have each of them twice."""

_PATCHES = rules.Layout(
    "rows, columns, channels",
    lambda x, shapes: (x.T.reshape(shapes[0]),),
    lambda parts: parts[0].reshape(-1, parts[0].shape[-1]).T,
)
_QKV = rules.Layout(
    "three of heads",
    lambda x, shapes: tuple(
        part.T.reshape(shape)
        for part, shape in zip(np.split(x, 3), shapes, strict=True)
    ),
    lambda parts: np.concatenate([x.reshape(len(x), -1).T for x in parts]),
)
# The last two rows of the table are never read.
_POSITIONS = rules.Layout(
    "the rows that are read",
    lambda x, shapes: (x[None, : shapes[0][1]],),
    lambda parts: np.pad(parts[0][0], ((0, 2), (0, 0))),
)
_SIDE = 4  # of the smallest map of the decoder
_PROJECT = rules.Layout(
    "channels first to last",
    lambda x, _: (
        x.reshape(-1, _SIDE, _SIDE, *x.shape[1:])
        .transpose(*range(3, x.ndim + 2), 1, 2, 0)
        .reshape(*x.shape[1:], -1),
    ),
    lambda parts: np.moveaxis(
        parts[0].reshape(*parts[0].shape[:-1], _SIDE, _SIDE, -1),
        (-1, -3, -2),
        (0, 1, 2),
    ).reshape(parts[0].shape[-1], *parts[0].shape[:-1]),
)


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Parts of a run of `Spread` from the `state_dict` of a checkpoint.

    The parts are

    - `encoder`: `params` of a `ViT` with the fields of `PERFECTLY_BALANCED`, of two
      that were trained jointly the one that is contrasted;
    - `encoder_auto`: `params` of the other one;
    - `head`: `params` of a `Linear`;
    - `decoder`: `params` and `batch_stats` of a `ResNetDecoder`.

    Parts that are not asked for are left out.

    Raises:
      WeightsMismatch: also for an encoder that is a ResNet.
    """
    state = {
        name.rpartition(HOLDER)[2]: array
        for name, array in state.items()
        if HOLDER in name
    }
    joint = any(name.startswith("ImageEncoderSup.") for name in state)
    encoders = {"encoder": "Sup", "encoder_auto": "Auto"} if joint else {"encoder": ""}
    starts = tuple(f"ImageEncoder{suffix}.cls_token" for suffix in encoders.values())
    rules.require(
        state,
        starts,
        "Thanos's vision transformers",
        "ResNets of that code cannot be read.",
    )
    table = _HEAD + _DECODER
    names: dict[str, tuple[str, ...]] = {
        "head": ("Classifier.*",),
        "decoder": ("ImageDecoder.*",),
    }
    for part, suffix in encoders.items():
        table += _vit(state, suffix, f"{part}/params")
        names[part] = f"ImagePreEncoder{suffix}.*", f"ImageEncoder{suffix}.*"
    return rules.import_arrays(state, table, shapes, parts=names)


def _vit(state: Mapping[str, Any], suffix: str, target: str) -> tuple[rules.Rule, ...]:
    """Rules of an encoder and of the embedding of its patches."""
    embedding, encoder = f"ImagePreEncoder{suffix}", f"ImageEncoder{suffix}"
    pattern = re.compile(rf"{encoder}\.f\.(\d+)\.mha\..*")
    found = filter(None, map(pattern.fullmatch, state))
    depth = 1 + max((int(each[1]) for each in found), default=-1)
    heads = tuple(
        f"block{{i+1}}/attention/{x}/kernel" for x in ("query", "key", "value")
    )
    own = (
        rules.Rule("cls_token", "class_token"),
        rules.Rule("pe", "positions", _POSITIONS),
        rules.Rule("f.{i}.mha.f.f.qkv.weight", heads, _QKV),
        *_norm("f.{i}.mha.f.norm", "block{i+1}/attention_norm"),
        *_norm("f.{i}.ffn.f.norm", "block{i+1}/mlp_norm"),
        *rules.linear_rules("f.{i}.ffn.f.f.f.0", "block{i+1}/mlp_hidden"),
        *rules.linear_rules("f.{i}.ffn.f.f.f.3", "block{i+1}/mlp_out"),
        *_norm(f"f.{depth}", "norm"),
    )
    patches = (
        rules.Rule("emb.0.weight", "patches/kernel", _PATCHES),
        rules.Rule("emb.0.bias", "patches/bias"),
        *_norm("emb.1", "patches_norm"),
    )
    return rules.below(encoder, target, own) + rules.below(embedding, target, patches)


def _norm(source: str, target: str) -> tuple[rules.Rule, ...]:
    return (
        rules.Rule(f"{source}.weight", f"{target}/scale"),
        rules.Rule(f"{source}.bias", f"{target}/bias"),
    )


def _batch_norm(source: str, block: str, name: str) -> tuple[rules.Rule, ...]:
    return (
        *_norm(source, f"params/{block}/{name}"),
        rules.Rule(f"{source}.running_mean", f"batch_stats/{block}/{name}/mean"),
        rules.Rule(f"{source}.running_var", f"batch_stats/{block}/{name}/var"),
    )


def _decoder() -> tuple[rules.Rule, ...]:
    there, here = "layer{s}.{p}", "stage{s}_block{p+1}"
    own = [
        rules.Rule("linear.weight", "params/project/kernel", _PROJECT),
        rules.Rule("linear.bias", "params/project/bias", _PROJECT),
        rules.Rule("conv1.weight", "params/image/kernel", rules.CONV),
    ]
    for conv, norm, name in (
        ("conv1", "bn1", "1"),
        ("conv2", "bn2", "2"),
        ("upsample.0", "upsample.1", "upsample"),
    ):
        shortcut = name == "upsample"
        kernel = "upsample_conv" if shortcut else f"conv{name}"
        target = f"params/{here}/{kernel}/kernel"
        # One that enlarges what it sees is the second of two layers.
        own += [
            rules.Rule(f"{there}.{source}.weight", target, rules.CONV)
            for source in (conv, f"{conv}.1")
        ]
        normed = "upsample_norm" if shortcut else f"norm{name}"
        own += _batch_norm(f"{there}.{norm}", here, normed)
    return rules.below("ImageDecoder.decoder", "decoder", own)


_HEAD = rules.linear_rules("Classifier.classification_layer", "head/params/out")
_DECODER = _decoder()
