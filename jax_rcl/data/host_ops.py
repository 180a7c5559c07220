"""Images on the host: decoding, and fitting to a fixed shape, without randomness."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def decode(file: str | Path | bytes, reduce: int = 1) -> Image.Image:
    """An RGB image from an encoded one, of any format that PIL reads.

    With `reduce` 2, 4 or 8 a JPEG is decoded, faster, at that fraction of its size;
    others are not.

    Transparent images are laid on white. Gray becomes RGB; of 16 bits the lower 8 are
    dropped. Of several frames the first is taken. A camera's orientation tag is
    ignored, as the pipelines behind the published ImageNet numbers ignore it.

    Raises:
      ValueError: naming the file, if it cannot be read as an image to its end.
    """
    name = "the image" if isinstance(file, bytes) else str(file)
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            if reduce > 1:
                width, height = image.size
                image.draft(None, (width // reduce, height // reduce))
            return rgb(image)
    # PIL's decoders raise OSError, SyntaxError, ValueError, EOFError and others.
    except Exception as error:
        raise ValueError(f"{name} does not decode as an image: {error}") from error


def size_of(file: str | Path) -> tuple[int, int]:
    """Width and height of an encoded image; ValueError as `decode`."""
    try:
        with Image.open(file) as image:
            return image.size
    except Exception as error:
        raise ValueError(f"{file} does not decode as an image: {error}") from error


def rgb(image: Image.Image) -> Image.Image:
    """`image` in RGB, what is transparent laid on white; see `decode`."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def center_square(image: Image.Image, size: int) -> Image.Image:
    """The largest central square of `image`, resized to `size` by `size`.

    The same as resizing the shorter side to `size` and cropping the center, in one step
    and without rounding the longer side. Bicubic, with a wider kernel when the image
    shrinks (antialiasing).
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Resizes the shorter side to `size`, bilinearly, and crops the central square.

    As torchvision's `Resize(size)` and `CenterCrop(size)` do with images of PIL, to the
    pixel: the longer side loses its fraction before the crop.
    """
    width, height = image.size
    side = min(width, height)
    width, height = size * width // side, size * height // side
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def fit(image: UInt8[np.ndarray, "h w c"], size: int) -> UInt8[np.ndarray, "s s c"]:
    """`center_square` for an array of one channel or three."""
    gray = image.shape[-1] == 1
    square = center_square(Image.fromarray(image[..., 0] if gray else image), size)
    return np.asarray(square).reshape(size, size, image.shape[-1])
