"""Operations that move pixels: crops, resizes, flips, quarter turns.

Random ones draw their parameters from the key; deterministic ones ignore it, so that
all of them can stand in a `Chain`. Images keep the range [0, 1] up to rounding.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jax_rcl.augment.resample import Interpolation, Whole, resize, resized_crop

TRIES = 10
"""How often `RandomResizedCrop` tries to fit a box before it takes the central one."""


def padded_crop(
    image: Float[Array, "h w c"], top: Whole, left: Whole, *, size: int, padding: int
) -> Float[Array, "size size c"]:
    """Surrounds an image with `padding` black pixels and cuts a square out of that.

    `top` and `left` count from the corner of the padded image.
    """
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return lax.dynamic_slice(padded, (top, left, 0), (size, size, image.shape[2]))


def flipped(
    image: Float[Array, "h w c"], flip: Bool[Array, ""] | bool
) -> Float[Array, "h w c"]:
    """The image, or its mirror image with left and right exchanged."""
    return jnp.where(flip, image[:, ::-1], image)


def turned(image: Float[Array, "s s c"], turns: Whole) -> Float[Array, "s s c"]:
    """A square image after `turns` quarter turns against the clock, 0 to 3.

    A quarter turn is a transposition and a flip, so three selections make all four
    cases. `numpy.rot90(image, turns)` is the same.
    """
    image = jnp.where(turns % 2 == 1, image.swapaxes(0, 1), image)
    image = jnp.where((turns == 1) | (turns == 2), image[::-1], image)
    return jnp.where((turns == 2) | (turns == 3), image[:, ::-1], image)


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A random box of the image, resized to a square; the crop of Inception and SimCLR.

    Szegedy et al. 2015, section 6 (https://arxiv.org/abs/1409.4842), drawn as
    torchvision does: up to 10 times an area and a logarithm of the aspect ratio, both
    uniform, and the rounded box is taken if it fits, at a uniformly random place. If
    none fits, the largest central box whose aspect ratio is within bounds.

    Attributes:
      size: height and width of the result.
      area: bounds of the box's area, as a fraction of the image's, in (0, 1].
      aspect: bounds of width / height of the box, above 0.
      antialias: as in `resized_crop`, where bicubic must have it.
      interpolation: as in `resized_crop`.

    Raises:
      ValueError: if a field is out of bounds.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    antialias: bool = True
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _require_positive("RandomResizedCrop.size", self.size)
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(
                f"RandomResizedCrop.area {self.area} must be two fractions of the "
                f"image, 0 < low <= high <= 1, such as (0.08, 1.0)."
            )
        if not 0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise ValueError(
                f"RandomResizedCrop.aspect {self.aspect} must be two ratios width / "
                f"height, 0 < low <= high, such as (0.75, 1.333)."
            )

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "s s c"]:
        """One random box of the image, resized."""
        box = self.box(key, image.shape[0], image.shape[1])
        return resized_crop(
            image,
            *box,
            size=self.size,
            antialias=self.antialias,
            interpolation=self.interpolation,
        )

    def box(
        self, key: jax.Array, height: int, width: int
    ) -> tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""], Int[Array, ""]]:
        """Draws top, left, height and width of a box in an image of this shape."""
        size_key, place_key = jax.random.split(key)
        # All tries at once: a loop until one fits would run as long as the unluckiest
        # image of the batch, and ten uniform pairs cost no more than one.
        area, aspect = jax.random.uniform(size_key, (2, TRIES))
        area = height * width * (self.area[0] + area * (self.area[1] - self.area[0]))
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = jnp.exp(low + aspect * (high - low))
        sides = jnp.sqrt(jnp.stack([area / aspect, area * aspect]))
        sides = jnp.round(sides).astype(jnp.int32)
        whole = jnp.array([height, width], jnp.int32)
        fits = ((sides > 0) & (sides <= whole[:, None])).all(axis=0)
        central = jnp.array(self.central_sides(height, width), jnp.int32)
        chosen = jnp.where(fits.any(), sides[:, jnp.argmax(fits)], central)
        room = whole - chosen
        place = jax.random.randint(place_key, (2,), 0, room + 1)
        place = jnp.where(fits.any(), place, room // 2)
        return place[0], place[1], chosen[0], chosen[1]

    def central_sides(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the box that is taken when no drawn one fits."""
        low, high = self.aspect
        if width / height < low:
            return max(round(width / low), 1), width
        if width / height > high:
            return height, max(round(height * high), 1)
        return height, width


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """A square at a random place of the image surrounded by black.

    The augmentation of supervised training on CIFAR: `RandomCrop(32, padding=4)`,
    He et al. 2016, section 4.2 (https://arxiv.org/abs/1512.03385).

    Attributes:
      size: height and width of the result.
      padding: black pixels added on every side before.

    Raises:
      ValueError: if a field is out of bounds, or an image with its padding too small.
    """

    size: int
    padding: int = 0

    def __post_init__(self) -> None:
        _require_positive("RandomCrop.size", self.size)
        if self.padding < 0:
            raise ValueError(f"RandomCrop.padding {self.padding} must be 0 or more.")

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "s s c"]:
        """One random square of the padded image."""
        top, left = self.place(key, image.shape[0], image.shape[1])
        return padded_crop(image, top, left, size=self.size, padding=self.padding)

    def place(
        self, key: jax.Array, height: int, width: int
    ) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """Draws top and left in the padded image, every place equally often."""
        room = [side + 2 * self.padding - self.size for side in (height, width)]
        if min(room) < 0:
            raise ValueError(
                f"RandomCrop.size {self.size} must fit into the image of {height} x "
                f"{width} with padding {self.padding}; use a larger padding or Resize."
            )
        place = jax.random.randint(key, (2,), 0, jnp.array(room, jnp.int32) + 1)
        return place[0], place[1]


@dataclasses.dataclass(frozen=True)
class Flip:
    """Exchanges left and right with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"Flip.probability {self.probability} must lie in [0, 1].")

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image or its mirror image."""
        return flipped(image, jax.random.bernoulli(key, self.probability))


@dataclasses.dataclass(frozen=True)
class VerticalFlip:
    """Exchanges top and bottom with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(
                f"VerticalFlip.probability {self.probability} must lie in [0, 1]."
            )

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image or its mirror image in water."""
        upside_down = jax.random.bernoulli(key, self.probability)
        return jnp.where(upside_down, image[::-1], image)


@dataclasses.dataclass(frozen=True)
class Rotate90:
    """Turns a square image by 0, 90, 180 or 270 degrees, each equally often."""

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image after a random number of quarter turns."""
        h, w, _ = image.shape
        if h != w:
            raise ValueError(
                f"Rotate90 turns square images; got {h} x {w}. Put a crop before it."
            )
        return turned(image, jax.random.randint(key, (), 0, 4))


@dataclasses.dataclass(frozen=True)
class Resize:
    """Resizes to a square of `size`, whatever the image's proportions were."""

    size: int
    antialias: bool = True

    def __post_init__(self) -> None:
        _require_positive("Resize.size", self.size)

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "s s c"]:
        """The resized image; the key is not used."""
        return resize(image, self.size, self.size, antialias=self.antialias)


@dataclasses.dataclass(frozen=True)
class ResizeShorter:
    """Resizes the shorter side to `size` and keeps the proportions.

    The longer side is rounded down, as in torchvision's `Resize(size)`. Together with
    `CenterCrop` the usual preparation of a test image: `Chain((ResizeShorter(256),
    CenterCrop(224)))`.
    """

    size: int
    antialias: bool = True

    def __post_init__(self) -> None:
        _require_positive("ResizeShorter.size", self.size)

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "i j c"]:
        """The resized image; the key is not used."""
        h, w, _ = image.shape
        shorter = min(h, w)
        height, width = self.size * h // shorter, self.size * w // shorter
        return resize(image, height, width, antialias=self.antialias)


@dataclasses.dataclass(frozen=True)
class CenterCrop:
    """The square of `size` in the middle; the image must be as large."""

    size: int

    def __post_init__(self) -> None:
        _require_positive("CenterCrop.size", self.size)

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "s s c"]:
        """The middle of the image; the key is not used."""
        h, w, _ = image.shape
        if min(h, w) < self.size:
            raise ValueError(
                f"CenterCrop.size {self.size} must fit into the image of {h} x {w}; "
                f"put ResizeShorter({self.size}) before it."
            )
        # Halves are rounded to even, as torchvision does.
        top, left = round((h - self.size) / 2), round((w - self.size) / 2)
        return image[top : top + self.size, left : left + self.size]


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} {value} must be a number of pixels, at least 1.")
