"""Photographs and their textures: who belongs to whom, and what is missing."""

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from jax_rcl.config.nodes import build, node
from jax_rcl.core import Source
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.records import labels_of, names_of
from jax_rcl.data.sources import Digits
from jax_rcl.data.stream import load
from jax_rcl.data.textures import WithTexture
from jax_rcl.data.wrappers import Subset


def write(path, value, size=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size + 2, 3), value, np.uint8)).save(path)


@pytest.fixture
def trees(tmp_path):
    """Six photographs of value 0, 10, …, each with a texture of value 100 + its own."""
    for i in range(6):
        name = f"{'ab'[i // 3]}/{i}"
        write(tmp_path / "photos" / f"{name}.png", 10 * i)
        write(tmp_path / "textures" / f"{name}.png", 100 + 10 * i, size=7)
    return tmp_path


@pytest.fixture
def source(trees):
    photographs = ImageFolder(str(trees / "photos"), 4)
    return WithTexture(photographs, str(trees / "textures"), 6)


def test_every_photograph_comes_with_its_own_texture(source):
    rows = load(source)
    assert rows["texture"].shape == (6, 6, 6, 3) and rows["texture"].dtype == np.uint8
    assert rows["image"][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert rows["texture"][:, 0, 0, 0].tolist() == [100, 110, 120, 130, 140, 150]
    assert rows["label"].tolist() == [0, 0, 0, 1, 1, 1]


def test_it_is_a_source_like_the_one_it_wraps(source, trees):
    assert isinstance(source, Source) and source.class_names == ("a", "b")
    assert labels_of(source).tolist() == [0, 0, 0, 1, 1, 1] and len(source) == 6
    assert source.group_names == () and source.all_groups is None
    assert names_of(source)[2:4] == ("a/2.png", "b/3.png")
    photographs = node(ImageFolder, str(trees / "photos"), 4)
    config = node(WithTexture, photographs, str(trees / "textures"), 6)
    assert build(config) == source and hash(build(config)) == hash(source)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[5]["texture"], source[5]["texture"])


def test_shares_are_taken_of_the_pairs(source):
    share = Subset(source, 0.5)
    assert {"image", "label", "texture"} == set(share[0]) and len(share) == 4


def test_textures_may_be_jpeg_files_and_png_comes_first(source, trees):
    (trees / "textures" / "a" / "0.png").unlink()
    write(trees / "textures" / "a" / "0.JPEG", 200)
    write(trees / "textures" / "a" / "1.jpg", 200)
    assert abs(int(source[0]["texture"][0, 0, 0]) - 200) < 3
    assert source[1]["texture"][0, 0, 0] == 110


def test_a_texture_of_the_size_asked_for_is_not_resampled(source, trees):
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(trees / "textures" / "b" / "4.png")
    np.testing.assert_array_equal(source[4]["texture"], noise)


def test_missing_textures_are_counted_and_named_with_the_command(source, trees):
    (trees / "textures" / "a" / "2.png").unlink()
    shutil.rmtree(trees / "textures" / "b")
    command = rf"textures --images={trees}/photos --out={trees}/textures"
    with pytest.raises(
        FileNotFoundError,
        match=rf"4 of 6 .*: a/2.png, b/3.png, b/4.png, b/5.png\. .*{command}",
    ):
        len(source)


def test_nested_photographs_have_nested_textures(source, trees):
    for tree, value in (("photos", 60), ("textures", 160)):
        write(trees / tree / "a" / "deep" / "0.png", value)
    assert names_of(source)[3] == "a/deep/0.png"
    assert source[3]["texture"][0, 0, 0] == 160
    assert source[0]["texture"][0, 0, 0] == 100


def test_only_files_have_textures(source):
    with pytest.raises(ValueError, match=r"needs a source of files.*Digits"):
        WithTexture(Digits(), source.folder, 6)
    with pytest.raises(ValueError, match=r"Wrap the files first.*Subset\(WithTexture"):
        WithTexture(Subset(source.source, 0.5), source.folder, 6)
