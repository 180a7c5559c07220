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


def test_names_in_letters_that_no_font_has_become_numbers_or_escapes(monkeypatch):
    monkeypatch.setattr(drawing, "_family_with", lambda letter: "")
    names = ("cat", "猫", "собака", "bl\udce9", "a\tb")
    found = [drawing.class_name(label, names) for label in range(len(names))]
    assert found == ["cat", "1", "2", "3", "4"]
    assert drawing.plain("猫 a") == r"\u732b a"
    figure = drawing.figure(100, 100)
    figure.text(0, 0, drawing.plain("bl\udce9 猫"))
    assert drawing.to_png(figure).startswith(b"\x89PNG")


def test_letters_are_drawn_by_any_font_of_the_machine(monkeypatch):
    drawing._family_with.cache_clear()
    assert drawing.class_name(0, ["собака"]) == "собака"
    asked = []
    monkeypatch.setattr(
        drawing, "_family_with", lambda letter: asked.append(letter) or "STIXGeneral"
    )
    figure = drawing.figure(100, 100)
    text = figure.text(0, 0, "a ʁ")
    assert drawing.to_png(figure) and "ʁ" in asked
    assert text.get_fontfamily() == ["sans-serif", "STIXGeneral"]
