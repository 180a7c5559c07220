"""Emoji: the same objects in two styles, and nothing of the test split in training."""

import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from jax_rcl.core import Source
from jax_rcl.data.archives import Archive, data_folder
from jax_rcl.data.published import emoji
from jax_rcl.data.published.emoji import Emoji
from jax_rcl.data.published.files import EMOJI
from jax_rcl.data.records import check_labels

VENDORS = ("google", "twitter")
COLOURS = {"google": (200, 40, 0), "twitter": (0, 40, 200)}


def entry(number, category, subcategory, unified=None, name=None, **others):
    unified = unified or f"{0x1F600 + number:X}"
    return {
        "name": f"OBJECT {number}",
        "unified": unified,
        "image": f"{unified.lower()}.png",
        "short_name": name or f"object_{number}",
        "short_names": [name or f"object_{number}"],
        "category": category,
        "subcategory": subcategory,
        "has_img_google": True,
        "has_img_twitter": True,
    } | others


def variant(unified, **others):
    return {
        "unified": unified,
        "image": f"{unified.lower()}.png",
        "has_img_google": True,
        "has_img_twitter": True,
    } | others


def entries():
    """Fruit, ten of them, three birds, figures, flags, and what is to be left out."""
    found = [entry(i, "Food & Drink", "food-fruit") for i in range(10)]
    found += [entry(i, "Animals & Nature", "animal-bird") for i in range(10, 13)]
    found += [
        entry(20, "People & Body", "person-sport", "1F3C3", "runner"),
        entry(21, "People & Body", "person-sport", "1F3C3-200D-2640-FE0F"),
        entry(22, "People & Body", "person-sport", "1F3C3-200D-2642-FE0F"),
        entry(23, "People & Body", "person-sport", "1F3C4", "surfer"),
        entry(24, "People & Body", "person-sport", "1F468-200D-1F466", "man-boy"),
        entry(25, "People & Body", "person-sport", "1F469-200D-1F467", "woman-girl"),
        entry(26, "Flags", "country-flag", "1F1F8-1F1EF", "flag-sj"),
        entry(27, "Flags", "country-flag", "1F1F3-1F1F4", "flag-no"),
        entry(28, "Flags", "country-flag", "1F1F8-1F1EA", "flag-se"),
        entry(30, "Component", "skin-tone"),
        entry(31, "Food & Drink", "food-fruit", has_img_twitter=False),
    ]
    for i, x in enumerate(found):
        if x["category"] == "People & Body" and i % 2:
            tones = ("1F3FB", "1F3FF")
            x["skin_variations"] = {t: variant(f"{x['unified']}-{t}") for t in tones}
            x["skin_variations"]["1F3FC"] = variant("gone", has_img_google=False)
    return found


def png(number, vendor):
    """A picture of one object: half of it transparent, gray level `number` in green."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, :32] = (*COLOURS[vendor], 255)
    pixels[:, :32, 1] = number
    pixels[:, 32:48] = (255, 255, 255, 51)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def package(vendor):
    """The files of a vendor's package, by path."""
    files = {"emoji.json": json.dumps(entries()).encode(), "README.md": b"read me"}
    for number, x in enumerate(entries()):
        for each in (x, *x.get("skin_variations", {}).values()):
            if each[f"has_img_{vendor}"]:
                files[f"img/{vendor}/64/{each['image']}"] = png(number, vendor)
    return files


def unpack(folder, vendor, files):
    for name, content in files.items():
        path = folder / f"emoji-datasource-{vendor}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def pack(folder, vendor, files):
    name = f"emoji-datasource-{vendor}-16.0.0.tgz"
    with tarfile.open(folder / name, "w:gz") as archive:
        for member, content in files.items():
            info = tarfile.TarInfo(f"package/{member}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    content = (folder / name).read_bytes()
    return Archive(name, "", hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both packages, unpacked, as node_modules has them."""
    made = tmp_path_factory.mktemp("node_modules")
    for vendor in VENDORS:
        unpack(made, vendor, package(vendor))
    return str(made)


def both_splits(folder, vendor="google", **fields):
    return [
        Emoji(vendor, split, folder=folder, **fields) for split in ("train", "test")
    ]


def test_records_are_what_a_source_promises(folder):
    source = Emoji("google", "train", folder=folder)
    assert isinstance(source, Source)
    assert len(source) == len(source.names) == len(source.keywords)
    record = source[0]
    assert record["image"].shape == (64, 64, 3) and record["image"].dtype == np.uint8
    assert record["label"].dtype == np.int32
    check_labels(source)
    with pytest.raises(IndexError):
        source[len(source)]


def test_a_source_is_its_settings(folder):
    source = Emoji("twitter", folder=folder)
    len(source)
    again = pickle.loads(pickle.dumps(Emoji(**vars(Emoji("twitter", folder=folder)))))
    assert source == again and hash(source) == hash(again)
    assert source != Emoji("google", folder=folder)


@pytest.mark.parametrize("split", ["train", "test"])
def test_record_i_is_the_same_object_in_both_styles(folder, split):
    google, twitter = (Emoji(vendor, split, folder=folder) for vendor in VENDORS)
    assert google.names == twitter.names
    assert google.class_names == twitter.class_names
    np.testing.assert_array_equal(google.all_labels, twitter.all_labels)
    first, second = google[0]["image"][0, 0], twitter[0]["image"][0, 0]
    assert first[1] == second[1]  # which object
    assert (first[0], second[2]) == (200, 200)  # whose drawing


def test_each_object_has_its_own_picture_and_class(folder):
    numbers = {x["short_name"]: (i, x["category"]) for i, x in enumerate(entries())}
    for source in both_splits(folder):
        for index, name in enumerate(source.names):
            number, group = numbers[name]
            assert source[index]["image"][0, 0, 1] == number
            assert source.class_names[source[index]["label"]] == group


def test_the_splits_share_no_object_and_leave_out_only_what_is_none(folder):
    train, test = both_splits(folder)
    assert not set(train.names) & set(test.names)
    expected = {x["short_name"] for x in entries()} - {"object_30", "object_31"}
    assert {*train.names, *test.names} == expected
    assert train.class_names == (
        "Animals & Nature",
        "Flags",
        "Food & Drink",
        "People & Body",
    )


def test_a_share_of_every_subgroup_is_held_out(folder):
    for held_out, fruit, birds in ((0.2, 2, 1), (0.5, 5, 2)):
        _, test = both_splits(folder, held_out=held_out)
        counts = np.bincount(test.all_labels, minlength=4)
        assert (counts[2], counts[0]) == (fruit, birds)


def test_the_seed_draws_other_objects_and_the_labels_do_not(folder):
    drawn = {both_splits(folder, seed=seed)[1].names for seed in range(5)}
    assert len(drawn) == 5
    _, groups = both_splits(folder)
    _, subgroups = both_splits(folder, labels="subgroup")
    assert set(subgroups.names) < set(groups.names)


@pytest.mark.parametrize(
    "alike",
    [
        {"runner", "object_21", "object_22"},
        {"man-boy", "woman-girl"},
        {"flag-sj", "flag-no"},
    ],
)
def test_what_looks_alike_falls_on_the_same_side(folder, alike):
    sides = set()
    for seed in range(8):
        train, test = both_splits(folder, seed=seed, held_out=0.4)
        inside = [alike & set(source.names) for source in (train, test)]
        assert alike in inside and set() in inside
        sides.add(inside[0] == alike)
    assert sides == {True, False}


def test_subgroups_are_classes_from_ten_objects_on(folder):
    train, test = both_splits(folder, labels="subgroup")
    assert train.class_names == test.class_names == ("food-fruit",)
    assert (len(train), len(test)) == (8, 2)


def test_skin_tones_are_added_to_training_and_are_those_of_its_objects(folder):
    for seed in range(4):
        train, test = both_splits(folder, seed=seed, variants="train")
        plain, _ = both_splits(folder, seed=seed)
        assert test.names == both_splits(folder, seed=seed)[1].names
        count = len(plain)
        assert train.names[:count] == plain.names
        toned = {x["short_name"] for x in entries() if "skin_variations" in x}
        expected = [name for name in plain.names if name in toned for _ in range(2)]
        assert list(train.names[count:]) == expected
        for index in range(count, len(train)):
            like = train.names.index(train.names[index])
            assert train[index]["label"] == train[like]["label"]


def test_drawings_are_laid_on_the_background_before_they_are_resized(folder):
    # Opaque, a fifth of white, and nothing.
    white = Emoji("google", folder=folder)[0]["image"]
    assert [white[5, x, 2] for x in (0, 40, 60)] == [0, 255, 255]
    background = (0.0, 0.5, 1.0)
    laid = Emoji("google", folder=folder, background=background)[0]["image"]
    number = laid[0, 0, 1]
    assert laid[5, 0].tolist() == [200, number, 0]
    assert laid[5, 40].tolist() == [51, 153, 255]
    assert laid[5, 60].tolist() == [0, 128, 255]
    small = Emoji("google", folder=folder, background=background, size=8)[0]["image"]
    assert small.shape == (8, 8, 3)
    np.testing.assert_allclose(small[4, 7], laid[5, 60], atol=1)
    np.testing.assert_allclose(small[4, 1], laid[5, 0], atol=2)


def test_keywords_are_the_words_of_the_names(folder):
    source = Emoji("google", folder=folder)
    words = dict(zip(source.names, source.keywords, strict=True))
    number = next(i for i in range(10) if f"object_{i}" in words)
    assert words[f"object_{number}"] == tuple(sorted((str(number), "object")))


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_archive_and_the_unpacked_package_are_the_same(
    folder, tmp_path, vendor, monkeypatch
):
    archive = pack(tmp_path, vendor, package(vendor))
    monkeypatch.setitem(emoji.EMOJI, vendor, archive)
    packed = Emoji(vendor, folder=str(tmp_path), variants="train")
    unpacked = Emoji(vendor, folder=folder, variants="train")
    assert packed.names == unpacked.names
    np.testing.assert_array_equal(packed.arrays.images, unpacked.arrays.images)
    np.testing.assert_array_equal(packed.all_labels, unpacked.all_labels)


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("emoji.json", r"emoji-datasource-google lacks 1 of 1 files: emoji\.json; get"),
        ("img/google/64/1f601.png", r"lacks 1 of \d+ files: img/google/64/1f60"),
    ],
)
def test_an_incomplete_package_is_named_with_what_it_lacks(tmp_path, lost, words):
    files = package("google")
    del files[lost]
    unpack(tmp_path, "google", files)
    with pytest.raises(ValueError, match=words):
        len(Emoji("google", folder=str(tmp_path)))


def test_without_package_and_network_the_error_says_what_to_put_where(
    tmp_path, monkeypatch
):
    gone = Archive("emoji.tgz", (tmp_path / "gone.tgz").as_uri(), "0" * 64, 1)
    monkeypatch.setitem(emoji.EMOJI, "google", gone)
    with pytest.raises(FileNotFoundError, match=r"put it into .*\$JAX_RCL_DATA"):
        len(Emoji("google", folder=str(tmp_path)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"held_out": 1.0}, r"Emoji\.held_out 1\.0 must be in \(0, 1\)"),
        ({"background": (255.0, 0.0, 0.0)}, r"Emoji\.background .* in \[0, 1\]"),
    ],
)
def test_settings_that_cannot_be_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        Emoji("google", **fields)


@pytest.mark.skipif(
    not all((data_folder() / archive.name).exists() for archive in EMOJI.values()),
    reason="the emoji packages are not here",
)
class TestPublished:
    """What the documentation says of the published packages."""

    def test_groups_and_subgroups(self):
        train, test = both_splits(None)
        assert len(train) + len(test) == 1906 and len(train.class_names) == 9
        whole = np.concatenate((train.all_labels, test.all_labels))
        counts = dict(zip(train.class_names, np.bincount(whole), strict=True))
        assert max(counts, key=counts.__getitem__) == "People & Body"
        assert min(counts, key=counts.__getitem__) == "Activities"
        assert (counts["People & Body"], counts["Activities"]) == (386, 85)
        share = np.bincount(test.all_labels) / np.bincount(whole)
        assert (0.18 < share).all() and (share < 0.22).all()
        fine = both_splits(None, labels="subgroup")
        assert len(fine[0].class_names) == 58 and "food-fruit" in fine[0].class_names
        assert set(fine[1].names) < set(test.names)

    @pytest.mark.parametrize("vendor", VENDORS)
    def test_no_picture_of_the_test_split_is_in_training(self, vendor):
        train, test = both_splits(None, vendor, variants="train")
        seen = {image.tobytes() for image in train.arrays.images}
        assert not [
            name
            for name, image in zip(test.names, test.arrays.images, strict=True)
            if image.tobytes() in seen
        ]
        people = train.class_names.index("People & Body")
        plain, _ = both_splits(None, vendor)
        ratio = (train.all_labels == people).sum() / (plain.all_labels == people).sum()
        assert round(ratio) == 6

    def test_the_styles_show_the_same_objects_in_other_pictures(self):
        google, twitter = (Emoji(vendor, "test") for vendor in VENDORS)
        assert google.names == twitter.names
        equal = google.arrays.images == twitter.arrays.images
        assert not equal.all((1, 2, 3)).any()

    def test_names_and_words(self):
        sources = both_splits(None)
        names = [name for source in sources for name in source.names]
        words = [each for source in sources for each in source.keywords]
        assert len(set(names)) == 1906
        assert words[names.index("grinning")] == ("face", "grinning")
