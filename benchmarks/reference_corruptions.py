"""The corruptions of the package `imagecorruptions`, run by another interpreter.

It computes the corruptions of ImageNet-C on the host (Michaelis et al. 2019,
https://arxiv.org/abs/1907.07484), and was written for libraries that are older than
those of this one. So it may live in an environment of its own; where the same one has
both, that will do.
"""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

LEAST = 32
"""Pixels per axis that the package wants."""

# What the other interpreter runs, with a name, the pictures and where to write; without
# them it prints the version. Names that newer libraries have dropped are given back.
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
if not hasattr(np, "float_"):
    np.float_ = np.float64
from imagecorruptions import corruptions
if len(sys.argv) == 1:
    from importlib.metadata import version
    print(version("imagecorruptions"))
    sys.exit()
import inspect
from PIL import Image
smooth = corruptions.gaussian
if "multichannel" not in inspect.signature(smooth).parameters:
    def gaussian(image, sigma, multichannel=False, **options):
        axis = -1 if multichannel else None
        return smooth(image, sigma, channel_axis=axis, **options)
    corruptions.gaussian = gaussian
name, pictures, out = sys.argv[1:]
corrupt = getattr(corruptions, name)
pictures = [Image.fromarray(picture) for picture in np.load(pictures)]
np.random.seed(0)
results = [[np.asarray(corrupt(x, k)) for x in pictures] for k in (1, 2, 3, 4, 5)]
np.save(out, np.asarray(results, np.float32))
"""


def version(python: str) -> str:
    """The version of the package that an interpreter has.

    Raises:
      RuntimeError: if it has none, or none that works; the message says why.
    """
    return _run(python)


def results(
    name: str, clean: UInt8[np.ndarray, "n h w c"], python: str
) -> Float32[np.ndarray, "5 n h w c"]:
    """Pictures after a corruption of each severity, in levels 0 ... 255.

    As the package computes them, before it cuts them to whole levels. The numbers that
    it draws are the same each time.

    Args:
      name: of the corruption.
      clean: pictures of at least 32 pixels per axis.
      python: an interpreter that has the package.

    Raises:
      RuntimeError: if the pictures are too small, or the package fails.
    """
    if min(clean.shape[1:3]) < LEAST:
        raise RuntimeError(f"the package wants {LEAST} pixels or more")
    with tempfile.TemporaryDirectory() as folder:
        pictures, out = Path(folder, "pictures.npy"), Path(folder, "out.npy")
        np.save(pictures, clean)
        _run(python, name, str(pictures), str(out))
        return np.load(out)


def _run(python: str, *arguments: str) -> str:
    """What the program prints."""
    command = [python, "-c", PROGRAM, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeError(f"{python} cannot be run: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it failed without a word"]
        if "No module named 'imagecorruptions'" in lines[-1]:
            raise RuntimeError("imagecorruptions is not installed")
        raise RuntimeError(lines[-1])
    return done.stdout.strip()
