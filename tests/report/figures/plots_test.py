"""Pictures show the arrays they are given."""

import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from jax_rcl.artifacts import Confusion, Embedding, Grid
from jax_rcl.report.figures import drawing, plots


def texts(figure):
    return [
        text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))
    ]


def images(n=3, v=2, side=8, channels=3):
    return np.random.default_rng(0).random((n, v, side, side, channels))


def test_the_sheet_holds_every_view_as_it_is():
    given = images()
    (axes,) = plots.views(given).axes
    shown = np.stack([image.get_array() for image in axes.images])
    rows = given.swapaxes(0, 1).reshape(6, 8, 8, 3)
    np.testing.assert_allclose(shown, rows, atol=1 / 255)


def test_a_pixel_of_a_small_image_is_a_square_on_the_sheet():
    given = np.zeros((1, 1, 8, 8, 3))
    given[0, 0, 2, 5] = (1, 0, 0)
    png = drawing.to_png(plots.views(given), scale=1)
    red = (np.asarray(Image.open(io.BytesIO(png))) == (255, 0, 0, 255)).all(axis=-1)
    assert red.sum() == 100  # 8 pixels on 80.
    rows, columns = np.nonzero(red)
    assert (np.ptp(rows), np.ptp(columns)) == (9, 9)


def test_gray_images_are_shown_gray():
    given = images(channels=1)
    (axes,) = plots.views(given).axes
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown, np.repeat(given[0, 0], 3, -1), atol=1 / 255)


def test_rows_and_columns_of_the_sheet_are_named():
    labels = np.array([1, 0, 7])
    found = texts(plots.views(images(), labels, ["cat", "dog"]))
    assert {"cat", "dog", "7", "view 1", "view 2"} <= set(found)


@pytest.mark.parametrize(
    ("n", "v", "side"), [(1, 1, 28), (12, 2, 32), (7, 4, 64), (4, 2, 224)]
)
def test_sheets_are_no_wider_than_the_page(n, v, side):
    figure = plots.views(images(n, v, side))
    assert figure.get_size_inches()[0] * 100 <= drawing.WIDTH


@pytest.mark.parametrize("shape", [(0, 2, 4, 4, 3), (1, 0, 4, 4, 3), (1, 1, 4, 4, 2)])
def test_sheets_without_images_or_of_other_channels_are_refused(shape):
    with pytest.raises(ValueError, match="n, v, h, w, c"):
        plots.views(np.zeros(shape))


def test_the_confusion_matrix_holds_counts_and_recalls():
    figure = plots.confusion(np.array([[90, 10, 0], [0, 5, 15], [0, 0, 0]]), "abc")
    found = texts(figure)
    assert {"90", "10", "5", "15", "90.0 %", "25.0 %", "–", "a", "b", "c"} <= set(found)
    assert "0" not in found


def test_the_confusion_matrix_is_coloured_by_the_share_of_the_row():
    figure = plots.confusion(np.array([[30, 10], [0, 8]]))
    right, wrong = (image.get_array() for image in figure.axes[0].images)
    np.testing.assert_allclose(right.filled(-1), [[0.75, -1], [-1, 1]])
    np.testing.assert_allclose(wrong.filled(-1), [[-1, 0.25], [0, -1]])


def test_many_classes_are_summed_up_in_words():
    matrix = 20 * np.eye(100, dtype=int)
    matrix[3, 7] = 60
    names = [f"class {k}" for k in range(100)]
    (summary,) = [t for t in texts(plots.confusion(matrix, names)) if "→" in t]
    assert summary.splitlines()[1:] == ["75.0 %  class 3 → class 7"]


def test_that_nothing_was_wrong_is_said():
    assert "All are right" in texts(plots.confusion(np.eye(100, dtype=int)))


@pytest.mark.parametrize("k", [1, 2, 10, 30, 100])
def test_confusion_matrices_of_all_sizes_are_drawn_without_a_warning(k):
    matrix = 3 * np.eye(k, dtype=np.int32)
    matrix[0, -1] += 4
    names = [f"Staffordshire terrier {i}" for i in range(k)]
    figure = plots.confusion(matrix, names)
    assert drawing.to_png(figure, scale=1)
    # Nothing is cut off at the edge of the picture.
    for axes in figure.axes:
        box, page = axes.get_tightbbox(), figure.bbox
        assert 0 <= box.x0 and box.x1 <= page.width
        assert 0 <= box.y0 and box.y1 <= page.height


def test_the_embedding_holds_every_point_and_names_every_class():
    rng = np.random.default_rng(0)
    points, labels = rng.normal(size=(40, 2)), np.arange(40) % 4
    figure = plots.embedding(points, labels, ["a", "b", "c"])
    shown = np.concatenate([dots.get_offsets() for dots in figure.axes[0].collections])
    np.testing.assert_allclose(np.sort(shown, axis=0), np.sort(points, axis=0))
    assert {"a", "b", "c", "3"} <= set(texts(figure))


def test_names_in_the_embedding_do_not_hide_each_other():
    points = np.random.default_rng(0).normal(size=(200, 2)) * 0.01
    points[:20] *= 1000  # Far ones, so that the medians fall into one spot.
    figure = plots.embedding(
        points, np.arange(200) % 12, [f"name {k}" for k in range(12)]
    )
    figure.draw_without_rendering()
    # Without the lines to the medians.
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(boxes) == 12
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_an_embedding_of_many_classes_or_one_point_is_drawn():
    points = np.random.default_rng(0).normal(size=(120, 2))
    many = plots.embedding(points, np.arange(120) % 60)
    assert "number of the class" in texts(many)
    assert drawing.to_png(plots.embedding(points[:1], np.zeros(1, int)), scale=1)
    with pytest.raises(ValueError, match="at least one point"):
        plots.embedding(points[:0], np.zeros(0, int))


def test_findings_are_drawn_for_what_they_hold():
    found = Confusion(np.eye(2, dtype=int), ("a", "b"))
    caption, figure = plots.draw(found)
    assert "rows are true classes" in caption and "100.0 %" in texts(figure)
    points = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    caption, figure = plots.draw(
        Embedding(points, np.arange(9) % 2, ("a", "b"), method="t-SNE")
    )
    assert caption == "t-SNE" and {"a", "b"} <= set(texts(figure))


def test_a_grid_shows_every_share_in_percent_and_the_mean_of_each_row():
    values = np.array([[0.5, 0.25], [1.0, 0.125]])
    finding = Grid(values, ("jpeg_fog", "b"), ("severity 1", "2"), "how")
    caption, figure = plots.draw(finding)
    (axes,) = figure.axes
    assert caption == "how"
    found = [text.get_text() for text in axes.texts]
    assert found == ["50.0", "25.0", "100.0", "12.5", "37.5", "56.2", "mean"]
    assert [x.get_text() for x in axes.get_yticklabels()] == ["jpeg fog", "b"]
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert drawing.to_png(figure, scale=1)
