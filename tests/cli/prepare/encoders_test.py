"""Priors of BigBiGAN and GLoRIA, by stand-ins with the interface of their packages."""

import contextlib
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jax_rcl.cli.prepare import bigbigan, gloria
from jax_rcl.cli.prepare.features import named_source
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.published.chexpert import CheXpert
from jax_rcl.data.published.imagenet import IMAGENET_100
from tests.small import chest

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five photographs, each of another shape, and radiographs, as published."""
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 256, (20 + number, 300 - 9 * number, 3), np.uint8)
        place = tmp_path / "data/imagenet100/train" / IMAGENET_100[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    chest(tmp_path)
    (tmp_path / "chest").rename(tmp_path / "data" / "CheXpert-v1.0-small")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# As documented, but for classes that are not here.
PHOTOGRAPHS = (
    f"--config={CONFIGS}/imagenet100_uniformity.py",
    "--config.source.source.missing=skip",
)
RADIOGRAPHS = (f"--config={CONFIGS}/chexpert_uniformity.py:prior=none",)


def run(module, *flags):
    return module.main(["--out=prior.npz", "--batch_size=2", *flags])


def test_bigbigan_sees_whole_photographs_in_its_range(folder, monkeypatch):
    seen, loaded = [], []

    def encode(images):
        seen.append(images)
        return {"bn_crelu_feat": images.mean(axis=(1, 2)), "avepool_feat": None}

    def load(address):
        loaded.append(address)
        return types.SimpleNamespace(signatures={"encode": encode})

    hub = types.SimpleNamespace(load=load)
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    flow = types.SimpleNamespace(constant=np.asarray)
    monkeypatch.setitem(sys.modules, "tensorflow", flow)
    assert run(bigbigan, *PHOTOGRAPHS) == 0
    assert loaded == ["https://tfhub.dev/deepmind/bigbigan-resnet50/1"]
    assert [x.shape[0] for x in seen] == [2, 2, 1]
    source = photographs(folder)
    images = np.concatenate(seen)
    assert images.dtype == np.float32 and images.shape == (5, 256, 256, 3)
    for image, (path, _), prior in zip(
        images, source.files, WithPrior(source, "prior.npz").priors, strict=True
    ):
        pixels = np.asarray(Image.open(path), np.float32)
        shape, how = (256, 256, 3), {"method": "linear", "antialias": False}
        whole = jax.image.resize(pixels, shape, **how) / 127.5 - 1
        np.testing.assert_allclose(image, whole, atol=2e-3)
        np.testing.assert_allclose(prior, whole.mean(axis=(0, 1)), atol=1e-3)


def photographs(folder):
    images = folder / "data/imagenet100/train"
    return ImageFolder(str(images), None, classes=IMAGENET_100, missing="skip")


def test_gloria_sees_whole_radiographs_as_squares_in_inference_mode(
    folder, monkeypatch
):
    seen, calls = [], []

    class Tensor(np.ndarray):
        def to(self, device):
            return self

        def cpu(self):
            return self

        def numpy(self):
            return np.asarray(self)

    def encoder(images):
        assert calls == [("gloria_resnet18", "cpu"), "eval", "no_grad"]
        seen.append(np.asarray(images))
        return images.mean(axis=(2, 3)).view(Tensor)

    def load_gloria(name, device):
        calls.append((name, device))
        model = types.SimpleNamespace(img_encoder=encoder)
        model.eval = lambda: calls.append("eval")
        return model

    @contextlib.contextmanager
    def no_grad():
        calls.append("no_grad")
        yield
        calls.pop()

    torch = types.SimpleNamespace(from_numpy=lambda x: x.view(Tensor), no_grad=no_grad)
    monkeypatch.setitem(sys.modules, "torch", torch)
    package = types.SimpleNamespace(load_gloria=load_gloria)
    monkeypatch.setitem(sys.modules, "gloria", package)
    assert run(gloria, *RADIOGRAPHS) == 0
    source = CheXpert("data/CheXpert-v1.0-small", "train", size=224)
    found = WithPrior(source, "prior.npz").priors
    images = np.concatenate(seen)
    assert images.shape == (24, 3, 224, 224) and images.dtype == np.float32
    for i in (0, 23):
        expected = (source[i]["image"] / 255 - 0.5024) / 0.2898
        expected = np.broadcast_to(expected, (224, 224, 3))
        np.testing.assert_allclose(images[i], expected.transpose(2, 0, 1), atol=1e-5)
        np.testing.assert_allclose(found[i], expected.mean(axis=(0, 1)), atol=1e-5)
    gray = gloria.normalised(np.zeros((4, 6, 1), np.uint8))
    assert gray.shape == (3, 224, 224)


@pytest.mark.parametrize("part", ["source", "source.source"])
def test_photographs_in_frames_are_seen_without_them(part, folder):
    """As crops, and as the frames that are packed."""
    config = f"{CONFIGS}/imagenet100_moco.py:longest=64"
    framed = "--config.source.source.source.missing=skip"
    seen = named_source(
        gloria.main.parse([f"--config={config}", framed, f"--part={part}", "--out=x"])
    )
    assert seen[4]["image"].shape == (23, 273, 3)


@pytest.mark.parametrize(
    ("module", "package", "flags", "words"),
    [
        (bigbigan, "tensorflow", PHOTOGRAPHS, "pip install 'jax_rcl[bigbigan]'"),
        (gloria, "gloria", RADIOGRAPHS, "install https://github.com/marshuang80/glor"),
    ],
)
def test_what_is_not_installed_is_said(module, package, flags, words, folder, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        patch.setitem(sys.modules, "torch", types.SimpleNamespace())
        assert run(module, *flags) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (folder / "prior.npz").exists()


def test_a_source_without_files_has_no_whole_photographs(folder, capsys):
    assert run(bigbigan, *RADIOGRAPHS, "--part=evaluators.findings.test") == 2
    assert "has no image files" in capsys.readouterr().err


def test_features_that_are_not_finite_are_refused(folder, monkeypatch, capsys):
    signature = {"encode": lambda x: {"bn_crelu_feat": np.full((len(x), 3), np.nan)}}
    hub = types.SimpleNamespace(
        load=lambda _: types.SimpleNamespace(signatures=signature)
    )
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    flow = types.SimpleNamespace(constant=np.asarray)
    monkeypatch.setitem(sys.modules, "tensorflow", flow)
    assert run(bigbigan, *PHOTOGRAPHS) == 2
    assert "not finite, first record 0" in capsys.readouterr().err
