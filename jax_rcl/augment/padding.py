"""An image of any proportions inside a frame of one shape."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_rcl.augment.resample import resize


@dataclasses.dataclass(frozen=True)
class ResizeAndPad:
    """Resizes as far as the frame allows, proportions kept, and centres it on black.

    As `PIL.ImageOps.pad`: the side that does not fill the frame is rounded, to even at
    halves, and so is the margin before it.

    Attributes:
      height: rows of the frame.
      width: columns of the frame.
      antialias: as in `resample.resized_crop`.

    Raises:
      ValueError: if the frame is empty.
    """

    height: int
    width: int
    antialias: bool = True

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(
                f"ResizeAndPad.height {self.height} and ResizeAndPad.width "
                f"{self.width} must be numbers of pixels, at least 1."
            )

    def __call__(
        self, key: jax.Array, image: Float[Array, "h w c"]
    ) -> Float[Array, "i j c"]:
        """The image in its frame; the key is not used."""
        height, width = self.inner(image.shape[0], image.shape[1])
        top, left = (self.height - height) / 2, (self.width - width) / 2
        before = (round(top), round(left))
        after = (self.height - height - before[0], self.width - width - before[1])
        resized = resize(image, height, width, antialias=self.antialias)
        margins = ((before[0], after[0]), (before[1], after[1]), (0, 0))
        return jnp.pad(resized, margins)

    def inner(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that an image of this shape takes in the frame."""
        if width * self.height > height * self.width:
            return max(round(height / width * self.width), 1), self.width
        return self.height, max(round(width / height * self.height), 1)
