"""NonLocalMeans: what scikit-image does, image by image."""

import sys

import numpy as np
import pytest

from jax_rcl.restoration.non_local_means import NonLocalMeans


@pytest.fixture
def restoration():
    pytest.importorskip("pywt")
    return pytest.importorskip("skimage.restoration")


def noisy(count=3, channels=3, std=0.2, size=20):
    """Images with an edge in them, and noise that leaves [0, 1]."""
    draws = np.random.RandomState(0)
    clean = np.zeros((count, size, size, channels), np.float32)
    clean[:, :, size // 2 :] = draws.rand(count, 1, 1, channels)
    return clean, (clean + std * draws.randn(*clean.shape)).astype(np.float32)


def test_sigma_is_the_mean_of_wavelet_estimates_of_the_channels(restoration):
    images = noisy()[1]
    for image, found in zip(images, NonLocalMeans()(images), strict=True):
        estimates = [restoration.estimate_sigma(image[..., c]) for c in range(3)]
        expected = restoration.denoise_nl_means(
            image,
            patch_size=7,
            patch_distance=11,
            h=0.1,
            sigma=np.mean(estimates),
            fast_mode=True,
            channel_axis=-1,
        )
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_fields_are_those_of_scikit_image(restoration):
    images = noisy(count=1)[1]
    found = NonLocalMeans(sigma=0.1, patch_size=3, patch_distance=4, h=0.2)(images)
    expected = restoration.denoise_nl_means(
        images[0], 3, 4, 0.2, sigma=0.1, channel_axis=-1
    )
    np.testing.assert_array_equal(found[0], expected)


def test_a_gray_image_is_an_image_of_one_channel(restoration):
    images = noisy(count=2, channels=1)[1]
    for image, found in zip(images, NonLocalMeans()(images), strict=True):
        plain = image[..., 0]
        sigma = restoration.estimate_sigma(plain)
        expected = restoration.denoise_nl_means(plain, 7, 11, 0.1, sigma=sigma)
        np.testing.assert_array_equal(found, expected.reshape(found.shape))


@pytest.mark.usefixtures("restoration")
def test_noise_goes_and_nothing_is_clipped():
    clean, images = noisy()
    restored = NonLocalMeans()(images)
    errors = [np.square(x - clean).mean() for x in (images, restored)]
    assert errors[1] < 0.5 * errors[0]
    assert images.min() < 0 and restored.min() < 0


@pytest.mark.usefixtures("restoration")
def test_an_image_has_no_part_in_the_others():
    images = noisy()[1]
    np.testing.assert_array_equal(
        NonLocalMeans()(images)[1:], NonLocalMeans()(images[1:])
    )


@pytest.mark.usefixtures("restoration")
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_an_image_of_one_colour_stays_as_it_is(level):
    images = np.full((1, 16, 16, 3), level, np.float32)
    np.testing.assert_allclose(NonLocalMeans()(images), images, rtol=1e-6)


@pytest.mark.usefixtures("restoration")
def test_no_images_are_no_images():
    assert NonLocalMeans()(noisy()[1][:0]).shape == (0, 20, 20, 3)


def test_a_mask_is_neither_needed_nor_used():
    assert NonLocalMeans().reads == "images"
    pytest.importorskip("pywt")
    pytest.importorskip("skimage.restoration")
    images = noisy(count=1)[1]
    known = np.zeros((1, 20, 20, 1), bool)
    np.testing.assert_array_equal(
        NonLocalMeans()(images, known), NonLocalMeans()(images)
    )


@pytest.mark.parametrize("library", ["skimage.restoration", "pywt"])
def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install 'jax_rcl\[restore\]'"):
        NonLocalMeans()(noisy(count=1)[1])


def test_a_patch_has_a_pixel_in_its_middle():
    with pytest.raises(ValueError, match=r"patch_size 6 must be odd.* Try 7"):
        NonLocalMeans(patch_size=6)
    with pytest.raises(ValueError, match=r"sigma -0\.1 must be at least 0"):
        NonLocalMeans(sigma=-0.1)


def test_the_protocol_says_what_is_done_and_equal_ones_are_equal():
    assert "sigma estimated" in NonLocalMeans().protocol
    assert "sigma 0.3" in NonLocalMeans(sigma=0.3).protocol
    assert NonLocalMeans() == NonLocalMeans(None, 7, 11, 0.1)
    assert hash(NonLocalMeans()) == hash(NonLocalMeans())
