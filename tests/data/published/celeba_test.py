"""CelebA's files give attributes as labels and groups, and faces that keep upright."""

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.crops import RandomCrops
from jax_rcl.data.published.celeba import CelebA
from jax_rcl.data.records import check_labels, groups_of, labels_of

# Blond_Hair, Male, Young; the part.
FACES = ((-1, 1, 1, 0), (1, -1, 1, 0), (1, 1, -1, 0), (-1, -1, 1, 1), (1, 1, 1, 2))


@pytest.fixture
def folder(tmp_path):
    """Five faces of 178x218: red in the highest fifth, blue in the lowest."""
    (tmp_path / "img_align_celeba").mkdir()
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[:20, :, 0] = pixels[-20:, :, 2] = 255
    attributes, parts = [f"{len(FACES)}", "Blond_Hair Male Young "], []
    for i, (*values, part) in enumerate(FACES, start=1):
        name = f"{i:06}.jpg"
        Image.fromarray(pixels).save(tmp_path / "img_align_celeba" / name, quality=95)
        attributes.append(f"{name} " + " ".join(f"{value:2}" for value in values))
        parts.append(f"{name} {part}")
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return tmp_path


def test_groups_are_label_and_confounder(folder):
    source = CelebA(str(folder), size=16)
    assert isinstance(source, Source)
    assert labels_of(source).tolist() == [0, 1, 1]
    assert groups_of(source).tolist() == [1, 2, 3]
    assert source.class_names == ("not Blond_Hair", "Blond_Hair")
    assert source.group_names[1] == "not Blond_Hair, Male"
    assert source[1]["group"] == 2 and source[1]["group"].dtype == np.int32
    check_labels(source)


def test_the_partition_is_the_published_one(folder):
    assert labels_of(CelebA(str(folder), "val")).tolist() == [0]
    assert labels_of(CelebA(str(folder), "test")).tolist() == [1]


def test_other_attributes_can_be_asked_for(folder):
    source = CelebA(str(folder), label="Young", confounder="Blond_Hair")
    assert groups_of(source).tolist() == [2, 3, 1]
    with pytest.raises(
        ValueError, match=r"no attribute 'Bald'; .*CelebA\.confounder: B"
    ):
        len(CelebA(str(folder), confounder="Bald"))


def test_the_square_leaves_out_what_is_above_and_below(folder):
    image = CelebA(str(folder), size=89)[0]["image"].astype(int)
    # 20 of 218 rows are left out on either side: all that is coloured.
    assert image.shape == (89, 89, 3) and image.max() < 60


def test_the_whole_frame_is_upright_and_keeps_its_proportions(folder):
    image = CelebA(str(folder), size=89, frame="whole")[0]["image"]
    assert image.shape == (109, 89, 3)
    assert image[3, 40, 0] > 200 > image[3, 40, 2] and image[-3, 40, 2] > 200
    assert CelebA(str(folder), frame="whole")[0]["image"].shape == (274, 224, 3)


def test_faces_may_stay_as_they_are_for_random_crops(folder):
    source = CelebA(str(folder), size=None)
    assert np.shape(source[0]["image"]) == (218, 178, 3)
    record = RandomCrops(source, 32, area=(0.7, 1.0), count=1)[0]
    assert record["image"].shape == (1, 32, 32, 3) and record["group"] == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "list_attr_celeba.txt",
            "5\n",
            "6\n",
            r"attr_celeba\.txt .*lists 5 images of 6\); get it again",
        ),
        (
            "list_attr_celeba.txt",
            "000001.jpg -1",
            "000001.jpg",
            r"attr_celeba\.txt does not read .*; get it again: CelebA\.folder",
        ),
        (
            "list_attr_celeba.txt",
            "000001.jpg -1",
            "000001.jpg 0",
            "an attribute is neither 1 nor -1",
        ),
        (
            "list_eval_partition.txt",
            "000002.jpg 0",
            "000002.jpg",
            r"partition\.txt does not read as it is published",
        ),
        ("list_eval_partition.txt", "000002.jpg 0\n", "", "unknown '000002.jpg'"),
    ],
)
def test_damaged_lists_are_named(folder, file, old, new, message):
    path = folder / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        len(CelebA(str(folder)))


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_missing_lists_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"{name} does not exist; CelebA\.folder"
    ):
        len(CelebA(str(folder)))
