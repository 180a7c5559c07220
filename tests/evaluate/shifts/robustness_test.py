"""Robustness: accuracies on shifted sets are those counted by hand."""

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jax_rcl.artifacts import Grid
from jax_rcl.augment.corruptions.table import EXTRA, STANDARD, Corruption
from jax_rcl.core import Evaluator
from jax_rcl.data.folders import ImageFolder
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.robustness import (
    Corrupted,
    CorruptedFolders,
    Graded,
    Robustness,
    counted,
)
from jax_rcl.evaluate.when import AtEnd, Never

NAMES = ("n01", "n02", "n03")
LABELS = np.array([0, 1, 2, 2, 0, 1, 0], np.int32)
TRACED = Counter()


@dataclasses.dataclass(frozen=True)
class Brighten:
    """Adds so many levels of 255 for each severity; counts how often it is traced."""

    name: str
    levels: int = 1

    def __call__(self, key, image, severity):
        TRACED[self.name] += 1
        return image + severity.astype(jnp.float32) * self.levels / 255


@dataclasses.dataclass(frozen=True)
class SameProgram(Brighten):
    """Equal to those of other names, so that all of one level share a program."""

    name: str = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Normal noise, the same strength for every severity."""

    name: str = "noise"

    def __call__(self, key, image, severity):
        return image + 0.1 * jax.random.normal(key, image.shape)


@dataclasses.dataclass(frozen=True)
class Half:
    """The upper half of an image, in half its brightness."""

    def __call__(self, key, image):
        return image[: image.shape[0] // 2] * 0.5


class Head:
    """Predicts the class that the first pixel names, modulo the number of classes."""

    def __init__(self, classes=3):
        self.classes, self.batches = classes, []

    def __call__(self, images):
        images = np.asarray(images)
        self.batches.append(images)
        levels = np.rint(images[:, 0, 0, 0] * 255).astype(int)
        logits = np.eye(self.classes, dtype=np.float32)[levels % self.classes]
        return {"logits": logits, "features": images.reshape(len(images), -1)}


def said(in_memory, levels, labels=LABELS, names=NAMES, side=4):
    """A source whose images are of one level each, which says what is predicted."""
    images = np.zeros((len(labels), side, side, 3), np.uint8)
    images[:] = np.asarray(levels)[:, None, None, None]
    return in_memory(images, np.asarray(labels, np.int32), names)


@pytest.fixture
def test(in_memory):
    """Seven images, of which five are classified correctly."""
    return said(in_memory, [0, 1, 2, 2, 0, 0, 1])


@pytest.fixture
def robust(test):
    """Makes the evaluator of a trained head and its test set."""

    def make(batch_size=4, preprocess=None, **sets):
        head = HeadAccuracy(
            test, mapped=0, batch_size=batch_size, preprocess=preprocess
        )
        return Robustness(head, sets)

    return make


@pytest.fixture
def folders(tmp_path):
    """Writes images of one level each: of class i in {class: levels} by path."""

    def write(path, levels):
        for name, values in levels.items():
            (tmp_path / path / name).mkdir(parents=True)
            for place, value in enumerate(values):
                image = Image.new("RGB", (4, 4), (value,) * 3)
                image.save(tmp_path / path / name / f"{place}.png")
        return tmp_path

    return write


def test_it_is_an_evaluator_that_reads_what_its_classifier_reads(robust, test):
    evaluator = robust(other=test)
    assert isinstance(evaluator, Evaluator) and isinstance(Noise(), Graded)
    assert evaluator.when == AtEnd()
    assert dataclasses.replace(evaluator, when=Never()).when == Never()
    assert evaluator.needs == {"logits"}


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_accuracies_are_those_counted_by_hand(robust, in_memory, batch_size):
    style = said(in_memory, [0, 1, 0, 1, 1, 1, 1])
    found = robust(batch_size, style=style).run(Head())
    assert found == pytest.approx({"clean/top1": 5 / 7, "style/top1": 3 / 7})


def test_classes_without_an_image_may_be_predicted_or_not(robust, in_memory):
    # Of class n02 there is no image; scores fall from n02 over n01 to n03.
    part = said(in_memory, [0, 2, 1], labels=[0, 2, 0])

    def encode(images):
        levels = np.rint(np.asarray(images)[:, 0, 0, 0] * 255).astype(int)
        scores = np.array([[2.0, 1, 0], [1, 2, 0], [0, 1, 2]], np.float32)
        return {"logits": scores[levels % 3]}

    found = robust(part=part).run(encode)
    assert found["part/top1"] == pytest.approx(2 / 3)
    assert found["part/top1_present"] == 1
    assert "clean/top1_present" not in found


def corrupted(source, *corruptions, **settings):
    return Corrupted(source, corruptions, **settings)


@pytest.mark.parametrize("batch_size", [3, 4])
def test_cells_are_counted_by_hand_and_their_means_have_equal_weights(
    robust, test, batch_size
):
    # A shift by three predicts as before; by one or two, fewer images are right.
    both = corrupted(test, Brighten("one"), Brighten("three", 3), severities=(1, 5, 6))
    levels, shares = np.array([0, 1, 2, 2, 0, 0, 1]), {}
    for name, step in (("one", 1), ("three", 3)):
        moved = [(levels + step * k) % 3 == LABELS for k in (1, 5, 6)]
        shares[name] = [np.mean(right) for right in moved]
    grid = np.array([shares["one"], shares["three"]])
    found = robust(batch_size, c=both).run(Head())
    assert found == pytest.approx(
        {
            "clean/top1": 5 / 7,
            "c/top1": grid.mean(),
            "c/one/top1": grid[0].mean(),
            "c/three/top1": 5 / 7,
            "c/severity1/top1": grid[:, 0].mean(),
            "c/severity5/top1": grid[:, 1].mean(),
            "c/severity6/top1": grid[:, 2].mean(),
        }
    )
    assert len({*grid[0]}) > 1


def test_a_severity_is_data_so_that_each_corruption_is_one_program(robust, test):
    TRACED.clear()
    evaluator = robust(c=corrupted(test, Brighten("a"), Brighten("b")))
    evaluator.run(Head())
    evaluator.run(Head())
    assert TRACED == {"a": 1, "b": 1}


def shown(evaluator, count):
    """The corrupted images [cells, count, h, w, c] that an encoder was given."""
    head, (part,) = Head(), evaluator.sets.values()
    evaluator.classifier.run(head)
    clean = len(head.batches)
    evaluator.run(head)
    cells = len(part.names) * len(part.severities)
    batches = head.batches[clean:]
    assert len(batches) % cells == 0
    parts = [np.concatenate(batches[cell::cells])[:count] for cell in range(cells)]
    return np.stack(parts)


def test_randomness_belongs_to_seed_corruption_severity_and_image(robust, test):
    def of(batch_size=4, seed=0, name="noise", severities=(1, 2)):
        noise = corrupted(test, Noise(name), severities=severities, seed=seed)
        return shown(robust(batch_size, c=noise), 7)

    first = of()
    np.testing.assert_array_equal(first, of())
    np.testing.assert_array_equal(first, of(batch_size=3))
    np.testing.assert_array_equal(first[1], of(severities=(2,))[0])
    assert not np.array_equal(first[0, 0], first[0, 4])  # one level, two images
    for other in (first[::-1], of(seed=1), of(name="other")):
        assert not np.array_equal(first, other)


def test_images_are_stored_in_8_bits_unless_they_shall_be_exact(robust, test):
    for stored, whole in (("8 bits", True), ("exact", False)):
        levels = 255 * shown(
            robust(c=corrupted(test, Noise(), severities=(3,), stored=stored)), 7
        )
        assert (np.abs(levels - np.rint(levels)).max() < 1e-3) == whole
        assert (levels.min() >= 0) == whole


def test_images_are_prepared_before_they_are_corrupted(robust, test):
    evaluator = robust(
        preprocess=Half(), c=corrupted(test, Brighten("x", 10), severities=(2,))
    )
    found = shown(evaluator, 7)[0]
    assert found.shape == (7, 2, 4, 3)
    np.testing.assert_allclose(
        found[:, 0, 0, 0] * 255,
        np.round(test.images[:, 0, 0, 0] / 2) + 20,
        atol=1e-3,
    )


def test_every_image_is_read_once_for_all_cells(robust, test):
    reads = Counter()

    @dataclasses.dataclass(frozen=True, eq=False)
    class Counting:
        class_names = NAMES
        all_labels = LABELS

        def __len__(self):
            return len(LABELS)

        def __getitem__(self, index):
            reads[index] += 1
            return test[index]

    part = corrupted(Counting(), Brighten("a"), Brighten("b"))
    robust(batch_size=7, c=part).run(Head())
    reads[0] -= 1  # for its shape
    assert reads == Counter(range(7))


def test_findings_show_all_cells_and_do_not_encode_again(robust, test):
    part = corrupted(test, Brighten("one"), Brighten("two", 2), severities=(1, 3))
    evaluator, head = robust(c=part, plain=test), Head()
    numbers = evaluator.run(head)
    seen = len(head.batches)
    found = evaluator.findings(head)
    assert len(head.batches) == seen
    (grid,) = found.values()
    assert isinstance(grid, Grid) and list(found) == ["c by severity"]
    assert grid.row_names == ("one", "two")
    assert grid.column_names == ("severity 1", "severity 3")
    assert grid.values.mean() == pytest.approx(numbers["c/top1"])
    assert grid.values[1].mean() == pytest.approx(numbers["c/two/top1"])
    assert grid.values[:, 0].mean() == pytest.approx(numbers["c/severity1/top1"])
    assert "2 corruptions in 2 severities" in grid.method


def test_a_probe_is_fitted_once_on_clean_images(blobs, encode):
    probe = LinearProbe(
        blobs(40), blobs(20, seed=1), strengths=(0.1,), mapped=0, batch_size=40
    )
    hard = blobs(30, seed=2, noise=60)
    dark = corrupted(probe.test, Brighten("dark", -40), severities=(1, 3))
    own = probe.run(encode)
    passes = len(encode.batches)
    numbers = Robustness(probe, {"hard": hard, "dark": dark}).run(encode)
    assert len(encode.batches) == passes + 1 + 2
    assert numbers["clean/top1"] == own["top1"]
    fitted = probe.fit(encode)
    right = fitted.predict(hard.images.reshape(30, -1) / np.float32(255)) == hard.labels
    assert numbers["hard/top1"] == right.mean() < 1
    levels = np.clip(probe.test.images.astype(int) - 120, 0, 255).reshape(20, -1)
    dark = fitted.predict(levels.astype(np.float32) / np.float32(255))
    assert 2 * numbers["dark/top1"] - numbers["dark/severity1/top1"] == pytest.approx(
        np.mean(dark == probe.test.labels)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A classifier of another kind: always the class of this number."""

    test: object
    number: int
    layer: str = "features"
    preprocess: object = None
    batch_size: int = 4
    protocol: str = "always the same"

    def check(self):
        pass

    def scores(self, encode, source):
        raise NotImplementedError

    def scored(self, encode, values):
        return np.tile(np.eye(3, dtype=np.float32)[self.number], (len(values), 1))


def test_any_classifier_will_do(test):
    part = corrupted(test, Brighten("one"), severities=(1,))
    evaluator = Robustness(Constant(test, 0), {"c": part, "same": test})
    found = evaluator.run(Head())
    assert evaluator.needs == {"features"}
    assert {found[f"{name}/top1"] for name in ("clean", "c", "same")} == {3 / 7}


def test_a_distortion_of_the_classifier_is_not_of_the_sets(test, robust):
    plain = robust(same=test)
    distorted = dataclasses.replace(plain.classifier, distortion=Shift())
    own = dataclasses.replace(plain, classifier=distorted)
    assert own.classifier.run(Head())["top1"] != plain.run(Head())["clean/top1"]
    assert own.run(Head()) == plain.run(Head())


@dataclasses.dataclass(frozen=True)
class Shift:
    """Makes every image say the next class."""

    def __call__(self, key, image):
        return image + 1 / 255


def test_features_that_are_not_finite_name_the_cell(robust, test):
    def encode(images):
        bright = np.asarray(images).max() > 0.5
        return {"logits": np.full((len(images), 3), np.nan if bright else 0.0)}

    part = corrupted(test, Brighten("fog", 60), severities=(1, 4))
    with pytest.raises(ValueError, match="not finite for 4 of 4 images of 'c', fog 4"):
        robust(c=part).run(encode)


def test_the_mean_is_over_the_fifteen_standard_corruptions_if_all_are_there():
    every = (*EXTRA, *STANDARD)
    assert [every[place] for place in counted(every)] == [*STANDARD]
    assert counted(every[:-1]) == list(range(18))
    assert counted(("mask", "noise")) == [0, 1]


# Folders.


def test_families_of_corruptions_have_means_of_their_own(in_memory):
    names = tuple(f"n{i:02}" for i in range(7))
    labels = np.arange(28, dtype=np.int32) % 7
    test = said(in_memory, labels, labels, names)
    chosen = ("gaussian_noise", "shot_noise", "contrast", "pixelate", "saturate")
    # One of them is real, as it takes seconds to compile each.
    steps = [Brighten(name, step) for step, name in enumerate(chosen[:-1])]
    part = Corrupted(test, (*steps, Corruption(chosen[-1])), (2,))
    robust = Robustness(HeadAccuracy(test, mapped=0), {"c": part})
    found = robust.run(Head(7))
    for kind in ("top1", "top5"):
        own = {name: found[f"c/{name}/{kind}"] for name in chosen}
        for family, members in (("noise", chosen[:2]), ("digital", chosen[2:4])):
            mean = np.mean([own[name] for name in members])
            np.testing.assert_allclose(found[f"c/{family}/{kind}"], mean)
        np.testing.assert_allclose(found[f"c/{kind}"], np.mean(list(own.values())))
    # One corruption is no family, and all of them are the mean already.
    assert not {"c/extra/top1", "c/all/top1"} & set(found)
    assert found["clean/top1"] == found["clean/top5"] == 1


def test_beside_the_mean_over_the_standard_corruptions_is_that_over_all(test):
    every = (*STANDARD, *EXTRA)
    steps = [SameProgram(name, k % 3) for k, name in enumerate(every)]
    part = Corrupted(test, tuple(steps), (1,))
    found = Robustness(HeadAccuracy(test, mapped=0), {"c": part}).run(Head())
    own = {name: found[f"c/{name}/top1"] for name in every}
    standard = np.mean([own[name] for name in STANDARD])
    np.testing.assert_allclose(found["c/top1"], standard)
    np.testing.assert_allclose(found["c/all/top1"], np.mean(list(own.values())))
    assert found["c/top1"] != pytest.approx(found["c/all/top1"])


@pytest.mark.parametrize("group", ["", "blur/"])
def test_corrupted_folders_are_found_with_and_without_groups(robust, folders, group):
    levels = {"n01": [0, 1], "n02": [1], "n03": [0], "n99": [0]}
    root = folders(f"{group}glass_blur/1", levels)
    folders(f"{group}glass_blur/3", levels | {"n03": [2, 2]})
    folders("extra/saturate/1", levels | {"n01": [0, 0]})
    folders("extra/saturate/3", levels | {"n01": [1, 1]})
    (root / "README.txt").write_text("not a folder")
    part = CorruptedFolders(str(root), 4, classes=NAMES, severities=(1, 3))
    assert part.names == ("glass_blur", "saturate")
    found = robust(batch_size=2, c=part).run(Head())
    cells = np.array([[2 / 4, 4 / 5], [3 / 4, 1 / 4]])
    assert found["c/top1"] == pytest.approx(cells.mean())
    assert found["c/glass_blur/top1"] == pytest.approx(cells[0].mean())
    assert found["c/severity3/top1"] == pytest.approx(cells[:, 1].mean())
    (grid,) = robust(c=part).findings(Head()).values()
    np.testing.assert_allclose(grid.values, cells)


def test_classes_that_a_folder_lacks_may_be_skipped(robust, folders):
    root = folders("fog/1", {"n01": [0, 2], "n03": [2, 0]})
    part = CorruptedFolders(str(root), 4, classes=NAMES, severities=(1,))
    with pytest.raises(ValueError, match=r"fog/1 lacks 1 of 3 classes: n02"):
        robust(c=part).check()
    found = robust(c=dataclasses.replace(part, missing="skip")).run(Head())
    assert found["c/top1"] == found["c/top1_present"] == 0.5


def test_images_in_folders_are_as_they_are_unless_the_set_prepares_them(
    robust, folders
):
    root = folders("snow/5", {name: [100] for name in NAMES})
    part = CorruptedFolders(str(root), 4, severities=(5,))
    for own, shape, level in ((None, (4, 4, 3), 100), (Half(), (2, 4, 3), 50)):
        head = Head()
        evaluator = robust(
            preprocess=Half(), c=dataclasses.replace(part, preprocess=own)
        )
        evaluator.run(head)
        assert head.batches[-1].shape[1:] == shape
        np.testing.assert_allclose(head.batches[-1][:3] * 255, level, atol=1e-3)
    assert "prepared no further" in part.protocol


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["fog/1"], r"fog has no severity 2; complete it, or omit the severity"),
        (
            ["fog/1", "fog/2", "fogg/1"],
            r"fogg is not one of the corruptions g",
        ),
        (["w/fog/1", "w/fog/2", "w/hail/1"], r"hail is not one of the corruptions"),
        (["fog/1", "fog/2", "w/fog/1"], r"w/fog and .*fog are the same corruption"),
        ([".hidden/1"], r"holds no folder of a corruption"),
    ],
)
def test_folders_that_do_not_fit_are_named(robust, tmp_path, paths, message):
    for path in paths:
        for name in NAMES:
            (tmp_path / path / name).mkdir(parents=True)
    part = CorruptedFolders(str(tmp_path), severities=(1, 2))
    with pytest.raises(ValueError, match=message):
        robust(c=part).check()


def test_a_class_without_an_image_in_one_of_the_cells_is_named(robust, folders):
    folders("fog/1", {name: [0] for name in NAMES})
    root = folders("fog/2", {name: [0] if name != "n02" else [] for name in NAMES})
    part = CorruptedFolders(str(root), 4, severities=(1, 2))
    with pytest.raises(ValueError, match=r"fog/2/n02 has no readable image"):
        robust(c=part).check()


def test_a_copy_without_all_standard_corruptions_says_so(robust, folders, caplog):
    root = folders("fog/1", {name: [0] for name in NAMES})
    robust(c=CorruptedFolders(str(root), 4, severities=(1,))).check()
    assert "has 1 of the 15 standard corruptions, without gaussian_noise" in caplog.text


def test_a_folder_that_is_not_there_is_named(tmp_path):
    part = CorruptedFolders(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"CorruptedFolders.folder .*nowhere"):
        part.check()


def test_other_classes_in_one_of_the_cells_are_named(robust, folders):
    root = folders("fog/1", {name: [0] for name in NAMES})
    folders("fog/2", {name: [0] for name in NAMES[:2]})
    part = CorruptedFolders(str(root), 4, severities=(1, 2))
    with pytest.raises(ValueError, match=r"fog/2 has the classes .* and .*fog/1 "):
        robust(c=part).check()


# What cannot be.


def test_a_class_that_the_test_set_has_not_is_named_with_what_to_write(
    robust, folders, in_memory
):
    root = folders("sketch", {name: [0] for name in ("n01", "n01443537", *NAMES[1:])})
    for part in (
        ImageFolder(str(root / "sketch"), 4),
        Corrupted(ImageFolder(str(root / "sketch"), 4), (Noise(),)),
    ):
        with pytest.raises(
            ValueError,
            match=r"'sketch' names 4 classes, such as 'n01443537', which it lacks, and "
            r"the test set 3; .* such as classes=IMAGENET_100, and missing='skip'",
        ):
            robust(sketch=part).check()
    few = said(in_memory, [0], [0], NAMES[:2])
    with pytest.raises(ValueError, match=r"names 2 classes, and the test set 3"):
        robust(few=few).check()
    robust(
        sketch=ImageFolder(str(root / "sketch"), 4, classes=NAMES),
    ).check()


@pytest.mark.parametrize("name", ["", "clean", "a/b"])
def test_names_of_sets_that_cannot_be_are_refused(robust, test, name):
    with pytest.raises(ValueError, match="a set cannot be called"):
        robust(**{name: test})
    with pytest.raises(ValueError, match="at least one set"):
        robust()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"severities": ()}, r"severities must be different and not empty"),
        ({"severities": (1, 1)}, r"severities must be different .* got \(1, 1\)"),
        ({"corruptions": (Noise(), Noise())}, r"got \('noise', 'noise'\)"),
        ({"corruptions": ()}, r"Corrupted.corruptions must be"),
        ({"seed": -1}, r"Corrupted.seed -1 must be in"),
        (
            {"corruptions": (Corruption("fog"),), "severities": (0, 1, 6)},
            r"0 is not one of \(1, 2, 3, 4, 5\), those of",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(blobs, settings, message):
    with pytest.raises(ValueError, match=message):
        Corrupted(blobs(6), **({"corruptions": (Noise(),)} | settings))


def test_the_same_severity_twice_is_refused_in_folders():
    with pytest.raises(ValueError, match=r"CorruptedFolders.severities must be"):
        CorruptedFolders("somewhere", severities=(1, 1))


def test_the_protocol_is_one_line_that_says_what_each_set_is(robust, test):
    evaluator = robust(style=test, c=corrupted(test, Noise(), seed=3))
    assert evaluator.protocol == (
        "highest of the trained 'logits' for 7 test images of 3 classes; style: 7 "
        "images; c: 1 corruption in 5 severities computed on 7 prepared images "
        "rounded to 8 bits, seed 3"
    )
