#!/usr/bin/env bash
# Versions: Pillow 13.0.0, NumPy 2.4.0.
#
# Seen: image.resize(size, kind, box=box) is not image.crop(box).resize(size, kind). The
# box places the output, but the filter still reads the pixels of the image around the
# box, as far as its support reaches: of an image that is white left and black right, a
# black half that is enlarged twice has a grey edge. Bilinear, bicubic, Hamming and
# Lanczos do, enlarged or made smaller; Box, and any kind at the box's own size, do not.
#
# Why it matters here: a random crop is cut and then resized (torchvision's
# RandomResizedCrop, and every release that uses it). The one call looks like a faster
# way to write the same, and gives a view that knows what lies beside its crop: up to a
# quarter of the range at the border. Patch negatives and masks are compared with such
# borders.
#
# Exit status: 0 if seen as told, 1 if not.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 numpy==2.4.0
"$work/venv/bin/python" - <<'PY'
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image

pixels = np.zeros((8, 8), np.uint8)
pixels[:, :4] = 255
image, black = Image.fromarray(pixels), (4, 0, 8, 8)
print("Pillow", version("pillow"), "- the brightest pixel of the black half:")
as_told = True
for kind in Image.Resampling:
    if kind is Image.Resampling.NEAREST:
        continue
    for size in ((8, 16), (4, 8), (2, 4)):
        boxed = np.asarray(image.resize(size, kind, box=black)).max()
        cut = np.asarray(image.crop(black).resize(size, kind)).max()
        print(f"  {kind.name:8} to {size}: resize(box=) {boxed:3}, crop and resize {cut}")
        outside = kind is not Image.Resampling.BOX and size != (4, 8)
        as_told &= (boxed > 0) == outside and cut == 0
sys.exit(not as_told)
PY
echo "seen as told"
