"""Zappos: rows, images and attributes match; the label is not an attribute."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.published.zappos import (
    CLASSES,
    PUBLISHED,
    Zappos,
    attribute_names,
    attributes,
    rows_of,
)
from jax_rcl.data.records import check_labels, labels_of, names_of
from jax_rcl.data.stream import load

KINDS = {"HeelHeight": 7, "Insole": 30, "Closure": 18, "Gender": 8, "Material": 63}
LABELS = [f"Category.Kind.{i}" for i in range(4)] + [
    f"SubCategory.{name.replace(' ', '.')}" for name in CLASSES
]
BITS = [f"{kind}.x.{i}" for kind, n in KINDS.items() for i in range(n)]
SHOES = [f"{1000 + i}-{7 * i}" for i in range(10)]
# What numpy's seed 0 makes of ten rows.
TRAIN, TEST = [1, 2, 4, 6, 7, 8, 9], [0, 3, 5]


def label(row):
    return (5 * row) % 21


def bit(row, column):
    return int((row * 31 + column * 7) % 3 == 0)


def save_table(path, header, rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path):
    """Ten shoes, 136x102, gray in the middle; tables in different orders."""
    data = tmp_path / "ut-zap50k-data"
    rows = [
        [cid, "Shoes", CLASSES[label(i)], "", "Lace up, of café", "Men"]
        for i, cid in enumerate(SHOES)
    ]
    header = ["CID", "Category", "SubCategory", "HeelHeight", "Closure", "Gender"]
    save_table(data / "meta-data.csv", header, rows)
    rows = [
        [cid, *(["1"] * 25), *(bit(i, j) for j in range(126))]
        for i, cid in enumerate(SHOES)
    ]
    save_table(data / "meta-data-bin.csv", ["CID", *LABELS, *BITS], rows[::-1])
    for i, cid in enumerate(SHOES):
        pixels = np.full((102, 136, 3), 255, np.uint8)
        pixels[:, 17:119] = 20 * i
        # Brands with names that image-path.mat and file systems do not agree on.
        brand = tmp_path / "ut-zap50k-images" / "Shoes" / "Any" / f"Dr. Levi's®{i % 3}."
        brand.mkdir(parents=True, exist_ok=True)
        name = f"{cid.replace('-', '.')}.jpg"
        Image.fromarray(pixels).save(brand / name, quality=95)
        (brand / f"._{name}").write_bytes(b"of another system")
    return tmp_path


def test_the_split_is_the_first_seven_tenths_of_the_seeded_permutation(folder):
    train, test = Zappos(str(folder)), Zappos(str(folder), "test")
    assert isinstance(train, Source)
    assert rows_of(train).tolist() == TRAIN and rows_of(test).tolist() == TEST
    for source, rows in ((train, TRAIN), (test, TEST)):
        assert labels_of(source).tolist() == [label(row) for row in rows]
        check_labels(source)
    assert names_of(test)[:2] == ("Ankle/1000.0.jpg", "Oxfords/1003.21.jpg")


def test_the_split_of_all_50025_rows_is_the_published_one(tmp_path):
    rows = [[f"{i}-1", "Heels"] for i in range(50_025)]
    path = tmp_path / "ut-zap50k-data" / "meta-data.csv"
    save_table(path, ["CID", "SubCategory"], rows)
    train = rows_of(Zappos(str(tmp_path)))
    test = rows_of(Zappos(str(tmp_path), "test"))
    assert {"train": len(train), "test": len(test)} == PUBLISHED
    assert (len(train), len(test)) == (35_017, 15_008)
    assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert sorted([*train, *test]) == list(range(50_025))
    assert {34021, 18675, 37333, 43590, 35554, 13971, 8719, 45169} <= set(
        train.tolist()
    )


def test_all_21_classes_are_named_whatever_the_split_holds(folder):
    assert len(CLASSES) == 21 and tuple(sorted(CLASSES)) == CLASSES
    assert Zappos(str(folder), "test").class_names == CLASSES


def test_the_whole_frame_is_four_by_three(folder):
    found = load(Zappos(str(folder)))["image"]
    assert found.shape == (7, 32, 42, 3)
    # An eighth of the photograph at either side is white.
    assert found[:, 16, [1, -2]].min() > 250
    expected = [20 * row for row in TRAIN]
    assert np.abs(found[:, 16, 21, 0].astype(int) - expected).max() <= 2
    assert Zappos(str(folder), size=102)[0]["image"].shape == (102, 136, 3)


def test_the_square_is_in_the_middle(folder):
    found = load(Zappos(str(folder), frame="square"))["image"]
    assert found.shape == (7, 32, 32, 3)
    assert np.abs(found[1, 2:-2, 2:-2].astype(int) - 40).max() <= 4


def test_attributes_are_in_the_order_of_the_source(folder):
    for split, rows in (("train", TRAIN), ("test", TEST)):
        found = attributes(Zappos(str(folder), split))
        expected = [[bit(row, j) for j in range(126)] for row in rows]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array(expected, np.float32))
    assert attribute_names(Zappos(str(folder))) == tuple(BITS)


def test_the_label_is_not_an_attribute(folder):
    source = Zappos(str(folder))
    assert not [name for name in attribute_names(source) if "category" in name.lower()]
    path = folder / "ut-zap50k-data" / "meta-data-bin.csv"
    header, *rows = list(csv.reader(path.read_text().splitlines()))
    # Other columns of labels, in other places, change nothing.
    order = [*range(26, 90), *range(1, 26), 0, *range(90, 152)]
    other = folder / "other"
    shutil.copytree(folder / "ut-zap50k-data", other / "ut-zap50k-data")
    flipped = [["0" if 1 <= j < 26 else row[j] for j in order] for row in rows]
    save_table(
        other / "ut-zap50k-data" / "meta-data-bin.csv",
        [header[j] for j in order],
        flipped,
    )
    second = attributes(Zappos(str(other)))
    np.testing.assert_array_equal(second, attributes(source))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("meta-data-bin", "1000-0,", "2000-0,", r"data-bin\.csv .*unknown '1000-0'"),
        ("meta-data-bin", "\r\n1000-0,1", "\r\n1000-0", r"row 10 .* 151 values, .*152"),
        ("meta-data-bin", "0,0\r\n", "0,nan\r\n", r"row 1 of .*'nan' .*Material\.x"),
        (
            "meta-data-bin",
            "CID",
            "ID",
            r"has no column 'CID'; it has 'ID', 'Cat",
        ),
    ],
)
def test_damaged_attributes_are_named(folder, file, old, new, message):
    path = folder / "ut-zap50k-data" / f"{file}.csv"
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())
    with pytest.raises(ValueError, match=message):
        attributes(Zappos(str(folder)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",Ankle,", ",Ankel,", r"row 1 of .* 'Ankel' .*; expected one of 'An"),
        ("SubCategory", "Kind", r"has no column 'SubCategory'"),
        ("1000-0,Shoes", "1000-0", r"row 1 of .* has 5 values, expected 6"),
    ],
)
def test_damaged_tables_are_named(folder, old, new, message):
    path = folder / "ut-zap50k-data" / "meta-data.csv"
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(ValueError, match=message):
        len(Zappos(str(folder)))
    path.write_text("")
    with pytest.raises(ValueError, match=r"no column 'CID', 'SubC.*; it has none"):
        len(Zappos(str(folder)))


def test_rows_without_an_image_are_named(folder):
    next((folder / "ut-zap50k-images").rglob("1004.28.jpg")).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks the images of 1 of 10 rows: 1"):
        len(Zappos(str(folder)))


def test_a_damaged_image_is_named(folder):
    image = next((folder / "ut-zap50k-images").rglob("1001.7.jpg"))
    image.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1001\.7\.jpg does not decode .* unpack"):
        Zappos(str(folder))[0]


@pytest.mark.parametrize("name", ["ut-zap50k-images", "ut-zap50k-data/meta-data.csv"])
def test_what_is_missing_is_named(folder, name):
    (folder / name).rename(folder / "ut-zap50k-images-square")
    with pytest.raises(FileNotFoundError, match=rf"{name} does not exist; .* https:"):
        len(Zappos(str(folder)))
