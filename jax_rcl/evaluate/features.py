"""Features of a whole source, encoded once and shared by all who ask for the same."""

import dataclasses
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float32, Int32, Num, Shaped

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
        self, encode: Encode, source: Source, *, layer: str = "", **more: Any
    ) -> tuple[Float32[np.ndarray, "m f"], Num[np.ndarray, "m ..."]]:
        """What the layer gives for every image of a source, and the answers."""
        return features(
            encode,
            source,
            layer=layer or self.layer,
            preprocess=self.preprocess,
            batch_size=self.batch_size,
            **more,
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
    answer: Literal["label", "targets"] = "label",
) -> tuple[Float32[np.ndarray, "m f"], Num[np.ndarray, "m ..."]]:
    """Features and labels of every image of a source, in its order.

    Every call of `encode` gets `batch_size` images: the last batch is padded, and the
    rows of the padding are dropped. All layers of one (encode, source, preprocess,
    distortion, seed) are computed together and once; further calls return what was
    computed. In a run of several processes each reads the whole source.

    Args:
      encode: images [n, h, w, c] in [0, 1] to named features [n, f].
      source: records of `image` and `label`, or `targets`.
      layer: see `LayerEvaluator`, also for the next two.
      preprocess: before `distortion`.
      batch_size: with a distortion, rounded up to a multiple of the number of devices.
      distortion: what is done to each image then, on the devices; None for nothing.
        Every image draws for itself and once, a function of `seed` and of its place in
        the source alone.
      seed: of the distortion, in [0, 2^32).
      answer: what is given beside the features. Targets answer several yes-or-no
        questions about each image: 1, 0, or NaN where the answer is missing.

    Returns:
      Features, one finite vector an image, and labels [m], int32 in [0, k), or targets
      [m, t], float32; read-only, since others share them.
    """
    drawn = None if distortion is None else (distortion, seed)

    def images(rows: Shaped[np.ndarray, "n h w c"], step: int) -> jax.Array:
        if drawn is None:
            return prepare_images(preprocess, rows)
        return distort(*drawn, place(preprocess, rows, step * batch_size))

    def check(layers: Iterable[str], answers: Iterable[str]) -> None:
        if answer not in answers:
            kind = "labels" if answer == "label" else answer
            raise ValueError(
                f"{source} has no {answer!r}; its records hold "
                f"{_listed(sorted(answers))}. Evaluate on a source with {kind}."
            )
        if layer not in layers:
            raise ValueError(
                f"encode gives no layer {layer!r}, but {_listed(sorted(layers))}. Set "
                f"`layer` to one of them."
            )

    def encode_all() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        check_not_empty(source)
        named: dict[str, list[np.ndarray]] = {}
        answers: dict[str, list[np.ndarray]] = {}
        for step, (batch, mask) in enumerate(stream.eval_batches(source, batch_size)):
            output = parallel.fetch(encode(images(batch["image"], step)))
            check(output, batch)  # after one batch rather than all
            for name, values in output.items():
                named.setdefault(name, []).append(np.asarray(values)[: len(mask)][mask])
            for name in _ANSWERS.keys() & batch.keys():
                answers.setdefault(name, []).append(np.asarray(batch[name])[mask])
        layers = {n: np.concatenate(x).astype(np.float32) for n, x in named.items()}
        whole = {n: np.concatenate(x).astype(_ANSWERS[n]) for n, x in answers.items()}
        for array in (*layers.values(), *whole.values()):
            array.flags.writeable = False
        return layers, whole

    named, answers = once(encode, (source, preprocess, drawn), encode_all)
    check(named, answers)
    values = named[layer]
    if values.ndim != 2:
        raise ValueError(
            f"layer {layer!r} gives {values.shape[1:]} for each image; evaluators "
            f"read one vector [f]. Pool it in the objective's encode."
        )
    check_finite(values, layer, f"of {source}")
    _CHECKS[answer](answers[answer], source)
    return values, answers[answer]


def check_labels(labels: Int32[np.ndarray, " m"], source: Source) -> None:
    """Raises ValueError unless each label is one that the source names."""
    if labels.min() < 0 or labels.max() >= len(source.class_names):
        raise ValueError(
            f"{source} has labels from {labels.min()} to {labels.max()}, but names "
            f"{len(source.class_names)} classes; labels count its names from 0."
        )


def check_targets(targets: Float32[np.ndarray, "m t"], source: Source) -> None:
    """Raises ValueError unless each target is 0, 1 or NaN."""
    odd = targets[~np.isnan(targets) & (targets != 0) & (targets != 1)]
    if odd.size:
        raise ValueError(
            f"{source} has {odd.size} targets such as {odd[0]:g}; a target is 0, 1 or, "
            f"where it is missing, NaN. Let the source say what other values mean."
        )


_CHECKS = {"label": check_labels, "targets": check_targets}


def check_different(setting: str, values: Sequence[object]) -> None:
    """Raises ValueError if there are none, or one is repeated."""
    if not values or len({*values}) < len(values):
        raise ValueError(f"{setting} must be different and not empty; got {values}.")


def check_finite(values: Shaped[np.ndarray, "n ..."], layer: str, of: str) -> None:
    """Raises ValueError unless a layer is finite for all of some images."""
    broken = int((~np.isfinite(values.reshape(len(values), -1))).any(axis=1).sum())
    if broken:
        raise ValueError(
            f"layer {layer!r} is not finite for {broken} of {len(values)} images {of}; "
            f"the network has diverged. Lower the learning rate."
        )


def check_apart(train: Source, test: Source) -> None:
    """Raises ValueError if images would be tested that were learnt from."""
    if train == test:
        raise ValueError(
            f"train and test are the same source, {train}: every image would be found "
            f"by itself. Give another split as test."
        )


def check_same(
    what: str, own: Sequence[str], others: Sequence[str], *, of: tuple[Any, Any]
) -> None:
    """Raises ValueError unless two sources name the same classes, groups or targets."""
    if tuple(own) != tuple(others):
        lacking = set(own) ^ set(others)
        hint = ""
        if what == "classes" and (set(own) < set(others) or set(others) < set(own)):
            hint = (
                f" Of folders, give both the same `classes`, and missing='skip' to the "
                f"one that has no {_listed(sorted(lacking)[:3])}."
            )
        raise ValueError(
            f"{of[0]} has the {what} {_listed(own)} and {of[1]} {_listed(others)}; "
            f"each must mean the same in both. Name them alike, in the same order."
            f"{hint}"
        )


def shared_classes(train: Source, test: Source) -> tuple[str, ...]:
    """Names of the classes that an evaluator learns on one source and tests on another.

    The sources must differ, and name the same classes, at least two.
    """
    check_apart(train, test)
    names = train.class_names
    check_same("classes", names, test.class_names, of=("train", "test"))
    check_labelled(train)
    return names


def check_labelled(source: Source) -> None:
    """Raises ValueError for a source with fewer than two classes."""
    if len(source.class_names) < 2:
        raise ValueError(
            f"{source} names {len(source.class_names) or 'no'} classes; use a labelled "
            f"source of at least two."
        )


def check_not_empty(source: Source) -> None:
    """Raises ValueError for a source without records."""
    if not len(source):
        raise ValueError(f"{source} is empty; there is nothing to evaluate.")


def _listed(names: Sequence[str]) -> str:
    """Names as they read in a message, the first ten of them."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(repr(name) for name in names[:10]) + more if names else "none"
