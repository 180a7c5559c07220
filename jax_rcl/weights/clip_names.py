"""Names of CLIP's arrays: OpenAI's, which open_clip keeps, Hugging Face's, and ours."""

from collections.abc import Mapping

import numpy as np

from jax_rcl.weights.rules import (
    CONV,
    LINEAR,
    Layout,
    Rule,
    below,
    linear_rules,
    require,
    without_prefix,
)
from jax_rcl.weights.torchvision import RESNET, norm_rules

_PARTS = ("query", "key", "value")

JOINED_KERNEL = Layout(
    "[3w, w] to three [w, w]",
    lambda x, _: tuple(part.T for part in np.split(np.atleast_1d(x), 3)),
    lambda parts: np.concatenate([part.T for part in parts]),
)
"""Query, key and value, stacked; each is transposed, as by `LINEAR`."""

JOINED_BIAS = Layout(
    "[3w] to three [w]",
    lambda x, _: tuple(np.split(np.atleast_1d(x), 3)),
    lambda parts: np.concatenate(parts),
)
"""Their biases, one after the other."""


def _layer_norm(source: str, target: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{source}.weight", f"{target}/scale"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


# OpenAI's names.

_THERE, _HERE = "transformer.resblocks.{i}", "params/block{i+1}"

_BLOCKS = (
    *_layer_norm(f"{_THERE}.ln_1", f"{_HERE}/norm1"),
    Rule(
        f"{_THERE}.attn.in_proj_weight",
        tuple(f"{_HERE}/attention/{part}/kernel" for part in _PARTS),
        JOINED_KERNEL,
    ),
    Rule(
        f"{_THERE}.attn.in_proj_bias",
        tuple(f"{_HERE}/attention/{part}/bias" for part in _PARTS),
        JOINED_BIAS,
    ),
    *linear_rules(f"{_THERE}.attn.out_proj", f"{_HERE}/attention/out"),
    *_layer_norm(f"{_THERE}.ln_2", f"{_HERE}/norm2"),
    *linear_rules(f"{_THERE}.mlp.c_fc", f"{_HERE}/hidden"),
    *linear_rules(f"{_THERE}.mlp.c_proj", f"{_HERE}/out"),
)

RESNET_TOWER = (
    Rule("conv{k}.weight", "params/stem{k}/kernel", CONV),
    *norm_rules("bn{k}", "stem_norm{k}"),
    *(rule for rule in RESNET if rule.source.startswith("layer")),
    Rule("attnpool.positional_embedding", "params/pool/positions"),
    *linear_rules("attnpool.q_proj", "params/pool/query"),
    *linear_rules("attnpool.k_proj", "params/pool/key"),
    *linear_rules("attnpool.v_proj", "params/pool/value"),
    *linear_rules("attnpool.c_proj", "params/pool/out"),
)
"""Names of a `ClipResNet`, without what precedes them in a whole model."""

VIT_TOWER = (
    Rule("conv1.weight", "params/patches/kernel", CONV),
    Rule("class_embedding", "params/class_token"),
    Rule("positional_embedding", "params/positions"),
    *_layer_norm("ln_pre", "params/norm_before"),
    *_BLOCKS,
    *_layer_norm("ln_post", "params/norm_after"),
    Rule("proj", "params/projection"),
)
"""Names of a `ClipViT`, likewise."""

TEXT_TOWER = (
    Rule("token_embedding.weight", "params/tokens"),
    Rule("positional_embedding", "params/positions"),
    *_BLOCKS,
    *_layer_norm("ln_final", "params/norm_after"),
    Rule("text_projection", "params/projection"),
)
"""Names of a `ClipText`."""

LOGIT_SCALE = (Rule("logit_scale", "logit_scale"),)

OPENAI = (
    *below("visual", "visual", RESNET_TOWER),
    *below("visual", "visual", VIT_TOWER),
    *below("", "text", TEXT_TOWER),
    *LOGIT_SCALE,
)
"""From paths to names; the other way the image tower's kind has to be known."""

# Which names each part has, and what nothing reads.
OPENAI_PARTS = {
    "visual": ("visual.*",),
    "text": (
        "token_embedding.*",
        "positional_embedding",
        "transformer.*",
        "ln_final.*",
        "text_projection",
    ),
    "logit_scale": ("logit_scale",),
}
UNREAD = (
    *("*.position_ids", "input_resolution", "context_length", "vocab_size"),
    "logit_bias",
)
"""Positions that nothing reads, sizes that the shapes already say, and what some models
of open_clip add to logits, which is in neither tower."""

ANCHORS = ("visual.conv1.weight", "vision_model.embeddings.class_embedding")
"""Names that every image tower has in a whole model."""
STUDENTS, TAUGHT_BY = "noisy_visual_encoder.", "baseclip."
"""What precedes the names of a student of Ravula et al. 2021, and of its CLIP."""

# Hugging Face's names; all of its towers are transformers.

_LAYER = "encoder.layers.{i}"

_LAYERS = (
    *_layer_norm(f"{_LAYER}.layer_norm1", f"{_HERE}/norm1"),
    *linear_rules(f"{_LAYER}.self_attn.q_proj", f"{_HERE}/attention/query"),
    *linear_rules(f"{_LAYER}.self_attn.k_proj", f"{_HERE}/attention/key"),
    *linear_rules(f"{_LAYER}.self_attn.v_proj", f"{_HERE}/attention/value"),
    *linear_rules(f"{_LAYER}.self_attn.out_proj", f"{_HERE}/attention/out"),
    *_layer_norm(f"{_LAYER}.layer_norm2", f"{_HERE}/norm2"),
    *linear_rules(f"{_LAYER}.mlp.fc1", f"{_HERE}/hidden"),
    *linear_rules(f"{_LAYER}.mlp.fc2", f"{_HERE}/out"),
)

_HUGGING_FACE_VISUAL = (
    Rule("embeddings.patch_embedding.weight", "params/patches/kernel", CONV),
    Rule("embeddings.class_embedding", "params/class_token"),
    Rule("embeddings.position_embedding.weight", "params/positions"),
    *_layer_norm("pre_layrnorm", "params/norm_before"),  # so mistyped there
    *_LAYERS,
    *_layer_norm("post_layernorm", "params/norm_after"),
)
_HUGGING_FACE_TEXT = (
    Rule("embeddings.token_embedding.weight", "params/tokens"),
    Rule("embeddings.position_embedding.weight", "params/positions"),
    *_LAYERS,
    *_layer_norm("final_layer_norm", "params/norm_after"),
)
HUGGING_FACE = (
    *below("vision_model", "visual", _HUGGING_FACE_VISUAL),
    Rule("visual_projection.weight", "visual/params/projection", LINEAR),
    *below("text_model", "text", _HUGGING_FACE_TEXT),
    Rule("text_projection.weight", "text/params/projection", LINEAR),
    *LOGIT_SCALE,
)
HUGGING_FACE_PARTS = {
    "visual": ("vision_model.*", "visual_projection.*"),
    "text": ("text_model.*", "text_projection.*"),
    "logit_scale": ("logit_scale",),
}


def plain(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state without what models and PyTorch put before names, or open_clip.

    Of a file of the students of Ravula et al. 2021, the model that taught them.
    """
    if any(name.startswith(STUDENTS) for name in state):
        model = {name: x for name, x in state.items() if name.startswith(TAUGHT_BY)}
        state = {name.removeprefix(TAUGHT_BY): x for name, x in model.items()}
    return {
        name.removeprefix("text."): array
        for name, array in without_prefix(state, ANCHORS).items()
    }


def tower_rules(names: Mapping[str, np.ndarray], before: str) -> tuple[Rule, ...]:
    """Rules of the image tower whose names follow `before`, which may be empty."""
    token = f"{before}.class_embedding" if before else "class_embedding"
    return VIT_TOWER if token in names else RESNET_TOWER


def whole_rules(
    names: Mapping[str, np.ndarray],
) -> tuple[tuple[Rule, ...], Mapping[str, tuple[str, ...]]]:
    """Rules of a model, and the names of its parts `visual`, `text`, `logit_scale`."""
    if any(name.startswith(("vision_model.", "text_model.")) for name in names):
        return HUGGING_FACE, HUGGING_FACE_PARTS
    require(
        names,
        ("visual.", "vision_model.", "ln_final."),
        "CLIP's towers",
        "The weights of a plain ResNet are read by `ImportResNet`, those of a student "
        "that was distilled from CLIP by `ImportDistill`.",
    )
    rules = (
        *below("visual", "visual", tower_rules(names, "visual")),
        *below("", "text", TEXT_TOWER),
        *LOGIT_SCALE,
    )
    return rules, OPENAI_PARTS
