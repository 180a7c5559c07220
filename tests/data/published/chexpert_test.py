"""CheXpert's tables give targets, some missing or uncertain, its files gray images."""

import csv

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.published.chexpert import PATHOLOGIES, CheXpert
from jax_rcl.data.records import labels_of, names_of
from jax_rcl.data.wrappers import Channels, Split

# As the release writes it; the 14 columns are not in alphabetic order.
COLUMNS = (
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding"),
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"),
    *("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"),
    *("Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
NAN = np.nan
# View, and what is written of some columns; all others are blank.
TRAIN = (
    ("Frontal", {"Edema": "1.0", "Fracture": "0.0", "Pneumonia": "-1.0"}),
    ("Lateral", {"No Finding": "1.0", "Edema": "-1.0", "Fracture": "1.0"}),
    (
        "Frontal",
        {"No Finding": "1.0", "Support Devices": "1.0", "Lung Lesion": "0.0"},
    ),
    ("Frontal", {"No Finding": "0.0", "Support Devices": "-1", "Atelectasis": "1"}),
)
SIZES = ((39, 32), (32, 39), (39, 32), (32, 32))


def path_of(split, number, view):
    return f"{split}/patient{number:05}/study1/view1_{view.lower()}.jpg"


def write(folder, split, rows):
    lines = []
    for number, (view, values) in enumerate(rows, start=1):
        path = f"CheXpert-v1.0-small/{path_of(split, number, view)}"
        ap = "AP" if view == "Frontal" else ""
        lines.append(["", *[values.get(name, "") for name in COLUMNS[5:]]])
        lines[-1][:1] = [path, "Female", "68", view, ap]
    with (folder / f"{split}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])


@pytest.fixture
def folder(tmp_path):
    """Four radiographs to train on: the upper half light, the left edge black."""
    write(tmp_path, "train", TRAIN)
    write(tmp_path, "valid", TRAIN[:2])
    for number, (view, _) in enumerate(TRAIN, start=1):
        path = tmp_path / path_of("train", number, view)
        path.parent.mkdir(parents=True)
        width, height = SIZES[number - 1]
        pixels = np.full((height, width), 40 * number, np.uint8)
        pixels[: height // 2] += 50
        pixels[:, : width // 8] = 0
        Image.fromarray(pixels).save(path, quality=100)
    return tmp_path


def expected(**known):
    """Targets by name, "_" for each space in it; all others are `rest`."""
    rest = known.pop("rest", NAN)
    return [known.get(name.replace(" ", "_"), rest) for name in PATHOLOGIES]


def test_the_pathologies_are_those_of_the_release_in_alphabetic_order(folder):
    source = CheXpert(str(folder), "train")
    assert source.target_names == tuple(sorted(COLUMNS[6:])) and len(COLUMNS) == 19
    assert source.class_names == () and isinstance(source, Source)


def test_what_is_seen_is_1_what_is_not_0_and_the_rest_missing(folder):
    source = CheXpert(str(folder), "train")
    np.testing.assert_array_equal(
        source.all_targets,
        [
            expected(Edema=1, Fracture=0, Pneumonia=NAN),
            expected(rest=0, Support_Devices=NAN),
            expected(rest=0, Support_Devices=1),
            expected(Atelectasis=1, Support_Devices=NAN),
        ],
    )
    assert source.all_targets.dtype == np.float32


@pytest.mark.parametrize(("uncertain", "value"), [("zeros", 0), ("ones", 1)])
def test_what_is_uncertain_is_what_was_asked_for(folder, uncertain, value):
    source = CheXpert(str(folder), "train", uncertain=uncertain)
    np.testing.assert_array_equal(
        source.all_targets,
        [
            expected(Edema=1, Fracture=0, Pneumonia=value),
            # Uncertain findings of who has no finding are none; so much is certain.
            expected(rest=0, Support_Devices=NAN),
            expected(rest=0, Support_Devices=1),
            expected(Atelectasis=1, Support_Devices=value),
        ],
    )


def test_records_are_gray_of_one_size_whatever_their_proportions(folder):
    source = CheXpert(str(folder), "train", size=16)
    assert len(source) == 4
    for index in range(4):
        record = source[index]
        assert set(record) == {"image", "targets"}
        image, targets = record["image"], record["targets"]
        assert image.shape == (16, 16, 1) and image.dtype == np.uint8
        assert targets.shape == (13,) and targets.dtype == np.float32
        np.testing.assert_array_equal(targets, source.all_targets[index])
        # Nothing is cut off: the edge is still there.
        dark, light = 40 * (index + 1), 40 * (index + 1) + 50
        assert (image[:, 0] < 25).all()
        assert abs(image[2, 8, 0] - light) < 4 and abs(image[13, 8, 0] - dark) < 4
    assert CheXpert(str(folder), "train")[0]["image"].shape == (224, 224, 1)


def test_pixels_are_those_of_a_bilinear_resize_of_the_gray_file(folder):
    source = CheXpert(str(folder), "train", size=20)
    with Image.open(folder / source.names[0]) as image:
        assert image.mode == "L"
        resized = image.resize((20, 20), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(source[0]["image"][..., 0], np.asarray(resized))


def test_names_are_paths_below_the_folder(folder):
    source = CheXpert(str(folder), "train")
    assert names_of(source) == tuple(
        path_of("train", number, view) for number, (view, _) in enumerate(TRAIN, 1)
    )
    assert CheXpert(str(folder), "valid").names[1] == path_of("valid", 2, "Lateral")


@pytest.mark.parametrize(("views", "rows"), [("frontal", [0, 2, 3]), ("lateral", [1])])
def test_views_are_chosen_before_anything_else(folder, views, rows):
    everything = CheXpert(str(folder), "train", size=8)
    some = CheXpert(str(folder), "train", size=8, views=views)
    assert some.names == tuple(everything.names[i] for i in rows)
    np.testing.assert_array_equal(some.all_targets, everything.all_targets[rows])
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(some[place]["image"], everything[row]["image"])


def test_a_split_without_such_views_is_an_error(folder):
    write(folder, "valid", TRAIN[:1])
    with pytest.raises(ValueError, match=r"valid\.csv lists no .* 'lateral'; get it"):
        len(CheXpert(str(folder), "valid", views="lateral"))


def test_there_are_no_labels_to_take_by_accident(folder):
    with pytest.raises(ValueError, match="have no 'label'"):
        labels_of(CheXpert(str(folder), "train"))


def test_wrappers_keep_what_targets_mean(folder):
    source = CheXpert(str(folder), "train", size=8)
    colour = Channels(source)
    assert colour[0]["image"].shape == (8, 8, 3)
    assert colour.target_names == PATHOLOGIES and colour.names == source.names
    np.testing.assert_array_equal(colour.all_targets, source.all_targets)
    part = Split(colour, "val", val_share=0.5)
    np.testing.assert_array_equal(part.all_targets, source.all_targets[part.indices])
    np.testing.assert_array_equal(part[0]["targets"], part.all_targets[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            ",Edema,",
            ",Oedema,",
            r"train\.csv has no column 'Edema'; it has 'Path', 'S",
        ),
        (
            ",Edema,Consolidation,",
            ",Oedema,Solid,",
            r"train\.csv has no column 'Consolidation', 'Edema'; it has",
        ),
        (
            "1.0,,-1.0",
            "1.0,,maybe",
            r"row 1 of \S+train\.csv has 'maybe' in column 'Pneumonia'; .* '1', '1.0'",
        ),
        (",1,", ",2,", "row 4 of .* has '2' in column 'Atelectasis'"),
        ("Lateral,,1", "Oblique,,1", "row 2 of .* has 'Oblique' in column 'Frontal/L"),
        ("Female,68,Lateral", "68,Lateral", "row 2 of .* has 18 values, expected 19"),
    ],
)
def test_what_a_table_cannot_hold_is_named_with_its_row(folder, old, new, message):
    path = folder / "train.csv"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        len(CheXpert(str(folder), "train"))


def test_an_empty_table_is_an_error(folder):
    (folder / "train.csv").write_text("")
    with pytest.raises(
        ValueError,
        match=r"train\.csv has no column 'Path', 'Fr.*, 'Support Devices'; it has none",
    ):
        len(CheXpert(str(folder), "train"))


def test_a_missing_table_or_image_is_named(folder):
    (folder / "valid.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"valid\.csv does not exist; CheXpert\.folder"
    ):
        len(CheXpert(str(folder), "valid"))
    source = CheXpert(str(folder), "train")
    (folder / source.names[2]).unlink()
    words = (
        r"00003/study1/view1_frontal\.jpg does not exist\. .* CheXpert\.folder names"
    )
    with pytest.raises(FileNotFoundError, match=words):
        source[2]


def test_a_damaged_image_is_named(folder):
    source = CheXpert(str(folder), "train")
    (folder / source.names[0]).write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"view1_frontal\.jpg does not decode"):
        source[0]
