"""Features of a whole source, encoded once and shared by all who ask for the same."""

import dataclasses
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Int32, Shaped

from jax_rcl import parallel
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.data import stream
from jax_rcl.evaluate.shifts.distorted import distort, place, prepare_images
from jax_rcl.evaluate.when import AtEnd
from jax_rcl.ranges import Count, ranged

_REMEMBERED: weakref.WeakKeyDictionary[Encode, dict[Hashable, Any]] = (
    weakref.WeakKeyDictionary()
)

_ANSWERS = {"label": np.int32, "targets": np.float32}  # what evaluators compare with


@dataclasses.dataclass(frozen=True, kw_only=True)
@ranged  # also the fields of subclasses
class LayerEvaluator:
    """What evaluators that read one layer of the encoder have in common.

    Attributes:
      layer: the name of what is read among what the objective's `encode` gives.
      preprocess: deterministic operation on each image, such as a resize and a central
        crop; None if the source has the size that the encoder was trained on.
      batch_size: images per call of the encoder; a matter of memory and speed only.
      when: when it is measured.
    """

    layer: str = "features"
    preprocess: Operation | None = None
    batch_size: Count = 256
    when: When = dataclasses.field(default=AtEnd())

    @property
    def needs(self) -> frozenset[str]:
        """Names of the layers that it reads."""
        return frozenset({self.layer})

    def features(
        self, encode: Encode, source: Source
    ) -> tuple[Float32[np.ndarray, "m f"], Int32[np.ndarray, " m"]]:
        """What the layer gives for every image of a source, and the labels."""
        return features(
            encode,
            source,
            layer=self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
        )


def once(encode: Encode, key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` gives, made the first time and remembered while `encode` lives.

    Results belong to one encoder: whoever evaluates other parameters passes a new
    callable, and what was remembered goes with the old one. Nothing that is remembered
    may refer to `encode`, or it would never go.
    """
    remembered = _REMEMBERED.setdefault(encode, {})
    if key not in remembered:
        remembered[key] = make()
    return remembered[key]


def features(
    encode: Encode,
    source: Source,
    *,
    layer: str = "features",
    preprocess: Operation | None = None,
    batch_size: int = 256,
    distortion: Operation | None = None,
    seed: int = 0,
) -> tuple[Float32[np.ndarray, "m f"], Int32[np.ndarray, " m"]]:
    """Features and labels of every image of a source, in its order.

    Every call of `encode` gets `batch_size` images: the last batch is padded, and the
    rows of the padding are dropped. All layers of one (encode, source, preprocess,
    distortion, seed) are computed together and once; further calls, also for another
    layer, return what was computed. In a run of several processes each reads the whole
    source.

    Args:
      encode: images [n, h, w, c] in [0, 1] to named features [n, f].
      source: records of `image` and `label`.
      layer: see `LayerEvaluator`, also for the next two.
      preprocess: before `distortion`.
      batch_size: with a distortion, rounded up to a multiple of the number of devices.
      distortion: what is done to each image then, on the devices; None for nothing.
        Every image draws for itself and once, a function of `seed` and of its place in
        the source alone.
      seed: of the distortion, in [0, 2^32).

    Returns:
      Features and labels in [0, k), read-only, since others share them.

    Raises:
      ValueError: if the source is empty or without labels, if a label is not one of its
        `class_names`, if there is no such layer, or if its features are not one finite
        vector per image.
    """
    drawn = None if distortion is None else (distortion, seed)
    ask = _Question(source, layer, "label", preprocess, batch_size, drawn)
    values, labels = _remembered(encode, ask)
    check_labels(labels, source)
    return values, labels


def features_and_targets(
    encode: Encode,
    source: Source,
    *,
    layer: str = "features",
    preprocess: Operation | None = None,
    batch_size: int = 256,
) -> tuple[Float32[np.ndarray, "m f"], Float32[np.ndarray, "m t"]]:
    """Features and targets of every image of a source, as `features` gives labels.

    Targets answer several yes-or-no questions about each image: 1, 0, or NaN where the
    answer is missing. The source holds records of `image` and `targets`.

    Raises:
      ValueError: as `features`, with targets instead of labels; or if a target is not
        0, 1 or NaN.
    """
    ask = _Question(source, layer, "targets", preprocess, batch_size)
    values, targets = _remembered(encode, ask)
    odd = targets[~np.isnan(targets) & (targets != 0) & (targets != 1)]
    if odd.size:
        raise ValueError(
            f"{source} has {odd.size} targets such as {odd[0]:g}; a target is 0, 1 or, "
            f"where it is missing, NaN. Let the source say what other values mean."
        )
    return values, targets


def check_labels(labels: Int32[np.ndarray, " m"], source: Source) -> None:
    """Raises ValueError unless each label is one that the source names."""
    if labels.min() < 0 or labels.max() >= len(source.class_names):
        raise ValueError(
            f"{source} has labels from {labels.min()} to {labels.max()}, but names "
            f"{len(source.class_names)} classes; labels count its names from 0."
        )


def shared_classes(train: Source, test: Source) -> tuple[str, ...]:
    """Names of the classes that an evaluator learns on one source and tests on another.

    Raises:
      ValueError: if the sources are equal, if they name different classes, or fewer
        than two.
    """
    if train == test:
        raise ValueError(
            f"train and test are the same source, {train}: every image would be found "
            f"by itself. Give another split as test."
        )
    if train.class_names != test.class_names:
        raise ValueError(
            f"train has the classes {_listed(train.class_names)} and test "
            f"{_listed(test.class_names)}; a label must mean the same in both."
        )
    if len(train.class_names) < 2:
        raise ValueError(
            f"{train} names {len(train.class_names)} classes; telling classes apart "
            f"takes at least two. Evaluate on a source with labels."
        )
    return train.class_names


@dataclasses.dataclass(frozen=True)
class _Question:
    """What is asked of a source: a layer, and `answer` of its records."""

    source: Source
    layer: str
    answer: str
    preprocess: Operation | None
    batch_size: int
    drawn: tuple[Operation, int] | None = None

    def images(self, rows: Shaped[np.ndarray, "n h w c"], step: int) -> jax.Array:
        """The images of batch number `step`, as the encoder is to see them."""
        if self.drawn is None:
            return prepare_images(self.preprocess, rows)
        batch = place(self.preprocess, rows, step * self.batch_size)
        return distort(*self.drawn, batch)

    def answered(self, keys: Iterable[str]) -> str:
        """The key of the answer, if it is among those there."""
        if self.answer not in keys:
            kind = "labels" if self.answer == "label" else self.answer
            raise ValueError(
                f"{self.source} has no {self.answer!r}; its records hold "
                f"{_listed(sorted(keys))}. Evaluate on a source with {kind}."
            )
        return self.answer


def _remembered(encode: Encode, ask: _Question) -> tuple[np.ndarray, np.ndarray]:
    """The layer and the answer, of a pass over the source that is made once."""
    key = (ask.source, ask.preprocess, ask.drawn)
    named, answers = once(encode, key, lambda: _encoded(encode, ask))
    values = named[_checked(ask.layer, named)]
    if values.ndim != 2:
        raise ValueError(
            f"layer {ask.layer!r} gives {values.shape[1:]} for each image; evaluators "
            f"read one vector [f]. Pool it in the objective's encode."
        )
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        raise ValueError(
            f"layer {ask.layer!r} is not finite for {broken} of {len(values)} images "
            f"of {ask.source}; the encoder has diverged. Lower the learning rate."
        )
    return values, answers[ask.answered(answers)]


def _encoded(
    encode: Encode, ask: _Question
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every layer of a source, and its answers; `ask` is checked after one batch."""
    if not len(ask.source):
        raise ValueError(f"{ask.source} is empty; there is nothing to evaluate.")
    named: dict[str, list[np.ndarray]] = {}
    answers: dict[str, list[np.ndarray]] = {}
    batches = stream.eval_batches(ask.source, ask.batch_size)
    for step, (batch, mask) in enumerate(batches):
        ask.answered(batch)
        output = parallel.fetch(encode(ask.images(batch["image"], step)))
        _checked(ask.layer, output)
        for name, values in output.items():
            named.setdefault(name, []).append(np.asarray(values)[: len(mask)][mask])
        for name in _ANSWERS.keys() & batch.keys():
            answers.setdefault(name, []).append(np.asarray(batch[name])[mask])
    layers = {name: np.concatenate(x).astype(np.float32) for name, x in named.items()}
    whole = {k: np.concatenate(x).astype(_ANSWERS[k]) for k, x in answers.items()}
    for array in (*layers.values(), *whole.values()):
        array.flags.writeable = False
    return layers, whole


def _checked(layer: str, named: dict[str, np.ndarray]) -> str:
    """The name of a layer that is there."""
    if layer not in named:
        raise ValueError(
            f"encode gives no layer {layer!r}, but {_listed(sorted(named))}. Set "
            f"`layer` to one of them."
        )
    return layer


def _listed(names: tuple[str, ...] | list[str]) -> str:
    """Names as they read in a message, the first ten of them."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(repr(name) for name in names[:10]) + more if names else "none"
