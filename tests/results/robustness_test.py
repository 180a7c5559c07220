"""Robustness in tables: means, differences, errors relative to a baseline."""

import math

import numpy as np
import pytest

from jax_rcl.report.figures.comparison import draw_runs
from jax_rcl.report.figures.drawing import to_png
from jax_rcl.report.tables import markdown
from jax_rcl.results.robustness import (
    Difference,
    accuracies,
    against,
    by_corruption,
    diagrams,
    overall,
    relative_error,
    tables,
)

COUNTED = ("fog", "zoom_blur")


def run(clean, fog, blur, extra=0.5):
    """One run with a corrupted set of two corruptions that count, and one more."""
    return {
        ("clean",): clean,
        ("c",): (fog + blur) / 2,
        ("c", "fog"): fog,
        ("c", "zoom_blur"): blur,
        ("c", "saturate"): extra,
        ("c", "severity1"): 0.75,
        ("c", "severity5"): 0.25,
    }


@pytest.fixture(autouse=True)
def standard(monkeypatch):
    """Two corruptions instead of the fifteen that count if all are there."""
    monkeypatch.setattr("jax_rcl.evaluate.shifts.corrupted.STANDARD", COUNTED)


BASE = [run(0.80, 0.4, 0.2), run(0.82, 0.6, 0.4)]
METHODS = {"moco": BASE, "patch": [run(0.85, 0.75, 0.475), run(0.87, 0.5, 0.3)]}

NUMBERS = {
    "clean/top1": 0.5,
    "c/top1": 0.25,
    "c/brightness/top1": 0.3,
    "c/contrast/top1": 0.2,
    "c/severity1/top1": 0.4,
    "c/severity5/top1": 0.1,
    "other/top1": 0.125,
}


def cells(rows):
    """Texts of a table by row."""
    lines = [line[1:-1].split("|") for line in markdown(*rows).splitlines()]
    return {line[0].strip(): [x.strip() for x in line[1:]] for line in lines}


def test_each_method_has_its_mean_and_deviation_on_each_set():
    found = cells(overall(METHODS))
    assert found[""] == ["clean (%)", "c (%)"]
    assert found["moco"] == ["81.00 ± 1.41", "40.00 ± 14.14"]
    assert found["patch"][0] == "86.00 ± 1.41"


def test_corruptions_stand_below_each_other_and_methods_side_by_side():
    found = cells(by_corruption(METHODS, "c"))
    assert found[""] == ["moco (%)", "patch (%)"]
    names = ["fog", "zoom blur", "saturate", "mean of 2"]
    assert list(found)[2:] == [*names, "severity 1", "severity 5"]
    assert found["fog"] == ["50.0 ± 14.1", "62.5 ± 17.7"]
    assert found["mean of 2"][0] == "40.0 ± 14.1"
    assert found["severity 5"] == ["25.0 ± 0.0"] * 2


def test_the_relative_error_is_the_mean_of_ratios_of_errors():
    # The baseline errs on 0.5 of fog and 0.7 of blur.
    found = relative_error(METHODS["patch"][0], BASE, "c")
    assert found == pytest.approx((0.25 / 0.5 + 0.525 / 0.7) / 2)
    own = [relative_error(each, BASE, "c") for each in BASE]
    assert np.mean(own) == pytest.approx(1)


def test_a_baseline_without_an_error_divides_by_zero_without_a_warning():
    perfect = [run(1.0, 1.0, 1.0)]
    assert math.isinf(relative_error(BASE[0], perfect, "c"))
    assert math.isnan(relative_error(perfect[0], perfect, "c"))


def test_methods_are_compared_with_the_mean_of_the_baseline():
    found = cells(against(METHODS, "moco"))
    assert found[""][0] == "clean (points)"
    assert found[""][-1] == "c: relative mean corruption error (%)"
    assert found["patch"][0] == "+5.00 ± 1.41"
    errors = [relative_error(each, BASE, "c") for each in METHODS["patch"]]
    mean, deviation = 100 * np.mean(errors), 100 * np.std(errors, ddof=1)
    assert found["patch"][2] == f"{mean:.1f} ± {deviation:.1f}"
    assert found["moco"][0] == "0.00 ± 1.41"
    assert found["moco"][2].startswith("100.0 ± ")
    assert cells(against(METHODS, "patch"))["moco"][0] == "-5.00 ± 1.41"


@pytest.mark.parametrize(
    ("values", "text"),
    [((1.25,), "+1.25"), ((-1.0,), "-1.00"), ((-0.001,), "0.00"), ((0.0,), "0.00")],
)
def test_a_difference_has_a_sign_unless_it_is_none(values, text):
    assert Difference(values, 1).text(2) == text


def test_there_is_a_table_for_each_question():
    titles = ["Top-1 accuracy", "Top-1 accuracy on c"]
    assert list(tables(METHODS, None)) == titles
    titles.insert(1, "Difference from the mean of moco")
    assert list(tables(METHODS, "moco")) == titles


def test_the_picture_shows_means_and_every_run():
    top, below = draw_runs(diagrams(METHODS), {}).axes
    sets = [label.get_text() for label in top.get_yticklabels()]
    assert sets == ["clean", "c"]
    means = [line.get_xdata()[0] for line in top.lines if line.get_marker() == "o"]
    assert means == pytest.approx([81, 40, 86, 50.625])
    dots = [x.get_offsets() for x in top.collections if hasattr(x, "get_sizes")]
    every = {round(float(x), 6) for x, _ in np.concatenate(dots)}
    assert {80.0, 82.0, 85.0, 87.0} <= every
    rows = [label.get_text() for label in below.get_yticklabels()]
    assert rows == ["fog", "zoom blur", "saturate", "mean of 2"]
    assert below.get_title(loc="left") == "c"
    (legend,) = top.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["moco", "patch"]


def test_methods_of_one_run_and_sets_without_corruptions_are_drawn():
    plain = {("clean",): 0.5, ("r, classes present",): 0.0}
    figure = draw_runs(diagrams({"$one": [plain]}), {})
    assert len(figure.axes) == 1 and to_png(figure, scale=1)


def test_numbers_of_several_evaluators_keep_their_names_apart():
    found = accuracies(
        {"b": NUMBERS, "b/c": {"clean/top1": 0.75, "r/top1_present": 1.0}}
    )
    assert found == {
        ("b: clean",): 0.5,
        ("b: c",): 0.25,
        ("b: c", "brightness"): 0.3,
        ("b: c", "contrast"): 0.2,
        ("b: c", "severity1"): 0.4,
        ("b: c", "severity5"): 0.1,
        ("b: other",): 0.125,
        ("b/c: clean",): 0.75,
        ("b/c: r, classes present",): 1.0,
    }
    assert ("clean",) in accuracies({"b": NUMBERS})


def test_accuracy_is_of_the_highest_score_alone_however_many_classes_there_are():
    found = accuracies(
        {"b": {"clean/top1": 0.5, "clean/top5": 0.9, "c/fog/top5": 0.8, "c/top1": 0.4}}
    )
    assert found == {("clean",): 0.5, ("c",): 0.4}


def test_a_family_is_a_mean_below_the_corruptions_and_none_of_them():
    more = {("c", "blur"): 0.9, ("c", "extra"): 0.1, ("c", "all"): 0.45}
    methods = {name: [x | more for x in runs] for name, runs in METHODS.items()}
    found = list(cells(by_corruption(methods, "c")))[2:]
    names = ["fog", "zoom blur", "saturate", "mean of 2"]
    assert found[:4] == names and set(found[4:]) >= {"blur", "extra", "all"}
    with_families, without = (
        relative_error(x["patch"][0], x["moco"], "c") for x in (methods, METHODS)
    )
    assert with_families == without
