"""How numbers of evaluators are named, written and grouped."""

import math

import pytest

from jax_rcl.report.results import grouped, is_share, written


@pytest.mark.parametrize(
    "name",
    ["top1", "knn/top5", "val/accuracy", "Acc", "probe/balanced", "x/auroc", "a/top-1"],
)
def test_accuracies_are_shares(name):
    assert is_share(name)


@pytest.mark.parametrize("name", ["alignment", "rank", "stopping", "vacc", "converged"])
def test_other_numbers_are_not_shares(name):
    assert not is_share(name)


def test_a_share_is_written_in_percent():
    assert written("knn/top1", 0.9723) == "97.2 %"
    assert written("knn/top1", 1.0) == "100.0 %"
    assert written("knn/top1", 0.0) == "0.0 %"


def test_what_cannot_be_a_share_is_written_as_it_is():
    assert written("accuracy", 97.2) == "97.2"
    assert written("accuracy", math.nan) == "nan"


def test_other_numbers_have_four_digits():
    assert written("uniformity", -3.21456) == "-3.215"
    assert written("rank", 412.0) == "412"


def test_numbers_follow_the_longest_fitting_evaluator_in_the_order_of_protocols():
    results = {"a/b/top1": 0.5, "a/rank": 3.0, "other/top1": 0.25, "z/top1": 0.75}
    groups = grouped(
        results, {"z": "last", "a": "short", "a/b": "long", "idle": "none"}
    )
    assert [(group.evaluator, group.protocol) for group in groups] == [
        ("z", "last"),
        ("a", "short"),
        ("a/b", "long"),
        ("other", ""),
    ]
    assert groups[2].numbers == (("top1", "50.0 %"),)


def test_the_headline_of_a_group_is_its_first_share():
    (group,) = grouped({"a/rank": 3.0, "a/top1": 0.5, "a/top5": 0.75}, {"a": ""})
    assert group.headline == ("top1", "50.0 %")
    (group,) = grouped({"a/rank": 3.0, "a/alignment": 0.5}, {"a": ""})
    assert group.headline == ("rank", "3")
