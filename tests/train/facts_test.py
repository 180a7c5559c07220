"""What is stored of data tells the same ones from others, without decoding a record."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.coarse import CoarseMap
from jax_rcl.data.published.grouped import WithGroups
from jax_rcl.data.sources import Npz, Synthetic
from jax_rcl.data.textures import WithTexture
from jax_rcl.data.wrappers import Relabel, Split
from jax_rcl.train.facts import _describe, changes_of, is_known, sample_rows


def npz(path, images=None, labels=None):
    images = np.arange(40 * 12).reshape(40, 2, 2, 3) % 251 if images is None else images
    labels = np.arange(40) % 2 if labels is None else labels
    np.savez(path, image=images.astype(np.uint8), label=labels)
    return Npz(str(path))


def folder(root):
    for name in "ab":
        (root / name).mkdir(parents=True)
        for number in range(10):
            colour = (number, ord(name), 0)
            Image.new("RGB", (9, 8), colour).save(root / name / f"{number}.png")
    return root


def changes(then, now):
    return changes_of(_describe(then), _describe(now))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 1000])
def test_a_few_records_are_looked_at_the_ends_among_them(count):
    rows = sample_rows(count)
    assert len(rows) == min(count, 16) and len({*rows}) == len(rows)
    assert (rows[0], rows[-1]) == (0, count - 1)


def test_arrays_tell_other_labels_pixels_and_another_order(tmp_path):
    source = npz(tmp_path / "a.npz")
    images, labels = (np.array(x) for x in source.arrays[:2])
    assert is_known(_describe(source))
    assert changes(source, npz(tmp_path / "b.npz")) == []
    labels[3] = 1 - labels[3]
    assert changes(source, npz(tmp_path / "c.npz", labels=labels)) == ["other labels"]
    assert changes(source, npz(tmp_path / "d.npz", 255 - images)) == ["other images"]
    other = npz(tmp_path / "e.npz", np.roll(images, 2, axis=0))  # labels are as before
    assert changes(source, other) == ["other images"]


def test_files_are_compared_as_they_lie_there(tmp_path):
    source = ImageFolder(str(folder(tmp_path / "a")), size=None)
    moved = ImageFolder(str(shutil.copytree(tmp_path / "a", tmp_path / "b")), size=None)
    described = _describe(source)
    assert is_known(described) and changes_of(described, _describe(moved)) == []
    damaged = tmp_path / "b" / "a" / "0.png"
    damaged.write_bytes(b"damaged")  # which a checkpoint does not wait for
    assert changes(source, moved) == []
    for name in "ab":
        for path in (tmp_path / "b" / name).iterdir():
            path.write_bytes(b"another")
    assert changes(source, moved) == ["other images"]
    damaged.unlink()
    damaged.mkdir()  # no file: whoever needs the record will say so
    assert changes_of(described, _describe(moved)) == ["other images"]


def test_wrappers_say_what_is_around_the_records_inside(tmp_path):
    root, textures = folder(tmp_path / "a"), folder(tmp_path / "textures")
    files = ImageFolder(str(root), size=8)
    crops = RandomCrops(ImageFolder(str(root), size=None), 8)
    assert _describe(crops) == _describe(files)
    assert _describe(Split(files))["sample"] != _describe(files)["sample"]
    coarse = CoarseMap("one", (0, 0), ("both",))
    relabelled = Relabel(files, coarse.mapping, coarse.class_names)
    assert changes(files, relabelled) == ["classes have other names", "other labels"]
    with_textures = WithTexture(files, str(textures), 8)
    then = _describe(with_textures)
    for path in textures.rglob("*.png"):
        path.write_bytes(b"another")
    assert changes_of(then, _describe(with_textures)) == ["other images"]
    np.save(tmp_path / "groups.npy", np.arange(20) % 2)
    then = _describe(WithGroups(files, str(tmp_path / "groups.npy"), ("x", "y")))
    np.save(tmp_path / "groups.npy", np.arange(20) // 10)
    now = _describe(WithGroups(files, str(tmp_path / "groups.npy"), ("x", "y")))
    assert changes_of(then, now) == ["other groups"]


def test_of_sources_that_do_not_say_how_a_record_is_stored_none_is_read():
    class Strange:
        class_names = ("a",)

        def __len__(self):
            return 3

        def __getitem__(self, index):
            raise AssertionError("it may draw another record each time")

    assert not is_known(_describe(Strange()))
    assert changes(Strange(), Strange()) == []
    assert not is_known(_describe(Synthetic()))


def test_what_was_not_stored_then_is_not_compared():
    old = {"count": 5, "class_names": 1, "names": None}
    now = {**old, "labels": 3, "sample": [1, 2]}
    assert changes_of(old, now) == [] and not is_known(old)
