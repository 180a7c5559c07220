"""Crop, resize and blur as products with matrices made from data.

All three are `rows @ image @ columnsᵀ`, with weights computed from the parameters, so
that boxes and widths may differ from image to image in one compiled program; the
products run on matrix units and nothing is gathered.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

Image = Float[Array, "h w c"]
"""What operations change, in [0, 1] unless another range is named."""

Number = Float[Array, ""] | float
"""A number: static, or drawn on the device."""

Whole = Int[Array, ""] | int
"""A number of pixels: static, or drawn on the device."""

Interpolation = Literal["bilinear", "bicubic"]
"""What weighs the pixels near a place: a triangle, or pieces of cubic curves."""


def separable(
    rows: Float[Array, "i h"], columns: Float[Array, "j w"], image: Image
) -> Float[Array, "i j c"]:
    """Weighted sums over both axes: Σ_hw rows[i, h] · columns[j, w] · image[h, w].

    In full float32: by default GPUs and TPUs round the factors of a matrix product to
    as few as 10 or 7 bits, which shows in images of 8 bits.
    """
    full = lax.Precision.HIGHEST
    mixed = jnp.einsum("ih,hwc->iwc", rows, image, precision=full)
    return jnp.einsum("jw,iwc->ijc", columns, mixed, precision=full)


def _triangle(u: Float[Array, "i j"]) -> Float[Array, "i j"]:
    return jnp.maximum(1.0 - u, 0.0)


def _cubic(u: Float[Array, "i j"]) -> Float[Array, "i j"]:
    near = (1.5 * u - 2.5) * u * u + 1.0
    far = ((2.5 - 0.5 * u) * u - 4.0) * u + 2.0
    return jnp.where(u < 1.0, near, jnp.where(u < 2.0, far, 0.0))


def resize_weights(
    start: Whole,
    length: Whole,
    *,
    source: int,
    size: int,
    antialias: bool,
    interpolation: Interpolation = "bilinear",
) -> Float[Array, "size source"]:
    """Weights that resize pixels [start, start + length) of an axis to `size` pixels.

    Pixel centres lie at half integers, as in torchvision, PIL and TensorFlow 2. An
    output pixel at p weighs the pixel at q by a function of u = |p - q| / r, normalised
    to sum 1 over the pixels of the crop: nothing outside has an influence. The reach r
    is one pixel, or, with `antialias` where the crop shrinks, `length / size` pixels.
    Start and length must lie inside the axis of `source` pixels.

    Bilinear weights are max(0, 1 - u). Bicubic ones are 1.5 u³ - 2.5 u² + 1 up to u = 1
    and -0.5 u³ + 2.5 u² - 4 u + 2 up to 2, which is negative: Keys 1981 with a = -1/2
    (https://doi.org/10.1109/TASSP.1981.1163711), PIL's.
    """
    begin, extent = jnp.asarray(start, jnp.float32), jnp.asarray(length, jnp.float32)
    scale = extent / size
    wanted = (jnp.arange(size, dtype=jnp.float32) + 0.5) * scale
    place = jnp.arange(source, dtype=jnp.float32) + 0.5 - begin
    reach = jnp.maximum(scale, 1.0) if antialias else 1.0
    weigh = _cubic if interpolation == "bicubic" else _triangle
    weights = weigh(jnp.abs(wanted[:, None] - place[None, :]) / reach)
    inside = (place > 0.0) & (place < extent)
    weights = jnp.where(inside[None, :], weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def resized_crop(
    image: Image,
    top: Whole,
    left: Whole,
    height: Whole,
    width: Whole,
    *,
    size: int,
    antialias: bool,
    interpolation: Interpolation = "bilinear",
) -> Float[Array, "size size c"]:
    """Cuts a box out of an image and resizes it to a square.

    The same as cropping and then resizing, but the box is data. With `antialias` every
    pixel counts where the box shrinks, as in PIL, else only the four nearest to each
    output pixel. Bicubic is sharper; it goes beyond the values of the image near edges,
    and the result is limited to [0, 1].
    """
    if interpolation == "bicubic" and not antialias:
        raise ValueError(
            "interpolation 'bicubic' is PIL's, which has antialiasing; write "
            "antialias=True."
        )
    h, w, _ = image.shape
    weights = functools.partial(
        resize_weights, size=size, antialias=antialias, interpolation=interpolation
    )
    rows, columns = weights(top, height, source=h), weights(left, width, source=w)
    result = separable(rows, columns, image)
    return jnp.clip(result, 0.0, 1.0) if interpolation == "bicubic" else result


def cut_boxes(
    images: UInt8[Array, "b h w c"],
    boxes: Int[Array, "b v 4"],
    *,
    size: int,
    interpolation: Interpolation,
) -> UInt8[Array, "b v size size c"]:
    """Boxes (top, left, height, width) of images of 8 bits, resized as PIL does.

    With antialiasing, along the rows first, then along the columns, and rounded to 8
    bits after each: the same as PIL, but for what floats round in another way, a level.
    """
    _, h, w, _ = images.shape
    weights = functools.partial(
        resize_weights, size=size, antialias=True, interpolation=interpolation
    )
    full = lax.Precision.HIGHEST

    def eight_bits(x: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.clip(jnp.floor(x + 0.5), 0.0, 255.0)

    def one(image: Image, box: Int[Array, "4"]) -> UInt8[Array, "s s c"]:
        top, left, height, width = box
        columns, rows = weights(left, width, source=w), weights(top, height, source=h)
        mixed = jnp.einsum("jw,hwc->hjc", columns, image, precision=full)
        mixed = jnp.einsum("ih,hjc->ijc", rows, eight_bits(mixed), precision=full)
        return eight_bits(mixed).astype(jnp.uint8)

    each_box = jax.vmap(one, (None, 0))
    return jax.vmap(each_box)(images.astype(jnp.float32), boxes)


def resize(
    image: Image, height: int, width: int, *, antialias: bool
) -> Float[Array, "{height} {width} c"]:
    """Resizes an image bilinearly; `antialias` as in `resized_crop`."""
    h, w, _ = image.shape
    rows = resize_weights(0, h, source=h, size=height, antialias=antialias)
    columns = resize_weights(0, w, source=w, size=width, antialias=antialias)
    return separable(rows, columns, image)


def gaussian_weights(
    sigma: Number, *, source: int, kernel_size: Whole
) -> Float[Array, "source source"]:
    """Weights that blur an axis with a cut-off Gaussian, mirrored at both ends.

    A pixel at distance u, up to kernel_size // 2, weighs exp(-u² / 2σ²), normalised to
    sum 1. Beyond the ends the axis continues as its mirror image, the end pixels not
    repeated: pixel q is also found at -q and at 2 (source - 1) - q.

    The kernel_size is odd, and `source`, the pixels of the axis, more than half of it;
    one that is data is cut off where the axis has no more pixels to mirror.
    """
    last = source - 1
    radius, reach = kernel_size // 2, last
    if isinstance(radius, int):
        reach = radius
    else:
        radius = jnp.minimum(radius, last)

    def kernel(offset: Int[Array, "..."]) -> Float[Array, "..."]:
        bell = jnp.exp(-0.5 * jnp.square(offset.astype(jnp.float32) / sigma))
        return jnp.where(jnp.abs(offset) <= radius, bell, 0.0)

    place = jnp.arange(source)
    wanted, seen = place[:, None], place[None, :]
    weights = kernel(seen - wanted)
    weights += jnp.where(seen > 0, kernel(-seen - wanted), 0.0)
    weights += jnp.where(seen < last, kernel(2 * last - seen - wanted), 0.0)
    return weights / kernel(jnp.arange(-reach, reach + 1)).sum()
