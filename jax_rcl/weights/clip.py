"""Weights of CLIP, into `networks/clip.py` and `networks/clip_text.py` and back."""

import dataclasses
import functools
import hashlib
import logging
import math
import pathlib
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

import numpy as np

from jax_rcl.networks.clip_block import HEAD_WIDTH, IMAGE_HEADS, TEXT_HEADS
from jax_rcl.weights import clip_names, files
from jax_rcl.weights.rules import (
    Shape,
    WeightsMismatch,
    export_arrays,
    import_arrays,
    places,
)

logger = logging.getLogger(__name__)

Checksum = Literal["known", "any"]
"""`known`: files of published names must have their digests; `any`: none need."""

# Each digest is part of the file's address, as https://github.com/openai/CLIP lists
# them in clip/clip.py.
SHA256: Mapping[str, str] = {
    "RN50.pt": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101.pt": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4.pt": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16.pt": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64.pt": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B-32.pt": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B-16.pt": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L-14.pt": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L-14-336px.pt": (
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
    ),
}
"""SHA-256 of the published archives, by file name."""


def read(
    path: str | pathlib.Path, checksum: Checksum = "known"
) -> dict[str, np.ndarray]:
    """Arrays of a file by name, as `files.read` gives them, once its digest fits."""
    path = pathlib.Path(path)
    published = SHA256.get(path.name) if checksum == "known" else None
    if published is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != published:
            raise ValueError(
                f"checksum of {path} is {found}, published {published}; the download "
                f"is truncated or another file. Download it again, or write "
                f"checksum='any' for one of your own."
            )
    return files.read(path)


def to_variables(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """Variables of CLIP's towers from a state dict in OpenAI's or other names.

    The parts are

    - `visual`: `params` and, of a `ClipResNet`, `batch_stats`; a `ClipViT` has none;
    - `text`: `params` of a `ClipText`;
    - `logit_scale`: a scalar, whose exponential multiplies cosines.

    Parts that are not asked for are left out. float16, as OpenAI's archives hold most
    arrays, becomes the type asked for. Images are normalised by `networks.clip.MEAN`
    and `STD`.

    Names are those of OpenAI, which open_clip keeps, or of a `CLIPModel` of Hugging
    Face; with or without `module.` in front, or the `text.` that open_clip puts before
    the names of text towers of another class.
    """
    state = clip_names.plain(state)
    _warn_of_heads(state, shapes)
    rules, parts = clip_names.whole_rules(state)
    return import_arrays(state, rules, shapes, left_out=clip_names.UNREAD, parts=parts)


def from_variables(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`, bit for bit, in OpenAI's names."""
    return export_arrays(variables, clip_names.OPENAI)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the shapes of CLIP's arrays say about its towers.

    They do not tell the activation: OpenAI's models have "quick gelu", most of
    open_clip's "gelu". Nor do they tell how many heads of attention share a width,
    which for those of published models is known (`networks.clip_block.IMAGE_HEADS`).

    Asking for a tower raises WeightsMismatch where its heads are not known.
    """

    kind: Literal["resnet", "vit"]
    _visual: dict[str, Any]
    _text: dict[str, Any] | None

    @property
    def visual(self) -> dict[str, Any]:
        """Fields of `ClipResNet` (depths, width, output, image_size) or of `ClipViT`.

        Those are patch, width, layers, output, image_size, and heads if they were told.
        """
        if self.kind == "vit":
            _check_heads(self._visual, "image", IMAGE_HEADS)
        return self._visual

    @property
    def text(self) -> dict[str, Any] | None:
        """Fields of `ClipText`; None where there is no text tower.

        They are width, layers, output, context, vocabulary; and heads if told.
        """
        if self._text is not None:
            _check_heads(self._text, "text", TEXT_HEADS)
        return self._text


def _check_heads(
    fields: Mapping[str, Any], tower: str, known: Mapping[int, int]
) -> None:
    width = fields["width"]
    if "heads" in fields or width in known:
        return
    name = {"image": "`heads`", "text": "`text_heads`, or `heads` of FromText"}[tower]
    raise WeightsMismatch(
        f"the {tower} tower is {width} wide, as that of no published model, and arrays "
        f"do not show how many heads of attention share the width: with a wrong number "
        f"features are wrong. Say it where the file is named, as {name}. Hugging "
        f"Face's config.json has it as num_attention_heads, open_clip's configs as "
        f"width / head_width, which mostly is {HEAD_WIDTH}: heads="
        f"{width / HEAD_WIDTH:g}."
    )


def architecture(
    state: Mapping[str, np.ndarray],
    heads: int | None = None,
    text_heads: int | None = None,
) -> Architecture:
    """The hyperparameters of a CLIP model, from the shapes of its arrays alone.

    Args:
      state: arrays by name.
      heads: of the image tower, a vision transformer; must be told unless its width is
        that of a published model.
      text_heads: of the text tower, likewise.
    """
    state = clip_names.plain(state)
    shapes = places(state, clip_names.whole_rules(state)[0])
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
    if heads is not None and kind == "vit":
        visual["heads"] = heads
    if text_heads is not None and text is not None:
        text["heads"] = text_heads
    return Architecture(kind, visual, text)


# Arrays whose last axis is the width of a transformer, by the part that has its heads.
_WIDTHS = {
    "visual.class_embedding": ("visual", "ClipViT", IMAGE_HEADS),
    "vision_model.embeddings.class_embedding": ("visual", "ClipViT", IMAGE_HEADS),
    "token_embedding.weight": ("text", "ClipText", TEXT_HEADS),
    "text_model.embeddings.token_embedding.weight": ("text", "ClipText", TEXT_HEADS),
}


def _warn_of_heads(state: Mapping[str, np.ndarray], parts: Collection[str]) -> None:
    """Warns of towers among `parts` whose heads a network must have been told."""
    for name, (part, tower, known) in _WIDTHS.items():
        if name in state and part in parts and state[name].shape[-1] not in known:
            _warn_once(tower, state[name].shape[-1])


@functools.cache  # a run reads a file more than once
def _warn_once(tower: str, width: int) -> None:
    logger.warning(
        "weights of CLIP do not say how many heads of attention share the width of %d, "
        "which no published model has: with other %s.heads than theirs (%g of %d "
        "unless it is set) features are wrong.",
        *(width, tower, width / HEAD_WIDTH, HEAD_WIDTH),
    )


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
        "image_size": 32 * _side(positions),  # by which the tower reduces it
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
    """How many paths match; they must be numbered 1, 2, … without a gap."""
    matches = [re.fullmatch(pattern, path) for path in shapes]
    numbers = sorted(int(match[1]) for match in matches if match)
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"numbers in {pattern} are {numbers}, not 1, 2 and so on")
    return len(numbers)


def _side(positions: int) -> int:
    """The side of the square grid of positions, of which one more is for the mean."""
    side = math.isqrt(max(positions - 1, 0))
    if side == 0 or side * side + 1 != positions:
        raise ValueError(f"{positions} positions are no square grid and one more")
    return side
