"""Figures become files and arrays of the size they claim."""

import struct

from jax_rcl.report.figures import drawing


def test_a_png_has_twice_the_pixels_of_the_page():
    png = drawing.to_png(drawing.figure(200, 100))
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (400, 200)


def test_the_same_figure_gives_the_same_bytes():
    one, two = (drawing.to_png(drawing.figure(50, 40)) for _ in range(2))
    assert one == two


def test_labels_are_shortened_and_keep_their_dollars():
    assert drawing.plain("a$b$") == r"a\$b\$"
    assert drawing.plain("x" * 30, 10) == "x" * 9 + "…"
    assert drawing.class_name(1, ["cat", "dog"]) == "dog"
    assert drawing.class_name(2, ["cat", "dog"]) == "2"
