"""Images on the host: decoding, and fitting to a fixed shape, without randomness."""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

DARK = 4096
"""Images of 16 bits come out nearly black if all values are below, in 12 bits."""


class NotTaken(ValueError):
    """A whole image that cannot be taken as it is; the message says what to do."""


def decode(file: str | Path | bytes, reduce: int = 1) -> Image.Image:
    """An RGB image from an encoded one, of any format that PIL reads.

    With `reduce` 2, 4 or 8 a JPEG is decoded, faster, at that fraction of its size;
    others are not.

    Transparent images are laid on white. Gray becomes RGB; of 16 bits the lower 8 are
    dropped, with a warning where nothing else is in them. Of several frames the first
    is taken. A camera's orientation tag is ignored, as the pipelines behind the
    published ImageNet numbers ignore it.

    Raises:
      ValueError: naming the file, if it cannot be read as an image to its end.
      NotTaken: it has more pixels than Pillow opens, or numbers of an unknown range.
    """
    name = "the image" if isinstance(file, bytes) else str(file)
    with _opened(file, name) as image:
        if reduce > 1:
            width, height = image.size
            image.draft(None, (max(1, width // reduce), max(1, height // reduce)))
        return rgb(image, name)


def size_of(file: str | Path) -> tuple[int, int]:
    """Width and height of an encoded image; errors as of `decode`."""
    with _opened(file, str(file)) as image:
        return image.size


@contextlib.contextmanager
def _opened(file: str | Path | bytes, name: str) -> Iterator[Image.Image]:
    """An image whose pixels are not read yet; errors, of reading them too, name it."""
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            yield image
    except NotTaken:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise NotTaken(
            f"{name} has more pixels than Pillow opens, as a small file that unpacks "
            f"to so many may be an attack ({error}). Make it smaller; or, if you trust "
            f"your files, raise the limit at the top of the config file: "
            f"import PIL.Image; PIL.Image.MAX_IMAGE_PIXELS = 1_000_000_000."
        ) from error
    # PIL's decoders raise OSError, SyntaxError, ValueError, EOFError and others.
    except Exception as error:
        raise ValueError(f"{name} does not decode as an image: {error}") from error


def rgb(image: Image.Image, name: str = "the image") -> Image.Image:
    """`image` in RGB, what is transparent laid on white; see `decode`."""
    if image.mode.startswith("I"):
        return Image.fromarray(_upper_eight(np.asarray(image), name)).convert("RGB")
    if image.mode == "F":
        raise NotTaken(
            f"{name} holds floats, which do not say what is white. Save it with 8 bits "
            f"(0 to 255) or 16 (0 to 65535) a channel."
        )
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _upper_eight(values: np.ndarray, name: str) -> UInt8[np.ndarray, "h w"]:
    """Gray of 16 bits by its upper 8."""
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= 2**16:
        raise NotTaken(
            f"{name} holds whole numbers from {least} to {most}, beyond 16 bits "
            f"(0 to 65535), which do not say what is white. Save it with 8 or 16 bits."
        )
    folder = Path(name).parent
    if 0 < most < DARK and folder not in _WARNED_OF:
        _WARNED_OF.add(folder)  # one warning is enough for all files in it
        logging.getLogger(__name__).warning(
            "%s has 16 bits, of which white is 65535, but no value above %d: it comes "
            "out nearly black, and others in its folder may, too. If the values are of "
            "%d bits, multiply them by %d and save the images again.",
            *(name, most, bits := max(8, most.bit_length()), 2 ** (16 - bits)),
        )
    return (values >> 8).astype(np.uint8)


_WARNED_OF: set[Path] = set()


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
