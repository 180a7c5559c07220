"""Tiny ImageNet's folder is read alike as published and with moved test images."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.published import coarse
from jax_rcl.data.published.tiny_imagenet import TinyImageNet
from jax_rcl.data.records import check_labels, labels_of
from jax_rcl.data.stream import load
from jax_rcl.data.wrappers import Split, coarsened

WNIDS = ("n01", "n02", "n10")


def save(path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.full((64, 64, 3), value, np.uint8))
    image.save(path, "jpeg", quality=100)


@pytest.fixture
def folder(tmp_path):
    """Four training images of each of three classes, and five for testing."""
    root = tmp_path / "tiny-imagenet-200"
    for label, wnid in enumerate(WNIDS):
        for i in range(4):
            path = root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            save(path, 60 * label + 10 * i)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("no image")
    lines = []
    for i, wnid in enumerate(("n10", "n01", "n10", "n02", "n01")):
        save(root / "val" / "images" / f"val_{i}.JPEG", 50 * i)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t0\t9\t9\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "words.txt").write_text("n10\tgoldfish, carp\nn01\teft\nn99\tno class\n")
    return root


def move(root, *below: str) -> None:
    """Moves the test images into folders of their classes."""
    annotations = root / "val" / "val_annotations.txt"
    for line in annotations.read_text().splitlines():
        name, wnid, *_ = line.split("\t")
        target = root.joinpath("val", wnid, *below)
        target.mkdir(parents=True, exist_ok=True)
        shutil.move(root / "val" / "images" / name, target / name)


def test_the_training_images_are_sorted_by_class(folder):
    source = TinyImageNet(str(folder))
    assert isinstance(source, Source) and source.wnids == WNIDS
    assert source.class_names == ("eft", "n02", "goldfish, carp")
    assert labels_of(source).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    images = load(source)["image"]
    assert images.shape == (12, 64, 64, 3)
    expected = [60 * label + 10 * i for label in range(3) for i in range(4)]
    assert np.abs(images[:, 5, 5, 0].astype(int) - expected).max() <= 1
    check_labels(source)
    assert TinyImageNet(str(folder), size=8)[0]["image"].shape == (8, 8, 3)


@pytest.mark.parametrize("layout", ["published", "moved", "below", "no list", "half"])
def test_the_published_validation_images_are_the_test_split(folder, layout):
    if layout in ("moved", "no list"):
        move(folder)
    if layout == "below":
        move(folder, "images")
    if layout == "no list":
        (folder / "val" / "val_annotations.txt").unlink()
    if layout == "half":  # a mover that was interrupted
        (folder / "val" / "n10").mkdir()
        shutil.move(folder / "val" / "images" / "val_0.JPEG", folder / "val" / "n10")
    source = TinyImageNet(str(folder), "test")
    assert labels_of(source).tolist() == [0, 0, 1, 2, 2]
    values = load(source)["image"][:, 5, 5, 0].astype(int)
    assert np.abs(values - [50, 200, 150, 0, 100]).max() <= 1
    assert source.class_names == TinyImageNet(str(folder)).class_names


def test_validation_images_are_held_out_of_the_training_images(folder):
    source = TinyImageNet(str(folder))
    train, val = Split(source, val_share=0.25), Split(source, "val", 0.25)
    assert sorted([*train.indices, *val.indices]) == list(range(12)) and len(val) == 3


def test_the_coarse_map_is_for_all_200_classes(folder):
    with pytest.raises(ValueError, match=r"'tiny-imagenet' has 200 .* the 3 classes"):
        len(coarsened(TinyImageNet(str(folder)), coarse.TINY_IMAGENET))


def test_what_is_missing_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"TinyImageNet\.folder .*gone/train"):
        len(TinyImageNet(str(folder / "gone")))
    (folder / "val" / "images" / "val_2.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists 1 image.* first val_2\.JPEG"):
        len(TinyImageNet(str(folder), "test"))
    shutil.rmtree(folder / "train" / "n02" / "images")
    with pytest.raises(
        ValueError, match=r"train has no images of 1 of 3 classes: n02\. Unp"
    ):
        len(TinyImageNet(str(folder)))


def test_an_annotation_of_an_unknown_class_is_named(folder):
    with (folder / "val" / "val_annotations.txt").open("a") as file:
        file.write("val_9.JPEG\tn77\t0\t0\t1\t1\n")
    with pytest.raises(
        ValueError, match=r"annotations\.txt does not read .*unknown 'n77'"
    ):
        len(TinyImageNet(str(folder), "test"))


def test_a_damaged_image_is_named(folder):
    (folder / "train" / "n01" / "images" / "n01_0.JPEG").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"n01_0\.JPEG does not decode"):
        TinyImageNet(str(folder))[0]
