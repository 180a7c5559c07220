"""Coarse maps hold every fine class once; one that misses a class says which."""

import dataclasses

import numpy as np
import pytest

from jax_rcl.config.nodes import build, node
from jax_rcl.data.archives import data_folder
from jax_rcl.data.published import coarse
from jax_rcl.data.published.coarse import CoarseMap
from jax_rcl.data.published.files import CIFAR, IDX
from jax_rcl.data.records import check_labels, labels_of
from jax_rcl.data.sources import Cifar, Synthetic
from jax_rcl.data.wrappers import Relabel, coarsened

CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def fine_names(members: tuple[int, ...], names) -> list[str]:
    return [names[fine] for fine in members]


def test_cifar_10_is_split_into_animals_and_vehicles():
    animals, vehicles = coarse.CIFAR10.members
    assert coarse.CIFAR10.class_names == ("animals", "vehicles")
    assert (
        fine_names(vehicles, CIFAR10_NAMES) == "airplane automobile ship truck".split()
    )
    assert fine_names(animals, CIFAR10_NAMES) == "bird cat deer dog frog horse".split()
    # The ids of the released code: vehicles are 1.
    assert coarse.CIFAR10.mapping == (1, 1, 0, 0, 0, 0, 0, 0, 1, 1)


def test_mnist_is_split_at_five():
    assert coarse.MNIST.mapping == (0,) * 5 + (1,) * 5


def test_fashion_mnist_is_split_into_clothes_and_the_rest():
    names = IDX["fashion-mnist"].class_names
    clothes, rest = coarse.FASHION_MNIST.members
    assert fine_names(rest, names) == ["Sandal", "Sneaker", "Bag", "Ankle boot"]
    assert clothes == (0, 1, 2, 3, 4, 6)


def test_cifar_100_has_20_superclasses_of_five():
    assert len(coarse.CIFAR100.mapping) == 100
    assert [len(members) for members in coarse.CIFAR100.members] == [5] * 20
    trees = coarse.CIFAR100.class_names.index("trees")
    assert coarse.CIFAR100.members[trees] == (47, 52, 56, 59, 96)
    assert coarse.CIFAR100.mapping[:5] == (4, 1, 14, 8, 0)


@pytest.mark.skipif(
    not (data_folder() / CIFAR[100].name).exists(), reason="CIFAR-100 is not here"
)
def test_the_map_of_cifar_100_is_the_one_that_its_archive_holds():
    held = Cifar(100, "test", labels="coarse")
    made = coarsened(Cifar(100, "test"), coarse.CIFAR100)
    assert held.class_names == made.class_names
    np.testing.assert_array_equal(labels_of(held), labels_of(made))


def test_tiny_imagenet_has_52_of_67_superclasses():
    mapping = coarse.TINY_IMAGENET.mapping
    sizes = np.bincount(mapping, minlength=67)
    assert len(mapping) == 200 and len(set(mapping)) == 52
    absent = [1, 10, 13, 15, 20, 24, 25, 26, 29, 32, 33, 36, 40, 42, 57]
    assert np.flatnonzero(sizes == 0).tolist() == absent
    assert sizes[[58, 46, 65, 62, 52]].tolist() == [15, 14, 13, 12, 11]
    assert (sizes == 1).sum() == 16
    assert len(coarse.TINY_IMAGENET.class_names) == 67


def test_a_map_is_made_of_members():
    made = CoarseMap.of_members("pets", {"loud": (2, 0), "quiet": (1,)})
    assert made == CoarseMap("pets", (0, 1, 0), ("loud", "quiet"))
    assert made.members == ((0, 2), (1,))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"a": (0,), "b": (3,)},
            r"the map 'm' lists the fine classes \[0, 3\]; list each",
        ),
        (
            {"a": (0, 1), "b": (1,)},
            r"the map 'm' lists the fine classes \[0, 1, 1\]; list",
        ),
    ],
)
def test_members_are_all_fine_classes_once(members, message):
    with pytest.raises(ValueError, match=message):
        CoarseMap.of_members("m", members)


def test_a_coarse_class_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"map 'm' turns label 1 into 2; .*\[0, 2\)"):
        CoarseMap("m", (0, 2), ("a", "b"))


@pytest.mark.parametrize(
    "use", [len, labels_of, check_labels, lambda source: source[0]]
)
def test_a_map_that_misses_a_class_is_refused_at_first_use(use):
    source = coarsened(Synthetic(4), CoarseMap("short", (0, 1), ("a", "b")))
    with pytest.raises(ValueError) as caught:
        use(source)
    message = str(caught.value)
    for part in (
        "the map 'short' has 2 entries for the 4 classes of Synthetic(classes=4",
        "append to `mapping` a number in [0, 2) for 2 of 4 classes: 2 'grating 2', 3",
    ):
        assert part in message


def test_the_classes_that_a_map_misses_are_not_all_listed():
    with pytest.raises(
        ValueError, match=r"100 of 100 classes: 0 'grating 0', .* 4 'grating 4', …"
    ):
        CoarseMap("none", (), ("a",)).check(Synthetic(100))


def test_a_map_for_another_source_is_refused():
    with pytest.raises(ValueError, match=r"'cifar100' has 100 entries .* 10 classes"):
        len(coarsened(Synthetic(10), coarse.CIFAR100))


def test_a_map_is_plain_values_in_a_config():
    source = node(Synthetic, classes=10, size=4)
    built = build(node(Relabel, source, **vars(coarse.MNIST)))
    assert built == coarsened(Synthetic(classes=10, size=4), coarse.MNIST)
    assert [f.name for f in dataclasses.fields(CoarseMap)] == list(vars(coarse.MNIST))
