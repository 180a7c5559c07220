"""Linear evaluation of several targets, some of which are missing."""

import dataclasses
import logging

import numpy as np
import pytest

from jax_rcl.core import Evaluator
from jax_rcl.evaluate.features import features
from jax_rcl.evaluate.linear.cross_validated import CrossValidated
from jax_rcl.evaluate.linear.per_target import PerTarget

SHORT = {"strengths": (0.1, 1.0), "batch_size": 8}


@dataclasses.dataclass(frozen=True, eq=False)
class WithTargets:
    """Images and targets as they are."""

    images: np.ndarray
    targets: np.ndarray
    target_names: tuple[str, ...] = ("Bright Left", "Bright Right", "Noise")
    class_names: tuple[str, ...] = ()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "targets": self.targets[index]}


def source(count, seed):
    """Two pixels, each bright or not, and a question that they do not answer."""
    random = np.random.default_rng(seed)
    answers = random.integers(0, 2, (count, 3))
    pixels = 60 + 120 * answers[:, :2] + random.normal(size=(count, 2)) * 30
    targets = answers.astype(np.float32)
    targets[random.random((count, 3)) < 0.2] = np.nan
    images = np.clip(pixels, 0, 255).astype(np.uint8).reshape(count, 1, 2, 1)
    return WithTargets(images, targets)


@pytest.fixture
def train():
    """Training images."""
    return source(60, 1)


@pytest.fixture
def test_set():
    """Test images."""
    return source(40, 2)


def test_every_target_has_its_numbers_and_there_are_means(train, test_set, encode):
    numbers = PerTarget(train, test_set, **SHORT).run(encode)
    names = ("bright_left", "bright_right", "noise")
    assert numbers["bright_left/auroc"] > 0.95
    assert numbers["bright_right/auroc"] > 0.95
    assert abs(numbers["noise/auroc"] - 0.5) < 0.3
    for number in ("auroc", "balanced", "top1"):
        own = [numbers[f"{name}/{number}"] for name in names]
        assert numbers[number] == pytest.approx(np.mean(own))
    assert numbers["targets"] == 3
    assert numbers["converged"] == 1
    assert len(numbers) == 3 * 4 + 2
    assert len(encode.batches) == 8 + 5  # once each


def test_a_target_is_a_problem_of_its_own_on_the_images_where_it_is_known(
    train, test_set, encode, fresh_encode, in_memory
):
    numbers = PerTarget(train, test_set, **SHORT).run(encode)
    parts = []
    for whole in (train, test_set):
        labels = whole.targets[:, 1]
        known = ~np.isnan(labels)
        names = ("no", "yes")
        parts.append(in_memory(whole.images[known], labels[known], names))
    alone = CrossValidated(*parts, **SHORT).run(fresh_encode())
    for number in ("auroc", "balanced", "top1"):
        assert numbers[f"bright_right/{number}"] == pytest.approx(alone[number])


def test_some_targets_can_be_chosen(train, test_set, encode):
    every = PerTarget(train, test_set, **SHORT).run(encode)
    some = PerTarget(train, test_set, targets=("Noise", "Bright Left"), **SHORT)
    numbers = some.run(encode)
    assert numbers["targets"] == 2
    assert numbers["noise/auroc"] == every["noise/auroc"]
    assert "bright_right/auroc" not in numbers
    with pytest.raises(ValueError, match=r"has 'Dark'; .* 'Bright Left'"):
        PerTarget(train, test_set, targets=("Dark",)).check()
    with pytest.raises(ValueError, match="must be different"):
        PerTarget(train, test_set, targets=("Noise", "Noise"))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_target_with_one_answer_is_left_out(train, test_set, encode, caplog, part):
    own = train if part == "train" else test_set
    own.targets[own.targets[:, 2] == 1, 2] = np.nan
    with caplog.at_level(logging.WARNING):
        numbers = PerTarget(train, test_set, **SHORT).run(encode)
    assert "show only one answer: Noise." in caplog.text
    assert numbers["targets"] == 2
    assert "noise/auroc" not in numbers
    left = PerTarget(train, test_set, targets=("Noise",), **SHORT)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        left.run(encode)


@dataclasses.dataclass(frozen=True, eq=False)
class Known(WithTargets):
    """One that knows all targets without being read."""

    @property
    def all_targets(self):
        return self.targets


def test_targets_that_cannot_be_learnt_are_known_before_training(train, test_set):
    def known(source, targets):
        return Known(source.images, targets)

    test = known(test_set, test_set.targets)
    none = known(train, np.full_like(train.targets, 1))
    with pytest.raises(ValueError, match="none of the targets 'Bright Left', "):
        PerTarget(none, test, **SHORT).check()
    few = np.full_like(train.targets, np.nan)
    few[:2, 0] = (0, 1)
    with pytest.raises(ValueError, match="no class has an image for each of the 3"):
        PerTarget(known(train, few), test, strengths=(0.1, 1.0)).check()
    PerTarget(known(train, train.targets), test, **SHORT).check()


def test_sources_must_have_the_same_targets(train, test_set, in_memory, blobs):
    renamed = dataclasses.replace(test_set, target_names=("a", "b", "c"))
    with pytest.raises(
        ValueError, match=r"test 'a', 'b', 'c'; each must mean the same"
    ):
        PerTarget(train, renamed).check()
    with pytest.raises(ValueError, match="same source"):
        PerTarget(train, train).check()
    with pytest.raises(ValueError, match="names no targets"):
        PerTarget(blobs(8), test_set).check()


def test_targets_are_yes_no_or_missing(train, encode):
    values, targets = features(encode, train, batch_size=8, answer="targets")
    assert values.shape == (60, 2)
    np.testing.assert_array_equal(targets, train.targets)
    with pytest.raises(ValueError, match=r"no 'label'; its records hold 'targets'"):
        features(encode, train, batch_size=8)
    odd = dataclasses.replace(train, targets=train.targets - 1)
    with pytest.raises(ValueError, match="targets such as -1"):
        features(encode, odd, batch_size=8, answer="targets")
    wide = dataclasses.replace(train, target_names=("a", "b"))
    other = dataclasses.replace(source(40, 2), target_names=("a", "b"))
    with pytest.raises(ValueError, match=r"names 2 targets, but its records hold \(3"):
        PerTarget(wide, other, **SHORT).run(encode)


def test_a_source_with_labels_alone_has_no_targets(blobs, encode):
    with pytest.raises(ValueError, match=r"no 'targets'; .*source with targets"):
        features(encode, blobs(8), batch_size=8, answer="targets")


def test_says_what_it_measures(train, test_set):
    evaluator = PerTarget(train, test_set)
    assert isinstance(evaluator, Evaluator)
    assert evaluator.protocol == (
        "logistic regression on 'features' of 60 training images, C of 8 in [0.1, "
        "1e+06] chosen by balanced accuracy in 3 folds, L-BFGS to 1e-08, 40 test "
        "images, for each of 3 targets on the images where it is known; means over "
        "those of them with both answers"
    )
    with pytest.raises(ValueError, match=r"PerTarget\.batch_size"):
        PerTarget(train, test_set, batch_size=0)
