"""Groups inside classes: the accuracy of each, and finding them again."""

import dataclasses
import itertools
import sys
import types
from typing import ClassVar

import numpy as np
import pytest

from jax_rcl.artifacts import Confusion, Embedding
from jax_rcl.core import Evaluator
from jax_rcl.evaluate.groups import GroupAccuracy, group_ids
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.recovery import Clustering, GroupRecovery, inferred_groups

CLASSES = ("land bird", "water bird")
GROUPS = ("land, land", "land, water", "water, land", "water, water")


@dataclasses.dataclass(frozen=True, eq=False)
class InGroups:
    """Images with labels and groups, as they are."""

    images: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)
    all_groups: np.ndarray = dataclasses.field(repr=False)
    group_names: tuple[str, ...] = GROUPS
    class_names: tuple[str, ...] = CLASSES

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {
            "image": self.images[index],
            "label": np.int32(self.labels[index]),
            "group": np.int32(self.all_groups[index]),
        }


class OnlyRecords:
    """The same, but labels and groups have to be read from the records."""

    def __init__(self, source):
        self.source = source
        self.class_names, self.group_names = source.class_names, source.group_names

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        return self.source[index]


def predicted_in_first_pixel(groups, predicted):
    """One image for each; its label is the first half of its group's number."""
    groups = np.array(groups, np.int32)
    images = np.zeros((len(groups), 1, 2, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = predicted, 40 * np.arange(len(groups)) % 99
    return InGroups(images, groups // 2, groups)


class Head:
    """Predicts what the first pixel says, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        predicted = np.rint(np.asarray(images)[:, 0, 0, 0] * 255).astype(int)
        features = np.asarray(images).reshape(len(images), -1)
        return {"features": features, "logits": np.eye(2, dtype=np.float32)[predicted]}


def spots(sizes, *, noise=0.03, seed=0, names=GROUPS):
    """Images that lie around one direction for each group, two groups in a class."""
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(
        np.int32
    )
    centres = np.eye(len(sizes), 9)[groups] * 0.5 + 0.3
    pixels = np.clip(centres + noise * random.normal(size=centres.shape), 0, 1)
    images = np.rint(255 * pixels).astype(np.uint8).reshape(-1, 3, 3, 1)
    return InGroups(images, groups // 2, groups, names)


# Four groups of 4, 3, 2 and 1 images, of which 3, 1, 2 and 0 are right.
TEST = predicted_in_first_pixel(
    [0, 0, 0, 0, 1, 1, 1, 2, 2, 3], [0, 0, 0, 1, 0, 1, 1, 1, 1, 0]
)


def test_accuracy_is_counted_in_every_group_and_in_the_worst():
    numbers = GroupAccuracy(HeadAccuracy(TEST)).run(Head())
    assert numbers == pytest.approx(
        {
            "top1": 0.6,
            "worst_group_top1": 0.0,
            "gap_top1": 0.6,
            "top1/land, land": 3 / 4,
            "top1/land, water": 1 / 3,
            "top1/water, land": 1.0,
            "top1/water, water": 0.0,
        }
    )


def test_the_adjusted_average_weighs_groups_as_the_training_images_do():
    train = predicted_in_first_pixel([0] * 7 + [1, 2, 2], [0] * 10)
    numbers = GroupAccuracy(HeadAccuracy(TEST), train).run(Head())
    assert numbers["adjusted_top1"] == pytest.approx(0.7 * 3 / 4 + 0.1 / 3 + 0.2)
    # With the shares of the test set itself it is the average.
    own = GroupAccuracy(HeadAccuracy(TEST), TEST).run(Head())
    assert own["adjusted_top1"] == pytest.approx(own["top1"])


def test_groups_without_test_images_are_left_out():
    test = predicted_in_first_pixel([0, 0, 2, 2], [0, 1, 1, 1])
    numbers = GroupAccuracy(HeadAccuracy(test)).run(Head())
    assert numbers["worst_group_top1"] == 0.5
    assert {n for n in numbers if "/" in n} == {"top1/land, land", "top1/water, land"}


def test_a_group_that_weighs_but_is_not_tested_is_named():
    test = predicted_in_first_pixel([0, 0, 2, 2], [0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"group 'land, water' has training images"):
        GroupAccuracy(HeadAccuracy(test), TEST).check()


def test_a_probe_is_judged_by_its_own_predictions(encode):
    train, test = spots([17, 3, 3, 17]), spots([10, 10, 10, 10], noise=0.2, seed=1)
    probe = LinearProbe(train, test, strengths=(0.1,), batch_size=40)
    numbers = GroupAccuracy(probe, train).run(encode)
    passes = len(encode.batches)
    fitted = probe.fit(encode)
    right = fitted.predict(test.images.reshape(40, 9) / np.float32(255)) == test.labels
    assert len(encode.batches) == passes
    for group, name in enumerate(GROUPS):
        expected = right[test.all_groups == group].mean()
        assert numbers[f"top1/{name}"] == pytest.approx(expected)
    assert numbers["worst_group_top1"] < numbers["adjusted_top1"]
    assert numbers["top1"] == probe.run(encode)["top1"] < 1


def test_the_map_shows_groups(encode):
    head = GroupAccuracy(HeadAccuracy(TEST)).findings(Head())["groups"]
    train, test = spots([10, 10, 10, 10]), spots([2, 2, 2, 2], seed=1)
    probe = LinearProbe(train, test, strengths=(0.1,), batch_size=8)
    of_probe = GroupAccuracy(probe).findings(encode)["groups"]
    for found, source in ((head, TEST), (of_probe, test)):
        assert isinstance(found, Embedding) and found.class_names == GROUPS
        np.testing.assert_array_equal(found.labels, source.all_groups)


def test_numbers_and_map_share_one_pass_with_the_classifier():
    head, classifier = Head(), HeadAccuracy(TEST, batch_size=5)
    classifier.run(head)
    GroupAccuracy(classifier).run(head)
    GroupAccuracy(classifier).findings(head)
    assert head.calls == 2


def test_the_classifier_says_when_and_what_is_read():
    evaluator = GroupAccuracy(HeadAccuracy(TEST), TEST)
    assert isinstance(evaluator, Evaluator)
    assert evaluator.when == HeadAccuracy(TEST).when
    assert evaluator.needs == {"logits", "features"}
    assert evaluator.protocol == (
        "highest of the trained 'logits' for 10 test images of 2 classes, in 4 groups, "
        "adjusted by their shares of 10 training images"
    )


def test_a_source_without_groups_is_told_what_to_hold(blobs):
    for evaluator in (
        GroupAccuracy(HeadAccuracy(blobs(6))),
        GroupRecovery(blobs(6)),
    ):
        with pytest.raises(ValueError, match=r"names no groups; .* hold 'group'"):
            evaluator.check()


def test_what_does_not_fit_is_named(blobs):
    other = dataclasses.replace(TEST, group_names=GROUPS[::-1])
    with pytest.raises(ValueError, match="must mean the same in both"):
        GroupAccuracy(HeadAccuracy(TEST), other).check()
    short = dataclasses.replace(TEST, group_names=GROUPS[:3])
    with pytest.raises(ValueError, match=r"record 9 of .* has group 3; .* in \[0, 3\)"):
        GroupAccuracy(HeadAccuracy(short)).check()
    nameless = dataclasses.replace(TEST, class_names=())
    with pytest.raises(ValueError, match="names no classes"):
        GroupAccuracy(HeadAccuracy(nameless)).check()


def test_groups_are_read_from_records_where_a_source_does_not_list_them():
    source = OnlyRecords(TEST)
    np.testing.assert_array_equal(group_ids(source), TEST.all_groups)


@pytest.mark.parametrize("components", [2, None])
def test_groups_that_lie_apart_are_found_again(encode, components):
    source = spots([20, 5, 3, 30])
    recovery = GroupRecovery(source, clustering=Clustering(components), batch_size=58)
    numbers = recovery.run(encode)
    names = ("f1", "precision", "recall")
    pairs = itertools.product(names, ("", *(f"/{group}" for group in GROUPS)))
    assert numbers == {f"{name}{group}": 1.0 for name, group in pairs}
    matrix = recovery.findings(encode)["recovered"]
    assert isinstance(matrix, Confusion) and matrix.class_names == GROUPS
    np.testing.assert_array_equal(matrix.matrix, np.diag([20, 5, 3, 30]))
    assert len(encode.batches) == 1


class Umap:
    """Keeps the first dimensions, and what it was asked for."""

    asked: ClassVar = []

    def __init__(self, **settings):
        self.asked.append(settings)
        self.kept = settings["n_components"]

    def fit(self, x):
        return self

    def transform(self, x):
        return x[:, : self.kept]


def test_features_are_reduced_by_umap_if_that_is_asked_for(encode, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Umap))
    source, clustering = spots([20, 5, 3, 30]), Clustering(3, reduction="umap", seed=7)
    recovery = GroupRecovery(source, clustering=clustering, batch_size=58)
    assert recovery.run(encode)["f1"] == 1.0
    assert Umap.asked[-1] == {"n_components": 3, "random_state": 7}
    assert "reduced to 3 dimensions by UMAP" in recovery.protocol
    with pytest.raises(ValueError, match="does nothing with components=None"):
        Clustering(None, reduction="umap")


def test_without_umap_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"pip install 'jax_rcl\[umap\]'"):
        Clustering(reduction="umap")


def test_recovery_counts_as_by_hand(encode):
    # Of the first class 6 + 4 images look as their group does, and 2 as the other.
    source = spots([8, 4, 5, 5], noise=0.01)
    groups = source.all_groups.copy()
    groups[np.flatnonzero(groups == 0)[:2]] = 1
    source = dataclasses.replace(source, all_groups=groups)
    recovery = GroupRecovery(source, batch_size=22)
    numbers = recovery.run(encode)
    assert numbers["precision/land, land"] == pytest.approx(6 / 8)
    assert numbers["recall/land, land"] == pytest.approx(6 / 6)
    assert numbers["f1/land, land"] == pytest.approx(2 * 6 / (6 + 8))
    assert numbers["f1/land, water"] == pytest.approx(2 * 4 / (6 + 4))
    assert numbers["f1/water, land"] == numbers["f1/water, water"] == 1
    assert numbers["f1"] == pytest.approx((12 / 14 + 8 / 10 + 2) / 4)
    assert numbers["recall"] == pytest.approx((1 + 4 / 6 + 2) / 4)
    np.testing.assert_array_equal(
        recovery.findings(encode)["recovered"].matrix[:2, :2], [[6, 0], [2, 4]]
    )


def test_a_collapsed_class_recovers_its_largest_group_only():
    source = spots([6, 2, 5, 5])

    def collapsed(images):
        first = (np.asarray(images)[:, 0, :2, 0] > 0.55).any(axis=1, keepdims=True)
        return {"features": np.where(first, [[1.0, 0.0]], [[0.0, 1.0]])}

    numbers = GroupRecovery(source, batch_size=18).run(collapsed)
    assert numbers["recall/land, land"] == 1 and numbers["recall/land, water"] == 0
    assert numbers["f1/land, land"] == pytest.approx(12 / 14)
    assert numbers["f1/land, water"] == numbers["precision/land, water"] == 0


def test_classes_of_one_group_do_not_count(encode):
    source = spots([20, 5, 9, 0])
    numbers = GroupRecovery(source, batch_size=34).run(encode)
    assert numbers["f1"] == 1
    assert {n for n in numbers if n.startswith("f1/")} == {
        "f1/land, land",
        "f1/land, water",
    }


def test_clusters_are_the_same_for_the_same_seed_whatever_the_number_fitted_on(
    fresh_encode,
):
    source = spots([60, 20, 30, 50])

    def inferred(**settings):
        return inferred_groups(
            fresh_encode(),
            source,
            clusters=(2, 2),
            clustering=Clustering(**settings),
            batch_size=160,
        )

    everything, some = inferred(), inferred(most=40)
    np.testing.assert_array_equal(everything, inferred())
    assert set(everything) == set(some) == {0, 1, 2, 3}
    for groups in (everything, some):
        # Each cluster is one true group, also of images that were not fitted on.
        pairs = set(zip(groups.tolist(), source.all_groups.tolist(), strict=True))
        assert len(pairs) == 4
        np.testing.assert_array_equal(groups // 2, source.labels)


def test_inferred_groups_count_on_from_class_to_class(encode, in_memory):
    labels = np.array([2, 0, 0, 2, 2, 0])
    images = np.array([9, 1, 200, 120, 240, 2], np.uint8).reshape(6, 1, 1, 1)
    images = np.concatenate([images, 255 - images], axis=2)
    source = in_memory(images, labels, ("a", "b", "c"))
    found = inferred_groups(encode, source, clusters=(2, 0, 3), batch_size=6)
    assert found.dtype == np.int32
    assert found[1] == found[5] != found[2] and set(found[[1, 2]]) == {0, 1}
    assert set(found[labels == 2]) == {2, 3, 4}


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ((2,), r"\(2,\) must be one number for each of the 2 classes"),
        ((2, 0), r"gives the class 'water bird' 0 groups, but it has 3 images"),
        ((2, 4), r"4 clusters cannot be found in 3 images"),
    ],
)
def test_clusters_that_cannot_be_are_named(encode, clusters, message):
    with pytest.raises(ValueError, match=message):
        inferred_groups(encode, TEST, clusters=clusters)


def test_recovery_needs_groups_that_divide_classes():
    single = dataclasses.replace(TEST, all_groups=TEST.labels, group_names=GROUPS[:2])
    with pytest.raises(ValueError, match=r"no class of .* more than one group"):
        GroupRecovery(single).check()
    across = dataclasses.replace(TEST, all_groups=TEST.all_groups % 2)
    with pytest.raises(
        ValueError, match=r"'land, land' of .* occurs in several classes"
    ):
        GroupRecovery(across).check()


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"components 0 must be at least 1"):
        Clustering(components=0)


def test_the_protocol_says_how_groups_were_found():
    evaluator = GroupRecovery(TEST)
    assert isinstance(evaluator, Evaluator) and evaluator.needs == {"features"}
    assert evaluator.protocol == (
        "k-means (best of 10) of unit features reduced to 2 principal components, "
        "'features' of 10 images, within each of 2 classes, matched to 4 groups by "
        "optimal assignment"
    )
    assert Clustering(None).method == "k-means (best of 10) of unit features"
