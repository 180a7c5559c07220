"""Pictures of classes and subclasses hold what they are given and hide nothing."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.text import Text

from jax_rcl.artifacts import ClassPlane, MeanCosines, Pictures, Spectra, Spreads
from jax_rcl.report.figures import drawing, geometry, plots

LONG = "large man-made outdoor things"


def names(s, k):
    return {
        "class_names": tuple(f"{i} {LONG}" for i in range(k)),
        "subclass_names": tuple(f"subclass number {i}" for i in range(s)),
    }


def parents(s, k):
    return np.sort(np.arange(s) % k)


def cosines(s, k):
    z = np.random.default_rng(0).normal(size=(s, 5))
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    return MeanCosines(z @ z.T, parents=parents(s, k), **names(s, k))


def plane(s, k, spread=1.0):
    random = np.random.default_rng(0)
    means = random.normal(size=(k, 2))
    own = means[parents(s, k)] + spread * random.normal(size=(s, 2)) / 5
    points = np.repeat(own, 5, axis=0)
    points = points + spread * random.normal(size=points.shape) / 10
    return ClassPlane(
        points,
        np.repeat(parents(s, k), 5),
        means,
        own,
        parents(s, k),
        **names(s, k),
        method="a plane",
    )


def spectra(s, k):
    values = tuple(0.8 ** np.arange(i % 3 + 9) for i in range(k))
    return Spectra(values, np.arange(k) + 1.5, names(s, k)["class_names"])


def spreads(s, k):
    random = np.random.default_rng(0)
    return Spreads(random.random(s), random.random(k), parents(s, k), **names(s, k))


MAKERS = (cosines, plane, spectra, spreads)


class Recorder(RendererAgg):
    """Keeps every text that is really drawn, and where."""

    def __init__(self, figure):
        super().__init__(*figure.canvas.get_width_height(), figure.dpi)
        self.found = []

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        self.found.append((mtext.get_text(), Text.get_window_extent(mtext, self)))
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)


def shown(figure):
    """Texts of a picture and the boxes they fill."""
    recorder = Recorder(figure)
    figure.draw(recorder)
    return recorder.found


def words(figure):
    return {text for text, _ in shown(figure)}


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize(("s", "k"), [(1, 1), (10, 2), (40, 7), (100, 20), (200, 67)])
def test_no_text_is_cut_off_and_none_hides_another(make, s, k):
    caption, figure = plots.draw(make(s, k))
    assert caption
    width, height = figure.get_size_inches() * 100
    assert width <= drawing.WIDTH
    boxes = shown(figure)
    for text, box in boxes:
        inside = box.x0 >= -1 and box.y0 >= -1
        assert inside and box.x1 <= width + 1 and box.y1 <= height + 1, text
    for (one, first), (two, second) in itertools.combinations(boxes, 2):
        apart = first.padded(-1).overlaps(second.padded(-1))
        assert not apart, f"{one} and {two}"


def test_names_of_collapsed_classes_do_not_hide_each_other():
    boxes = shown(plots.draw(plane(10, 2, spread=0.0))[1])
    assert len(boxes) == 12
    for (one, first), (two, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), f"{one} and {two}"


def test_cosines_are_the_colours_of_the_matrix():
    finding = cosines(10, 2)
    figure = geometry.cosines(finding)
    (image,) = figure.axes[0].images
    np.testing.assert_array_equal(image.get_array(), finding.matrix)
    assert image.norm.vmin == -1 and image.norm.vmax == 1
    found = words(figure)
    assert {"1.00", f"{finding.matrix[0, 1]:.2f}".replace("-", "−")} <= found
    assert {drawing.plain(name) for name in finding.subclass_names} <= found
    assert {drawing.plain(name) for name in finding.class_names} <= found


def test_many_subclasses_go_without_names_and_numbers():
    found = words(geometry.cosines(cosines(100, 20)))
    assert {drawing.plain(name) for name in names(100, 20)["class_names"]} <= found
    assert not any(text.startswith("subclass") for text in found)
    assert "1.00" not in found - {"1.00"}


def test_the_plane_holds_points_and_means_at_one_scale():
    finding = plane(10, 2)
    axes = geometry.plane(finding).axes[0]
    dots, discs, diamonds = (x.get_offsets() for x in axes.collections)
    expected = np.sort(finding.points, axis=0)
    np.testing.assert_allclose(np.sort(dots, axis=0), expected)
    np.testing.assert_allclose(discs, finding.subclass_means)
    np.testing.assert_allclose(diamonds, finding.class_means)
    axes.figure.draw_without_rendering()
    unit = axes.transData.transform([(0, 0), (1, 0), (0, 1)])
    across, up = np.linalg.norm(unit[1:] - unit[0], axis=1)
    assert across == pytest.approx(up, rel=1e-6)


def test_names_stay_beside_the_plane_at_any_resolution():
    figure = geometry.plane(plane(10, 2))
    axes = figure.axes[0]
    places = []
    for dpi in (100, 200):
        figure.set_dpi(dpi)
        figure.draw_without_rendering()
        whole = figure.bbox.size
        places.append([text.get_window_extent().p0 / whole for text in axes.texts])
    assert len(places[0]) >= 10
    np.testing.assert_allclose(*places, atol=0.01)


def test_subclasses_have_the_colour_of_their_class():
    axes = geometry.plane(plane(10, 2)).axes[0]
    _, discs, diamonds = (x.get_facecolors() for x in axes.collections)
    np.testing.assert_array_equal(discs, diamonds[parents(10, 2)])
    assert (diamonds[0] != diamonds[1]).any()


def test_a_plane_without_extent_is_drawn():
    point = np.zeros((1, 2))
    finding = ClassPlane(
        *(point, np.zeros(1, int), point, point, np.zeros(1, int)),
        **names(1, 1),
        method="a point",
    )
    assert drawing.to_png(geometry.plane(finding), scale=1)


def test_spectra_are_lines_and_the_legend_gives_ranks():
    finding = spectra(10, 2)
    figure = geometry.spectra(finding)
    for line, values in zip(figure.axes[0].lines, finding.values, strict=True):
        np.testing.assert_allclose(line.get_ydata(), values)
        np.testing.assert_array_equal(line.get_xdata(), 1 + np.arange(len(values)))
    assert figure.axes[0].get_yscale() == "log"
    name = drawing.plain(finding.class_names[1])
    assert f"{name}  2.5" in words(figure)
    many = words(geometry.spectra(spectra(200, 67)))
    assert "Effective rank 1.5 to 67.5, median 34.5" in many


def test_collapsed_spectra_are_drawn_at_the_rounding_of_float32():
    finding = Spectra((np.zeros(5), np.zeros(0)), np.ones(2), ("a", "b"))
    figure = geometry.spectra(finding)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), 1e-6)
    assert drawing.to_png(figure, scale=1)


@pytest.mark.parametrize(("s", "k"), [(10, 2), (100, 20)])
def test_spreads_are_dots_of_subclasses_and_lines_of_classes(s, k):
    finding = spreads(s, k)
    axes = geometry.spreads(finding).axes[0]
    dots = np.concatenate([x.get_offsets()[:, 0] for x in axes.collections])
    np.testing.assert_allclose(dots, finding.of_subclasses)
    lines = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
    assert set(finding.of_classes) <= set(lines)


def sheet(m, side=28, channels=1, labels=True):
    images = np.random.default_rng(0).random((2, m, side, side, channels))
    return Pictures(
        images.astype(np.float32),
        ("original", "decoded"),
        np.arange(m) % 3 if labels else None,
        ("ankle boot", "b", LONG),
        "drawn",
    )


def test_a_sheet_holds_every_image_and_names_rows_and_columns():
    finding = sheet(4)
    caption, figure = plots.draw(finding)
    assert caption == "drawn"
    given = np.broadcast_to(finding.images, (2, 4, 28, 28, 3)).reshape(8, 28, 28, 3)
    arrays = np.stack([image.get_array() for image in figure.axes[0].images])
    np.testing.assert_allclose(arrays, given, atol=1 / 255)
    assert {"original", "decoded", "ankle boot", "b"} <= words(figure)
    assert words(plots.draw(sheet(4, labels=False))[1]) == {"original", "decoded"}


@pytest.mark.parametrize(("m", "side"), [(1, 28), (8, 28), (20, 32), (9, 224), (3, 8)])
def test_sheets_are_no_wider_than_the_page_and_cut_nothing(m, side):
    _, figure = plots.draw(sheet(m, side, channels=3))
    width, height = figure.get_size_inches() * 100
    assert width <= drawing.WIDTH
    boxes = shown(figure)
    for text, box in boxes:
        assert box.x0 >= 0 and box.x1 <= width and box.y1 <= height + 1, text
    for (_, first), (_, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second)
