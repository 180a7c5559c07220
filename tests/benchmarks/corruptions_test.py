"""The benchmark of corruptions times them, and compares them with a package."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import corruptions, reference_corruptions
from benchmarks.corruptions import DETERMINISTIC
from jax_rcl import parallel
from jax_rcl.augment.corruptions.table import EXTRA, STANDARD

TINY = ["--size=32", "--batch=2", "--repetitions=1"]

# A package of that name: contrast is right but for one level, noises are others.
PACKAGE = """
import numpy as np

def gaussian(image, sigma, channel_axis=None):
    return image

def contrast(x, severity=1):
    x = np.array(x) / 255
    means = x.mean(axis=(0, 1), keepdims=True)
    factor = [0.4, 0.3, 0.2, 0.1, 0.05][severity - 1]
    return 255 * ((x - means) * factor + means) + 1

def gaussian_noise(x, severity=1):
    return np.zeros_like(np.array(x), np.float_) + severity

def impulse_noise(x, severity=1):
    return gaussian(np.array(x), sigma=1, multichannel=True)

def speckle_noise(x, severity=1):
    raise TypeError("no such colour")
"""


def install(folder, monkeypatch, text, version="9.9"):
    """Puts a package of this text first on the path of other interpreters."""
    package = folder / "imagecorruptions"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "corruptions.py").write_text(text)
    metadata = folder / f"imagecorruptions-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: imagecorruptions\nVersion: {version}\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def no_package(tmp_path, monkeypatch):
    missing = "No module named 'imagecorruptions'"
    install(tmp_path, monkeypatch, f'raise ModuleNotFoundError("{missing}")')


@pytest.fixture
def package(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, PACKAGE)


def measured(path, *arguments):
    """What a run writes as JSON, by the name of the corruption."""
    assert corruptions.main([*TINY, *arguments, f"--json={path}"]) == 0
    found = json.loads(path.read_text())
    return found, {row["name"]: row for row in found["rows"]}


@pytest.mark.usefixtures("no_package")
def test_without_the_package_times_remain(tmp_path, capsys):
    names = ("contrast", "impulse_noise")
    found, rows = measured(tmp_path / "b.json", "--corruptions", *names)
    assert tuple(rows) == names
    assert found["settings"] == {
        "size": 32,
        "batch": 2,
        "repetitions": 1,
        "calibration": 224,
        "pictures": "scikit-learn's china and flower",
        "reference": "imagecorruptions is not installed",
    }
    assert found["device"] == parallel.device_name()
    for row in rows.values():
        assert row["seconds"] > 0 and row["there"] is None
        assert len(row["here"]["change"]) == 5
    table = capsys.readouterr().out
    assert table.count("/ imagecorruptions is not installed") == 6
    assert "| contrast |" in table and found["date"] in table


@pytest.mark.usefixtures("package")
def test_results_are_compared_with_those_of_the_package(tmp_path, capsys):
    names = ("contrast", "gaussian_noise", "impulse_noise", "speckle_noise")
    found, rows = measured(tmp_path / "b.json", "--corruptions", *names)
    assert found["settings"]["reference"] == "imagecorruptions 9.9"
    contrast, gray, failed = (rows[names[i]] for i in (0, 1, 3))
    np.testing.assert_allclose(contrast["difference"], 1, atol=1e-3)
    np.testing.assert_allclose(contrast["largest"], 1, atol=1e-3)
    here, there = contrast["here"], contrast["there"]
    np.testing.assert_allclose(there["detail"], here["detail"], atol=1e-3)
    brighter = np.subtract(there["brightness"], here["brightness"])
    np.testing.assert_allclose(brighter, 1, atol=1e-3)
    assert gray["difference"] is None and gray["there"]["brightness"] == [1, 2, 3, 4, 5]
    assert rows["impulse_noise"]["there"]["change"] == [0] * 5
    assert failed["there"] is None
    assert failed["note"] == "TypeError: no such colour"
    assert "1.000 1.000 1.000 1.000 1.000" in capsys.readouterr().out


@pytest.mark.usefixtures("package")
def test_strengths_for_32_pixels_have_nothing_to_be_compared_with(tmp_path):
    options = ["--calibration=32", "--corruptions", "contrast"]
    found, rows = measured(tmp_path / "b.json", *options)
    assert found["settings"]["calibration"] == 32
    assert rows["contrast"]["note"] == "the package is made for 224 pixels only"


def test_statistics_are_those_of_a_known_pattern():
    clean = np.full((1, 8, 8, 3), 100, np.uint8)
    stripes = np.where(np.arange(8) % 2, 90.0, 110.0)[None, :, None]
    results = np.broadcast_to(stripes, (5, 1, 8, 8, 3))
    found = corruptions.statistics_of(results, clean)
    np.testing.assert_allclose(found.change, 10)
    np.testing.assert_allclose(found.brightness, 100)
    np.testing.assert_allclose(found.detail, 10)


def test_pictures_come_from_scikit_learn_or_a_folder(tmp_path):
    pictures = corruptions.squares(224, 5)
    assert pictures.shape == (5, 224, 224, 3) and pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 5
    for i in range(3):
        Image.new("L", (40, 30), 10 * i).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = corruptions.from_folder(tmp_path, 16, 2)
    assert pictures.shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(pictures[1], 10)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--size=0"], "--size 0 must be at least 1"),
        (["--size=500"], "--size 500 must be at most 427"),
        (["--images=nowhere"], "--images nowhere must be a folder that holds pictures"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        corruptions.main(arguments)
    assert message in capsys.readouterr().err


def test_the_other_interpreter_must_exist_and_pictures_be_large_enough():
    with pytest.raises(RuntimeError, match="nowhere cannot be run"):
        reference_corruptions.version("nowhere")
    with pytest.raises(RuntimeError, match="wants 32 pixels"):
        small = np.zeros((1, 31, 40, 3), np.uint8)
        reference_corruptions.results("fog", small, sys.executable)


def test_deterministic_corruptions_are_among_the_known_ones():
    assert set(DETERMINISTIC) < {*STANDARD, *EXTRA}
