"""Decoded images beside the originals, and their error."""

import dataclasses

import numpy as np
import pytest

from jax_rcl.core import Evaluator
from jax_rcl.evaluate.reconstructions import Reconstructions, choose_evenly, reconstruct


class Decoder:
    """Gives what `make` makes of the images when asked for it."""

    def __init__(self, make):
        self.make = make

    def __call__(self, images, layers=None):
        assert layers == ("reconstruction",)
        return {"reconstruction": self.make(np.asarray(images))}


@dataclasses.dataclass(frozen=True)
class Invert:
    """A deterministic operation."""

    def __call__(self, key, image):
        del key
        return 1 - image


def test_the_error_is_a_mean_over_all_pixels(blobs):
    source = blobs(21)
    found = Reconstructions(source, batch_size=8).run(Decoder(lambda x: 0.9 * x))
    expected = ((0.1 * source.images / 255) ** 2).mean()
    assert found == {"mse": pytest.approx(expected, rel=1e-5)}
    assert Reconstructions(source).run(Decoder(lambda x: x)) == {"mse": 0}


def test_images_are_compared_as_the_encoder_sees_them(blobs):
    source = blobs(5)
    found = Reconstructions(source, preprocess=Invert()).run(Decoder(lambda x: 1 - x))
    expected = ((1 - 2 * (source.images / 255)) ** 2).mean()
    assert found["mse"] == pytest.approx(expected, rel=1e-5)


def test_a_gray_decoder_is_compared_with_gray_images():
    images = np.random.default_rng(0).random((4, 3, 3, 3)).astype(np.float32)
    decoder = Decoder(lambda x: x[..., :1])
    given, made = reconstruct(decoder, images, "reconstruction")
    np.testing.assert_allclose(given, images.mean(axis=3, keepdims=True))
    np.testing.assert_array_equal(made, images[..., :1])


def test_the_sheet_shows_each_class_in_turn(blobs):
    source = blobs(21)
    (found,) = (
        Reconstructions(source, count=5, batch_size=4)
        .findings(Decoder(lambda x: x / 2))
        .values()
    )
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 1, 2])
    assert found.row_names == ("original", "decoded")
    originals, decoded = found.images
    np.testing.assert_allclose(decoded, originals / 2)
    first = np.flatnonzero(source.labels == 2)[0]
    np.testing.assert_allclose(originals[4], source.images[first] / 255, atol=1e-6)
    assert found.method.endswith("5 of 21")


def test_gray_reconstructions_stand_below_colour_images(in_memory):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3), np.uint8)
    source = in_memory(pixels, None, ())
    decoder = Decoder(lambda x: 3 * x[..., :1])
    (found,) = Reconstructions(source).findings(decoder).values()
    assert found.labels is None
    assert found.images.shape == (2, 3, 2, 2, 3)
    assert found.images.max() <= 1


def test_rows_are_drawn_evenly_from_classes():
    labels = np.array([1, 1, 1, 0, 2, 1, 0])
    np.testing.assert_array_equal(choose_evenly(labels, 2), [3, 0])
    np.testing.assert_array_equal(choose_evenly(labels, 5), [3, 6, 0, 1, 4])
    np.testing.assert_array_equal(np.sort(choose_evenly(labels, 99)), np.arange(7))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x[:, :2], r"gives \[2, 3, 1\] for each image of \[3, 3, 1\]"),
        (lambda x: x.reshape(len(x), -1), "has the height and width of its image"),
        (lambda x: np.full_like(x, np.nan), "not finite"),
    ],
)
def test_what_is_no_reconstruction_is_refused(blobs, make, message):
    with pytest.raises(ValueError, match=message):
        Reconstructions(blobs(5)).run(Decoder(make))


def test_wrong_settings_are_refused(blobs, in_memory):
    for name in ("count", "batch_size"):
        with pytest.raises(ValueError, match=rf"Reconstructions\.{name}"):
            Reconstructions(blobs(5), **{name: 0})
    empty = in_memory(np.zeros((0, 2, 2, 1), np.uint8), None, ())
    with pytest.raises(ValueError, match="is empty"):
        Reconstructions(empty).check()


def test_says_what_it_measures(blobs):
    evaluator = Reconstructions(blobs(5), layer="pixels")
    assert isinstance(evaluator, Evaluator)
    assert evaluator.needs == {"pixels"}
    assert evaluator.protocol == (
        "mean squared error of 'pixels' over all pixels of 5 images in [0, 1]"
    )
