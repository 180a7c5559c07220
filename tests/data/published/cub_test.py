"""CUB's lists give the official split; its attributes follow the order of a source."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.published.cub import Cub200, attribute_names, attributes
from jax_rcl.data.records import check_labels, labels_of, names_of
from jax_rcl.data.stream import load

BIRDS = ("001.Black_footed_Albatross", "002.Sooty_Albatross", "003.Least_Auklet")
# Id, class and file of an image, and whether it is for training.
PHOTOS = (
    (1, 0, "b.jpg", 0),
    (2, 0, "c.jpg", 1),
    (3, 0, "a.jpg", 1),
    (4, 1, "e.jpg", 1),
    (5, 1, "d.jpg", 0),
    (7, 2, "f.jpg", 1),
)


def present(image, attribute):
    return (image * 7 + attribute) % 5 == 0


def certainty(image, attribute):
    return 1 + (image + attribute // 2) % 4


def annotation(image, attribute):
    row = f"{image} {attribute} {int(present(image, attribute))}"
    # Some rows of the published file have more fields than five.
    more = " 0 1.5" if attribute == 100 else ""
    return f"{row} {certainty(image, attribute)}{more} 27.7080\n"


@pytest.fixture
def folder(tmp_path):
    """Six photographs of three classes, 60 wide and 40 high, black at the sides."""
    root = tmp_path / "CUB_200_2011"
    for i, (number, bird, name, _) in enumerate(PHOTOS):
        pixels = np.zeros((40, 60, 3), np.uint8)
        pixels[:, 10:50] = 10 * number
        path = root / "images" / BIRDS[bird] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if i == 1 else pixels).save(path, quality=95)
    lists = {
        "classes": ((i, name) for i, name in enumerate(BIRDS, start=1)),
        "images": ((i, f"{BIRDS[bird]}/{name}") for i, bird, name, _ in PHOTOS),
        "train_test_split": ((i, part) for i, *_, part in PHOTOS),
    }
    for name, rows in lists.items():
        text = "".join(f"{number} {word}\n" for number, word in rows)
        (root / f"{name}.txt").write_text(text)
    (root / "attributes").mkdir()
    rows = [annotation(i, a) for i, *_ in PHOTOS for a in range(1, 313)]
    np.random.RandomState(0).shuffle(rows)
    (root / "attributes" / "image_attribute_labels.txt").write_text("".join(rows))
    return root


def test_the_split_is_the_official_one_by_class_and_file(folder):
    source = Cub200(str(folder), size=20)
    assert isinstance(source, Source) and len(source) == 4
    assert labels_of(source).tolist() == [0, 0, 1, 2]
    assert names_of(source) == (
        "001.Black_footed_Albatross/a.jpg",
        "001.Black_footed_Albatross/c.jpg",
        "002.Sooty_Albatross/e.jpg",
        "003.Least_Auklet/f.jpg",
    )
    assert names_of(Cub200(str(folder), "test")) == (
        "001.Black_footed_Albatross/b.jpg",
        "002.Sooty_Albatross/d.jpg",
    )
    check_labels(source)


def test_classes_are_named_readably_whatever_the_split_holds(folder):
    for split in ("train", "test"):
        assert Cub200(str(folder), split).class_names == (
            "Black footed Albatross",
            "Sooty Albatross",
            "Least Auklet",
        )


def test_an_image_is_the_central_square_of_the_photograph(folder):
    found = load(Cub200(str(folder), size=20))
    assert found["image"].shape == (4, 20, 20, 3)
    # One of them is a gray file.
    assert (
        np.abs(found["image"][:, 2:18, 2:18].astype(int).T - [30, 20, 40, 70]).max()
        <= 2
    )
    assert Cub200(str(folder))[0]["image"].shape == (256, 256, 3)


def test_attributes_are_in_the_order_of_the_source(folder):
    for split, numbers in (("train", (3, 2, 4, 7)), ("test", (1, 5))):
        found = attributes(Cub200(str(folder), split))
        expected = [[present(i, a) for a in range(1, 313)] for i in numbers]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_attributes_said_without_certainty_can_be_left_out(folder):
    source = Cub200(str(folder))
    for least in (2, 4):
        expected = [
            [present(i, a) and certainty(i, a) >= least for a in range(1, 313)]
            for i in (3, 2, 4, 7)
        ]
        found = attributes(source, least_certainty=least)
        np.testing.assert_array_equal(found, np.array(expected, np.float32))
    with pytest.raises(ValueError, match=r"least_certainty is 5; write one of 1, 2"):
        attributes(source, 5)


@pytest.mark.parametrize("place", [".", "attributes", ".."])
def test_names_of_attributes_are_found_where_the_archive_and_its_copies_have_them(
    folder, place
):
    words = "".join(f"{i} has_bill::kind_{i}_(or_so)\n" for i in range(1, 313))
    (folder / place / "attributes.txt").write_text(words)
    names = attribute_names(Cub200(str(folder)))
    assert len(names) == 312
    assert names[:2] == ("has_bill::kind_1_(or_so)", "has_bill::kind_2_(or_so)")
    (folder / place / "attributes.txt").write_text("1 has_bill::dagger\n")
    with pytest.raises(ValueError, match=r"names 1 attributes; expected 1 to 312"):
        attribute_names(Cub200(str(folder)))


def test_attributes_without_names_are_numbered(folder):
    names = attribute_names(Cub200(str(folder)))
    assert names == tuple(str(i) for i in range(1, 313))


def test_a_folder_without_attributes_is_a_source_but_no_prior(folder):
    shutil.rmtree(folder / "attributes")
    source = Cub200(str(folder))
    assert len(source) == 4
    with pytest.raises(
        FileNotFoundError,
        match=r"image_attribute_labels\.txt does not exist; .* get it at https://data",
    ):
        attributes(source)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (annotation(4, 9), "", r"has 1871 rows of 1872\); get it again: "),
        ("4 312 ", "4 314 ", r"does not read .* out of bounds"),
        (annotation(4, 9), "4 9 1\n", r"does not read .*invalid column"),
        ("4 312 ", "4 9 ", r"names an attribute twice, or an unknown one"),
        ("4 312 ", "4 0 ", r"names an attribute twice, or an unknown one"),
        ("4 312 ", "0 312 ", r"names an attribute twice, or an unknown one"),
        ("4 312 ", "4 nan ", r"could not convert string 'nan'"),
    ],
)
def test_damaged_attributes_are_named(folder, old, new, message):
    path = folder / "attributes" / "image_attribute_labels.txt"
    text = "\n" + path.read_text()
    assert f"\n{old}" in text
    path.write_text(text.replace(f"\n{old}", f"\n{new}", 1)[1:])
    with pytest.raises(ValueError, match=message):
        attributes(Cub200(str(folder)))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("train_test_split", "4 1\n", "", r"split\.txt does not read .*unknown 4\)"),
        ("train_test_split", "4 1\n", "4 2\n", r"split\.txt .*unknown '2'\); get it"),
        ("images", "4 002.", "4 009.", r"unknown '009\.Sooty"),
        ("images", "2 001", "two 001", r"images\.txt does not read .*'two'"),
        ("classes", "002.Sooty_Albatross", "", r"classes\.txt does not read"),
    ],
)
def test_damaged_lists_are_named(folder, file, old, new, message):
    path = folder / f"{file}.txt"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        len(Cub200(str(folder)))


@pytest.mark.parametrize(
    "name", ["images.txt", "classes.txt", "train_test_split.txt", "images"]
)
def test_what_is_missing_is_named(folder, name):
    shutil.move(folder / name, folder.parent / name)
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist; .* https:"):
        len(Cub200(str(folder)))


def test_a_damaged_image_is_named(folder):
    (folder / "images" / BIRDS[0] / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.jpg does not decode .* unpack"):
        Cub200(str(folder))[0]
