"""Sources made of sources: shares keep the balance, other labels follow the mapping."""

import numpy as np
import pytest

from jax_rcl.core import Source
from jax_rcl.data.records import check_labels, labels_of
from jax_rcl.data.sources import Digits, Npz, Synthetic
from jax_rcl.data.wrappers import Relabel, Subset


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
    with pytest.raises(ValueError, match=r"Subset\.fraction is .* \(0, 1\]"):
        Subset(Synthetic(), fraction)


def test_relabelled_records_have_the_mapped_label_and_the_same_image():
    source = Synthetic(classes=3, size=4, count=7)
    coarse = Relabel(source, (1, 0, 1), ("even", "odd"))
    assert isinstance(coarse, Source)
    assert labels_of(coarse).tolist() == [1, 0, 1, 1, 0, 1, 1]
    check_labels(coarse)
    record = coarse[2]
    assert record["label"] == 1 and record["label"].dtype == np.int32
    np.testing.assert_array_equal(record["image"], source[2]["image"])


def test_a_mapping_to_a_class_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"turns label 1 into 2; .*\[0, 2\)"):
        Relabel(Synthetic(), (0, 2), ("a", "b"))
    with pytest.raises(ValueError, match="turns label 0 into -1"):
        Relabel(Synthetic(), (-1,), ("a",))


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_that_the_mapping_does_not_have_is_named(tmp_path, label):
    np.savez(
        tmp_path / "set.npz",
        image=np.zeros((3, 2, 2, 3), np.uint8),
        label=np.array([0, 1, label]),
    )
    source = Relabel(Npz(str(tmp_path / "set.npz")), (0, 0), ("all",))
    assert source[1]["label"] == 0
    message = rf"record 2 of .* has label {label}, but Relabel\.mapping .* 0 to 1"
    with pytest.raises(ValueError, match=message):
        source[2]
    with pytest.raises(ValueError, match=message):
        labels_of(source)


def test_wrapped_sources_are_their_settings():
    one, other = (
        Subset(Relabel(Synthetic(), (0,) * 10, ("x",)), 0.5) for _ in range(2)
    )
    assert one == other and hash(one) == hash(other)
    assert Subset(Synthetic(), 0.5) != Subset(Synthetic(), 0.5, seed=1)
