"""Tables of images give labels, groups and splits, in Waterbirds' layout and others."""

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.published.grouped import Grouped, WithGroups
from jax_rcl.data.records import check_labels, groups_of, labels_of, names_of
from jax_rcl.data.stream import Order, load, train_stream
from jax_rcl.data.wrappers import EqualGroups, Relabel, Subset

HEADER = "img_id,img_filename,y,split,place,place_filename"
# Label, split, place.
EXAMPLES = ((0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 1, 1), (1, 2, 0), (0, 2, 1), (1, 2, 1))


@pytest.fixture
def folder(tmp_path):
    """Waterbirds, seven of them; the gray value of an image is ten times its number."""
    lines = [HEADER]
    (tmp_path / "birds").mkdir()
    for i, (y, split, place) in enumerate(EXAMPLES):
        image = Image.fromarray(np.full((6, 9, 3), 10 * i, np.uint8))
        image.save(tmp_path / "birds" / f"{i}.png")
        lines.append(f'{i + 1},birds/{i}.png,{y},{split},{place},"/o/ocean, {i}.jpg"')
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_records_have_label_and_group(folder, split):
    source = Grouped(str(folder), split, size=4)
    assert isinstance(source, Source)
    code = ("train", "val", "test").index(split)
    expected = [(i, y, 2 * y + p) for i, (y, s, p) in enumerate(EXAMPLES) if s == code]
    rows = load(source)
    assert rows["image"].shape == (len(expected), 4, 4, 3)
    found = (rows["image"][:, 1, 1, 0] // 10, rows["label"], rows["group"])
    np.testing.assert_array_equal(np.stack(found, 1), expected)
    assert rows["label"].dtype == rows["group"].dtype == np.int32
    np.testing.assert_array_equal(labels_of(source), rows["label"])
    np.testing.assert_array_equal(groups_of(source), rows["group"])
    check_labels(source)


def test_photographs_may_stay_whole_for_random_crops(folder):
    whole = Grouped(str(folder), size=None)
    photograph = whole[0]["image"]
    assert np.shape(photograph) == np.asarray(photograph).shape == (6, 9, 3)
    record = RandomCrops(EqualGroups(whole), 5, count=2)[0]
    assert record["image"].shape == (2, 5, 5, 3)
    assert (record["label"], record["group"]) == (whole[0]["label"], whole[0]["group"])


def test_files_may_be_named_without_their_suffix(folder):
    table = (folder / "metadata.csv").read_text()
    (folder / "short.csv").write_text(table.replace(".png", ""))
    short = Grouped(str(folder), size=4, table_file="short.csv", suffix=".png")
    expected = load(Grouped(str(folder), size=4))["image"]
    np.testing.assert_array_equal(load(short)["image"], expected)


def test_groups_are_named_by_class_and_confounder(folder):
    source = Grouped(str(folder))
    assert source.class_names == ("landbird", "waterbird")
    assert source.group_names[2] == "waterbird, land" and len(source.group_names) == 4


def test_streamed_batches_have_groups(folder):
    source = Grouped(str(folder), size=4)
    order = Order(len(source), 3)
    stream = train_stream(source, order, start_step=0, stop_step=1, threads=1)
    batch = next(stream)
    stream.close()
    np.testing.assert_array_equal(batch["group"], groups_of(source)[order.indices(0)])


def test_wrapped_groups_keep_their_names(folder):
    source = Grouped(str(folder), "test")
    merged = Relabel(Subset(source, 1.0), (0, 0), ("bird",))
    assert merged.group_names == source.group_names
    assert labels_of(merged).tolist() == [0, 0, 0]
    assert groups_of(merged).tolist() == [2, 1, 3]


def test_a_table_that_is_not_utf_8_is_named_with_its_row(folder):
    path = folder / "metadata.csv"
    text = path.read_text()
    path.write_bytes(text.replace("ocean, 2", "océan, 2").encode("latin-1"))
    assert len(Grouped(str(folder), size=4)) == 3  # nothing of that column is read
    path.write_bytes(text.replace("birds/1", "oiseaux_à_1").encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"row 2 of .*metadata\.csv .*not UTF-8.*iconv"
    ):
        len(Grouped(str(folder)))


def test_tables_of_spreadsheets_in_utf_16_are_read(folder):
    path = folder / "metadata.csv"
    path.write_bytes(path.read_text().encode("utf-16"))
    assert len(Grouped(str(folder), size=4)) == 3


def test_any_table_can_be_read(folder):
    lines = ["file,patch,target,fold"]
    for i, (y, split, place) in enumerate(EXAMPLES):
        part = ("train", "valid", "test")[split]
        lines.append(f"birds/{i}.png,{place},{('benign', 'malignant')[y]},{part}")
    (folder / "isic.csv").write_text("\ufeff" + "\n".join(lines))
    settings = {
        "table_file": "isic.csv",
        "image": "file",
        "label": "target",
        "confounder": "patch",
        "partition": "fold",
    }
    source = Grouped(
        str(folder), "test", 4, **settings, names=(), confounder_names=("no", "yes")
    )
    assert source.class_names == ("benign", "malignant")
    assert source.group_names[1] == "benign, yes"
    np.testing.assert_array_equal(
        groups_of(source), groups_of(Grouped(str(folder), "test"))
    )
    unnamed = Grouped(str(folder), "val", 4, **settings, names=(), confounder_names=())
    assert unnamed.group_names[3] == "malignant, 1"
    turned = Grouped(
        str(folder),
        "val",
        4,
        **settings,
        names=("malignant", "benign"),
        confounder_names=(),
    )
    assert labels_of(turned).tolist() == [1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "img_filename",
            "file",
            r"no column 'img_filename'.* Name .* by Grouped\.image",
        ),
        (
            "1,birds/0.png,0,0",
            "1,birds/0.png,2,0",
            "row 1 of .* '2' in column 'y'; .* '1', 'landbird'",
        ),
        (
            "birds/0.png,0,0,0",
            "birds/0.png,0,0,air",
            "row 1 of .* has 'air' in column 'place'",
        ),
        (
            "birds/0.png,0,0,0",
            "birds/0.png,0,7,0",
            "row 1 of .* has '7' in column 'split'",
        ),
        (
            'birds/6.png,1,2,1,"/o/ocean, 6.jpg"',
            "birds/6.png,1",
            "row 7 of .* has 3 values, expected 6",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said(folder, old, new, message):
    table = folder / "metadata.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        len(Grouped(str(folder)))


def test_what_is_missing_is_named(folder):
    with pytest.raises(
        FileNotFoundError, match=r"gone/metadata\.csv .*Grouped\.folder"
    ):
        len(Grouped(str(folder / "gone")))
    (folder / "birds" / "0.png").unlink()
    words = r"birds/0\.png does not exist\. Replace it, or unpack"
    with pytest.raises(FileNotFoundError, match=words):
        Grouped(str(folder))[0]
    (folder / "metadata.csv").write_text(f"{HEADER}\n1,a.png,0,0,0,b.png\n")
    with pytest.raises(ValueError, match=r"split='val'.* some in train\."):
        len(Grouped(str(folder), "val"))


def test_groups_that_were_found_stand_in_for_those_of_the_source(folder, tmp_path):
    source, file = Grouped(str(folder), size=4), str(tmp_path / "groups.npy")
    np.save(file, np.array([1, 0, 1]))
    found = WithGroups(source, file, ("one", "other"))
    assert isinstance(found, Source) and found.class_names == source.class_names
    np.testing.assert_array_equal(groups_of(found), [1, 0, 1])
    np.testing.assert_array_equal(labels_of(found), labels_of(source))
    assert names_of(found) == names_of(source)
    assert found.group_names == ("one", "other")
    rows = load(found)
    np.testing.assert_array_equal(rows["group"], [1, 0, 1])
    np.testing.assert_array_equal(rows["image"], load(source)["image"])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0, 1], r"holds int64 \[2\]; .* each of the 3 records"),
        ([0.0, 1.0, 0.0], r"holds float64 \[3\]"),
        ([0, 1, 2], r"groups from 0 to 2; they must be in \[0, 2\)"),
    ],
)
def test_groups_that_do_not_fit_the_source_are_refused(
    folder, tmp_path, groups, message
):
    np.save(tmp_path / "groups.npy", np.array(groups))
    source = Grouped(str(folder), size=4)
    with pytest.raises(ValueError, match=message):
        groups_of(WithGroups(source, str(tmp_path / "groups.npy"), ("one", "other")))
