"""Sources made of sources: shares are what they say, labels follow their mapping."""

import numpy as np
import pytest

from jax_rcl.config.nodes import build, node
from jax_rcl.core import Source
from jax_rcl.data.published import coarse
from jax_rcl.data.published.coarse import CoarseMap
from jax_rcl.data.records import check_labels, groups_of, labels_of, names_of
from jax_rcl.data.sources import Digits, Npz, Synthetic
from jax_rcl.data.wrappers import (
    Channels,
    EqualGroups,
    Relabel,
    Split,
    Subset,
    Unbalanced,
    coarsened,
)

PAIRS = CoarseMap("pairs", (0, 1, 0, 1), ("even", "odd"))


class Numbered:
    """Records whose group is their number, counted backwards, and nothing listed."""

    class_names = ("a", "b", "c", "d")

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict:
        image = np.full((2, 2, 1), index, np.uint8)
        label, group = np.int32(index % 4), np.int32(39 - index)
        return {"image": image, "label": label, "group": group}


class Listed(Numbered):
    """The same, with its groups listed and named."""

    group_names = tuple(f"group {i}" for i in range(40))
    all_groups = np.arange(40, dtype=np.int32)[::-1]
    names = tuple(f"record {i}" for i in range(40))
    keywords = tuple((str(i), "number") for i in range(40))
    target_names = ("tens", "ones")
    all_targets = np.stack(np.divmod(np.arange(40, dtype=np.float32), 10), axis=1)
    priors = np.arange(80, dtype=np.float32).reshape(40, 2)


# Subset.


def test_a_subset_is_balanced_and_made_of_records_of_its_source():
    source = Synthetic(classes=4, size=4, count=80)
    subset = Subset(source, 0.25)
    assert isinstance(subset, Source) and subset.class_names == source.class_names
    assert np.bincount(labels_of(subset)).tolist() == [5] * 4
    for i, index in enumerate(subset.indices):
        np.testing.assert_array_equal(subset[i]["image"], source[int(index)]["image"])
        assert subset[i]["label"] == labels_of(subset)[i]


def test_a_tiny_subset_has_one_example_of_every_class():
    subset = Subset(Digits("test"), 1e-6)
    assert sorted(labels_of(subset)) == list(range(10))


def test_larger_subsets_contain_smaller_ones_and_other_seeds_draw_others():
    source = Digits()
    small, large = (set(Subset(source, f).indices.tolist()) for f in (0.1, 0.3))
    assert small < large
    assert set(Subset(source, 0.1, seed=1).indices.tolist()) != small


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_a_subset_is_more_than_nothing_and_at_most_all(fraction):
    with pytest.raises(ValueError, match=rf"Subset\.fraction {fraction} .* \(0, 1\]"):
        Subset(Synthetic(), fraction)


# Split.


@pytest.mark.parametrize(
    ("count", "train", "val"),
    [
        (50_000, [37542, 44491, 216, 43688, 41558], [17408, 40845, 3378, 22188, 44921]),
        (
            60_000,
            [37542, 43087, 2992, 25810, 39634],
            [33841, 37977, 40521, 16882, 50296],
        ),
    ],
)
def test_the_split_of_seed_42_is_the_published_one(count, train, val):
    source = Synthetic(count=count)
    parts = Split(source), Split(source, "val")
    assert [len(part) for part in parts] == [count * 9 // 10, count // 10]
    assert parts[0].indices[:5].tolist() == train
    assert parts[1].indices[:5].tolist() == val
    if count == 50_000:
        assert parts[1].indices[-3:].tolist() == [40730, 25847, 33082]


def test_the_parts_of_a_split_are_the_whole():
    source = Synthetic(size=4, count=37)
    train, val = (Split(source, part, 0.3, seed=1) for part in ("train", "val"))
    both = np.concatenate([train.indices, val.indices])
    assert (len(train), len(val)) == (25, 12) and sorted(both) == list(range(37))
    np.testing.assert_array_equal(val[3]["image"], source[int(both[28])]["image"])
    assert (
        labels_of(val)[3] == val[3]["label"] and val.class_names == source.class_names
    )


def test_a_split_with_nothing_in_a_part_is_refused():
    with pytest.raises(ValueError, match="0 to train and 1 to val; each needs"):
        len(Split(Synthetic(count=1)))


# Unbalanced.


def test_fine_classes_get_as_many_examples_as_their_place_says():
    source = Synthetic(classes=4, size=2, count=80)
    found = Unbalanced(source, PAIRS, (20, 3))
    assert np.bincount(labels_of(found)).tolist() == [20, 20, 3, 3]
    assert len(set(found.indices.tolist())) == 46 and (np.diff(found.indices) > 0).all()
    assert found.class_names == source.class_names
    other = Unbalanced(source, PAIRS, (20, 3), seed=1)
    assert not np.array_equal(found.indices, other.indices)
    assert labels_of(coarsened(found, PAIRS)).sum() == 23


def test_cifar_100_u_has_950_examples_of_each_superclass():
    found = Unbalanced(Synthetic(classes=100, count=50_000), coarse.CIFAR100)
    assert len(found) == 19_000
    assert (np.bincount(labels_of(coarsened(found, coarse.CIFAR100))) == 950).all()
    trees = [47, 52, 56, 59, 96]
    sizes = np.bincount(labels_of(found))[trees]
    assert sizes.tolist() == [500, 250, 100, 50, 50]


def test_examples_can_be_put_back_as_in_the_released_code():
    source = Synthetic(classes=4, size=2, count=80)
    found = Unbalanced(source, PAIRS, (30, 3), draw="replaced")
    assert np.bincount(labels_of(found)).tolist() == [30, 30, 3, 3]
    assert len(set(found.indices.tolist())) < 46


def test_a_class_that_is_too_small_is_named():
    source = Synthetic(classes=4, size=2, count=80)
    with pytest.raises(ValueError, match=r"asks for 21 of fine class 0, but .* has 20"):
        len(Unbalanced(source, PAIRS, (21, 3)))


def test_counts_fit_the_map():
    with pytest.raises(
        ValueError, match="3 numbers, but 'even' of the map 'pairs' has"
    ):
        Unbalanced(Synthetic(4), PAIRS, (1, 2, 3))


def test_a_map_of_other_classes_cannot_unbalance():
    with pytest.raises(
        ValueError, match=r"'pairs' has 4 entries .* for 1 of 5 classes: 4 'grating 4'"
    ):
        len(Unbalanced(Synthetic(5), PAIRS, (2, 1)))


def test_an_unbalanced_source_can_be_configured():
    config = node(Unbalanced, node(Synthetic), coarse.CIFAR100)
    assert build(config) == Unbalanced(Synthetic(), coarse.CIFAR100)


# Relabel.


def test_relabelled_records_have_the_mapped_label_and_the_same_image():
    source = Synthetic(classes=3, size=4, count=7)
    coarse = Relabel(source, (1, 0, 1), ("even", "odd"))
    assert isinstance(coarse, Source)
    assert labels_of(coarse).tolist() == [1, 0, 1, 1, 0, 1, 1]
    check_labels(coarse)
    record = coarse[2]
    assert record["label"] == 1 and record["label"].dtype == np.int32
    np.testing.assert_array_equal(record["image"], source[2]["image"])


def test_fine_labels_remain_at_hand():
    coarse = coarsened(Synthetic(classes=4, size=4, count=7), PAIRS)
    np.testing.assert_array_equal(labels_of(coarse), labels_of(coarse.source) % 2)


def test_a_mapping_to_a_class_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"turns label 1 into 2; .*\[0, 2\)"):
        Relabel(Synthetic(), (0, 2), ("a", "b"))
    with pytest.raises(ValueError, match="turns label 0 into -1"):
        Relabel(Synthetic(), (-1,), ("a",))


@pytest.mark.parametrize("mapping", [(0,), (0, 0, 0)])
def test_a_mapping_has_one_entry_for_each_class(mapping):
    source = Relabel(Synthetic(2), mapping, ("all",))
    with pytest.raises(ValueError, match=r"'Relabel\.mapping' has .* 2 classes"):
        source[0]


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_that_the_mapping_does_not_have_is_named(tmp_path, label):
    np.savez(
        tmp_path / "set.npz",
        image=np.zeros((3, 2, 2, 3), np.uint8),
        label=np.array([0, 1, label]),
    )
    fine = Npz(str(tmp_path / "set.npz"), names=("a", "b"))
    source = Relabel(fine, (0, 0), ("all",))
    assert source[1]["label"] == 0
    message = rf"record 2 of .* has label {label}, but .*Relabel\.mapping.* 0 to 1"
    with pytest.raises(ValueError, match=message):
        source[2]
    with pytest.raises(ValueError, match=message):
        labels_of(source)


# Channels.


def test_a_gray_channel_is_repeated():
    source = Synthetic(classes=4, size=4, channels=1, count=5)
    colour = Channels(source)
    assert isinstance(colour, Source) and len(colour) == 5
    assert colour[4]["image"].shape == (4, 4, 3) and colour[4]["label"] == 0
    for channel in range(3):
        np.testing.assert_array_equal(
            colour[4]["image"][..., channel], source[4]["image"][..., 0]
        )
    np.testing.assert_array_equal(labels_of(colour), labels_of(source))
    assert Channels(Channels(source, 1), 2)[0]["image"].shape == (4, 4, 2)


def test_colour_is_not_repeated():
    with pytest.raises(ValueError, match=r"Synthetic\(.* have 3; omit Channels"):
        Channels(Synthetic())[0]


def test_groups_are_drawn_equally_and_every_record_is_seen():
    source = Listed()
    groups = np.array([0] * 7 + [2] * 3 + [1] * 1 + [2] * 29, np.int32)
    source.all_groups = groups
    found = EqualGroups(source, seed=1)
    counts = np.bincount(groups[found.indices])
    assert counts.tolist() == [32, 32, 32] and len(found) == 96
    often = np.bincount(found.indices, minlength=40)
    assert set(often[:7]) == {4, 5} and often[10] == 32
    assert set(often[groups == 2]) == {1}
    other = EqualGroups(source, seed=2).indices
    assert (found.indices != other).any()


# All of them.


WRAPPERS = (
    lambda source: Subset(source, 0.5),
    lambda source: Split(source, "val", 0.25),
    lambda source: Unbalanced(source, PAIRS, (6, 2)),
    lambda source: coarsened(source, PAIRS),
    Channels,
    EqualGroups,
)


@pytest.mark.parametrize("source", [Numbered(), Listed()])
@pytest.mark.parametrize("wrap", WRAPPERS)
def test_groups_are_passed_on(source, wrap):
    wrapped = wrap(source)
    groups = groups_of(wrapped)
    assert groups.dtype == np.int32 and len(groups) == len(wrapped)
    for i in range(len(wrapped)):
        # The image holds the number of the record.
        assert wrapped[i]["group"] == groups[i] == 39 - wrapped[i]["image"][0, 0, 0]
    assert wrapped.group_names == getattr(source, "group_names", ())


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_is_known_of_records_is_passed_on(wrap):
    wrapped = wrap(Listed())
    # The image holds the number of the record.
    numbers = [int(wrapped[i]["image"][0, 0, 0]) for i in range(len(wrapped))]
    assert names_of(wrapped) == tuple(f"record {i}" for i in numbers)
    assert wrapped.keywords == tuple(Listed.keywords[i] for i in numbers)
    assert wrapped.target_names == Listed.target_names
    np.testing.assert_array_equal(wrapped.all_targets, Listed.all_targets[numbers])
    np.testing.assert_array_equal(wrapped.priors, Listed.priors[numbers])


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_what_is_not_known_is_not_made_up(wrap):
    wrapped = wrap(Numbered())
    assert names_of(wrapped) == wrapped.keywords == wrapped.target_names == ()
    assert wrapped.all_targets is None and wrapped.priors is None


def test_wrapped_sources_are_their_settings():
    one, other = (
        Subset(Relabel(Synthetic(), (0,) * 10, ("x",)), 0.5) for _ in range(2)
    )
    assert one == other and hash(one) == hash(other)
    assert Subset(Synthetic(), 0.5) != Subset(Synthetic(), 0.5, seed=1)
    assert Split(one) == Split(other) != Split(one, "val")
    assert hash(Unbalanced(Synthetic(), PAIRS, (1, 1))) == hash(
        Unbalanced(Synthetic(), PAIRS, (1, 1))
    )
