"""Checkpoints of CLIP students by Ravula et al. 2021, as their code writes them.

The paper is "Inverse Problems Leveraging Pre-trained Contrastive Representations"
(https://arxiv.org/abs/2110.07439); its code writes Lightning's `.ckpt` files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jax_rcl.weights import rules
from jax_rcl.weights.clip_names import OPENAI_PARTS, tower_rules
from jax_rcl.weights.torchvision import NUMBERED_RESNET

Part = Literal["student", "teacher", "probe", "baseline"]
"""Which network of which program: students and their teacher are in one file."""


@dataclasses.dataclass(frozen=True)
class _Names:
    """What precedes the names of a network's tower and classifier in a file.

    `others` are patterns of what else the program keeps in its checkpoints.
    """

    encoder: str
    head: str | None = None
    others: tuple[str, ...] = ()


# The teacher is a whole CLIP model, text tower and all.
_TEXT = (*OPENAI_PARTS["text"], *OPENAI_PARTS["logit_scale"])
_TEACHER = tuple(f"baseclip.{name}" for name in _TEXT)
_PARTS: Mapping[str, _Names] = {
    "student": _Names("noisy_visual_encoder", others=("baseclip.*",)),
    "teacher": _Names("baseclip.visual", others=("noisy_visual_encoder.*", *_TEACHER)),
    "probe": _Names("backbone", "output"),
    "baseline": _Names("encoder.feature_extractor", "encoder.classifier"),
}


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any], part: Part
) -> dict[str, Any]:
    """Variables of one network from the `state_dict` of a checkpoint.

    The parts are

    - `encoder`: `params` and, where it has them, `batch_stats`, of a `ClipResNet` or
      `ClipViT`, or of a `ResNet` for a baseline or a probe of one;
    - `head`: parameters of a `Linear`, of a probe or a baseline.

    The other network of a student's file, and a head that is not asked for, are left
    out.
    """
    names, state = _PARTS[part], rules.without_prefix(state)
    if "head" in shapes and names.head is None:
        raise ValueError(f"a {part} has no head; omit it (head=None).")
    known = ", ".join(f"{x.encoder}.* ({part})" for part, x in _PARTS.items())
    rules.require(state, (f"{names.encoder}.",), f"a {part}", f"Known are {known}.")
    numbered = f"{names.encoder}.0.weight" in state
    tower = NUMBERED_RESNET if numbered else tower_rules(state, names.encoder)
    table, parts = rules.below(names.encoder, "encoder", tower), {}
    if names.head is not None:
        table += rules.linear_rules(names.head, "head/out")
        parts = {"head": (f"{names.head}.*",)}
    return rules.import_arrays(state, table, shapes, left_out=names.others, parts=parts)
