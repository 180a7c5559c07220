"""Files of other libraries are read as arrays by name; nothing in them is run."""

import sys

import numpy as np
import pytest

from jax_rcl.weights.files import read

ARRAYS = {
    "conv1.weight": np.random.RandomState(0).randn(2, 3).astype(np.float32),
    "count": np.asarray(7, np.int64),
}


def assert_same(found):
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_npz(tmp_path):
    np.savez(tmp_path / "w.npz", **ARRAYS)
    assert_same(read(tmp_path / "w.npz"))
    assert_same(read(str(tmp_path / "w.npz")))


def test_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", thing=np.asarray({"a": 1}, dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read(tmp_path / "w.npz")


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(ARRAYS, tmp_path / "w.safetensors")
    assert_same(read(tmp_path / "w.safetensors"))


def test_an_unknown_ending_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"\.npz, \.safetensors, \.pt, \.pth"):
        read(tmp_path / "w.h5")


@pytest.mark.parametrize(
    ("name", "package"),
    [("w.pt", "torch"), ("w.safetensors", "safetensors.numpy")],
)
def test_a_missing_package_names_the_extra(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=rf"{package}: pip install 'jax_rcl\[torch\]'"
    ):
        read(name)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def tensors(torch):
    return {name: torch.from_numpy(x.copy()) for name, x in ARRAYS.items()}


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pth.tar"])
def test_a_state_dict(name, tmp_path, torch):
    torch.save(tensors(torch), tmp_path / name)
    assert_same(read(tmp_path / name))


def test_a_training_checkpoint_holds_a_state_dict(tmp_path, torch):
    content = {"epoch": 3, "arch": "resnet50", "state_dict": tensors(torch)}
    torch.save(content, tmp_path / "w.pth.tar")
    assert_same(read(tmp_path / "w.pth.tar"))


def test_bfloat16_becomes_float32(tmp_path, torch):
    torch.save({"w": torch.tensor([1.5, -2.0]).bfloat16()}, tmp_path / "w.pt")
    found = read(tmp_path / "w.pt")["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1.5, -2.0])


def test_what_is_not_a_state_dict_is_an_error(tmp_path, torch):
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(ValueError, match="holds a list, not a dict of arrays"):
        read(tmp_path / "w.pt")
    torch.save({"model": torch.zeros(2), "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="not arrays: epoch"):
        read(tmp_path / "w.pt")
