"""Published files are told from damaged ones by their checksums; others pass."""

import hashlib
import warnings

import numpy as np
import pytest

from jax_rcl.weights import clip
from jax_rcl.weights.clip import SHA256, read

ARRAYS = {
    "visual.class_embedding": np.arange(3, dtype=np.float16),
    "ln_final.weight": np.ones(2, np.float32),
}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file that counts as published, under the name of one."""
    np.savez(tmp_path / "made.npz", **ARRAYS)
    file = (tmp_path / "made.npz").rename(tmp_path / "model.npz")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(clip, "SHA256", {"model.npz": digest})
    return file, digest


def assert_same(found):
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_digests_are_of_the_published_names():
    assert {"RN50.pt", "RN101.pt", "RN50x4.pt", "RN50x16.pt"} < set(SHA256)
    assert {"ViT-B-32.pt", "ViT-B-16.pt", "ViT-L-14.pt"} < set(SHA256)
    assert all(len(x) == 64 and int(x, 16) for x in SHA256.values())
    assert len(set(SHA256.values())) == len(SHA256)


def test_a_published_file_is_read(published):
    file, _ = published
    assert_same(read(file))
    assert_same(read(str(file)))


def test_a_file_with_another_checksum_is_refused_with_both(published):
    file, digest = published
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    found = hashlib.sha256(content[:-7]).hexdigest()
    with pytest.raises(ValueError, match=f"is {found}, published {digest}; the down"):
        read(file)


def test_another_file_of_that_name_is_read_where_any_may_be(published):
    file, _ = published
    np.savez(file, **ARRAYS, more=np.zeros(2))
    with pytest.raises(ValueError, match=r"write checksum='any'"):
        read(file)
    assert set(read(file, checksum="any")) == {*ARRAYS, "more"}


def test_files_of_other_names_need_no_checksum(tmp_path, published):
    np.savez(tmp_path / "own.npz", **ARRAYS)
    assert_same(read(tmp_path / "own.npz"))


def test_a_truncated_file_of_another_name_is_one_clear_error(tmp_path):
    np.savez(tmp_path / "own.npz", **ARRAYS)
    content = (tmp_path / "own.npz").read_bytes()
    (tmp_path / "own.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged, was cut off"):
        read(tmp_path / "own.npz")


def test_a_scripted_model_has_the_names_shapes_and_scalars_of_openais(tmp_path):
    torch = pytest.importorskip("torch")

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 64, 4, 4, bias=False)
            self.class_embedding = torch.nn.Parameter(torch.randn(64))
            self.positional_embedding = torch.nn.Parameter(torch.randn(5, 64))
            self.ln_pre = torch.nn.LayerNorm(64)
            self.ln_post = torch.nn.LayerNorm(64)
            block = torch.nn.Module()
            block.ln_1 = torch.nn.LayerNorm(64)
            self.transformer = torch.nn.Module()
            self.transformer.resblocks = torch.nn.ModuleList([block])
            self.proj = torch.nn.Parameter(torch.randn(64, 6))

        def forward(self, x):
            return x + self.proj.sum()

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = Tower()
            self.ln_final = torch.nn.LayerNorm(64)
            for name in ("input_resolution", "context_length", "vocab_size"):
                self.register_buffer(name, torch.tensor(8))

        def forward(self, x):
            return self.visual(x)

    model = Model().half()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(model), tmp_path / "own.pt")
    found = read(tmp_path / "own.pt")
    assert {name: x.shape for name, x in found.items()} == {
        name: tuple(x.shape) for name, x in model.state_dict().items()
    }
    assert found["visual.proj"].dtype == np.float16
    fields = {"patch": 4, "width": 64, "layers": 1, "output": 6, "image_size": 8}
    assert clip.architecture(found, heads=1).visual == fields | {"heads": 1}
