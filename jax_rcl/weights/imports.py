"""Starting from weights of other libraries: rules of `Experiment.init_from`."""

import dataclasses
import fnmatch
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from jax_rcl.checkpoint import flat
from jax_rcl.core import Variables
from jax_rcl.weights import (
    clip,
    distill,
    files,
    moco,
    thanos,
    torchvision,
    uniformity,
)
from jax_rcl.weights.restore import below, nothing_below, replace_leaves
from jax_rcl.weights.rules import (
    WeightsMismatch,
    below_prefix,
    flatten,
    unflatten,
    without_prefix,
)


@dataclasses.dataclass(frozen=True)
class ImportResNet:
    """Takes a ResNet's weights from a file in torchvision's names.

    Also from the checkpoint of a training script, such as the linear probes of MoCo's
    authors, whose classifier has 1000 outputs whatever the data.

    Attributes:
      file: `.npz`, `.safetensors`, `.pt`, `.pth` or `.pth.tar`.
      params: prefix of this run's variables that the parameters fill.
      batch_stats: prefix that the batch statistics fill; for a frozen encoder
        `frozen/encoder/params` and `frozen/encoder/batch_stats`.
      head: prefix that the classifier (`fc`) fills, a `Linear`, such as `params/head`;
        None leaves it out.
      prefix: what precedes the names of this network in the file, such as "backbone.";
        None finds it, where only one fits. Other arrays are left out.
      left_out: shell patterns of names after it that the network does not have, such as
        ("aux.*",).
      outputs: of the classifier: all; or the first, as many as the head has, of files
        whose labels ended before their outputs.
      rows: of a classifier with more outputs than the head has, those of its classes,
        in order, such as `published.imagenet.places(IMAGENET_100)` of one that was
        trained on all of ImageNet. Probes of MoCo's code have 1000 outputs whatever the
        data, and count the classes of their folder in sorted order, from 0: where no
        other output was ever a target, the first ones are taken.
    """

    file: str
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"
    head: str | None = None
    prefix: str | None = None
    left_out: tuple[str, ...] = ()
    outputs: Literal["all", "first"] = "all"
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.rows and self.outputs == "first":
            raise ValueError(
                "ImportResNet.rows says which outputs are taken; omit outputs='first'."
            )

    def __call__(self, variables: Variables) -> Variables:
        places = {
            "params": self.params,
            "batch_stats": self.batch_stats,
            "head": self.head,
        }
        which = {"outputs": self.outputs, "rows": self.rows}
        importer = functools.partial(torchvision.to_variables, **which)
        return import_file(self, variables, places, importer)


@dataclasses.dataclass(frozen=True)
class ImportMoCo:
    """Takes a query encoder, or a whole run, from a checkpoint of MoCo's authors.

    The files of https://github.com/facebookresearch/moco and its forks, released or
    written by one's own runs of them (`checkpoint_0199.pth.tar`), v1 and v2.

    Attributes:
      file: `.pth.tar`, `.pth` or `.pt`, or its `state_dict` as `.npz` or
        `.safetensors`; released files, of before PyTorch 1.6, need the extra `torch`.
      parts: `encoder`, for a probe or fine-tuning; `encoder and projector`; or
        `everything`, to go on training as MoCo: also the key encoder with its
        projector, the queue and its cursor. Then set `MoCo.slow_starts` to "as given",
        or the key encoder starts as a copy of the query encoder. The projector is a
        `Linear(d)` or `Mlp((f, d))`.
      params, batch_stats: as for `ImportResNet`, of the query encoder.
      prefix, left_out: as for `ImportResNet`.
    """

    file: str
    parts: Literal["encoder", "encoder and projector", "everything"] = "encoder"
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"
    prefix: str | None = None
    left_out: tuple[str, ...] = ()

    def __call__(self, variables: Variables) -> Variables:
        places: dict[str, str | None] = {
            "encoder/params": self.params,
            "encoder/batch_stats": self.batch_stats,
        }
        if self.parts != "encoder":
            places["projector/params"] = "params/projector"
        if self.parts == "everything":
            places |= {part: f"memory/{part}" for part in ("slow", "queue", "cursor")}
        return import_file(self, variables, places, moco.to_variables)


@dataclasses.dataclass(frozen=True)
class ImportUniformity:
    """Takes an encoder, or a whole run, from decoupled uniformity's authors.

    The files of https://github.com/Duplums/contrastive-decoupled-uniformity
    (`checkpoint_0399.pth.tar`), with or without prior.

    A frozen probe of what evaluation keeps, a `Classify` whose encoder is
    `Headed(ResNet(50), Linear(2048))`, is filled with parts="encoder and fc",
    params="frozen/encoder/params/encoder", fc="frozen/encoder/params/head" and
    batch_stats="frozen/encoder/batch_stats/encoder".

    Attributes:
      file: `.pth.tar`, `.pth` or `.pt`, or its `state_dict` as `.npz` or
        `.safetensors`.
      parts: `encoder`; `encoder and fc`, also the layer of 2048 features after it;
        `everything`, to go on training as `Uniformity`: also the projector, an
        `Mlp((2048, 256), first="relu")`; or `encoder and projector`, all that files
        written before 23 May 2023 have, whose projector reads the pooled features.
      params, batch_stats: as for `ImportResNet`.
      fc: prefix that the parameters of the layer after it fill, a `Linear`.
      prefix, left_out: as for `ImportResNet`.
    """

    file: str
    parts: Literal[
        "encoder", "encoder and fc", "encoder and projector", "everything"
    ] = "everything"
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"
    fc: str = "params/fc"
    prefix: str | None = None
    left_out: tuple[str, ...] = ()

    def __call__(self, variables: Variables) -> Variables:
        fc = self.parts in ("encoder and fc", "everything")
        projector = self.parts in ("encoder and projector", "everything")
        places = {
            "encoder/params": self.params,
            "encoder/batch_stats": self.batch_stats,
            "fc/params": self.fc if fc else None,
            "projector/params": "params/projector" if projector else None,
        }
        return import_file(self, variables, places, uniformity.to_variables)


@dataclasses.dataclass(frozen=True)
class ImportClip:
    """Takes an image tower of CLIP, and its text tower, from a file.

    OpenAI's archives (`RN101.pt`), state dicts in their names, which open_clip keeps,
    and those of Hugging Face's `CLIPModel` (`model.safetensors`).
    `weights.clip.architecture(weights.clip.read(file))` says which fields
    `networks.clip.ClipResNet` or `ClipViT` must have; put it into `Normalized` with
    `networks.clip.MEAN` and `STD`, which keeps the names.

    Attributes:
      file: `.pt`, `.bin`, `.safetensors` or `.npz`.
      params, batch_stats: as for `ImportResNet`, of the image tower; for a frozen
        teacher `frozen/teacher/params` and `frozen/teacher/batch_stats`.
      text: prefix that the parameters of the text tower fill; None leaves it out.
      checksum: "known" compares files with OpenAI's names to the published digests;
        "any" takes every file.
      prefix, left_out: as for `ImportResNet`.
    """

    file: str
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"
    text: str | None = None
    checksum: clip.Checksum = "known"
    prefix: str | None = None
    left_out: tuple[str, ...] = ()

    def __call__(self, variables: Variables) -> Variables:
        places = {
            "visual/params": self.params,
            "visual/batch_stats": self.batch_stats,
            "text/params": self.text,
        }
        read = functools.partial(clip.read, checksum=self.checksum)
        return import_file(self, variables, places, clip.to_variables, read=read)


@dataclasses.dataclass(frozen=True)
class ImportDistill:
    """Takes a network from a checkpoint of the CLIP students of Ravula et al. 2021.

    A frozen probe, a `Classify` with encoder_is="frozen", is filled with part="probe",
    params="frozen/encoder/params", batch_stats="frozen/encoder/batch_stats" and
    head="params/head". With part="student" and the same prefixes, without head, it
    starts a new probe.

    Attributes:
      file: Lightning's `.ckpt`, or its `state_dict` as `.npz` or `.safetensors`.
      part: a student; the teacher in the same file, whose statistics drifted while
        the student trained; a linear probe with its encoder; or a baseline.
      params, batch_stats: as for `ImportResNet`.
      head: as for `ImportResNet`, of a probe or a baseline.
      prefix, left_out: as for `ImportResNet`.
    """

    file: str
    part: distill.Part
    params: str = "params/encoder"
    batch_stats: str = "memory/encoder"
    head: str | None = None
    prefix: str | None = None
    left_out: tuple[str, ...] = ()

    def __call__(self, variables: Variables) -> Variables:
        places = {
            "encoder/params": self.params,
            "encoder/batch_stats": self.batch_stats,
            "head": self.head,
        }
        importer = functools.partial(distill.to_variables, part=self.part)
        return import_file(self, variables, places, importer)


@dataclasses.dataclass(frozen=True)
class ImportThanos:
    """Takes an encoder, or a whole run, from a checkpoint of Thanos's authors.

    The files of https://github.com/HazyResearch/thanos-code (`best.ckpt`) whose
    encoders are vision transformers, `ViT(**PERFECTLY_BALANCED)`.

    The first encoder of a frozen probe, a `Classify` whose encoder is `Concatenated`,
    is filled with parts="encoder" and params="frozen/encoder/params/part1".

    Attributes:
      file: Lightning's `.ckpt`, or its `state_dict` as `.npz` or `.safetensors`.
      parts: `encoder`, of two that were trained jointly the one that is contrasted;
        `encoder_auto`, the one that is decoded; or `everything` that the run has of
        encoders, head and decoder, to go on training as `Spread`.
      params: as for `ImportResNet`, of the encoder that `parts` names.
      prefix, left_out: as for `ImportResNet`.
    """

    file: str
    parts: Literal["encoder", "encoder_auto", "everything"] = "encoder"
    params: str = "params/encoder"
    prefix: str | None = None
    left_out: tuple[str, ...] = ()

    def __call__(self, variables: Variables) -> Variables:
        places = {f"{self.parts}/params": self.params}
        if self.parts == "everything":
            others = {f"{part}/params": f"params/{part}" for part in _OF_SPREAD}
            others["decoder/batch_stats"] = "memory/decoder"
            own = flat(variables)
            places = {"encoder/params": self.params}
            places |= {x: prefix for x, prefix in others.items() if below(own, prefix)}
        return import_file(self, variables, places, thanos.to_variables)


_OF_SPREAD = ("encoder_auto", "head", "decoder")  # which a run may have or not

_MAY_LACK_STATISTICS = (ImportClip, ImportDistill)  # CLIP's transformers have none


Import = (
    ImportResNet
    | ImportMoCo
    | ImportUniformity
    | ImportClip
    | ImportDistill
    | ImportThanos
)
"""The rules that read files."""


def import_file(
    rule: Import,
    variables: Variables,
    places: Mapping[str, str | None],
    to_variables: Callable[[Mapping[str, np.ndarray], dict[str, Any]], dict[str, Any]],
    *,
    read: Callable[[str], Mapping[str, np.ndarray]] = files.read,
) -> Variables:
    """`variables`, or their shapes, with the arrays of `rule.file` in some places.

    `places` has for each prefix of paths that `to_variables` knows that of this run, or
    None for what is left out; `to_variables` turns arrays of the file and the shapes of
    a tree into such a tree.

    Raises:
      ValueError: nothing is below a prefix, or the file is damaged, holds another
        network or numbers that are not finite.
    """
    own = flat(variables)
    shapes, path_of = {}, {}
    for place, prefix in places.items():
        if prefix is None:
            continue
        leaves = below(own, prefix)
        optional = place.endswith("batch_stats") and isinstance(
            rule, _MAY_LACK_STATISTICS
        )
        if not leaves and not optional:
            raise nothing_below(prefix, own, type(rule).__name__)
        shapes |= {f"{place}{rest}": leaf for rest, leaf in leaves.items()}
        path_of |= {f"{place}{rest}": f"{prefix}{rest}" for rest in leaves}
    state = _chosen(read(rule.file), rule)
    try:
        found = flatten(to_variables(state, unflatten(shapes)))
    except WeightsMismatch as error:
        raise WeightsMismatch(f"{type(rule).__name__}: {rule.file}: {error}") from error
    broken = [path for path, x in found.items() if not np.isfinite(x).all()]
    if broken:
        raise ValueError(
            f"{type(rule).__name__}: {rule.file} holds numbers that are not finite in "
            f"{len(broken)} array(s), such as '{path_of[broken[0]]}'; its training "
            f"diverged, or the file is damaged."
        )
    return replace_leaves(variables, {path_of[path]: x for path, x in found.items()})


def _chosen(state: Mapping[str, np.ndarray], rule: Import) -> Mapping[str, np.ndarray]:
    """The arrays that a rule asks for by `prefix` and `left_out`."""
    if rule.prefix is not None:
        if not any(name.startswith(rule.prefix) for name in state):
            state = without_prefix(state)
        state = below_prefix(state, rule.prefix)
    for pattern in rule.left_out:
        matching = set(fnmatch.filter(state, pattern))
        if not matching:
            raise WeightsMismatch(
                f"{type(rule).__name__}.left_out {pattern!r} matches no name of "
                f"{rule.file}; they are such as {next(iter(state), 'none')!r}."
            )
        state = {name: x for name, x in state.items() if name not in matching}
    return state
