"""Sources that decode: folders of images and prepared tfds sets, with their damage."""

import io
import json
import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.folders import ImageFolder, Tfds
from jax_rcl.data.records import check_labels, labels_of, names_of
from jax_rcl.data.stream import Order, load, train_stream

DOGS = ("0.png", "1.BMP", "2.Webp", "3.ppm")


def encoded(image: np.ndarray, kind: str = "png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Dogs 0 to 3 and one cat; the gray value of an image is ten times its number."""
    root = tmp_path / "pets"
    for name in ("dog", "cat", ".cache"):
        (root / name).mkdir(parents=True)
    for i, suffix in enumerate(("png", "BMP", "Webp", "ppm")):
        image = np.full((6 + i, 9, 3), 10 * i, np.uint8)
        kind = "webp" if suffix == "Webp" else suffix
        (root / "dog" / f"{i}.{suffix}").write_bytes(encoded(image, kind))
    (root / "dog" / "notes.txt").write_text("not an image")
    (root / "README.md").write_text("not a class")
    image = np.full((8, 8), 200, np.uint8)
    (root / "cat" / "tom.jpeg").write_bytes(encoded(image, "jpeg"))
    return root


def test_a_folder_is_a_source_of_squares_sorted_by_class_and_name(folder):
    source = ImageFolder(str(folder), 5)
    assert isinstance(source, Source) and source.class_names == ("cat", "dog")
    assert labels_of(source).tolist() == [0, 1, 1, 1, 1]
    images = load(source)["image"]
    assert images.shape == (5, 5, 5, 3) and images.dtype == np.uint8
    assert np.abs(images[:, 2, 2, 0].astype(int) - [200, 0, 10, 20, 30]).max() <= 2
    assert source[4]["label"] == 1 and source[4]["label"].dtype == np.int32
    check_labels(source)


def test_train_and_test_folders_are_two_sources_of_the_same_classes(tmp_path):
    # The layout of chest X-rays that are sorted into infected (0) and not (1).
    counts = {"train": {"covid": 2, "non": 3}, "test": {"covid": 1, "non": 2}}
    for split, classes in counts.items():
        for name, count in classes.items():
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                image = encoded(np.full((9, 7), 20 * i, np.uint8), "jpeg")
                (tmp_path / split / name / f"{i}.jpg").write_bytes(image)
    train, test = (ImageFolder(str(tmp_path / split), 8) for split in counts)
    assert train.class_names == test.class_names == ("covid", "non")
    assert labels_of(train).tolist() == [0, 0, 1, 1, 1]
    assert labels_of(test).tolist() == [0, 1, 1]
    assert test[2]["image"].shape == (8, 8, 3)


def test_records_are_called_by_their_class_and_file(folder):
    names = names_of(ImageFolder(str(folder), 5))
    assert names == ("cat/tom.jpeg", *(f"dog/{i}" for i in DOGS))
    chosen = ImageFolder(str(folder), 5, classes=("dog",))
    assert names_of(chosen) == names[1:]


def test_a_folder_is_its_settings(folder):
    source = ImageFolder(str(folder), 5)
    len(source)
    again = ImageFolder(str(folder), 5)
    assert source == again and hash(source) == hash(again)
    assert source != ImageFolder(str(folder), 6)


def test_a_damaged_image_is_named_when_its_turn_comes(folder):
    (folder / "dog" / "2b.jpg").write_bytes(b"no image")
    source = ImageFolder(str(folder), 5)
    order = Order(len(source), 2)
    stream = train_stream(source, order, start_step=0, stop_step=9, threads=2)
    with pytest.raises(ValueError, match=r"dog/2b\.jpg does not decode.*'skip'"):
        list(stream)
    stream.close()
    with pytest.raises(ValueError, match=r"dog/2b\.jpg does not decode"):
        load(source)


def test_damaged_images_can_be_skipped_and_are_named_once(folder, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (folder / "dog" / "2b.jpg").write_bytes(encoded(noise, "jpeg")[:600])
    with caplog.at_level(logging.WARNING):
        source = ImageFolder(str(folder), 5, unreadable="skip")
        assert len(source) == 5 and load(source)["image"].shape == (5, 5, 5, 3)
        assert len(ImageFolder(str(folder), 7, unreadable="skip")) == 5
    [record] = [r for r in caplog.records if "omitted" in r.getMessage()]
    assert str(folder / "dog" / "2b.jpg") in record.getMessage()
    assert labels_of(source).tolist() == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("unreadable", ["error", "skip"])
def test_a_class_without_images_is_named(folder, unreadable):
    (folder / "fish").mkdir()
    (folder / "fish" / "list.txt").write_text("none")
    with pytest.raises(ValueError, match=r"pets/fish has no readable image"):
        len(ImageFolder(str(folder), 5, unreadable=unreadable))


def test_a_class_of_damaged_images_only_is_named_when_they_are_skipped(folder):
    (folder / "cat" / "tom.jpeg").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"pets/cat has no readable image"):
        len(ImageFolder(str(folder), 5, unreadable="skip"))


def test_images_lie_anywhere_below_their_class(folder):
    for place, value in (("siamese", 30), ("siamese/kitten", 40), (".trash", 99)):
        (folder / "cat" / place).mkdir(parents=True, exist_ok=True)
        image = np.full((8, 8, 3), value, np.uint8)
        (folder / "cat" / place / "0.png").write_bytes(encoded(image))
    (folder / "cat" / "siamese" / "back").symlink_to(folder / "cat")
    (folder / "cat" / "twice").symlink_to(folder / "cat" / "siamese")
    source = ImageFolder(str(folder), 5, classes=("cat",))
    below = ("cat/siamese/0.png", "cat/siamese/kitten/0.png", "cat/tom.jpeg")
    assert names_of(source) == below
    assert load(source)["image"][:2, 2, 2, 0].tolist() == [30, 40]


def test_every_format_that_pillow_reads_is_an_image(folder):
    shutil.rmtree(folder / "dog")
    image = Image.fromarray(np.full((8, 8), 90, np.uint8))
    kinds = ("tif", "TIFF", "pgm", "tga", "jp2", "ico", "pcx", "jfif")
    for kind in kinds:
        image.save(folder / "cat" / f"cat.{kind}")
    source = ImageFolder(str(folder), 5)
    assert len(source) == 1 + len(kinds)
    values = load(source)["image"][: len(kinds), 2, 2]
    assert np.abs(values.astype(int) - 90).max() <= 2


def test_names_that_are_not_utf_8_are_read_and_written_with_escapes(folder):
    os.rename(folder / "cat", os.fsencode(folder / "bl") + b"\xe9")
    source = ImageFolder(str(folder), 5)
    assert source.class_names == (r"bl\xe9", "dog")
    assert names_of(source)[0] == r"bl\xe9/tom.jpeg"
    assert source[0]["image"][2, 2, 0] > 190
    for name in (r"bl\xe9", "bl\udce9"):
        chosen = ImageFolder(str(folder), 5, classes=("dog", name))
        assert chosen.class_names == ("dog", r"bl\xe9") and len(chosen) == 5


def test_what_is_left_out_is_counted_once(folder, caplog):
    (folder / "dog" / "clip.mp4").write_bytes(b"film")
    (folder / "stray.png").write_bytes(encoded(np.zeros((4, 4, 3), np.uint8)))
    with caplog.at_level(logging.WARNING):
        for size in (5, 6):
            assert len(ImageFolder(str(folder), size)) == 5
    others, stray = [record.getMessage() for record in caplog.records]
    assert "2 file(s) in class folders are left out" in others
    assert "1 .mp4, 1 .txt" in others and "clip.mp4" in others
    assert "1 image(s) directly in it are left out" in stray


def test_files_of_operating_systems_are_no_images(folder, caplog):
    (folder / "dog" / "notes.txt").unlink()
    (folder / "cat" / "._tom.jpeg").write_bytes(b"\0\5\x16\7Mac OS X")
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    for place in ("__MACOSX/cat", "lost+found", "cat/@eaDir"):
        (folder / place).mkdir(parents=True)
    (folder / "cat" / "@eaDir" / "thumb.jpg").write_bytes(b"small")
    with caplog.at_level(logging.WARNING):
        source = ImageFolder(str(folder), 5)
        assert source.class_names == ("cat", "dog") and len(source) == 5
    assert not caplog.records


def test_a_damaged_image_that_was_replaced_is_there_again(folder):
    path = folder / "dog" / "2b.jpg"
    path.write_bytes(b"no image")
    assert len(ImageFolder(str(folder), 5, unreadable="skip")) == 5
    path.write_bytes(encoded(np.zeros((8, 8, 3), np.uint8), "jpeg"))
    assert len(ImageFolder(str(folder), 5, unreadable="skip")) == 6


def test_an_image_that_pillow_would_not_open_is_not_called_damaged(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    path = folder / "dog" / "9.png"
    path.write_bytes(encoded(np.zeros((20, 20, 3), np.uint8)))
    with pytest.raises(
        ValueError, match=r"9\.png has more pixels.*MAX_IMAGE"
    ) as caught:
        ImageFolder(str(folder), 5)[5]
    assert "skip" not in str(caught.value) and "decode" not in str(caught.value)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert ImageFolder(str(folder), 5)[5]["image"].shape == (5, 5, 3)


def test_a_folder_must_exist_and_have_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ImageFolder\.folder .*gone"):
        len(ImageFolder(str(tmp_path / "gone"), 5))
    with pytest.raises(ValueError, match="has no sub-folders"):
        len(ImageFolder(str(tmp_path), 5))


def test_labels_follow_the_classes_that_are_named(folder):
    source = ImageFolder(str(folder), 5, classes=("dog", "cat"))
    assert source.class_names == ("dog", "cat")
    assert labels_of(source).tolist() == [0, 0, 0, 0, 1]
    assert source[4]["image"][2, 2, 0] > 190


def test_classes_that_are_not_named_are_left_out(folder):
    (folder / "fish").mkdir()  # would be an error: it has no image
    source = ImageFolder(str(folder), 5, classes=("dog",))
    assert len(source) == 4 and source.class_names == ("dog",)


def test_a_class_without_a_folder_is_an_error_or_has_no_images(folder):
    classes = ("bird", "cat", "dog")
    with pytest.raises(ValueError, match=r"lacks 1 of 3 classes: bird\..*'skip'"):
        len(ImageFolder(str(folder), 5, classes=classes))
    source = ImageFolder(str(folder), 5, classes=classes, missing="skip")
    assert source.class_names == classes
    assert labels_of(source).tolist() == [1, 2, 2, 2, 2]
    check_labels(source)


def test_of_many_missing_classes_the_first_are_named(folder):
    classes = (*(f"n{i}" for i in range(9)), "cat")
    with pytest.raises(ValueError, match="9 of 10 classes: n0, n1, n2, n3, n4, …"):
        len(ImageFolder(str(folder), 5, classes=classes))


def test_a_folder_with_none_of_the_classes_is_an_error_in_any_case(folder):
    source = ImageFolder(str(folder), 5, classes=("a", "b"), missing="skip")
    with pytest.raises(ValueError, match=r"lacks 2 of 2 classes: a, b"):
        len(source)


def test_a_class_is_named_once():
    with pytest.raises(ValueError, match=r"classes names 'b' twice"):
        ImageFolder("any", 5, classes=("a", "b", "c", "b"))


# A prepared set, written by hand: tfds itself prepares with TensorFlow only.


def prepare(data_dir, images: list[np.ndarray], shape: list[int]) -> None:
    """Writes the set `pets`, version 1.0.0, split `train`; labels alternate."""
    from array_record.python import array_record_module
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    root = data_dir / "pets" / "1.0.0"
    root.mkdir(parents=True)
    name = "pets-train.array_record-00000-of-00001"
    writer = array_record_module.ArrayRecordWriter(str(root / name), "group_size:1")
    for i, image in enumerate(images):
        feature = {
            "image": {"bytes_list": {"value": [encoded(image)]}},
            "label": {"int64_list": {"value": [i % 2]}},
        }
        features = tf_feature_pb2.Features(
            feature={k: tf_feature_pb2.Feature(**v) for k, v in feature.items()}
        )
        writer.write(tf_example_pb2.Example(features=features).SerializeToString())
    writer.close()
    module = "tensorflow_datasets.core.features"
    image = {
        "pythonClassName": f"{module}.image_feature.Image",
        "image": {"dtype": "uint8", "shape": {"dimensions": [str(n) for n in shape]}},
    }
    label = {
        "pythonClassName": f"{module}.class_label_feature.ClassLabel",
        "classLabel": {"numClasses": "2"},
    }
    features = {
        "pythonClassName": f"{module}.features_dict.FeaturesDict",
        "featuresDict": {"features": {"image": image, "label": label}},
    }
    split = {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": "train",
        "numBytes": "1",
        "shardLengths": [str(len(images))],
    }
    info = {
        "fileFormat": "array_record",
        "name": "pets",
        "splits": [split],
        "version": "1.0.0",
    }
    (root / "features.json").write_text(json.dumps(features))
    (root / "dataset_info.json").write_text(json.dumps(info))
    (root / "label.labels.txt").write_text("cat\ndog\n")


def test_a_prepared_tfds_set_is_read_without_tensorflow(tmp_path):
    images = [np.full((6, 6, 3), 10 * i, np.uint8) for i in range(5)]
    prepare(tmp_path, images, [6, 6, 3])
    source = Tfds("pets", data_dir=str(tmp_path))
    assert isinstance(source, Source) and source.class_names == ("cat", "dog")
    assert labels_of(source).tolist() == [0, 1, 0, 1, 0]
    arrays = load(source)
    np.testing.assert_array_equal(arrays["image"], np.stack(images))
    np.testing.assert_array_equal(arrays["label"], labels_of(source))
    assert len(Tfds("pets", "train[:40%]", data_dir=str(tmp_path))) == 2
    with pytest.raises(IndexError):
        source[5]


def test_tfds_images_of_many_sizes_get_the_size_that_is_asked_for(tmp_path):
    images = [np.full((6 + i, 9, 3), 10 * i, np.uint8) for i in range(3)]
    prepare(tmp_path, images, [-1, -1, 3])
    with pytest.raises(
        ValueError, match=r"differ in size; .* Tfds\('pets', size=224\)"
    ):
        len(Tfds("pets", data_dir=str(tmp_path)))
    found = load(Tfds("pets", size=4, data_dir=str(tmp_path)))["image"]
    assert found.shape == (3, 4, 4, 3) and found[:, 0, 0, 0].tolist() == [0, 10, 20]


def test_tfds_features_that_are_not_there_are_named(tmp_path):
    prepare(tmp_path, [np.zeros((6, 6, 3), np.uint8)], [6, 6, 3])
    source = Tfds("pets", data_dir=str(tmp_path), label="breed")
    with pytest.raises(ValueError, match="no feature 'breed'; it has 'image', 'label'"):
        len(source.class_names)
    unlabelled = Tfds("pets", data_dir=str(tmp_path), label=None)
    assert unlabelled[0].keys() == {"image"} and unlabelled.class_names == ()


def test_a_tfds_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    command = rf"tfds build cifar10 --file_format=array_record --data_dir={tmp_path}"
    with pytest.raises(FileNotFoundError, match=command):
        len(Tfds("cifar10", data_dir=str(tmp_path)))
    with pytest.raises(ValueError, match="no data set 'cifar11'"):
        len(Tfds("cifar11", data_dir=str(tmp_path)))


def test_tfds_sets_can_be_mocked_without_tensorflow(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=3):
        source = Tfds("cifar10", data_dir=str(tmp_path))
        arrays = load(source)
    assert arrays["image"].shape == (3, 32, 32, 3) and arrays["label"].shape == (3,)
    assert len(source.class_names) == 10
