"""Lists of ImageNet classes: how many, in which order, which of them are shared."""

import re

import numpy as np
import pytest
from PIL import Image

from jax_rcl.config.nodes import build, node
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.imagenet import (
    AS_RELABELLED,
    IMAGENET_100,
    IMAGENET_100_NAMES,
    IMAGENET_100B,
    RELABELLED,
    RENDITIONS,
    every_class,
    places,
)
from jax_rcl.data.records import check_labels, labels_of
from jax_rcl.data.wrappers import Relabel, coarsened


@pytest.mark.parametrize(
    ("classes", "count"), [(IMAGENET_100, 100), (IMAGENET_100B, 100), (RENDITIONS, 19)]
)
def test_a_list_has_distinct_ids_in_sorted_order(classes, count):
    assert len(set(classes)) == len(classes) == count
    assert list(classes) == sorted(classes)
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in classes)


def test_every_class_has_its_place_among_the_outputs_of_usual_classifiers():
    classes = every_class()
    assert len(set(classes)) == 1000 and list(classes) == sorted(classes)
    # Goldfish, robin, Chihuahua, computer keyboard, stinkhorn, toilet tissue.
    known = "n01443537 n01558993 n02085620 n03085013 n13040303 n15075141".split()
    assert places(tuple(known)) == (1, 15, 151, 508, 994, 999)
    assert {*IMAGENET_100, *IMAGENET_100B, *RELABELLED} <= {*classes}


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


def test_every_class_of_imagenet_100_has_a_name_of_its_own():
    named = dict(zip(IMAGENET_100, IMAGENET_100_NAMES, strict=True))
    assert len(set(named.values())) == 100
    published = {
        "n01558993": "robin",
        "n02089973": "English foxhound",  # broken over two lines in the list
        "n02099849": "Chesapeake Bay retriever",
        "n03764736": "milk can",
        "n02974003": "car wheel",
        "n04367480": None,  # no class of these
        "n04493381": "tub",
        "n13040303": "stinkhorn",
    }
    assert {wnid: named.get(wnid) for wnid in published} == published
    assert all(re.fullmatch(r"[A-Za-z]+([ -][A-Za-z]+)*", x) for x in named.values())


# Five classes under other labels.


def test_relabelled_classes_are_unseen_ones_under_the_published_labels():
    assert list(RELABELLED) == sorted(RELABELLED)
    assert not set(RELABELLED) & set(IMAGENET_100)
    assert dict(zip(RELABELLED, AS_RELABELLED.mapping, strict=True)) == {
        "n07930864": 53,  # cup: cocktail shaker
        "n01978287": 8,  # Dungeness crab: rock crab
        "n03792782": 68,  # mountain bike: moped
        "n02325366": 40,  # wood rabbit: hare
        "n02108915": 21,  # French bulldog: American Staffordshire terrier
    }
    for wnid, label in zip(RELABELLED, AS_RELABELLED.mapping, strict=True):
        assert IMAGENET_100[label] == RELABELLED[wnid]


def test_folders_of_unseen_classes_are_a_source_with_the_classes_of_imagenet_100(
    tmp_path,
):
    for place, wnid in enumerate(reversed(RELABELLED)):
        (tmp_path / wnid).mkdir()
        pixels = np.full((4, 4, 3), 10 * place, np.uint8)
        Image.fromarray(pixels).save(tmp_path / wnid / "ILSVRC2012_val_1.JPEG")
    for classes in (tuple(RELABELLED), ()):
        folder = ImageFolder(str(tmp_path), 4, classes=classes)
        source = coarsened(folder, AS_RELABELLED)
        assert source.class_names == IMAGENET_100
        check_labels(source)
        # In sorted order: Dungeness crab, French bulldog, rabbit, bike, cup.
        assert labels_of(source).tolist() == [8, 21, 40, 68, 53]
        assert source[4]["label"] == 53 and source[4]["image"].max() < 5
    config = node(Relabel, node(ImageFolder, str(tmp_path), 4), **vars(AS_RELABELLED))
    assert build(config) == source


def test_folders_without_one_of_the_unseen_classes_are_refused(tmp_path):
    for wnid in [*RELABELLED][:4]:
        (tmp_path / wnid).mkdir()
    with pytest.raises(ValueError, match="'RELABELLED' has 5 entries"):
        len(coarsened(ImageFolder(str(tmp_path), 4), AS_RELABELLED))
