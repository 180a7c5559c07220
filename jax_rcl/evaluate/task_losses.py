"""The losses of a training on images that are held out, one for each of its tasks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax

from jax_rcl import parallel
from jax_rcl.core import Encode, Operation, Source, When
from jax_rcl.data.records import Seed, labels_of
from jax_rcl.evaluate import exchange
from jax_rcl.evaluate.exchange import Terms
from jax_rcl.evaluate.features import LayerEvaluator, check_finite, check_labelled
from jax_rcl.evaluate.reconstructions import reconstruct
from jax_rcl.evaluate.when import Every
from jax_rcl.ranges import Count, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class TaskLosses(LayerEvaluator):
    """Cross-entropy, contrastive terms and squared error of images held out.

    Of two random views of each image, in inference mode: what falls in training and
    rises here is learned by heart. Each loss is a mean over the images and both views,
    without the weight that the training gives it. Contrastive terms compare
    `batch_size` images; what is left of a last batch is omitted, unless it is all.

    Attributes:
      source: labelled as the training is.
      views: makes a random view of an image in [0, 1].
      terms: losses of two views, given `layer` as it is; by name, or as the contrasts
        of an objective.
      logits: layer of the head, or None.
      reconstruction: layer of decoded images, or None; its error is that of pixels in
        [0, 1].
    """

    source: Source
    views: Operation
    _: dataclasses.KW_ONLY
    # Not hashed, since mappings cannot be; compared all the same.
    terms: Terms = dataclasses.field(default_factory=dict, hash=False)
    logits: str | None = "logits"
    reconstruction: str | None = None
    batch_size: Count = 128
    seed: Seed = 0
    when: When = dataclasses.field(default=Every(epochs=1))

    @property
    def needs(self) -> frozenset[str]:
        layers = {self.layer, self.logits, self.reconstruction}
        return frozenset(layer for layer in layers if layer)

    @property
    def protocol(self) -> str:
        return (
            f"losses of two views of {len(self.source)} images, {self.batch_size} "
            f"compared at a time, seed {self.seed}, in inference mode"
        )

    def check(self) -> None:
        """Looks for labels."""
        check_labelled(self.source)
        if self.preprocess is not None:
            raise ValueError(
                "TaskLosses.preprocess does nothing: `views` makes the images that the "
                "encoder takes. Omit it."
            )

    def run(self, encode: Encode) -> dict[str, float]:
        """`cross_entropy`, each of `terms`, and `reconstruction`, as there are."""
        labels = labels_of(self.source).astype(np.int32)
        rows, found = np.arange(len(labels)), []
        if len(rows) > self.batch_size:
            rows = rows[: len(rows) // self.batch_size * self.batch_size]
        apply = {
            name: jax.jit(term) for name, term in exchange.by_name(self.terms).items()
        }
        given = self.source, rows, self.views, self.batch_size
        for place, (pair, count) in enumerate(
            exchange.two_views(*given, seed=self.seed)
        ):
            own = labels[place * self.batch_size :][:count]
            layers = [parallel.fetch(encode(pair[:, view])) for view in (0, 1)]
            numbers: dict[str, float] = {}
            if self.logits:
                logits = [
                    np.asarray(x[self.logits], np.float32)[:count] for x in layers
                ]
                check_finite(logits[0], self.logits, f"of {self.source}")
                numbers["cross_entropy"] = float(
                    np.mean([cross_entropy(x, own) for x in logits])
                )
            z = [jnp.asarray(x[self.layer][:count], jnp.float32) for x in layers]
            for name, term in apply.items():
                value = np.asarray(term(*z, jnp.asarray(own)), np.float64)
                numbers[name] = float(value.mean())
            if self.reconstruction:
                images = np.asarray(pair)
                pairs = [
                    reconstruct(encode, images[:, view], self.reconstruction)
                    for view in (0, 1)
                ]
                numbers["reconstruction"] = float(
                    np.mean([((b - a) ** 2)[:count].mean() for a, b in pairs])
                )
            found.append((count, numbers))
        total = sum(count for count, _ in found)
        return {
            name: sum(count * numbers[name] for count, numbers in found) / total
            for name in found[0][1]
        }


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean of -log softmax of the logits at the labels."""
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())
