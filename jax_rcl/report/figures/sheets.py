"""Sheets of images in rows and columns."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jax_rcl.artifacts import Pictures
from jax_rcl.report.figures import drawing
from jax_rcl.report.figures.drawing import TEXT, class_name, plain

_TILE = 80  # Pixels of the page that a small image is enlarged to, about,
_LARGEST = 96  # and that a large one is shown at;
_GAP = 4  # between images,
_HEAD = 20  # and above them, for names.


def pictures(finding: Pictures) -> Figure:
    """Rows of images that belong together, the class above each column.

    Columns that do not fit beside each other go on below. Small images are enlarged by
    a whole factor without smoothing, so that a pixel stays one.
    """
    r, m, h, w, _ = finding.images.shape
    longest = max(h, w)
    factor = max(1, round(_TILE / longest))
    shown = factor * min(1.0, _LARGEST / longest)  # Pixels of the page per pixel.
    smoothing = "nearest" if longest <= _LARGEST else "antialiased"
    tile = np.array([w * shown, h * shown])
    cell = tile + _GAP
    margin = round(6.8 * max(map(len, finding.row_names))) + 14
    most = max(1, int((drawing.WIDTH - margin) // cell[0]))
    columns = -(-m // -(-m // most))  # As many in the last row, if that can be.
    block = _HEAD + r * cell[1] + 2 * _GAP
    size = (margin + columns * cell[0], -(-m // columns) * block)

    sheet = drawing.figure(*size, layout=None)
    axes = sheet.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    colour = np.broadcast_to(finding.images, (r, m, h, w, 3))
    text: dict[str, Any] = {"color": TEXT, "va": "center"}
    for i, j in np.ndindex(r, m):
        left = margin + j % columns * cell[0]
        top = _HEAD + j // columns * block + i * cell[1]
        extent = (left, left + tile[0], top + tile[1], top)
        axes.imshow(np.clip(colour[i, j], 0, 1), extent=extent, interpolation=smoothing)
        if j % columns == 0:
            row = plain(finding.row_names[i])
            axes.text(left - 8, top + tile[1] / 2, row, ha="right", size=9, **text)
        if i == 0 and finding.labels is not None:
            name = class_name(int(finding.labels[j]), finding.class_names)
            name = plain(name, max(2, int(cell[0] / 6.6)))
            place = (left + tile[0] / 2, top - _HEAD / 2)
            axes.text(*place, name, ha="center", size=7.5, **text)
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    return sheet
