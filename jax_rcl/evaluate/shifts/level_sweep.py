"""Accuracy of a classifier as a distortion grows, at fixed levels of it."""

import dataclasses
import functools
import logging
import zlib
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from jax_rcl import parallel
from jax_rcl.artifacts import Finding, Pictures
from jax_rcl.augment.compose import prepare
from jax_rcl.augment.distortions.levels import Level, Leveled
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.data import stream
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.classifier import Classifier, Restorer, progress, score
from jax_rcl.evaluate.features import (
    check_different,
    check_labels,
    check_not_empty,
    check_same,
    once,
)
from jax_rcl.evaluate.shifts import distorted
from jax_rcl.evaluate.shifts.corrupted import Seed
from jax_rcl.evaluate.shifts.level_numbers import CLEAN, Results, level_name
from jax_rcl.evaluate.when import AtEnd
from jax_rcl.ranges import Count, ranged

logger = logging.getLogger(__name__)

SHOWN = 8
"""How many images the sheet shows at every level."""


@dataclasses.dataclass(frozen=True)
@ranged
class LevelSweep:
    """Accuracy of one classifier on clean images, and on them at levels of distortion.

    The classifier learns nothing here: it is the head that was trained, or a probe of
    clean or of distorted images. Every image is read once and prepared as the
    classifier asks. At each level it is distorted several times, each time differently:
    a function of the seed, the repeat, the level and the place of the image in its
    source, not of the other levels, the batch size or the number of devices. The level
    is data, so that one program serves all of them, and images stay on the devices
    unless a restorer reads them, all but the few that are shown.

    Attributes:
      classifier: whose accuracy; says how images are prepared, and how many are encoded
        at a time.
      distortion: which; one whose `deterministic` is True draws nothing, so it is
        computed once for all repeats, which deviate by 0.
      levels: of the distortion, one number or several for each, such as (0.5, 0.9) or
        ((21, 5.0), (37, 9.0)).
      repeats: how often all images are seen at each level.
      source: the images; those of the classifier's test set by default. Their classes
        are named as those of the test set, though not each needs to have an image.
      restorer: what is done to distorted images before they are classified, or None;
        clean images are classified as they are.
    """

    classifier: Classifier
    distortion: Leveled
    levels: tuple[Level, ...]
    repeats: Count = 10
    seed: Seed = 42
    source: Source | None = None
    restorer: Restorer | None = None
    when: When = dataclasses.field(default=AtEnd())

    def __post_init__(self) -> None:
        check_different("LevelSweep.levels", [*map(level_name, self.levels)])
        for level in self.levels:
            self.distortion.checked(level)
        if self._reads_mask and not isinstance(self.distortion, distorted.Masking):
            raise ValueError(
                f"LevelSweep.restorer {self.restorer} reads a mask, and "
                f"{self.distortion} has none; sweep over a distortion with `known`, "
                f"such as RandomMask, or give a restorer that reads images alone."
            )

    @property
    def preprocess(self) -> Operation | None:
        """How images are prepared before they are distorted."""
        return self.classifier.preprocess

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({self.classifier.layer})

    @property
    def protocol(self) -> str:
        drawn = f"drawn {self.repeats} times" if self.repeats > 1 else "drawn once"
        if not self._random:
            drawn = "which draws nothing"
        restored = f", restored by {self.restorer.protocol}" if self.restorer else ""
        over = ", mean, std and stderr over these" if self.repeats > 1 else ""
        return (
            f"{self.classifier.protocol}; here of {len(self._images)} images under "
            f"{self.distortion.name} at {len(self.levels)} levels, {drawn}, seed "
            f"{self.seed}{restored}{over}"
        )

    def check(self) -> None:
        """Compares the images with what the classifier knows and the levels need."""
        self.classifier.check()
        own, names = self._images.class_names, self.classifier.test.class_names
        check_same("classes", own, names, of=(self._images, "the test set"))
        check_not_empty(self._images)
        image = np.asarray(self._images[0]["image"])
        shown = jax.eval_shape(functools.partial(prepare, self.preprocess), image[None])
        for level in self.levels:
            self.distortion.checked(level, shown.shape[1:3])

    def run(self, encode: Encode) -> dict[str, float]:
        """Accuracies of the clean images and at each level; `check` comes first.

        Returns:
          `clean/top1`, and for each level `<level>/top1`, the mean over repeats,
          `<level>/top1_std`, their deviation sqrt(Σ (x - mean)² / (repeats - 1)), and
          `<level>/top1_stderr`, that divided by sqrt(repeats); a single repeat has
          neither. `top5` likewise beyond five classes, `auroc` for two. A level is
          named by its numbers, such as `0.9` or `21x5`.
        """
        return once(encode, self, lambda: self._measure(encode)).numbers()

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Accuracy over the level, and a few images at every level."""
        found, name = (
            once(encode, self, lambda: self._measure(encode)),
            self.distortion.name,
        )
        few, total = len(found.labels), len(self._images)
        restored = ", restored" if self.restorer else ""
        over = f"; bars: deviation over {self.repeats} repeats" * (self.repeats > 1)
        sheet = Pictures(
            images=np.clip(found.shown, 0, 1),
            row_names=(CLEAN, *found.level_names),
            labels=found.labels,
            class_names=self._images.class_names,
            method=f"the first {few} of {total} images as the encoder sees them"
            f"{restored}; values beyond black and white are cut off here alone",
        )
        curves = found.curves(
            f"level of {name}",
            f"shares of {total} images by level of {name}{restored}{over}; dashed: "
            f"clean images",
        )
        return {f"accuracy under {name}": curves, f"images under {name}": sheet}

    @property
    def _cost(self) -> str:
        """How much there is to restore, said before it begins."""
        repeats = self.repeats if self._random else 1
        count = len(self._images) * len(self.levels) * repeats
        each = getattr(self.restorer, "cost", "")
        return (
            f"{count:,} images to restore ({len(self._images):,} × {len(self.levels)} "
            f"levels × {repeats} draws){', ' * bool(each)}{each}"
        )

    @property
    def _images(self) -> Source:
        return self.classifier.test if self.source is None else self.source

    @property
    def _random(self) -> bool:
        return not getattr(self.distortion, "deterministic", False)

    @property
    def _reads_mask(self) -> bool:
        return self.restorer is not None and self.restorer.reads == "images and mask"

    def _measure(self, encode: Encode) -> Results:
        self.check()
        classifier, images = self.classifier, self._images
        drawn = range(self.repeats if self._random else 1)
        cells = [(CLEAN, 0), *((level, k) for level in self.levels for k in drawn)]
        outcomes: list[list[np.ndarray]] = [[] for _ in cells]
        every, shown = [], []
        if self.restorer is not None and parallel.is_main():
            logger.info("%s: %s", self.distortion.name, self._cost)
        # The clean images take no time beside those that are restored.
        counted = len(cells) - (self.restorer is not None)
        with progress(len(images) * counted, self.distortion.name) as bar:
            batches = stream.eval_batches(images, classifier.batch_size)
            for step, (rows, mask) in enumerate(batches):
                if "label" not in rows:
                    raise ValueError(
                        f"{images} has no 'label'; give a labelled source."
                    )
                labels = rows["label"][mask].astype(np.int32)
                check_labels(labels, images)
                every.append(labels)
                first = step * classifier.batch_size
                batch = distorted.place(classifier.preprocess, rows["image"], first)
                for (level, repeat), parts in zip(cells, outcomes, strict=True):
                    shown_batch = self._distort(
                        level, repeat, batch, len(labels), bar.update
                    )
                    if step == repeat == 0:
                        shown.append(
                            distorted.first_of(shown_batch, min(SHOWN, len(labels)))
                        )
                    of = f"under {self.distortion.name} at {level}"
                    given = shown_batch, len(labels), of
                    scores = score(classifier, encode, *given)
                    parts.append(metrics.outcome(scores, labels))
                    if self.restorer is None:
                        bar.update(len(labels))
        labels, sheet = np.concatenate(every), np.stack(shown)
        k = len(images.class_names)
        clean, *others = (
            metrics.shares(np.concatenate(x), labels, k) for x in outcomes
        )
        shape = len(self.levels), self.repeats
        each = {
            k: np.array([x[k] for x in others]).reshape(shape[0], -1) for k in clean
        }
        cells = {kind: np.broadcast_to(x, shape) for kind, x in each.items()}
        return Results(clean, self.levels, cells, sheet, labels[: sheet.shape[1]])

    def _distort(
        self,
        level: Level | str,
        repeat: int,
        batch: distorted.Placed,
        count: int,
        done: Callable[[float], object],
    ) -> Float[jax.Array, "n h w c"] | Float[np.ndarray, "n h w c"]:
        """Input of the encoder for a batch whose first `count` images matter."""
        if isinstance(level, str):
            return batch["image"]
        taken = self.distortion.checked(level)
        # Of the level itself, so that other levels may come and go.
        number = zlib.crc32(taken.tobytes())
        words = np.array([self.seed, repeat, number], np.uint32)
        masked = self._reads_mask
        made = distorted.at_level(self.distortion, words, taken, batch, masked=masked)
        if self.restorer is None:
            return made[0]
        images, known = parallel.fetch(made)
        seen = known[:count] if masked else None
        restored = self.restorer(images[:count], seen, done)
        # Filled up again: the encoder is compiled for one number of images.
        return np.concatenate([restored.astype(np.float32), images[count:]])
