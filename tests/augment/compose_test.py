"""Keys belong to places in the global batch; operations combine; images in [0, 1]."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl import core, parallel
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
    ResizeAndPad,
    ResizeShorter,
    Rotate90,
    VerticalFlip,
)
from jax_rcl.augment.patches import Patches
from jax_rcl.augment.tone import Invert

KEY = jax.random.key(0)
BYTES = np.random.default_rng(0).integers(0, 256, (8, 10, 10, 3), np.uint8)
IMAGE = np.float32(BYTES[0] / 255.0)
SIMCLR = Chain(
    (
        RandomResizedCrop(6),
        Flip(),
        Maybe(ColorJitter(0.8, 0.8, 0.8, 0.2), 0.8),
        Maybe(Grayscale(), 0.2),
    )
)
# Those with a level are in pixelwise_test, those by name in named_test.
OPERATIONS = {
    "RandomCrop": RandomCrop(8, padding=2),
    "Rotate90": Rotate90(),
    "Resize": Resize(7),
    "ResizeShorter": ResizeShorter(7),
    "CenterCrop": CenterCrop(7),
    "ResizeAndPad": ResizeAndPad(7, 9),
    "Patches": Patches(Invert(), 5),
    "OneOf": OneOf((VerticalFlip(), Solarize(), Invert())),
    "Chain": SIMCLR,
}


def random_keys(count):
    """Keys from numbers of the host: to split one is a program for each count."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    return jax.random.wrap_key_data(numbers)


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
    return core.Clock(jax.random.key(seed), np.int32(0), np.float32(progress))


@functools.cache
def program(augment, devices, names):
    mesh = parallel.make_mesh(jax.devices()[:devices])

    def step(clock, batch):
        batch = augment(clock, batch)
        return {name: parallel.gather_constant(batch[name]) for name in names}

    return jax.jit(parallel.data_parallel(step, mesh)), mesh


def augmented(augment, devices, names, seed=0, images=BYTES, progress=0.0):
    step, mesh = program(augment, devices, names)
    labels = np.arange(len(images), dtype=np.int32)
    batch = parallel.put({"image": images, "label": labels}, mesh)
    return jax.device_get(step(clock(seed, progress), batch))


@functools.cache
def alone_and_in_a_batch():
    """Results of all operations, by two programs for all of them."""

    @jax.jit
    def alone(key, image):
        return {name: op(key, image) for name, op in OPERATIONS.items()}

    @jax.jit
    def together(keys, images):
        return {name: jax.vmap(op)(keys, images) for name, op in OPERATIONS.items()}

    keys, images = random_keys(4), np.float32(BYTES[:4] / 255.0)
    single = [alone(keys[i], images[i]) for i in range(4)]
    return jax.device_get(single), jax.device_get(together(keys, images))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_image_alone_and_in_a_batch_give_the_same(name):
    alone, together = alone_and_in_a_batch()
    for one, result in zip(alone, together[name], strict=True):
        np.testing.assert_allclose(result, one[name], rtol=0, atol=2e-6)
    assert together[name].dtype == np.float32
    assert together[name].min() >= -1e-6 and together[name].max() <= 1 + 1e-6


def test_operations_compare_and_hash_by_value():
    for operation in (*OPERATIONS.values(), GaussianBlur(5), RandomMask((0.2, 0.9))):
        assert operation == dataclasses.replace(operation)
        assert hash(operation) == hash(dataclasses.replace(operation))


def test_views_do_not_depend_on_devices_and_keep_the_rest_of_the_batch():
    views, names = Views(Noise(), count=3), ("views", "image", "label")
    one, eight = augmented(views, 1, names), augmented(views, 8, names)
    assert one["views"].shape == (8, 3, 10, 10, 3)
    np.testing.assert_array_equal(one["views"], eight["views"])
    for result in (one, eight):
        np.testing.assert_array_equal(result["image"], BYTES)
        np.testing.assert_array_equal(result["label"], np.arange(8))
    # All views differ, and other steps give others.
    other = augmented(views, 1, names, seed=1)
    drawn = np.concatenate([one["views"], other["views"]]).reshape(48, -1)
    assert len(np.unique(drawn, axis=0)) == 48


MASKS = Chain((RandomMask((0.3, 0.6)), SquareMask((2, 3), "random")))


def masked_and_same(clock, batch):
    """Pairs with masks and with nothing, by one program."""
    same = Pair(RandomCrop(6), Identity())(clock, batch)
    masked = Pair(RandomCrop(6), MASKS)(clock, batch)
    return {**masked, "same clean": same["clean"], "same": same["distorted"]}


def test_pair_distorts_its_clean_image_whatever_the_number_of_devices():
    names = ("clean", "distorted")
    one = augmented(masked_and_same, 1, (*names, "same", "same clean"))
    four = augmented(Pair(RandomCrop(6), MASKS), 4, names)
    for name in names:
        np.testing.assert_array_equal(one[name], four[name])
    assert one["clean"].shape == (8, 6, 6, 3)
    masked = (one["distorted"] == 0).all(axis=3, keepdims=True)
    expected = np.where(masked, 0, one["clean"])
    np.testing.assert_array_equal(one["distorted"], expected)
    assert masked.any(axis=(1, 2, 3)).all() and not masked.all()
    # The identity gives two equal images.
    np.testing.assert_array_equal(one["same"], one["same clean"])
    np.testing.assert_array_equal(one["same"], one["clean"])


PLAIN = Pair(Flip(), GaussianNoise((0.2, 0.2)))
STRONGER = Pair(
    Flip(),
    Chain((OneOf((PLAIN.distortion,)), Maybe(Flip(), 0.0))),
    Curriculum(25),
)


def plain_and_stronger(clock, batch):
    """A pair without and one with a curriculum, by one program."""
    plain = PLAIN(clock, batch)["distorted"]
    return {**STRONGER(clock, batch), "plain": plain}


def augmented_at(progress):
    names = ("clean", "distorted", "plain")
    return augmented(plain_and_stronger, 2, names, progress=progress)


CUT = np.random.default_rng(2).integers(0, 256, (8, 2, 10, 10, 3), np.uint8)


def test_views_are_made_of_the_crops_of_the_source_one_of_each():
    views = Views(Maybe(Invert(), 0.5))
    one = augmented(views, 1, ("views",), images=CUT)["views"]
    eight = augmented(views, 8, ("views",), images=CUT)["views"]
    np.testing.assert_array_equal(one, eight)
    crops = np.float32(CUT) / np.float32(255)
    inverted = np.abs(one - (1 - crops)).max((2, 3, 4)) < 1e-6
    kept = np.abs(one - crops).max((2, 3, 4)) < 1e-6
    assert (inverted ^ kept).all() and inverted.any() and kept.any()
    # Draws are those of whole images, where both views begin with the same pixels.
    whole = augmented(views, 1, ("views",), images=CUT[:, 0])["views"]
    np.testing.assert_array_equal(one[:, 0], whole[:, 0])


def test_a_pair_is_made_of_the_one_crop_of_the_source():
    pair = Pair(Flip(), Add(0.5))
    cut = augmented(pair, 1, ("clean", "distorted"), images=CUT[:, :1])
    whole = augmented(pair, 1, ("clean", "distorted"), images=CUT[:, 0])
    jax.tree.map(np.testing.assert_array_equal, cut, whole)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (Views(Flip(), count=3), r"Views needs 3 .* source cuts 2; .* Views.count 2"),
        (
            Pair(Flip(), Add(0.5)),
            r"Pair needs 1 .* cuts 2; write RandomCrops.count 1\.",
        ),
    ],
)
def test_as_many_crops_are_needed_as_views(augment, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(augment.of_one, KEY, np.float32(CUT[0]))


def test_without_a_curriculum_keys_are_those_of_the_example():
    result = augmented_at(0.0)

    @jax.jit
    @jax.vmap
    def by_hand(place, image):
        key = jax.random.fold_in(jax.random.key(0), place)
        shared, distortion = jax.random.split(key)
        return PLAIN.distortion(distortion, Flip()(shared, image))

    expected = by_hand(np.arange(8), np.float32(BYTES / 255.0))
    np.testing.assert_allclose(result["plain"], expected, rtol=0, atol=2e-6)


def test_a_curriculum_makes_distortions_stronger_with_the_epochs():
    def change(progress):
        # One clock for all: the same keys, hence the same noise.
        result = augmented_at(progress)
        return result["distorted"] - result["clean"]

    full = change(40.0)  # so long after the last epoch strength is 1
    assert full.std() == pytest.approx(0.2, rel=0.05)
    for epoch, strength in ((0, 0.1), (5, 0.668909), (24, 0.992593)):
        weaker = change((epoch + 0.5) / 25)
        np.testing.assert_allclose(weaker, strength * full, rtol=0, atol=1e-6)
    step, _ = program(plain_and_stronger, 2, ("clean", "distorted", "plain"))
    assert step._cache_size() == 1


def test_a_curriculum_of_views_leaves_what_has_no_level():
    images = np.ones((8, 10, 10, 3), np.float32)
    operation = Chain((RandomCrop(8), RandomMask((0.5, 0.5))))
    views = Views(operation, curriculum=Curriculum(25))
    for progress, strength in ((0.0, 0.1), (0.99, 0.992593)):
        result = augmented(views, 2, ("views",), images=images, progress=progress)
        masked = (result["views"] == 0).all(axis=-1).sum(axis=(2, 3))
        assert result["views"].shape == (8, 2, 8, 8, 3)
        assert (masked == int(32 * strength)).all()
    # No batch and no epoch compiles anew.
    assert program(views, 2, ("views",))[0]._cache_size() == 1


def test_chain_applies_in_order_with_a_key_for_each_place():
    image = jnp.asarray(IMAGE)
    assert Chain(())(KEY, image) is image

    @jax.jit
    def results(key, image):
        cropped = Chain((Add(1.0), RandomCrop(4), Add(0.5)))(key, image)
        noises = [Chain((Noise(),) * count)(key, image) for count in (1, 2)]
        return cropped, *noises

    cropped, once, twice = map(np.asarray, results(KEY, IMAGE))
    assert cropped.shape == (4, 4, 3) and cropped.min() >= 1.5
    assert not np.allclose(once, twice)


DOT = np.zeros((1, 1, 1), np.float32)


def test_maybe_acts_with_its_probability_whatever_the_operation_draws():
    @jax.jit
    def results(keys, dot):
        return [
            jax.vmap(Maybe(operation, probability), (0, None))(keys, dot)
            for operation, probability in (
                (Add(1.0), 0.0),
                (Noise(), 0.2),
                (Add(1.0), 1.0),
            )
        ]

    drawn = jax.device_get(results(random_keys(3000), DOT))
    never, drawn, always = map(np.ravel, drawn)
    assert not never.any() and (always == 1).all()
    assert stats.binomtest(int((drawn > 0).sum()), 3000, 0.2).pvalue > 1e-3
    assert stats.kstest(drawn[drawn > 0], stats.uniform.cdf).pvalue > 1e-3


def test_maybe_refuses_an_operation_that_changes_the_shape():
    with pytest.raises(
        ValueError, match=r"RandomCrop\(size=4.*\(10, 10, 3\).*\(4, 4, 3\)"
    ):
        jax.eval_shape(Maybe(RandomCrop(4), 0.5), KEY, IMAGE)


@pytest.mark.parametrize(
    ("weights", "expected"), [(None, [1, 1, 1]), ((1.0, 0.0, 3.0), [3, 0, 9])]
)
def test_one_of_draws_by_weight(weights, expected):
    one_of = OneOf((Add(1.0), Add(2.0), Add(3.0)), weights)
    results = np.asarray(jax.jit(jax.vmap(one_of, (0, None)))(random_keys(3000), DOT))
    counts = np.array([(results == place).sum() for place in (1, 2, 3)])
    assert counts.sum() == 3000
    share = np.array(expected) / sum(expected)
    assert (counts[share == 0] == 0).all()
    drawn = share > 0
    assert stats.chisquare(counts[drawn], 3000 * share[drawn]).pvalue > 1e-3


def test_one_of_may_change_the_shape_if_all_agree():
    crops = OneOf((RandomCrop(4), CenterCrop(4)))
    assert jax.eval_shape(crops, KEY, IMAGE).shape == (4, 4, 3)
    with pytest.raises(ValueError, match=r"\(4, 4, 3\), \(5, 5, 3\)"):
        jax.eval_shape(OneOf((RandomCrop(4), CenterCrop(5))), KEY, IMAGE)


def test_prepare_without_operation_only_casts():
    images = prepare(None, BYTES)
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(images, BYTES / 255.0, rtol=1e-6)
    assert unit_range(jnp.array([0, 255], jnp.uint8)).tolist() == [0.0, 1.0]


def test_prepare_gives_each_image_the_same_operation():
    operation = Chain((ResizeShorter(8), CenterCrop(6)))
    images = jax.jit(lambda images: prepare(operation, images))(BYTES[:, :, :9])
    images = np.asarray(images)
    assert images.shape == (8, 6, 6, 3)
    alone = jax.jit(operation)
    for row, image in zip(images, np.float32(BYTES[:, :, :9] / 255), strict=True):
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
        (lambda: Maybe(Flip(), 1.5), r"Maybe.probability 1.5 must be in \[0, 1\]"),
        (lambda: OneOf(()), r"OneOf.operations \(\)"),
        (lambda: OneOf((Flip(),), (0.5, 0.5)), r"OneOf.weights \(0.5, 0.5\).*1 oper"),
        (lambda: OneOf((Flip(),), (0.0,)), r"OneOf.weights \(0.0,\).*not all be 0"),
        (lambda: OneOf((Flip(), Flip()), (2.0, -1.0)), "OneOf.weights.*at least 0"),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()
