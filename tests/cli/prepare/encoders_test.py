"""Priors of BigBiGAN and GLoRIA, by stand-ins with the interface of their packages."""

import contextlib
import sys
import types

import jax
import numpy as np
import pytest
from PIL import Image

from jax_rcl.cli.prepare import bigbigan, gloria
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.prior import WithPrior

CONFIG = """
from jax_rcl.config import node
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.sources import Synthetic
from jax_rcl.evaluate.knn import Neighbours

def get_config(arg=""):
    return node(Neighbours, node(ImageFolder, arg, 4), node(Synthetic))
"""


@pytest.fixture
def folder(tmp_path):
    """Five photographs, each of another shape, and a config of them."""
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 256, (20 + number, 300 - 9 * number, 3), np.uint8)
        file = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    (tmp_path / "config.py").write_text(CONFIG)
    return tmp_path


def run(module, folder, *flags, part="train"):
    return module.main(
        [
            f"--config={folder / 'config.py'}:{folder / 'images'}",
            f"--part={part}",
            f"--out={folder / 'prior.npz'}",
            "--batch_size=2",
            *flags,
        ]
    )


def priors(folder):
    source = ImageFolder(str(folder / "images"), 4)
    return source, WithPrior(source, str(folder / "prior.npz")).priors


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
    assert run(bigbigan, folder) == 0
    assert loaded == ["https://tfhub.dev/deepmind/bigbigan-resnet50/1"]
    assert [x.shape[0] for x in seen] == [2, 2, 1]
    source, found = priors(folder)
    images = np.concatenate(seen)
    assert images.dtype == np.float32 and images.shape == (5, 256, 256, 3)
    for image, (path, _), prior in zip(images, source.files, found, strict=True):
        pixels = np.asarray(Image.open(path), np.float32)
        shape, how = (256, 256, 3), {"method": "linear", "antialias": False}
        whole = jax.image.resize(pixels, shape, **how) / 127.5 - 1
        np.testing.assert_allclose(image, whole, atol=2e-3)
        np.testing.assert_allclose(prior, whole.mean(axis=(0, 1)), atol=1e-3)


def test_gloria_sees_three_equal_channels_in_inference_mode(folder, monkeypatch):
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
    assert run(gloria, folder) == 0
    source, found = priors(folder)
    images = np.concatenate(seen)
    assert images.shape == (5, 3, 4, 4) and images.dtype == np.float32
    for i, prior in enumerate(found):
        expected = (source[i]["image"] / 255 - 0.5024) / 0.2898
        np.testing.assert_allclose(images[i], expected.transpose(2, 0, 1), atol=1e-5)
        np.testing.assert_allclose(prior, expected.mean(axis=(0, 1)), atol=1e-5)
    gray = gloria.normalised(np.zeros((4, 4, 1), np.uint8))
    assert gray.shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("module", "package", "words"),
    [
        (bigbigan, "tensorflow", "pip install 'jax_rcl[bigbigan]'"),
        (gloria, "gloria", "install https://github.com/marshuang80/gloria"),
    ],
)
def test_what_is_not_installed_is_said(module, package, words, folder, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        patch.setitem(sys.modules, "torch", types.SimpleNamespace())
        assert run(module, folder) == 2
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert not (folder / "prior.npz").exists()


def test_a_source_without_files_has_no_whole_photographs(folder, capsys):
    assert run(bigbigan, folder, part="test") == 2
    assert "has no image files" in capsys.readouterr().err


def test_features_that_are_not_finite_are_refused(folder, monkeypatch, capsys):
    signature = {"encode": lambda x: {"bn_crelu_feat": np.full((len(x), 3), np.nan)}}
    hub = types.SimpleNamespace(
        load=lambda _: types.SimpleNamespace(signatures=signature)
    )
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    flow = types.SimpleNamespace(constant=np.asarray)
    monkeypatch.setitem(sys.modules, "tensorflow", flow)
    assert run(bigbigan, folder) == 2
    assert "not finite, first record 0" in capsys.readouterr().err
