"""Decoding gives RGB whatever comes in; fitting gives the central square."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from jax_rcl.data import host_ops


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(host_ops.decode(data))


def test_colour_is_kept_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(image))), image)


def test_transparent_pixels_become_white_and_half_transparent_ones_half_white():
    image = np.zeros((1, 3, 4), np.uint8)
    image[0, :, 3] = [0, 128, 255]
    found = pixels(encoded(Image.fromarray(image)))
    np.testing.assert_array_equal(found[0, :, 0], [255, 127, 0])


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 3), (7, 7)])
def test_a_side_may_be_below_the_factor_that_a_jpeg_is_reduced_by(shape):
    image = Image.fromarray(np.full((*shape, 3), 90, np.uint8))
    found = host_ops.decode(encoded(image, "jpeg"), reduce=8)
    assert 1 <= found.height <= shape[0] and 1 <= found.width <= shape[1]
    np.testing.assert_allclose(np.asarray(found), 90, atol=1)


def test_a_transparent_palette_entry_becomes_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([0, 1])
    found = pixels(encoded(image, "gif", transparency=1))
    np.testing.assert_array_equal(found, [[[255, 0, 0], [255, 255, 255]]])


@pytest.mark.parametrize("transparency", [None, 0])
def test_gray_becomes_rgb(transparency):
    image = Image.fromarray(np.array([[7, 90]], np.uint8))
    options = {} if transparency is None else {"transparency": transparency}
    found = pixels(encoded(image, **options))
    np.testing.assert_array_equal(found, np.repeat([[[7], [90]]], 3, axis=-1))


def test_sixteen_bits_become_their_upper_eight():
    image = Image.fromarray(np.array([[0, 256 * 200 + 17, 65535]], np.uint16))
    np.testing.assert_array_equal(pixels(encoded(image))[0, :, 0], [0, 200, 255])


@pytest.mark.parametrize(("most", "bits"), [(200, 8), (1000, 10), (4095, 12)])
def test_few_bits_in_files_of_sixteen_are_warned_of_once_a_folder(
    tmp_path, caplog, most, bits
):
    values = np.array([[0, most]], np.uint16)
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(values)))
        with caplog.at_level(logging.WARNING):
            host_ops.decode(tmp_path / name)
    [record] = caplog.records
    assert f"no value above {most}" in record.getMessage()
    assert f"of {bits} bits, multiply them by {2 ** (16 - bits)}" in record.getMessage()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0, 0.5]], np.float32), "floats, which do not say what is white"),
        (np.array([[-1024, 3071]], np.int32), "from -1024 to 3071, beyond 16 bits"),
        (np.array([[0, 70000]], np.int32), "from 0 to 70000, beyond 16 bits"),
    ],
)
def test_numbers_that_do_not_say_what_is_white_are_refused(values, message):
    with pytest.raises(host_ops.NotTaken, match=message):
        host_ops.decode(encoded(Image.fromarray(values), "tiff"))


def test_a_truncated_file_is_an_error(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "half.jpg"
    data = encoded(Image.fromarray(noise), "jpeg")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"half\.jpg does not decode as an image"):
        host_ops.decode(path)


@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (8, 8)])
def test_an_image_of_the_right_height_loses_its_sides_only(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    top, left = (shape[0] - 8) // 2, (shape[1] - 8) // 2
    np.testing.assert_array_equal(
        host_ops.fit(image, 8), image[top : top + 8, left : left + 8]
    )


def test_gray_keeps_its_one_channel():
    image = np.full((6, 10, 1), 33, np.uint8)
    np.testing.assert_array_equal(host_ops.fit(image, 4), np.full((4, 4, 1), 33))


def test_shrinking_averages_a_checkerboard_to_gray():
    board = 255 * (np.indices((64, 64)).sum(0) % 2).astype(np.uint8)[..., None]
    found = host_ops.fit(board, 8)
    assert np.abs(found.astype(float) - 127.5).max() < 5


@pytest.mark.parametrize(
    ("shape", "whole", "box"),
    [
        ((333, 500), (384, 256), (64, 0, 320, 256)),  # 384.4 loses its fraction
        ((500, 333), (256, 384), (0, 64, 256, 320)),
        ((40, 40), (256, 256), (0, 0, 256, 256)),
        ((30, 41), (349, 256), (46, 0, 302, 256)),  # 46.5 rounds to even
    ],
)
def test_a_shorter_side_is_a_resize_and_a_crop_of_pil(shape, whole, box):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    image = Image.fromarray(pixels)
    resized = image.resize(whole, Image.Resampling.BILINEAR).crop(box)
    made = host_ops.shorter_side(image, 256)
    np.testing.assert_array_equal(np.asarray(made), np.asarray(resized))
