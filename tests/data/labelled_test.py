"""Few labels: exactly as many of every class as the fraction says, by seed."""

import numpy as np
import pytest

from jax_rcl.config.nodes import build, node
from jax_rcl.core import Source
from jax_rcl.data.labelled import FewLabels
from jax_rcl.data.records import labels_of
from jax_rcl.data.sources import Digits, Npz, Synthetic


@pytest.mark.parametrize(
    ("fraction", "each"), [(0.1, 127), (0.05, 64), (0.01, 13), (0.005, 7), (0.001, 2)]
)
def test_imagenet_100_gives_as_many_of_each_class_as_published(fraction, each):
    # As many records as ImageNet-100 has, 126,689 in 100 classes.
    few = FewLabels(Synthetic(100, 2, 1, 126_689), fraction)
    assert np.bincount(labels_of(few)).tolist() == [each] * 100
    assert len(few) == 100 * each


def test_any_number_of_classes_is_balanced():
    for classes, each in ((2, 25), (3, 17), (10, 5)):
        few = FewLabels(Synthetic(classes, 2, count=100), 0.5)
        assert np.bincount(labels_of(few)).tolist() == [each] * classes


def test_classes_are_balanced_where_those_of_the_source_are_not():
    source = Digits()
    assert len(set(np.bincount(labels_of(source)))) > 1
    few = FewLabels(source, 0.2)
    assert np.bincount(labels_of(few)).tolist() == [-(-len(source) // 50)] * 10


def test_a_fraction_is_the_number_that_is_written():
    # In floats 0.07 · 1000 / 10 is 7.000000000000001, of which ceil would make 8.
    assert len(FewLabels(Synthetic(count=1000), 0.07)) == 70
    assert len(FewLabels(Synthetic(count=1000), 1e-3)) == 10


def test_it_is_a_source_of_distinct_records_in_their_order():
    source = Synthetic(classes=4, size=4, count=80)
    few = FewLabels(source, 0.25)
    assert isinstance(few, Source) and few.class_names == source.class_names
    assert (np.diff(few.indices) > 0).all()
    for i, index in enumerate(few.indices):
        np.testing.assert_array_equal(few[i]["image"], source[int(index)]["image"])
        assert few[i]["label"] == labels_of(few)[i]


def test_the_draw_belongs_to_the_seed_and_larger_ones_contain_smaller_ones():
    source = Synthetic(count=1000)
    drawn = [set(FewLabels(source, f).indices.tolist()) for f in (0.01, 0.1, 1.0)]
    assert drawn[0] < drawn[1] < drawn[2] == set(range(1000))
    assert set(FewLabels(source, 0.1).indices.tolist()) == drawn[1]
    assert set(FewLabels(source, 0.1, seed=1).indices.tolist()) != drawn[1]


def unbalanced(folder, *counts: int) -> Npz:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 2, 2), np.uint8)
    np.savez(folder / "set.npz", image=images, label=labels)
    return Npz(str(folder / "set.npz"), names=("cup", "hare", "moped"))


def test_a_class_with_too_few_is_named_with_the_fraction_that_works(tmp_path):
    source = unbalanced(tmp_path, 10, 3, 7)
    assert np.bincount(labels_of(FewLabels(source, 0.45))).tolist() == [3, 3, 3]
    with pytest.raises(
        ValueError, match=r"takes 4 of each, but 'hare' has 3; write at most 0\.45,"
    ):
        len(FewLabels(source, 0.5))


def test_a_class_without_records_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"1 of each, but 'moped' has 0; write Sub"):
        len(FewLabels(unbalanced(tmp_path, 10, 3), 0.1))


def test_what_cannot_be_balanced_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"FewLabels\.fraction 0\.0 .* \(0, 1\]"):
        FewLabels(Synthetic(), 0.0)
    np.savez(tmp_path / "bare.npz", image=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ValueError, match="have no 'label'"):
        len(FewLabels(Npz(str(tmp_path / "bare.npz"), label=None), 0.5))


def test_it_can_be_configured_and_is_its_settings():
    few = build(node(FewLabels, node(Synthetic), 0.1, seed=2))
    assert few == FewLabels(Synthetic(), 0.1, 2) != FewLabels(Synthetic(), 0.1)
    assert hash(few) == hash(FewLabels(Synthetic(), 0.1, 2))
