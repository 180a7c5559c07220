"""Weighted nearest neighbours: what the geometry of features says without training."""

import dataclasses
import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Integer

from jax_rcl.core import Encode, Source, When
from jax_rcl.evaluate import metrics
from jax_rcl.evaluate.features import LayerEvaluator, shared_classes
from jax_rcl.evaluate.when import Every
from jax_rcl.ranges import Above, Count

_ELEMENTS = 2**26  # similarities held at once: 256 MiB of float32


@dataclasses.dataclass(frozen=True)
class Neighbours(LayerEvaluator):
    """Accuracy of the vote of the k most similar training images.

    Attributes:
      train: the images that vote.
      k: how many vote; 200 for large sets in Wu et al. 2018.
      temperature: small values let the nearest decide; see `votes`.
    """

    train: Source
    test: Source
    k: Count = 20
    temperature: Annotated[float, Above(0, "0.07 in Wu et al. 2018")] = 0.07
    _: dataclasses.KW_ONLY
    when: When = dataclasses.field(default=Every(epochs=1))

    @property
    def protocol(self) -> str:
        return (
            f"vote of the k={self.k} nearest of {len(self.train)} training images for "
            f"{len(self.test)} test images of {len(self.test.class_names)} classes, "
            f"cosine of {self.layer!r}, temperature {self.temperature:g}"
        )

    def check(self) -> None:
        """Compares the sources with each other and with k; `run` does so first."""
        shared_classes(self.train, self.test)
        if self.k > len(self.train):
            raise ValueError(
                f"Neighbours.k {self.k} exceeds the {len(self.train)} training images. "
                f"Set k to {len(self.train)} or less."
            )

    def run(self, encode: Encode) -> dict[str, float]:
        """`top1`, `balanced`, `top5` beyond five classes, `auroc` for two."""
        self.check()
        train, train_labels = self.features(encode, self.train)
        test, test_labels = self.features(encode, self.test)
        shares = votes(
            *map(jnp.asarray, (train, train_labels, test)),
            neighbours=self.k,
            temperature=self.temperature,
            classes=len(self.train.class_names),
        )
        return metrics.classification(np.asarray(shares), test_labels)


@functools.partial(jax.jit, static_argnames=("neighbours", "classes", "block"))
def votes(
    features: Float[Array, "m f"],
    labels: Integer[Array, " m"],
    queries: Float[Array, "n f"],
    *,
    neighbours: int,
    temperature: float | Float[Array, ""],
    classes: int,
    block: int | None = None,
) -> Float[Array, "n k"]:
    """Share of each class in the vote of each query's nearest neighbours; sums to 1.

    A neighbour of cosine similarity s votes for its label with weight exp(s /
    temperature), Wu et al. 2018 (https://arxiv.org/abs/1805.01978), section 3.4; a zero
    vector has similarity 0 with all. Of equally similar ones those vote that come
    first. Exact: every query is compared with every feature, `block` queries at once,
    or as many as 256 MiB allow.
    """
    if neighbours > len(features):
        raise ValueError(
            f"{neighbours} neighbours cannot be found among {len(features)} features."
        )
    if block is None:
        row = max(len(features), neighbours * classes)
        block = max(1, min(len(queries), _ELEMENTS // row))
    units = _unit(features)

    def of_one(query: Float[Array, " f"]) -> Float[Array, " k"]:
        # "highest": reduced precision, some devices' default, reorders neighbours.
        similarity = jnp.matmul(units, query, precision="highest")
        nearest, places = lax.top_k(similarity, neighbours)
        # Less the largest, so that a small temperature does not overflow.
        weights = jnp.exp((nearest - nearest[0]) / temperature)
        voices = jax.nn.one_hot(labels[places], classes, dtype=weights.dtype)
        return weights @ voices / weights.sum()

    return lax.map(of_one, _unit(queries), batch_size=block)


def _unit(x: Float[Array, "n f"]) -> Float[Array, "n f"]:
    """Rows of length 1; zero rows stay zero."""
    lengths = jnp.linalg.norm(x, axis=1, keepdims=True)
    return x / jnp.maximum(lengths, jnp.finfo(x.dtype).tiny)
