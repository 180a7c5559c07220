"""Reconstructions of a decoder, and how far they are from the images."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer, UInt8

from jax_rcl import parallel
from jax_rcl.artifacts import Finding, Pictures
from jax_rcl.core import Encode, Operation, Source
from jax_rcl.data import records, stream
from jax_rcl.evaluate.features import LayerEvaluator, check_finite, check_not_empty
from jax_rcl.evaluate.shifts.distorted import prepare_images
from jax_rcl.ranges import Count


@dataclasses.dataclass(frozen=True)
class Reconstructions(LayerEvaluator):
    """Mean squared error of reconstructed images, and a sheet that shows some of them.

    `mse` is the mean of (x̂ - x)² over the pixels and channels of every image of the
    source, with x in [0, 1]: 0 is perfect, and 1 / 255² what rounding to a byte costs
    at most. A decoder of gray images is compared with the mean of x over its channels
    (a perfect one of `target="gray"`, which averages normalised channels, is off by a
    few 1e-5).

    Attributes:
      layer: name under which `encode` gives images [n, h, w, c] in the unit of x.
      count: images on the sheet, as many of each class as of any other, or one more.
    """

    source: Source
    _: dataclasses.KW_ONLY
    layer: str = "reconstruction"
    count: Count = 8

    @property
    def protocol(self) -> str:
        return (
            f"mean squared error of {self.layer!r} over all pixels of "
            f"{len(self.source)} images in [0, 1]"
        )

    def check(self) -> None:
        check_not_empty(self.source)

    def run(self, encode: Encode) -> dict[str, float]:
        """`mse`."""
        self.check()
        total = 0.0
        for batch, mask in stream.eval_batches(self.source, self.batch_size):
            images = np.asarray(prepare_images(self.preprocess, batch["image"]))
            target, made = reconstruct(encode, images, self.layer)
            errors = ((made - target) ** 2).mean(axis=(1, 2, 3), dtype=np.float64)
            total += float(errors[mask].sum())
        return {"mse": total / len(self.source)}

    def findings(self, encode: Encode) -> dict[str, Finding]:
        """Images above what the decoder makes of them, class by class."""
        labels, rows = None, np.arange(min(self.count, len(self.source)))
        if self.source.class_names:
            every = records.labels_of(self.source)
            rows = choose_evenly(every, self.count)
            labels = every[rows]
        how = self.layer, self.preprocess, self.batch_size
        shown, _, made = reconstruct_rows(encode, self.source, rows, *how)
        pair = np.broadcast_arrays(shown, made)
        return {
            "reconstructions": Pictures(
                images=np.clip(np.stack(pair), 0, 1).astype(np.float32),
                row_names=("original", "decoded"),
                labels=labels,
                class_names=self.source.class_names,
                method=f"images above what the decoder makes of them, {len(rows)} of "
                f"{len(self.source)}",
            )
        }


def reconstruct(
    encode: Encode, images: Float[np.ndarray, "n h w c"], layer: str
) -> tuple[Float32[np.ndarray, "n h w e"], Float32[np.ndarray, "n h w e"]]:
    """Images as a decoder should reconstruct them, and as it does.

    All are in [0, 1]. The layer's images have the size of `images`, and as many
    channels or one; with one `images` become gray, by the mean over channels.
    """
    made = np.asarray(parallel.fetch(encode(images, layers=(layer,)))[layer])
    target = images.mean(axis=3, keepdims=True) if made.shape[-1] == 1 else images
    if made.shape != target.shape:
        raise ValueError(
            f"layer {layer!r} gives {list(made.shape[1:])} for each image of "
            f"{list(images.shape[1:])}; a reconstruction has the height and width of "
            f"its image, and its channels or one. Name the layer that holds images, or "
            f"resize with `preprocess`."
        )
    check_finite(made, layer, "to decode")
    return target.astype(np.float32), made.astype(np.float32)


def reconstruct_rows(
    encode: Encode,
    source: Source,
    rows: Int64[np.ndarray, " m"],
    layer: str,
    preprocess: Operation | None,
    batch_size: int,
) -> tuple[Float32[np.ndarray, "m ..."], ...]:
    """Some images of a source, and what `reconstruct` gives of them."""
    found = []
    for raw, _, count in batches_of(source, rows, batch_size):
        images = np.asarray(prepare_images(preprocess, raw))
        arrays = images, *reconstruct(encode, images, layer)
        found.append([x[:count] for x in arrays])
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def batches_of(
    source: Source, rows: Int64[np.ndarray, " m"], batch_size: int
) -> Iterator[tuple[UInt8[np.ndarray, "b h w c"], Int64[np.ndarray, " b"], int]]:
    """Some images of a source as it gives them, their rows, and how many count.

    The last batch is filled up with its last image.
    """
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        filled = np.pad(chosen, (0, batch_size - len(chosen)), mode="edge")
        into = records.empty_rows({"image": source[0]["image"]}, batch_size)
        records.fill(source, filled, into)
        yield into["image"], filled, len(chosen)


def choose_evenly(
    labels: Integer[np.ndarray, " n"], count: int
) -> Int64[np.ndarray, " m"]:
    """The first rows of each class in turn, `count` in all, sorted by class."""
    order = np.argsort(labels, kind="stable")
    sorted_labels = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(sorted_labels, sorted_labels)
    chosen = order[np.lexsort((sorted_labels, rank))[:count]]
    return chosen[np.argsort(labels[chosen], kind="stable")]
