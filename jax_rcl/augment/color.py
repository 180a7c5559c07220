"""Operations on colours, the same for every pixel of an image in [0, 1].

Images have three channels (red, green, blue) or one (gray). On gray images saturation,
hue and `Grayscale` change nothing, as in torchvision; brightness, contrast and
`Solarize` act on them like on any other.
"""

import dataclasses
import itertools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jax_rcl.augment.resample import Image, Number
from jax_rcl.ranges import NotNegative, Within, ranged

LUMA = (0.2989, 0.587, 0.114)
"""Red, green and blue in the gray value: ITU-R BT.601, with torchvision's digits."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""Places of the four changes in what `ColorJitter.draw` returns."""

_ORDERS = np.array(list(itertools.permutations(range(4))), np.int32)


def gray(image: Image) -> Float[Array, "h w 1"]:
    """The gray value of each pixel, Σ LUMA · (red, green, blue)."""
    if image.shape[2] == 1:
        return image
    _require_three_channels(image)
    # A sum of three slices rather than a product with a vector, which GPUs would round.
    red, green, blue = (LUMA[i] * image[..., i : i + 1] for i in range(3))
    return red + green + blue


def blend(image: Image, other: Float[Array, "#h #w #c"], factor: Number) -> Image:
    """Mixes two images: factor · image + (1 - factor) · other, limited to [0, 1].

    0 gives the other, 1 the image, and more than 1 leads away from the other.
    """
    return jnp.clip(factor * image + (1.0 - factor) * other, 0.0, 1.0)


def adjust_brightness(image: Image, factor: Number) -> Image:
    """Blends with black: 0 is black, 1 changes nothing."""
    return blend(image, jnp.zeros((1, 1, 1)), factor)


def adjust_contrast(image: Image, factor: Number) -> Image:
    """Blends with the mean gray value of the image: 0 is flat, 1 changes nothing."""
    return blend(image, gray(image).mean(keepdims=True), factor)


def adjust_saturation(image: Image, factor: Number) -> Image:
    """Blends with the gray values: 0 is gray, 1 changes nothing."""
    return image if image.shape[2] == 1 else blend(image, gray(image), factor)


def adjust_hue(image: Image, shift: Number) -> Image:
    """Turns the colour circle by `shift` of a whole turn, in [-0.5, 0.5].

    On the circle cut in six, with hue H in [0, 6), value V and chroma C (lightest minus
    darkest), red is V - C · clip(min(k, 4 - k), 0, 1) at k = (5 + H) mod 6, green at
    3 + H, blue at 1 + H: the conversion from HSV without cases.
    """
    if image.shape[2] == 1:
        return image
    _require_three_channels(image)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    # Gray pixels have no hue; any will do, since their chroma is 0.
    scale = 1.0 / jnp.where(chroma > 0.0, chroma, 1.0)
    # Compared with each other, not with the lightest, which may be rounded differently.
    from_green = jnp.where(
        green >= blue, 2.0 + (blue - red) * scale, 4.0 + (red - green) * scale
    )
    red_first = (red >= green) & (red >= blue)
    hue = jnp.where(red_first, (green - blue) * scale, from_green) + 6.0 * shift

    def channel(offset: float) -> Float[Array, "h w"]:
        k = jnp.mod(offset + hue, 6.0)
        return value - chroma * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


@dataclasses.dataclass(frozen=True)
@ranged
class ColorJitter:
    """Changes brightness, contrast, saturation and hue, in random order.

    As in torchvision: each of the first three by a factor uniform in
    [max(0, 1 - s), 1 + s], the hue by a shift uniform in [-hue, hue], all 24 orders
    equally likely, limited to [0, 1] after each. What has strength 0 costs nothing.
    Shifts of the hue are fractions of a whole turn.
    """

    brightness: NotNegative = 0.0
    contrast: NotNegative = 0.0
    saturation: NotNegative = 0.0
    hue: Annotated[float, Within(0, 0.5, hint="0.5 already reaches every colour")] = 0.0

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return self.apply(image, *self.draw(key))

    def draw(self, key: jax.Array) -> tuple[Float[Array, " 4"], Int[Array, " 4"]]:
        """Draws three factors and the shift of the hue, and when each of them happens.

        First is 0 and last is 3.
        """
        factor_key, place_key = jax.random.split(key)
        strengths = (self.brightness, self.contrast, self.saturation)
        low = jnp.array([*(max(0.0, 1.0 - s) for s in strengths), -self.hue])
        high = jnp.array([*(1.0 + s for s in strengths), self.hue])
        factors = low + jax.random.uniform(factor_key, (4,)) * (high - low)
        # One number and a table of the orders: nothing is sorted image by image.
        return factors, jnp.asarray(_ORDERS)[jax.random.randint(place_key, (), 0, 24)]

    def apply(
        self, image: Image, factors: Float[Array, " 4"], places: Int[Array, " 4"]
    ) -> Image:
        """Makes the changes that `draw` returns, but for those of strength 0."""
        strengths = dataclasses.astuple(self)
        possible = range(4) if image.shape[2] > 1 else (BRIGHTNESS, CONTRAST)
        active = [i for i in possible if strengths[i] > 0]
        blends = [i for i in active if i != HUE]
        if HUE not in active:
            return _blended(image, factors, places, blends)
        # The blends are walked through before and after the hue, those on the other
        # side of it with factor 1, which changes nothing: six blends and one hue are
        # much less work than all four kinds in each of four places.
        later = places > places[HUE]
        image = _blended(image, jnp.where(later, 1.0, factors), places, blends)
        image = adjust_hue(image, factors[HUE])
        return _blended(image, jnp.where(later, factors, 1.0), places, blends)


def _blended(
    image: Image,
    factors: Float[Array, " 4"],
    places: Int[Array, " 4"],
    blends: list[int],
) -> Image:
    """Brightness, contrast, saturation, those in `blends`, in the order of places."""
    when = places[np.array(blends, np.int32)]
    rank = (when[None, :] < when[:, None]).sum(axis=1)
    for turn in range(len(blends)):
        luma = gray(image)
        target, factor = jnp.zeros((1, 1, 1)), jnp.float32(0.0)
        for place, kind in enumerate(blends):
            due = rank[place] == turn
            factor = jnp.where(due, factors[kind], factor)
            if kind == CONTRAST:
                target = jnp.where(due, luma.mean(keepdims=True), target)
            if kind == SATURATION:
                target = jnp.where(due, luma, target)
        image = blend(image, target, factor)
    return image


@dataclasses.dataclass(frozen=True)
class Grayscale:
    """Removes the colour and keeps the number of channels."""

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return jnp.broadcast_to(gray(image), image.shape)


@dataclasses.dataclass(frozen=True)
@ranged
class Solarize:
    """Inverts what is at least as light as `threshold`: x -> 1 - x."""

    threshold: Annotated[float, Within(0, 1, hint="where 128 of 256 is 0.5")] = 0.5

    def __call__(self, key: jax.Array, image: Image) -> Image:
        return jnp.where(image >= self.threshold, 1.0 - image, image)


def _require_three_channels(image: Image) -> None:
    if image.shape[2] != 3:
        raise ValueError(
            f"colours are red, green and blue, or one gray channel; "
            f"got an image of {image.shape[2]} channels."
        )
