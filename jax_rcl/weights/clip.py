"""Weights of CLIP, into `networks/clip.py` and `networks/clip_text.py` and back."""

import dataclasses
import fnmatch
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jax_rcl.weights import clip_names
from jax_rcl.weights.clip_names import LOGIT_SCALE, RESNET_TOWER, TEXT_TOWER, VIT_TOWER
from jax_rcl.weights.rules import (
    Shape,
    WeightsMismatch,
    below,
    flatten,
    places,
    rename,
    rename_back,
    unflatten,
)

REDUCTION = 32
"""Pixels on a side of the image for one place of a ResNet's last map."""


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Variables of CLIP's towers from a state dict of OpenAI's or of others.

    The parts are

    - `visual`: `params` and, of a `ClipResNet`, `batch_stats`; a `ClipViT` has none;
    - `text`: `params` of a `ClipText`;
    - `logit_scale`: a scalar, whose exponential multiplies cosines.

    Names of parts that are not asked for are left out, and so are counts and the sizes
    that OpenAI's archives carry as scalars; everything else is used exactly once.
    float16, as those archives hold most arrays, becomes the type asked for. Images are
    normalised by `networks.clip.MEAN` and `STD`.

    Args:
      state: arrays by the names of OpenAI, which open_clip keeps, or of a `CLIPModel`
        of Hugging Face; with or without `module.` in front. Of its text towers of
        another class open_clip puts `text.` in front, which does not matter either.
      shapes: parts with arrays, or what has their shapes and types, as leaves.

    Returns:
      The same parts, in the shapes and types asked for.

    Raises:
      WeightsMismatch: if the names are none of CLIP's, or the two do not fit; the
        message lists what is left over on both sides.
    """
    state = clip_names.plain(state)
    rules = clip_names.whole_rules(state)
    parts = (
        clip_names.HUGGING_FACE_PARTS
        if clip_names.is_hugging_face(state)
        else clip_names.OPENAI_PARTS
    )
    left_out = [
        name for part, names in parts.items() if part not in shapes for name in names
    ]
    ignore = [
        pattern
        for pattern in (*left_out, *clip_names.UNREAD)
        if fnmatch.filter(state, pattern)
    ]
    wanted = flatten(shapes)
    found = rename(
        state, rules, {path: x.shape for path, x in wanted.items()}, ignore=ignore
    )
    return unflatten({path: found[path].astype(x.dtype) for path, x in wanted.items()})


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict in OpenAI's names from parts of a model; types stay as they are.

    The inverse of `to_variables`, bit for bit.

    Args:
      variables: any of the parts that `to_variables` names.

    Raises:
      WeightsMismatch: if some array is none of CLIP's.
    """
    flat = {path: np.asarray(x) for path, x in flatten(variables).items()}
    rules = (
        *below("visual", "visual", RESNET_TOWER),
        *below("visual", "visual", VIT_TOWER),
        *below("", "text", TEXT_TOWER),
        *LOGIT_SCALE,
    )
    named = rename_back(flat, rules)
    # Not `ascontiguousarray`, which makes a vector of a scalar.
    return {name: np.asarray(x, order="C") for name, x in named.items()}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the shapes of CLIP's arrays say of its towers.

    They do not say the activation: that of OpenAI's models is "quick gelu", that of
    open_clip's mostly "gelu".

    Attributes:
      kind: of the image tower.
      visual: fields of `ClipResNet` (depths, width, output, image_size) or of `ClipViT`
        (patch, width, layers, output, image_size).
      text: fields of `ClipText` (width, layers, output, context, vocabulary), whose
        heads are 64 wide; None where there is no text tower.
    """

    kind: Literal["resnet", "vit"]
    visual: dict[str, Any]
    text: dict[str, Any] | None

    @property
    def image_size(self) -> int:
        """Side of the images that it has positions for, in pixels."""
        return self.visual["image_size"]


def architecture(state: Mapping[str, np.ndarray]) -> Architecture:
    """The hyperparameters of a CLIP model, from the shapes of its arrays alone.

    Args:
      state: as for `to_variables`.

    Raises:
      WeightsMismatch: it is not CLIP, or lacks what tells of its size.
    """
    state = clip_names.plain(state)
    shapes = places(state, clip_names.whole_rules(state))
    try:
        if "visual/params/class_token" in shapes:
            kind, visual = "vit", _vit(shapes)
        else:
            kind, visual = "resnet", _resnet(shapes)
        text = _text(shapes) if "text/params/tokens" in shapes else None
    except (LookupError, ValueError) as error:
        raise WeightsMismatch(
            f"these are not all arrays of CLIP, or not of its shapes: {error}. Is the "
            f"file whole?"
        ) from error
    return Architecture(kind, visual, text)


def _resnet(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    params = "visual/params"
    depths = tuple(
        _count(shapes, rf"{params}/stage{stage}_block(\d+)/conv1/kernel")
        for stage in (1, 2, 3, 4)
    )
    positions, _ = shapes[f"{params}/pool/positions"]
    return {
        "depths": depths,
        "width": shapes[f"{params}/stem3/kernel"][-1],
        "output": shapes[f"{params}/pool/out/kernel"][1],
        "image_size": REDUCTION * _side(positions),
    }


def _vit(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    params = "visual/params"
    patch, _, _, width = shapes[f"{params}/patches/kernel"]
    positions, _ = shapes[f"{params}/positions"]
    return {
        "patch": patch,
        "width": width,
        "layers": _count(shapes, rf"{params}/block(\d+)/norm1/scale"),
        "output": shapes[f"{params}/projection"][1],
        "image_size": patch * _side(positions),
    }


def _text(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    params = "text/params"
    vocabulary, width = shapes[f"{params}/tokens"]
    return {
        "width": width,
        "layers": _count(shapes, rf"{params}/block(\d+)/norm1/scale"),
        "output": shapes[f"{params}/projection"][1],
        "context": shapes[f"{params}/positions"][0],
        "vocabulary": vocabulary,
    }


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """How many paths match, whose numbers must be 1, 2, … up to that."""
    matches = [re.fullmatch(pattern, path) for path in shapes]
    numbers = sorted(int(match[1]) for match in matches if match)
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"numbers in {pattern} are {numbers}, not 1, 2 and so on")
    return len(numbers)


def _side(positions: int) -> int:
    """The side of a square grid that has so many places, one for the mean beside it."""
    side = math.isqrt(max(positions - 1, 0))
    if side == 0 or side * side + 1 != positions:
        raise ValueError(f"{positions} positions are no square grid and one more")
    return side
