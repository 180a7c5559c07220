"""Lists of ImageNet classes: how many, in which order, which of them are shared."""

import re

import pytest

from jax_rcl.data.imagenet import IMAGENET_100, IMAGENET_100B, RENDITIONS


@pytest.mark.parametrize(
    ("classes", "count"), [(IMAGENET_100, 100), (IMAGENET_100B, 100), (RENDITIONS, 19)]
)
def test_a_list_has_distinct_ids_in_sorted_order(classes, count):
    assert len(set(classes)) == len(classes) == count
    assert list(classes) == sorted(classes)
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in classes)


def test_the_labels_of_imagenet_100_are_the_published_ones():
    published = {
        0: "n01558993",  # robin
        13: "n02085620",  # Chihuahua
        54: "n03085013",  # computer keyboard
        74: "n03930630",  # pickup
        99: "n13040303",  # stinkhorn
    }
    assert {label: IMAGENET_100[label] for label in published} == published


def test_imagenet_100b_is_disjoint_and_has_the_mountain_bike():
    assert not set(IMAGENET_100B) & set(IMAGENET_100)
    assert "n03792782" in IMAGENET_100B


def test_the_renditions_are_these_classes_of_imagenet_100():
    labels = [IMAGENET_100.index(wnid) for wnid in RENDITIONS]
    first = [6, 7, 10, 13, 14, 26, 28, 30, 34]
    assert labels == [*first, 35, 36, 42, 44, 57, 59, 74, 75, 93, 95]
