"""Files of other libraries are read as arrays by name; nothing in them is run."""

import argparse
import pathlib
import sys
import types
import warnings
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

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
    with pytest.raises(ValueError, match="allow_pickle=False") as told:
        read(tmp_path / "w.npz")
    assert "damaged" not in str(told.value)


def test_safetensors(tmp_path):
    save_file(ARRAYS, tmp_path / "w.safetensors")
    assert_same(read(tmp_path / "w.safetensors"))


def test_an_unknown_ending_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"\.npz, \.safetensors, \.pt, \.pth"):
        read(tmp_path / "w.h5")


def test_half_precision_of_brains_becomes_single(tmp_path):
    single = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"w": single.astype(ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    found = read(tmp_path / "w.safetensors")["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, single)


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"\x80\x02 as PyTorch wrote before version 1.6")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"torch: pip install 'jax_rcl\[torch\]'"):
        read(tmp_path / "w.pt")


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    for name in ("w.npz", "w.pt"):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / name)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def tensors(torch):
    return {name: torch.from_numpy(x.copy()) for name, x in ARRAYS.items()}


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pth.tar", "w.ckpt", "w.bin"])
def test_a_state_dict(name, tmp_path, torch):
    torch.save(tensors(torch), tmp_path / name)
    assert_same(read(tmp_path / name))


def test_a_training_checkpoint_holds_a_state_dict(tmp_path, torch):
    content = {"epoch": 3, "arch": "resnet50", "state_dict": tensors(torch)}
    torch.save(content, tmp_path / "w.pth.tar")
    assert_same(read(tmp_path / "w.pth.tar"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: {"model": x, "epoch": 5, "optimizer": {"state": {}}},
        lambda x: {"model_state_dict": x, "ema": {"shadow": x["count"]}},
        lambda x: {"net": x, "acc": 1.0},
        lambda x: {"whatever": {"state_dict": x}, "lr": [0.1]},
    ],
    ids=["model", "model_state_dict", "net", "deep"],
)
def test_a_checkpoint_may_call_its_state_dict_anything(tmp_path, torch, wrap):
    torch.save(wrap(tensors(torch)), tmp_path / "w.pth")
    assert_same(read(tmp_path / "w.pth"))


def test_averages_of_an_optimizer_are_no_weights(tmp_path, torch):
    moved = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []}
    torch.save({"weights": tensors(torch), "opt": moved}, tmp_path / "w.pth")
    assert_same(read(tmp_path / "w.pth"))


def test_of_two_state_dicts_names_begin_with_their_keys(tmp_path, torch):
    content = {"student": tensors(torch), "teacher": tensors(torch)}
    torch.save(content, tmp_path / "w.pth")
    names = set(read(tmp_path / "w.pth"))
    both = {f"{who}.{name}" for who in ("student", "teacher") for name in ARRAYS}
    assert names == both


FORMATS = pytest.mark.parametrize("archive", [True, False], ids=["archive", "old"])


@FORMATS
def test_bfloat16_becomes_float32(tmp_path, torch, archive):
    content = {"w": torch.tensor([1.5, -2.0]).bfloat16()}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=archive)
    found = read(tmp_path / "w.pt")["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1.5, -2.0])


@FORMATS
def test_views_and_parameters_are_the_arrays_that_they_show(tmp_path, torch, archive):
    whole = torch.arange(24.0).reshape(4, 6)
    content = {
        "transposed": whole.t(),
        "inside": whole[1:3, 2:5],
        "repeated": torch.ones(1).expand(3),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(True),
        "parameter": torch.nn.Parameter(whole),
    }
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=archive)
    content["parameter"] = whole
    found = read(tmp_path / "w.pt")
    for name, expected in content.items():
        np.testing.assert_array_equal(found[name], expected.numpy())
        assert (found[name].shape, str(found[name].dtype)) == (
            tuple(expected.shape),
            str(expected.numpy().dtype),
        )


def test_archives_are_read_without_pytorch(tmp_path, torch, monkeypatch):
    torch.save(tensors(torch), tmp_path / "w.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert_same(read(tmp_path / "w.pt"))


CALLED = []


class Noisy:
    """Says so when an unpickler makes one."""

    def __reduce__(self):
        return (CALLED.append, ("executed",))


def test_objects_beside_the_arrays_are_neither_executed_nor_needed(tmp_path, torch):
    framework = types.ModuleType("some_framework")
    framework.AttributeDict = type("AttributeDict", (dict,), {})
    framework.AttributeDict.__module__ = "some_framework"
    framework.ListOf = type("ListOf", (list,), {"__module__": "some_framework"})
    sys.modules["some_framework"] = framework
    try:
        content = {
            "state_dict": tensors(torch),
            "hyper_parameters": framework.AttributeDict(lr=0.1, other=Noisy()),
            "arguments": argparse.Namespace(batch_size=64, files=pathlib.Path("x")),
            "callbacks": {framework.AttributeDict: {"best": np.float64(1.5)}},
            "more": framework.ListOf([1, {2}, slice(3)]),
        }
        torch.save(content, tmp_path / "w.ckpt")
    finally:
        del sys.modules["some_framework"]
    assert_same(read(tmp_path / "w.ckpt"))
    assert CALLED == []


def test_a_torchscript_module_gives_its_parameters_and_buffers(tmp_path, torch):
    class Inner(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)
            self.mask = torch.ones(3)  # no buffer, so not in the state dict

        def forward(self, x):
            return self.norm(x) * self.mask

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.Sequential(torch.nn.Linear(2, 3), Inner())
            self.scale = torch.nn.Parameter(torch.tensor(2.0))
            self.register_buffer("input_resolution", torch.tensor(224))
            self.half()

        def forward(self, x):
            return self.blocks(x) * self.scale

    module = Outer().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), tmp_path / "w.pt")
    found = read(tmp_path / "w.pt")
    assert set(found) == set(module.state_dict())
    for name, expected in module.state_dict().items():
        np.testing.assert_array_equal(found[name], expected.numpy())
        assert str(found[name].dtype) == str(expected.numpy().dtype)


DAMAGED = r"is damaged, was cut off or is not what its name says"


def written(path, torch):
    """The bytes of a good file of this ending."""
    if path.name.endswith(".npz"):
        np.savez(path, **ARRAYS)
    elif path.name.endswith(".safetensors"):
        save_file(ARRAYS, path)
    elif path.name.startswith("old"):
        torch.save(tensors(torch), path, _use_new_zipfile_serialization=False)
    else:
        torch.save(tensors(torch), path)
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("name", ["w.npz", "w.safetensors", "w.pt", "old.pt", "w.ckpt"])
def test_a_file_that_was_cut_off_is_one_clear_error(tmp_path, torch, name, share):
    content = written(tmp_path / name, torch)
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=DAMAGED) as told:
        read(tmp_path / name)
    assert name in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors", "w.pt"])
def test_a_page_in_the_place_of_a_file_is_one_clear_error(tmp_path, torch, name):
    (tmp_path / name).write_text("<!DOCTYPE html><html>Not found</html>")
    with pytest.raises(ValueError, match=DAMAGED):
        read(tmp_path / name)


def test_a_changed_byte_in_an_archive_is_noticed(tmp_path, torch):
    content = bytearray(written(tmp_path / "w.pt", torch))
    first = next(iter(ARRAYS.values())).tobytes()
    content[content.index(first)] ^= 1
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{DAMAGED} \(Bad CRC-32"):
        read(tmp_path / "w.pt")


def test_an_array_that_reaches_beyond_its_storage_is_refused(tmp_path, torch):
    torch.save({"w": torch.zeros(3)}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as good,
        zipfile.ZipFile(tmp_path / "w.pt", "w") as bad,
    ):
        for name in good.namelist():
            # Three numbers in the pickle of a storage that keeps two.
            content = good.read(name)
            bad.writestr(name, content[:8] if "/data/" in name else content)
    with pytest.raises(ValueError, match=r"\(3,\) reaches beyond its storage"):
        read(tmp_path / "w.pt")


def test_what_is_not_a_state_dict_is_an_error(tmp_path, torch):
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    with pytest.raises(ValueError, match="holds a list, not a dict of arrays"):
        read(tmp_path / "w.pt")
    torch.save({"model": torch.zeros(2), "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="not arrays: epoch"):
        read(tmp_path / "w.pt")
