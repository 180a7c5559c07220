"""A level sweep: accuracies at fixed levels are those counted by hand."""

import dataclasses
import statistics
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.artifacts import Curves, Pictures
from jax_rcl.augment.distortions.levels import Leveled
from jax_rcl.core import Evaluator
from jax_rcl.evaluate.classifier import Classifier, Restorer, progress
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts import level_sweep
from jax_rcl.evaluate.shifts.level_numbers import level_name
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.evaluate.when import AtEnd

NAMES = ("n01", "n02", "n03")
LABELS = np.array([0, 1, 2, 2, 0, 1, 0], np.int32)
SUFFIXES = ("", "_std", "_stderr")
TRACED = Counter()


@dataclasses.dataclass(frozen=True)
class Noise:
    """Adds normal noise whose deviation is the level; counts its traces."""

    name: str = "noise"

    def __call__(self, key, image):
        return self.at(key, image, self.level(key))

    def level(self, key):
        return jax.random.uniform(key, (1,))

    def at(self, key, image, level):
        TRACED[self.name] += 1
        return image + level[0] * jax.random.normal(key, image.shape)

    def at_strength(self, key, image, strength):
        return self.at(key, image, self.level(key) * strength)

    def checked(self, level, size=None):
        taken = np.array(level if isinstance(level, tuple) else (level,), np.float32)
        if len(taken) != 1 or not 0 <= taken[0] <= 1:
            raise ValueError(f"the level {level} of {self.name} must lie in [0, 1].")
        return taken


@dataclasses.dataclass(frozen=True)
class Brighten(Noise):
    """Adds a level of 255; draws nothing, and says so."""

    name: str = "brightness"
    deterministic = True

    def at(self, key, image, level):
        TRACED[self.name] += 1
        return image + level[0] / 255

    def checked(self, level, size=None):
        if size is not None and size[0] < 4:
            raise ValueError(f"the level {level} is too large for an image of {size}.")
        return np.array([level], np.float32)


@dataclasses.dataclass(frozen=True)
class Area(Brighten):
    """Adds the product of two numbers."""

    name: str = "area"

    def at(self, key, image, level):
        return image + level[0] * level[1] / 255

    def checked(self, level, size=None):
        return np.array(level, np.float32)


@dataclasses.dataclass(frozen=True)
class Hide(Noise):
    """Hides each pixel but the first with this probability."""

    name: str = "hidden"

    def at(self, key, image, level):
        return jnp.where(self.known(key, image, level), image, 0.0)

    def known(self, key, image, level):
        known = jax.random.uniform(key, (*image.shape[:2], 1)) >= level[0]
        return known.at[0, 0].set(True)


class Head:
    """Predicts the class that the first pixel names; keeps what it was given."""

    def __init__(self, classes=3):
        self.classes, self.batches = classes, []

    def __call__(self, images):
        self.batches.append(images)
        images = np.asarray(images)
        levels = np.rint(images[:, 0, 0, 0] * 255).astype(int)
        logits = np.eye(self.classes, dtype=np.float32)[levels % self.classes]
        return {"logits": logits, "features": images.reshape(len(images), -1)}


@pytest.fixture
def said(in_memory):
    """Makes a source whose images are of one level each, which says the prediction."""

    def make(levels, labels=LABELS, names=NAMES, side=4):
        images = np.zeros((len(labels), side, side, 3), np.uint8)
        images[:] = np.asarray(levels)[:, None, None, None]
        return in_memory(images, np.asarray(labels, np.int32), names)

    return make


@pytest.fixture
def test(said):
    """Seven images, of which five are classified correctly."""
    return said([0, 1, 2, 2, 0, 0, 1])


@pytest.fixture
def head(test):
    """The classifier of a trained head."""
    return HeadAccuracy(test, mapped=0, batch_size=4)


def seen(sweep, count=7):
    """Images that an encoder was given, [cells, count, h, w, c], the clean ones first.

    A cell is a level and a repeat.
    """
    encoder = Head()
    sweep.run(encoder)
    batches = [np.asarray(batch) for batch in encoder.batches]
    size = -(-count // sweep.classifier.batch_size)
    cells = len(batches) // size
    each = sweep.classifier.batch_size
    parts = [
        np.concatenate([x[:each] for x in batches[cell::cells]])[:count]
        for cell in range(cells)
    ]
    return np.stack(parts)


def test_it_is_an_evaluator_of_any_classifier(head, test):
    sweep = LevelSweep(head, Noise(), (0.1,))
    assert isinstance(sweep, Evaluator) and isinstance(Noise(), Leveled)
    assert isinstance(head, Classifier)
    assert isinstance(LinearProbe(test, test), Classifier)
    assert sweep.when == AtEnd() and sweep.needs == {"logits"}
    assert sweep.repeats == 10 and sweep.seed == 42


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_accuracies_are_those_counted_by_hand(head, batch_size):
    head = dataclasses.replace(head, batch_size=batch_size)
    found = LevelSweep(head, Brighten(), (1.0, 2.0, 3.0), repeats=1).run(Head())
    levels = np.array([0, 1, 2, 2, 0, 0, 1])
    right = {k: np.mean((levels + k) % 3 == LABELS) for k in (1, 2)}
    assert found == pytest.approx(
        {
            "clean/top1": 5 / 7,
            "1/top1": right[1],
            "2/top1": right[2],
            "3/top1": 5 / 7,
        }
    )


def test_repeats_are_drawn_anew_and_told_by_mean_deviation_and_error(head):
    sweep = LevelSweep(head, Noise(), (0.004, 0.5), repeats=4)
    found, images = sweep.run(Head()), seen(sweep)
    predicted = np.rint(images[:, :, 0, 0, 0] * 255).astype(int) % 3
    shares = (predicted == LABELS).mean(axis=1)
    assert found.pop("clean/top1") == shares[0]
    for name, own in (("0.004", shares[1:5].tolist()), ("0.5", shares[5:].tolist())):
        assert len({*own}) > 1
        deviation = statistics.stdev(own)
        assert found.pop(f"{name}/top1") == pytest.approx(statistics.fmean(own))
        assert found.pop(f"{name}/top1_std") == pytest.approx(deviation)
        assert found.pop(f"{name}/top1_stderr") == pytest.approx(deviation / 2)
    assert not found


def test_what_draws_nothing_is_computed_once_and_deviates_by_exactly_nothing(head):
    encoder = Head()
    found = LevelSweep(head, Brighten(), (1.0, 2.0), repeats=3).run(encoder)
    assert len(encoder.batches) == 2 * (1 + 2)
    assert found["1/top1_std"] == found["1/top1_stderr"] == 0.0
    once = LevelSweep(head, Brighten(), (1.0, 2.0), repeats=1)
    assert once.run(Head()) == {k: x for k, x in found.items() if "std" not in k}


def test_levels_have_short_names_that_can_be_told_apart(head):
    assert level_name(0.9) == "0.9" and level_name((21, 5.0)) == "21x5"
    assert level_name(50) == level_name((50.0,)) == "50"
    assert level_name(0.97) != level_name(0.970001)
    found = LevelSweep(head, Area(), ((1, 2.0), (0.5, 3.0)), repeats=1).run(Head())
    assert found.keys() == {"clean/top1", "1x2/top1", "0.5x3/top1"}


def test_draws_belong_to_seed_repeat_level_and_image(head):
    def of(batch_size=4, seed=42, levels=(0.25, 0.5), repeats=2):
        own = dataclasses.replace(head, batch_size=batch_size)
        sweep = LevelSweep(own, Noise(), levels, repeats, seed)
        made = seen(sweep)
        strengths = np.repeat(levels, repeats)[:, None, None, None, None]
        return (made[1:] - made[:1]) / strengths.astype(np.float32)

    first = of()
    np.testing.assert_array_equal(first, of())
    np.testing.assert_array_equal(first, of(batch_size=7))
    np.testing.assert_array_equal(first[2:], of(levels=(0.5,)))
    np.testing.assert_array_equal(first[:3:2], of(repeats=1))
    every = [*first.reshape(-1, 48), *of(seed=7).reshape(-1, 48)]
    for place, one in enumerate(every):
        for other in every[:place]:
            assert np.abs(one - other).max() > 0.1


def test_draws_do_not_depend_on_the_number_of_devices(head, monkeypatch):
    sweep = LevelSweep(head, Noise(), (0.5,), repeats=1)
    real, all_devices = parallel.make_mesh, seen(sweep)
    monkeypatch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
    np.testing.assert_allclose(seen(sweep), all_devices, atol=1e-6)


def test_there_is_one_program_for_all_levels_repeats_and_batches(said):
    TRACED.clear()
    images, labels = np.arange(24) % 3, np.arange(24) % 3
    head = HeadAccuracy(said(images, labels), mapped=0, batch_size=8)
    encoder = jax.jit(lambda images: traced("encode", images))
    levels = tuple(k / 16 for k in range(4))
    found = LevelSweep(head, Noise("once"), levels, repeats=3).run(encoder)
    assert TRACED == {"once": 1, "encode": 1}
    assert len(found) == 1 + 3 * 4


def traced(name, images):
    """Logits of images, as a function that counts how often it is traced."""
    TRACED[name] += 1
    return {"logits": images[:, 0, 0, :]}


def test_images_are_on_the_devices_all_the_time(head, monkeypatch):
    encoder, fetched = Head(), []
    real = parallel.fetch
    monkeypatch.setattr(
        parallel, "fetch", lambda x: fetched.append(jnp.shape(x)) or real(x)
    )
    LevelSweep(head, Noise(), (0.1, 0.2), repeats=2).run(encoder)
    assert all(isinstance(batch, jax.Array) for batch in encoder.batches)
    # Only the few of the sheet come to the host: clean, and of the first repeats.
    assert fetched == [(4, 4, 4, 3)] * 3


def test_every_image_is_read_once(head, test):
    reads = Counter()

    @dataclasses.dataclass(frozen=True, eq=False)
    class Counting:
        class_names = NAMES

        def __len__(self):
            return len(LABELS)

        def __getitem__(self, index):
            reads[index] += 1
            return test[index]

    head = dataclasses.replace(head, test=Counting(), batch_size=7)
    sweep, encoder = LevelSweep(head, Noise(), (0.1, 0.2), repeats=2), Head()
    sweep.run(encoder)
    sweep.findings(encoder)
    reads[0] -= 2  # for its shape
    assert reads == Counter(range(7))


def test_another_source_may_be_swept_whose_classes_are_the_same(head, said):
    other = said([2, 2, 0], labels=[2, 1, 0])
    sweep = LevelSweep(head, Brighten(), (3.0,), repeats=1, source=other)
    assert sweep.run(Head()) == pytest.approx({"clean/top1": 2 / 3, "3/top1": 2 / 3})
    assert "3 images under brightness at 1 levels" in sweep.protocol
    renamed = dataclasses.replace(
        sweep, source=said([2], labels=[2], names=NAMES[::-1])
    )
    with pytest.raises(
        ValueError, match="'n01' and the test set 'n01', 'n02', 'n03'; each"
    ):
        renamed.run(Head())


@dataclasses.dataclass(frozen=True)
class Half:
    """The upper half of an image."""

    def __call__(self, key, image):
        return image[: image.shape[0] // 2]


def test_images_are_prepared_before_they_are_distorted(said):
    own = HeadAccuracy(said([0, 3], [0, 0], side=8), mapped=0, preprocess=Half())
    sweep = LevelSweep(own, Brighten(), (6.0,), repeats=1)
    assert sweep.preprocess == Half()
    images = seen(sweep, count=2)
    assert images.shape == (2, 2, 4, 8, 3)
    np.testing.assert_allclose(images[1] * 255, images[0] * 255 + 6, atol=1e-3)


def test_five_guesses_and_two_classes_have_their_numbers(said):
    def kinds(classes, repeats):
        names = tuple("abcdef"[:classes])
        own = HeadAccuracy(said([0, 1, 1], [0, 1, 0], names), mapped=0)
        return LevelSweep(own, Brighten(), (1.0,), repeats).run(Head(classes))

    found = kinds(6, 2)
    assert found["clean/top5"] == 1 and found["1/top5_std"] == 0
    assert {key for key in found if key.startswith("1/")} == {
        f"1/{kind}{part}" for kind in ("top1", "top5") for part in SUFFIXES
    }
    found = kinds(2, 1)
    assert found["clean/auroc"] == 0.75  # of two pairs one is a tie
    assert found.keys() == {"clean/top1", "clean/auroc", "1/top1", "1/auroc"}


def test_a_probe_of_distorted_images_is_swept_with_clean_ones_beside(blobs, encode):
    probe = LinearProbe(
        blobs(40),
        blobs(20, seed=1, noise=40),
        strengths=(0.1,),
        mapped=0,
        batch_size=20,
        distortion=Noise(),
    )
    own = probe.run(encode)
    found = LevelSweep(probe, Noise(), (0.0, 0.8), repeats=2).run(encode)
    assert found["clean/top1"] == found["0/top1"] == own["clean/top1"]
    assert found["0.8/top1"] < found["clean/top1"]


def test_findings_are_of_the_same_pass(head):
    sweep, encoder = LevelSweep(head, Noise(), (0.004, 0.5), repeats=3), Head()
    numbers = sweep.run(encoder)
    passes = len(encoder.batches)
    found = sweep.findings(encoder)
    assert len(encoder.batches) == passes
    assert found.keys() == {"accuracy under noise", "images under noise"}
    curves, pictures = found.values()
    assert isinstance(curves, Curves) and isinstance(pictures, Pictures)
    assert curves.level_names == ("0.004", "0.5") and curves.line_names == ("top1",)
    np.testing.assert_array_equal(curves.places, [0.004, 0.5])
    assert curves.means[0].tolist() == [numbers["0.004/top1"], numbers["0.5/top1"]]
    assert curves.deviations[0, 1] == numbers["0.5/top1_std"]
    assert curves.references.tolist() == [numbers["clean/top1"]]
    assert pictures.row_names == ("clean", "0.004", "0.5")
    images = seen(sweep)[[0, 1, 4], :4]
    np.testing.assert_array_equal(pictures.images, np.clip(images, 0, 1))
    assert images.min() < 0  # what the encoder sees is not cut off
    np.testing.assert_array_equal(pictures.labels, LABELS[:4])


def test_levels_of_several_numbers_have_no_place_on_an_axis(head):
    sweep, encoder = LevelSweep(head, Area(), ((1, 2.0), (3, 1.0)), 1), Head()
    curves = sweep.findings(encoder)["accuracy under area"]
    assert isinstance(curves, Curves) and curves.places is None
    assert curves.level_names == ("1x2", "3x1")
    assert np.isnan(curves.deviations).all()


# Restorers.


@dataclasses.dataclass(frozen=True)
class Rounded:
    """Rounds what it gets to 8 bits, and remembers that."""

    reads: str = "images"
    protocol: str = "rounding"
    given: list = dataclasses.field(default_factory=list, compare=False)

    def __call__(self, images, known, done):
        self.given.append((images, known))
        for _ in images:
            done(1)
        return np.clip(np.rint(images * 255), 0, 255) / 255


def test_a_restorer_gets_distorted_images_and_the_encoder_what_it_made(head):
    restorer = Rounded()
    assert isinstance(restorer, Restorer)
    sweep = LevelSweep(head, Brighten(), (0.75, 1.25), 1, restorer=restorer)
    found = sweep.run(Head())
    plain = LevelSweep(head, Brighten(), (1.0,), 1).run(Head())
    assert found["0.75/top1"] == found["1.25/top1"] == plain["1/top1"]
    assert found["clean/top1"] == plain["clean/top1"]
    # Neither clean images nor what fills up a batch is restored.
    assert [images.shape[0] for images, _ in restorer.given] == [4, 4, 3, 3]
    assert all(known is None for _, known in restorer.given)
    assert ", restored by rounding" in sweep.protocol
    np.testing.assert_allclose((seen(sweep)[1] - seen(sweep)[0]) * 255, 1, atol=1e-3)


def test_a_restorer_of_masks_gets_the_mask_of_its_images(head):
    bright = dataclasses.replace(head, test=dataclasses.replace(head.test))
    bright.test.images[:] += 90
    restorer = Rounded("images and mask")
    LevelSweep(bright, Hide(), (0.5,), 2, restorer=restorer).run(Head())
    for images, known in restorer.given:
        assert known.shape == (*images.shape[:3], 1) and known.dtype == bool
        np.testing.assert_array_equal(images > 0, np.broadcast_to(known, images.shape))
    first, second = (restorer.given[k][1] for k in (0, 1))
    assert 0 < first.mean() < 1 and (first != second).any()
    plain = LevelSweep(bright, Hide(), (0.5,), 2)
    hidden = np.stack([images for images, _ in restorer.given[:2]])
    np.testing.assert_allclose(seen(plain)[1:, :4], hidden, atol=1e-6)


def test_what_restoring_costs_is_said_before_and_how_far_it_is(head, monkeypatch):
    bars, said = [], []

    def shown(*args):
        assert said == ["noise: 28 images to restore (7 × 2 levels × 2 draws)"]
        bars.append(progress(*args))
        return bars[0]

    monkeypatch.setattr(level_sweep, "progress", shown)
    monkeypatch.setattr(level_sweep.logger, "info", lambda x, *y: said.append(x % y))
    sweep = LevelSweep(head, Noise(), (0.25, 0.75), 2, restorer=Rounded())
    sweep.run(Head())
    assert bars[0].n == bars[0].total == 28


def test_a_mask_that_there_is_not_cannot_be_read(head):
    with pytest.raises(ValueError, match=r"reads a mask, and Noise.* has none"):
        LevelSweep(head, Noise(), (0.5,), restorer=Rounded("images and mask"))


# What cannot work.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"levels": (0.5, 1.5)}, r"level 1.5 of noise must lie in \[0, 1\]"),
        ({"levels": (0.5, 0.50)}, r"different .* got \['0.5', '0.5'\]"),
        ({"levels": ()}, r"different and not empty; got \[\]"),
        ({"seed": 2**32}, r"LevelSweep.seed 4294967296 must be in"),
    ],
)
def test_values_out_of_range_are_named(head, wrong, message):
    with pytest.raises(ValueError, match=message):
        LevelSweep(
            **{"classifier": head, "distortion": Noise(), "levels": (1.0,)} | wrong
        )


def test_a_level_that_is_too_large_for_the_images_is_named(said):
    own = HeadAccuracy(said([0], [0], side=6), mapped=0, preprocess=Half())
    sweep = LevelSweep(own, Brighten(), (2.0,))
    for ask in (sweep.check, lambda: sweep.run(Head())):
        with pytest.raises(ValueError, match=r"level 2.0 is too large for an image of"):
            ask()


def test_a_diverged_encoder_is_told_with_the_level(head):
    def encode(images):
        bright = np.asarray(images).max() > 0.5
        return {"logits": np.full((len(images), 3), np.nan if bright else 0.0)}

    sweep = LevelSweep(head, Brighten(), (1.0, 200.0), repeats=1)
    with pytest.raises(ValueError, match="4 of 4 images under brightness at 2"):
        sweep.run(encode)


def test_missing_and_strange_labels_are_named(in_memory, said, head):
    nameless = in_memory(head.test.images, None, NAMES)
    with pytest.raises(ValueError, match="has no 'label'"):
        LevelSweep(head, Noise(), (0.5,), source=nameless).run(Head())
    strange = said([0, 1], [0, 3])
    with pytest.raises(ValueError, match="labels from 0 to 3, but names 3 classes"):
        LevelSweep(head, Noise(), (0.5,), source=strange).run(Head())
    empty = in_memory(head.test.images[:0], LABELS[:0], NAMES)
    with pytest.raises(ValueError, match="is empty"):
        LevelSweep(head, Noise(), (0.5,), source=empty).check()


def test_the_protocol_says_what_the_numbers_mean(head):
    sweep = LevelSweep(head, Noise(), (0.5, 0.75))
    assert sweep.protocol == (
        f"{head.protocol}; here of 7 images under noise at 2 levels, drawn 10 times, "
        "seed 42, mean, std and stderr over these"
    )
    assert "drawn once, seed 42" in dataclasses.replace(sweep, repeats=1).protocol
    still = dataclasses.replace(sweep, distortion=Brighten())
    assert "which draws nothing, seed 42, mean" in still.protocol
