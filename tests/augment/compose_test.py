"""Keys belong to places in the global batch; operations combine; images in [0, 1]."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl import core, parallel
from jax_rcl.augment.affine import Rotate
from jax_rcl.augment.color import ColorJitter, Grayscale, Solarize
from jax_rcl.augment.compose import (
    Chain,
    Maybe,
    OneOf,
    Pair,
    Views,
    prepare,
    unit_range,
)
from jax_rcl.augment.distortions.levels import Curriculum
from jax_rcl.augment.distortions.mixtures import Fixed
from jax_rcl.augment.distortions.pixelwise import (
    GaussianNoise,
    Identity,
    RandomMask,
    SquareMask,
)
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.augment.geometry import (
    CenterCrop,
    Flip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeShorter,
    Rotate90,
    VerticalFlip,
)
from jax_rcl.augment.padding import ResizeAndPad
from jax_rcl.augment.patches import Cutout, Patches
from jax_rcl.augment.tone import Equalize, Invert

KEY = jax.random.key(0)
BYTES = np.random.default_rng(0).integers(0, 256, (8, 10, 10, 3), np.uint8)
IMAGE = jnp.asarray(BYTES[0] / 255.0, jnp.float32)
SIMCLR = Chain(
    (
        RandomResizedCrop(6),
        Flip(),
        Maybe(ColorJitter(0.8, 0.8, 0.8, 0.2), 0.8),
        Maybe(Grayscale(), 0.2),
    )
)
OPERATIONS = [
    RandomResizedCrop(6),
    RandomResizedCrop(16, antialias=False),
    RandomCrop(8, padding=2),
    Flip(),
    Rotate90(),
    Resize(7),
    ResizeShorter(7),
    CenterCrop(7),
    ColorJitter(0.8, 0.8, 0.8, 0.2),
    Grayscale(),
    Solarize(0.5),
    GaussianBlur(5),
    VerticalFlip(),
    ResizeAndPad(7, 9),
    Rotate(20.0, "bilinear"),
    Equalize(),
    Cutout((0, 5)),
    Patches(Invert(), 5),
    OneOf((Flip(), Solarize(), GaussianBlur(5))),
    RandomMask((0.2, 0.9)),
    SquareMask((2, 9), "random"),
    Fixed(RandomMask((0.5, 0.5))),
    SIMCLR,
]


@dataclasses.dataclass(frozen=True)
class Add:
    """Adds a number: shows which operations acted."""

    amount: float

    def __call__(self, key, image):
        return image + self.amount


@dataclasses.dataclass(frozen=True)
class Noise:
    """Uniform noise instead of the image: shows which key was used."""

    def __call__(self, key, image):
        return jax.random.uniform(key, image.shape)


def clock(seed=0, progress=0.0):
    return core.Clock(jax.random.key(seed), jnp.int32(0), jnp.float32(progress))


def augmented(augment, devices, names, seed=0, images=BYTES, progress=0.0):
    mesh = parallel.make_mesh(jax.devices()[:devices])

    def step(clock, batch):
        batch = augment(clock, batch)
        return {name: parallel.gather_constant(batch[name]) for name in names}

    step = jax.jit(parallel.data_parallel(step, mesh))
    labels = np.arange(len(images), dtype=np.int32)
    batch = parallel.put({"image": images, "label": labels}, mesh)
    return jax.device_get(step(clock(seed, progress), batch))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda x: type(x).__name__)
def test_an_image_alone_and_in_a_batch_give_the_same(operation):
    keys = jax.random.split(KEY, 8)
    images = unit_range(jnp.asarray(BYTES))
    together = jax.jit(jax.vmap(operation))(keys, images)
    alone = jax.jit(operation)
    for key, image, result in zip(keys[:4], images[:4], together[:4], strict=True):
        np.testing.assert_allclose(result, alone(key, image), rtol=0, atol=2e-6)
    assert together.dtype == jnp.float32
    assert together.min() >= -1e-6 and together.max() <= 1 + 1e-6


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda x: type(x).__name__)
def test_operations_compare_and_hash_by_value(operation):
    assert operation == dataclasses.replace(operation)
    assert hash(operation) == hash(dataclasses.replace(operation))


def test_views_do_not_depend_on_the_number_of_devices():
    names = ("views", "image", "label")
    one = augmented(Views(SIMCLR, count=3), 1, names)
    eight = augmented(Views(SIMCLR, count=3), 8, names)
    assert one["views"].shape == (8, 3, 6, 6, 3)
    np.testing.assert_allclose(one["views"], eight["views"], rtol=0, atol=2e-6)


def test_views_keep_the_rest_of_the_batch():
    result = augmented(Views(Flip()), 2, ("views", "image", "label"))
    np.testing.assert_array_equal(result["image"], BYTES)
    np.testing.assert_array_equal(result["label"], np.arange(8))


def test_all_views_differ_and_other_steps_give_others():
    first, second = (augmented(Views(Noise()), 2, ("views",), seed) for seed in (0, 1))
    views = np.concatenate([first["views"], second["views"]]).reshape(32, -1)
    assert len(np.unique(views, axis=0)) == 32


def test_pair_distorts_the_same_clean_image():
    pair = Pair(Chain((RandomResizedCrop(6), Flip())), Solarize(0.5))
    result = augmented(pair, 2, ("clean", "distorted", "image"))
    clean = result["clean"]
    assert clean.shape == (8, 6, 6, 3)
    np.testing.assert_array_equal(
        result["distorted"], np.where(clean >= 0.5, 1 - clean, clean)
    )


def test_pair_does_not_depend_on_the_number_of_devices():
    pair = Pair(RandomResizedCrop(6), Maybe(Noise(), 0.5))
    one, four = (augmented(pair, d, ("clean", "distorted")) for d in (1, 4))
    np.testing.assert_allclose(one["clean"], four["clean"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(one["distorted"], four["distorted"], rtol=0, atol=2e-6)


def test_the_identity_gives_two_equal_images():
    pair = Pair(Chain((RandomResizedCrop(6), Flip())), Identity())
    result = augmented(pair, 2, ("clean", "distorted"))
    np.testing.assert_array_equal(result["clean"], result["distorted"])


@pytest.mark.parametrize("distortion", [RandomMask((0.3, 0.9)), SquareMask((2, 5))])
def test_a_pair_masks_what_its_clean_image_shows(distortion):
    pair = Pair(RandomResizedCrop(6), distortion)
    one, four = (augmented(pair, d, ("clean", "distorted")) for d in (1, 4))
    np.testing.assert_allclose(one["distorted"], four["distorted"], rtol=0, atol=2e-6)
    masked = (one["distorted"] == 0).all(axis=3, keepdims=True)
    expected = np.where(masked, 0, one["clean"])
    np.testing.assert_array_equal(one["distorted"], expected)
    assert masked.any(axis=(1, 2, 3)).all() and not masked.all()


def test_without_a_curriculum_keys_are_those_of_the_example():
    plain = augmented(Pair(Flip(), GaussianNoise((0.1, 0.3))), 2, ("distorted",))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.arange(8))

    def by_hand(key, image):
        shared, distortion = jax.random.split(key)
        return GaussianNoise((0.1, 0.3))(distortion, Flip()(shared, image))

    expected = jax.jit(jax.vmap(by_hand))(keys, unit_range(jnp.asarray(BYTES)))
    np.testing.assert_allclose(plain["distorted"], expected, rtol=0, atol=2e-6)


def test_a_curriculum_makes_distortions_stronger_with_the_epochs():
    distortion = Chain((OneOf((GaussianNoise((0.2, 0.2)),)), Maybe(Flip(), 0.0)))
    curriculum = Curriculum(25)

    def change(progress, curriculum):
        pair = Pair(Flip(), distortion, curriculum)
        result = augmented(pair, 2, ("clean", "distorted"), progress=progress)
        return result["distorted"] - result["clean"]

    full = change(0.5, None)
    assert full.std() == pytest.approx(0.2, rel=0.05)
    for epoch, strength in ((0, 0.1), (5, 0.668909), (24, 0.992593)):
        weaker = change((epoch + 0.5) / 25, curriculum)
        np.testing.assert_allclose(weaker, strength * full, rtol=0, atol=1e-6)


def test_a_curriculum_of_views_leaves_what_has_no_level():
    images = np.ones((8, 10, 10, 3), np.float32)
    operation = Chain((RandomResizedCrop(8), RandomMask((0.5, 0.5))))
    for progress, strength in ((0.0, 0.1), (0.99, 0.992593)):
        views = Views(operation, curriculum=Curriculum(25))
        result = augmented(views, 2, ("views",), images=images, progress=progress)
        masked = (result["views"] == 0).all(axis=-1).sum(axis=(2, 3))
        assert result["views"].shape == (8, 2, 8, 8, 3)
        assert (masked == int(32 * strength)).all()


def test_no_batch_compiles_anew():
    mesh = parallel.make_mesh(jax.devices()[:1])
    operation = Chain((SIMCLR, GaussianBlur(3), RandomMask((0.1, 0.9)), Rotate90()))
    augment = Views(operation, curriculum=Curriculum(3))
    traces = []

    def step(clock, batch):
        traces.append(batch)
        return parallel.gather_constant(augment(clock, batch)["views"])

    step = jax.jit(parallel.data_parallel(step, mesh))
    for seed in range(3):
        batch = parallel.put({"image": BYTES + np.uint8(seed)}, mesh)
        step(clock(seed, progress=seed / 3), batch)
    assert len(traces) == 1 and step._cache_size() == 1


def test_chain_applies_in_order_with_a_key_for_each_place():
    assert Chain(())(KEY, IMAGE) is IMAGE
    cropped = Chain((Add(1.0), RandomCrop(4), Add(0.5)))(KEY, IMAGE)
    assert cropped.shape == (4, 4, 3) and cropped.min() >= 1.5
    once = Chain((Noise(),))(KEY, IMAGE)
    twice = Chain((Noise(), Noise()))(KEY, IMAGE)
    assert not np.allclose(once, twice)


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_maybe_acts_with_its_probability(probability):
    maybe = Maybe(Add(1.0), probability)
    results = jax.jit(jax.vmap(maybe, (0, None)))(
        jax.random.split(KEY, 2000), jnp.zeros((1, 1, 1))
    )
    happened = int(results.sum())
    assert stats.binomtest(happened, 2000, probability).pvalue > 1e-3


def test_maybe_acts_independently_of_what_the_operation_draws():
    maybe = Maybe(Noise(), 0.5)
    results = jax.jit(jax.vmap(maybe, (0, None)))(
        jax.random.split(KEY, 2000), jnp.zeros((1, 1, 1))
    )
    drawn = np.asarray(results).ravel()
    assert stats.kstest(drawn[drawn > 0], stats.uniform.cdf).pvalue > 1e-3


def test_maybe_refuses_an_operation_that_changes_the_shape():
    with pytest.raises(
        ValueError, match=r"RandomCrop\(size=4.*\(10, 10, 3\).*\(4, 4, 3\)"
    ):
        Maybe(RandomCrop(4), 0.5)(KEY, IMAGE)


@pytest.mark.parametrize(
    ("weights", "expected"), [(None, [1, 1, 1]), ((1.0, 0.0, 3.0), [3, 0, 9])]
)
def test_one_of_draws_by_weight(weights, expected):
    one_of = OneOf((Add(1.0), Add(2.0), Add(3.0)), weights)
    results = jax.jit(jax.vmap(one_of, (0, None)))(
        jax.random.split(KEY, 3000), jnp.zeros((1, 1, 1))
    )
    counts = np.array([(results == place).sum() for place in (1, 2, 3)])
    assert counts.sum() == 3000
    share = np.array(expected) / sum(expected)
    assert (counts[share == 0] == 0).all()
    drawn = share > 0
    assert stats.chisquare(counts[drawn], 3000 * share[drawn]).pvalue > 1e-3


def test_one_of_may_change_the_shape_if_all_agree():
    assert OneOf((RandomCrop(4), CenterCrop(4)))(KEY, IMAGE).shape == (4, 4, 3)
    with pytest.raises(ValueError, match=r"\(4, 4, 3\), \(5, 5, 3\)"):
        OneOf((RandomCrop(4), CenterCrop(5)))(KEY, IMAGE)


def test_prepare_without_operation_only_casts():
    images = prepare(None, BYTES)
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(images, BYTES / 255.0, rtol=1e-6)
    assert unit_range(jnp.array([0, 255], jnp.uint8)).tolist() == [0.0, 1.0]


def test_prepare_gives_each_image_the_same_operation():
    operation = Chain((ResizeShorter(8), CenterCrop(6)))
    images = jax.jit(lambda images: prepare(operation, images))(BYTES[:, :, :9])
    assert images.shape == (8, 6, 6, 3)
    alone = jax.jit(operation)
    for row, image in zip(images, prepare(None, BYTES[:, :, :9]), strict=True):
        np.testing.assert_allclose(row, alone(KEY, image), rtol=0, atol=1e-6)


def test_floats_are_taken_as_they_are():
    halves = jnp.full((2, 3, 3, 1), 0.5, jnp.bfloat16)
    assert unit_range(halves).dtype == jnp.float32
    np.testing.assert_array_equal(prepare(None, np.asarray(IMAGE)[None])[0], IMAGE)


def test_integers_of_unknown_range_are_refused():
    with pytest.raises(TypeError, match="int32"):
        unit_range(jnp.zeros((2, 2), jnp.int32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Views(Flip(), count=0), "Views.count 0 must be at least 1"),
        (lambda: Maybe(Flip(), 1.5), r"Maybe.probability 1.5 must lie in \[0, 1\]"),
        (lambda: OneOf(()), r"OneOf.operations \(\)"),
        (lambda: OneOf((Flip(),), (0.5, 0.5)), r"OneOf.weights \(0.5, 0.5\).*1 oper"),
        (lambda: OneOf((Flip(),), (0.0,)), r"OneOf.weights \(0.0,\).*not all 0"),
        (lambda: OneOf((Flip(), Flip()), (2.0, -1.0)), "OneOf.weights.*0 or more"),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()
