"""Operations that filter an image: Gaussian blur."""

import dataclasses

import jax
from jaxtyping import Array, Float

from jax_rcl.augment.resample import gaussian_weights, separable


def gaussian_blur(
    image: Float[Array, "h w c"], sigma: Float[Array, ""] | float, *, kernel_size: int
) -> Float[Array, "h w c"]:
    """Convolves with a Gaussian of width σ, cut off at a square of kernel_size pixels.

    Weights exp(-u² / 2σ²) at u = -(kernel_size // 2) ... kernel_size // 2, normalised
    to sum 1; beyond its edges the image is mirrored, the edge not repeated. As a
    product with one banded matrix per axis: σ is data, also one per image.

    Args:
      image: any floating image.
      sigma: σ in pixels, above 0.
      kernel_size: pixels per axis that are weighed, odd.

    Raises:
      ValueError: if a side has no more than kernel_size // 2 pixels to mirror.
    """
    h, w, _ = image.shape
    if min(h, w) <= kernel_size // 2:
        raise ValueError(
            f"a blur of kernel_size {kernel_size} mirrors {kernel_size // 2} pixels at "
            f"the edges; the image of {h} x {w} has too few. "
            f"Try kernel_size={2 * min(h, w) - 1} or less."
        )
    rows = gaussian_weights(sigma, source=h, kernel_size=kernel_size)
    columns = gaussian_weights(sigma, source=w, kernel_size=kernel_size)
    return separable(rows, columns, image)


@dataclasses.dataclass(frozen=True)
class GaussianBlur:
    """Blurs with a Gaussian whose width is drawn uniformly for each image.

    Attributes:
      kernel_size: pixels per axis that are weighed, odd; SimCLR takes a tenth of the
        image's side. Widths above a fourth of it are visibly cut off.
      sigma: bounds of the width σ in pixels, above 0; twice the same for a fixed one.

    Raises:
      ValueError: if a field is out of bounds, or an image too small for the kernel.
    """

    kernel_size: int
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(
                f"GaussianBlur.kernel_size {self.kernel_size} must be an odd number of "
                f"pixels; try {max(self.kernel_size, 0) + 1}."
            )
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(
                f"GaussianBlur.sigma {self.sigma} must be two widths in pixels, "
                f"0 < low <= high, such as (0.1, 2.0)."
            )

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "h w c"]:
        """The image, blurred with a random width."""
        return gaussian_blur(image, self.width(key), kernel_size=self.kernel_size)

    def width(self, key: jax.Array) -> Float[Array, ""]:
        """Draws σ."""
        low, high = self.sigma
        return low + jax.random.uniform(key) * (high - low)
