"""A test set in corruptions of rising severity, computed while it is evaluated."""

import dataclasses
import functools
import zlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, UInt32

from jax_rcl import parallel
from jax_rcl.augment.corruptions.table import SEVERITIES, STANDARD, Corruption
from jax_rcl.core import Operation, Source
from jax_rcl.data import stream
from jax_rcl.evaluate.features import check_different
from jax_rcl.evaluate.shifts.distorted import Placed, image_keys, place
from jax_rcl.ranges import Within, ranged

Seed = Annotated[int, Within(0, 2**32, open="high")]
"""A word of 32 bits, from which random keys are made."""

Batch = tuple[tuple[int, int], Float32[np.ndarray, "n h w c"], Int32[np.ndarray, " m"]]
"""The cell, its images as the network sees them, and the labels of the first m ≤ n;
what follows them fills up the batch."""


@runtime_checkable
class Graded(Protocol):
    """An operation that comes in severities, such as `Corruption`."""

    @property
    def name(self) -> str: ...

    def __call__(
        self, key: jax.Array, image: jax.Array, severity: jax.Array
    ) -> jax.Array:
        """The image [h, w, c] in [0, 1] changed; `severity` is an int32 scalar."""
        ...


@dataclasses.dataclass(frozen=True)
@ranged
class Corrupted:
    """A source in corruptions that are computed on the device while it is evaluated.

    Each image is read once, prepared as the classifier asks, then corrupted in every
    way, each with a key of its own: a function of seed, corruption, severity and the
    place of the image in the source, hence not of the batch size. There is a program
    for each corruption, not for each severity.

    Attributes:
      severities: which of them, as the corruptions understand them.
      stored: images on disk have "8 bits", so what a corruption gives is rounded to
        these as the clean images were; "exact" leaves it as it is. (The published
        ImageNet-C cuts off the fraction, and compresses each image once more, as JPEG.)
    """

    source: Source
    corruptions: tuple[Graded, ...]
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    seed: Seed = 0
    stored: Literal["8 bits", "exact"] = "8 bits"

    def __post_init__(self) -> None:
        check_different("Corrupted.corruptions", self.names)
        check_different("Corrupted.severities", self.severities)
        strange = sorted({*self.severities} - {*SEVERITIES})
        if strange and any(isinstance(x, Corruption) for x in self.corruptions):
            raise ValueError(
                f"Corrupted.severities {self.severities}: {strange[0]} is not one of "
                f"{SEVERITIES}, those of Corruption."
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(corruption.name for corruption in self.corruptions)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.source,)

    @property
    def protocol(self) -> str:
        rounded = " rounded to 8 bits" if self.stored == "8 bits" else ""
        return (
            f"{describe_counts(self.names, self.severities)} computed on "
            f"{len(self.source)} prepared images{rounded}, seed {self.seed}"
        )

    def check(self) -> None:
        """Does nothing: the source has checked itself."""

    def batches(self, preprocess: Operation | None, batch_size: int) -> Iterator[Batch]:
        """All images in all cells, prepared before they are corrupted."""
        batches = stream.eval_batches(self.source, batch_size)
        for step, (rows, mask) in enumerate(batches):
            labels = np.asarray(rows["label"][mask], np.int32)
            batch = place(preprocess, rows["image"], step * batch_size)
            for i, corruption in enumerate(self.corruptions):
                number = zlib.crc32(corruption.name.encode())
                for j, severity in enumerate(self.severities):
                    words = np.array([self.seed, number, severity]).astype(np.uint32)
                    made = _corrupt(
                        corruption, self.stored, words, np.int32(severity), batch
                    )
                    yield (i, j), parallel.fetch(made)[:batch_size], labels


def counted(names: Sequence[str]) -> list[int]:
    """Places of the corruptions that a mean is over: the standard ones, or else all.

    Where all fifteen standard ones are present, others are reported separately.
    """
    standard = [place for place, name in enumerate(names) if name in STANDARD]
    return standard if len(standard) == len(STANDARD) else list(range(len(names)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _corrupt(
    corruption: Graded,
    stored: str,
    words: UInt32[Array, " 3"],
    severity: Int[Array, ""],
    batch: Placed,
) -> Float[Array, "n ..."]:
    keys = image_keys(words, batch["place"])
    made = jax.vmap(corruption, (0, 0, None))(keys, batch["image"], severity)
    if stored == "8 bits":
        made = jnp.round(255 * jnp.clip(made, 0, 1)) / 255
    return made


def describe_counts(names: Sequence[str], severities: Sequence[int]) -> str:
    """How many there are, and what the mean is over, in words."""
    most = len(counted(names))
    over = f" (the mean is over {most})" if most < len(names) else ""
    many = "corruptions" if len(names) > 1 else "corruption"
    return f"{len(names)} {many}{over} in {len(severities)} severities"
