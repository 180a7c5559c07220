"""Permutations, shares, labels and sizes of any source."""

import dataclasses

import numpy as np
import pytest

from jax_rcl import data
from jax_rcl.data.published import coarse
from jax_rcl.data.records import (
    balanced_share,
    check_labels,
    group_names_of,
    groups_of,
    known_labels,
    labels_of,
    names_of,
    nbytes,
    permutation,
    torch_permutation,
)
from jax_rcl.data.sources import Npz, Synthetic
from jax_rcl.data.wrappers import Subset


@dataclasses.dataclass(frozen=True)
class Listed:
    """A source that is nothing but what the protocol asks for."""

    labels: tuple[int, ...]
    class_names: tuple[str, ...] = ("a", "b")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        image = np.full((2, 2, 3), index, np.uint8)
        return {"image": image, "label": np.int32(self.labels[index])}


def test_a_permutation_holds_every_number_once():
    for number in range(3):
        found = permutation(100, 5, number)
        np.testing.assert_array_equal(np.sort(found), np.arange(100))


def test_permutations_differ_by_seed_and_by_number():
    found = {
        tuple(permutation(20, seed, number)) for seed in range(4) for number in range(4)
    }
    assert len(found) == 16


def test_permutations_never_change():
    # Written down in November 2026; other numbers mean that runs cannot be resumed.
    assert permutation(10, 0, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert permutation(10, 7, 3).tolist() == [2, 0, 7, 3, 5, 4, 8, 9, 1, 6]


def test_every_number_comes_to_every_place_equally_often():
    count, draws = 6, 3000
    table = np.zeros((count, count))
    for number in range(draws):
        table[np.arange(count), permutation(count, 0, number)] += 1
    expected = draws / count
    # 25 degrees of freedom: above 52.6 once in a thousand seeds.
    assert ((table - expected) ** 2 / expected).sum() < 52.6


def test_permutations_of_torch_are_drawn_without_it():
    assert sorted(torch_permutation(100, 3)) == list(range(100))
    assert torch_permutation(10, 42).tolist() == [2, 6, 1, 8, 4, 5, 0, 9, 3, 7]
    assert torch_permutation(0, 1).tolist() == []


@pytest.mark.parametrize("count", [1, 17, 3000])
@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_permutations_of_torch_are_those_of_torch(count, seed):
    torch = pytest.importorskip("torch")
    expected = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_array_equal(torch_permutation(count, seed), expected.numpy())


def test_a_balanced_share_takes_its_fraction_of_every_class():
    labels = np.repeat(np.arange(3, dtype=np.int32), [100, 10, 1])
    share = balanced_share(labels, 0.3, seed=0)
    assert np.bincount(labels[share]).tolist() == [30, 3, 1]
    assert (np.diff(share) > 0).all()
    assert np.array_equal(balanced_share(labels, 1.0, seed=0), np.arange(111))


def test_labels_are_read_from_records_where_a_source_has_no_faster_way():
    assert labels_of(Listed((1, 0, 1))).tolist() == [1, 0, 1]
    assert labels_of(Listed((1, 0, 1))).dtype == np.int32


def test_labels_are_known_where_no_source_inside_must_be_read():
    known, unknown = Synthetic(classes=2, size=4, count=4), Listed((1, 0, 1))
    assert known_labels(known).tolist() == [0, 1, 0, 1]
    assert known_labels(Subset(known, 0.5)).tolist() == [0, 1]
    assert known_labels(unknown) is None
    assert known_labels(Subset(unknown, 0.5)) is None


def test_a_source_without_groups_says_so():
    with pytest.raises(ValueError, match=r"records of Listed\(.* have no 'group'"):
        groups_of(Listed((1, 0, 1)))
    assert group_names_of(Listed((1, 0, 1))) == ()


def test_names_are_of_records_and_not_of_classes(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Named(Listed):
        @property
        def names(self) -> tuple[str, ...]:
            return ("x.png", "y.png")

    assert names_of(Named((0, 1))) == ("x.png", "y.png")
    assert names_of(Listed((0, 1))) == ()
    np.savez(tmp_path / "set.npz", image=np.zeros((2, 2, 2), np.uint8), label=[0, 1])
    classes = Npz(str(tmp_path / "set.npz"), names=("cat", "dog"))
    assert classes.class_names == ("cat", "dog") and names_of(classes) == ()


@pytest.mark.parametrize("wrong", [2, -1])
def test_a_label_without_a_class_is_named(wrong):
    check_labels(Listed((1, 0, 1)))
    with pytest.raises(ValueError, match=rf"record 2 of .* label {wrong}; .*\[0, 2\)"):
        check_labels(Listed((1, 0, wrong, wrong)))


def test_bytes_are_those_of_images_and_labels():
    assert nbytes(Synthetic(size=8, channels=3, count=100)) == 100 * (8 * 8 * 3 + 4)
    assert nbytes(Listed(())) == 0


@pytest.mark.parametrize(
    ("cls", "field"),
    [
        (data.Digits, "split"),
        (data.Idx, "split"),
        (data.Stl10, "split"),
        (data.Cifar, "labels"),
        (data.ImageFolder, "missing"),
        (data.Cub200, "split"),
        (data.Zappos, "frame"),
        (data.CelebA, "frame"),
        (data.Grouped, "split"),
        (data.TinyImageNet, "split"),
        (data.Emoji, "variants"),
        (data.CheXpert, "uncertain"),
        (data.Split, "part"),
        (data.Unbalanced, "draw"),
        (data.WithPrior, "labels"),
    ],
)
def test_sources_refuse_a_setting_that_does_not_exist(monkeypatch, cls, field):
    # The tests' type checker would refuse it first, and in its own words.
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    usual = {
        "folder": "f",
        "file": "f",
        "size": 4,
        "vendor": "google",
        "split": "train",
        "source": Synthetic(),
        "coarse": coarse.CIFAR100,
    }
    required = {
        x.name: usual[x.name]
        for x in dataclasses.fields(cls)
        if x.default is dataclasses.MISSING
    }
    name = rf"{cls.__name__}\.{field} is 'other'; write one of"
    with pytest.raises(ValueError, match=name):
        cls(**{**required, field: "other"})
