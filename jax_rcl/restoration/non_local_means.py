"""Denoising by non-local means of scikit-image, on the host."""

import dataclasses
import importlib
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from jax_rcl.ranges import Count, NotNegative, Positive, ranged


@dataclasses.dataclass(frozen=True)
@ranged
class NonLocalMeans:
    """Each pixel becomes a mean of pixels whose surroundings look alike.

    Buades et al. 2005, in the fast form of Darbon et al. 2008, as scikit-image has it:
    a pixel within `patch_distance` counts about exp(-max(d² - 2σ², 0) / h²), where d²
    is the mean squared difference of the patches around both. It is for Gaussian noise;
    neither what it reads nor what it returns is clipped to [0, 1]. The defaults are
    those of scikit-image 0.18.1; with them, "Inverse Problems Leveraging Pre-trained
    Contrastive Representations" (2021, https://arxiv.org/abs/2110.07439) denoises
    before it classifies.

    Needs the extra `restore`: pip install 'jax_rcl[restore]'.

    Attributes:
      sigma: standard deviation of the noise, in units of [0, 1]. None estimates it for
        every image: median absolute wavelet detail / 0.6745 (Donoho and Johnstone
        1994) of each channel, averaged over channels; 0 where there is no detail.
      patch_size: side of the patches that are compared, in pixels; odd.
      patch_distance: how far away, in pixels, patches are looked for.
      h: how unlike patches may be; larger is smoother. It is not scaled by sigma.
    """

    reads: ClassVar[Literal["images"]] = "images"

    sigma: NotNegative | None = None
    patch_size: Count = 7
    patch_distance: Count = 11
    h: Positive = 0.1

    def __post_init__(self) -> None:
        if self.patch_size % 2 == 0:
            raise ValueError(
                f"NonLocalMeans.patch_size {self.patch_size} must be odd: a patch has "
                f"a pixel in its middle. Try {self.patch_size + 1}."
            )

    @property
    def protocol(self) -> str:
        sigma = "estimated" if self.sigma is None else f"{self.sigma:g}"
        return (
            f"denoised by non-local means (patch {self.patch_size}, distance "
            f"{self.patch_distance}, h {self.h:g}, sigma {sigma})"
        )

    @property
    def cost(self) -> str:
        """How long an image takes, in words."""
        return f"on {os.cpu_count()} cores"

    def __call__(
        self,
        images: Float[np.ndarray, "n h w c"],
        known: Bool[np.ndarray, "n h w 1"] | None = None,
        done: Callable[[float], object] = lambda images: None,
    ) -> Float[np.ndarray, "n h w c"]:
        """Denoises every image by itself, of any number of channels.

        `done` is called as images are finished.
        """
        del known  # Every pixel is noisy, and every pixel is there.
        try:
            importlib.import_module("pywt")  # which estimates sigma
            restoration = importlib.import_module("skimage.restoration")
        except ImportError as error:
            raise ImportError(
                "NonLocalMeans needs scikit-image and PyWavelets: pip install "
                "'jax_rcl[restore]'."
            ) from error
        sigmas = [
            _estimate_sigma(restoration, image) if self.sigma is None else self.sigma
            for image in images
        ]

        def one(image: np.ndarray, sigma: float) -> np.ndarray:
            restored = restoration.denoise_nl_means(
                image,
                patch_size=self.patch_size,
                patch_distance=self.patch_distance,
                h=self.h,
                sigma=sigma,
                fast_mode=True,
                channel_axis=-1,
            )
            return restored.reshape(image.shape)  # Gray images lose their channel.

        # scikit-image releases the interpreter lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            denoised = []
            for image in pool.map(one, images, sigmas):
                denoised.append(image)
                done(1)
        return np.stack(denoised) if denoised else images.copy()


def _estimate_sigma(restoration: Any, image: Float[np.ndarray, "h w c"]) -> float:
    """Standard deviation of the noise of an image, the mean over its channels."""
    with warnings.catch_warnings():
        # A channel of one colour has no detail, and the median of nothing warns.
        warnings.simplefilter("ignore", RuntimeWarning)
        sigmas = restoration.estimate_sigma(image, channel_axis=-1)
    return float(np.mean(np.nan_to_num(sigmas)))
