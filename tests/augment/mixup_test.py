"""Partners are neighbours of the global batch; labels follow the pixels."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_rcl import core, parallel
from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.mixup import CutMix, Mixed, Mixup, PatchMixup

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
PLAIN = Views(Chain(()), count=2)
MIXUP = Mixed(PLAIN, Mixup())
# Black and white in turns: the share of either partner can be read from the pixels.
FLAT = np.tile(np.uint8([0, 255]).reshape(2, 1, 1, 1), (32, 8, 12, 1))


def random_keys(count):
    """Keys from numbers of the host: to split one is a program for each count."""
    numbers = np.random.default_rng(1).integers(0, 2**32, (count, 2), np.uint32)
    return jax.random.wrap_key_data(numbers)


@dataclasses.dataclass(frozen=True)
class Half:
    """The left half is the partner's."""

    def __call__(self, key, height, width):
        return jnp.where(jnp.arange(width) < width // 2, 0.0, 1.0)[None, :, None]


@functools.cache
def program(augment, devices):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    names = ["views", "label"] + ["target"] * (augment.labels == "soft")

    def step(clock, batch):
        batch = augment(clock, batch)
        return {name: parallel.gather_constant(batch[name]) for name in names}

    return jax.jit(parallel.data_parallel(step, mesh)), mesh


def mixed(augment, images, labels, devices=1, seed=0):
    step, mesh = program(augment, devices)
    clock = core.Clock(jax.random.key(seed), np.int32(seed), np.float32(0.0))
    batch = parallel.put({"image": images, "label": labels}, mesh)
    return jax.device_get(step(clock, batch))


def labels(*values):
    return np.array(values, np.int32)


DIFFERENT = np.arange(64, dtype=np.int32)


@pytest.mark.parametrize(
    "augment",
    [
        Mixed(PLAIN, CutMix(), same_class=0.5),
        pytest.param(
            Mixed(PLAIN, PatchMixup(4), labels="soft", classes=5),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["drawn", "soft"],
)
def test_mixtures_do_not_depend_on_the_number_of_devices(augment):
    images = RNG.integers(0, 256, (16, 8, 8, 3), np.uint8)
    label = RNG.integers(0, 5, 16).astype(np.int32)
    one, eight = (mixed(augment, images, label, devices) for devices in (1, 8))
    assert one["views"].shape == (16, 2, 8, 8, 3)
    for name in one:
        np.testing.assert_allclose(one[name], eight[name], rtol=0, atol=2e-6)


def test_partners_exchange_what_is_not_their_own_or_keep_image_and_label():
    images = RNG.random((4, 3, 4, 2)).astype(np.float32)
    augment = Mixed(PLAIN, Half(), same_class=1.0)
    # The first pair is of one class, and mixed; the second is not.
    result = mixed(augment, images, labels(5, 5, 6, 7))
    for own, partner in [(0, 1), (1, 0)]:
        for view in result["views"][own]:
            np.testing.assert_array_equal(view[:, 2:], images[own, :, 2:])
            np.testing.assert_array_equal(view[:, :2], images[partner, :, :2])
    for view in (0, 1):
        np.testing.assert_array_equal(result["views"][2:, view], images[2:])
    np.testing.assert_array_equal(result["label"], [5, 5, 6, 7])


def test_mixup_mixes_all_views_of_a_pair_alike():
    result = mixed(MIXUP, FLAT, DIFFERENT)["views"]
    assert np.ptp(result, axis=(1, 2, 3, 4)).max() == 0
    shares = result[:, 0, 0, 0, 0]
    np.testing.assert_allclose(shares[::2] + shares[1::2], 1.0, atol=1e-6)
    assert len(np.unique(shares[::2])) == 32


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_mixup_shares_are_of_the_beta_distribution(alpha):
    draw = jax.jit(jax.vmap(lambda key: Mixup(alpha)(key, 8, 8)))
    weights = np.asarray(draw(random_keys(3000)))
    assert weights.shape == (3000, 1, 1, 1)
    assert stats.kstest(weights.ravel(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_soft_targets_are_the_shares_of_the_pixels():
    augment = Mixed(PLAIN, CutMix(), labels="soft", classes=64)
    result = mixed(augment, FLAT, DIFFERENT)
    target = result["target"]
    np.testing.assert_allclose(target.sum(1), 1.0, atol=1e-6)
    light = result["views"].mean(axis=(1, 2, 3, 4))
    for own in range(64):
        partner = own + 1 - 2 * (own % 2)
        share = 1 - light[own] if own % 2 == 0 else light[own]
        assert target[own, own] == pytest.approx(share, abs=1e-5)
        assert target[own, partner] == pytest.approx(1 - share, abs=1e-5)
        larger = own if share >= 0.5 else partner
        assert abs(share - 0.5) < 1e-6 or result["label"][own] == larger


def test_soft_targets_of_one_class_stay_certain():
    augment = Mixed(PLAIN, Mixup(), labels="soft", classes=3)
    label, shares = np.full(10, 2, np.int32), np.linspace(0, 1, 10, dtype=np.float32)
    mix_labels = jax.jit(augment.mix_labels)
    result = jax.device_get(mix_labels(random_keys(10), label, shares))
    np.testing.assert_allclose(result["target"][:, 2], 1.0, atol=1e-6)
    assert (result["label"] == 2).all()


def test_labels_are_drawn_by_share():
    augment = Mixed(PLAIN, Mixup(), labels="drawn")
    keys = random_keys(4000)
    shares = np.repeat(np.linspace(0.05, 0.95, 10, dtype=np.float32), 400)
    label = np.arange(4000, dtype=np.int32)
    drawn = np.asarray(jax.jit(augment.mix_labels)(keys, label, shares)["label"])
    kept, swapped = drawn == label, drawn == (label ^ 1)
    assert (kept ^ swapped).all()
    for share, count in zip(shares[::400], kept.reshape(10, 400).sum(1), strict=True):
        assert stats.binomtest(int(count), 400, float(share)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("same_class", "of_one_class", "of_two"),
    [(0.0, 1.0, 1.0), (0.75, 1.0, 0.25), (1.0, 1.0, 0.0)],
)
def test_pairs_of_two_classes_are_mixed_with_the_rest_of_the_ratio(
    same_class, of_one_class, of_two
):
    augment = Mixed(PLAIN, Half(), same_class=same_class)
    draw_pair = jax.vmap(lambda key, same: augment.draw_pair(key, same, 2, 2))
    same = np.arange(2000) % 2 == 0
    weights, shares = jax.device_get(jax.jit(draw_pair)(random_keys(2000), same))
    np.testing.assert_array_equal(weights.mean((1, 2, 3)), shares)
    changed = shares < 1.0
    for chosen, expected in [(same, of_one_class), (~same, of_two)]:
        count = int(changed[chosen].sum())
        assert stats.binomtest(count, 1000, expected).pvalue > 1e-3


def test_other_steps_mix_otherwise():
    first, second = (
        mixed(MIXUP, FLAT, DIFFERENT, seed=seed)["views"] for seed in (0, 1)
    )
    assert (first != second).mean() > 0.9


def cutmix_by_hand(share, center, height, width):
    weights = np.ones((height, width))
    rows, columns = (int(np.sqrt(1 - share) * side) for side in (height, width))
    top, left = center[0] - rows // 2, center[1] - columns // 2
    weights[max(top, 0) : max(top + rows, 0), max(left, 0) : max(left + columns, 0)] = 0
    return weights


def test_cutmix_boxes_are_distributed_as_in_the_paper():
    weights = jax.jit(jax.vmap(lambda key: CutMix()(key, 8, 12)))(random_keys(3000))
    ours = np.asarray(weights, np.float64)[..., 0]
    rng = np.random.default_rng(1)
    boxes = [(rng.random(), rng.integers(0, (8, 12))) for _ in range(3000)]
    theirs = np.stack([cutmix_by_hand(*box, 8, 12) for box in boxes])
    assert set(np.unique(ours)) == {0.0, 1.0}
    pixels = ours.sum((1, 2)), theirs.sum((1, 2))
    assert stats.ks_2samp(*pixels, method="asymp").pvalue > 1e-3
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.06)


def test_patch_mixup_mixes_whole_patches_with_its_probability():
    draw = jax.jit(jax.vmap(lambda key: PatchMixup(4)(key, 8, 12)))
    weights = draw(random_keys(1500))
    patches = np.asarray(weights).reshape(1500, 2, 4, 3, 4)
    assert np.ptp(patches, axis=(2, 4)).max() == 0
    shares = patches[:, :, 0, :, 0].reshape(-1)
    changed = shares < 1
    assert stats.binomtest(int(changed.sum()), len(shares), 0.3).pvalue > 1e-3
    assert stats.kstest(shares[changed], stats.uniform.cdf).pvalue > 1e-3


def test_an_odd_share_of_a_device_is_refused():
    with pytest.raises(ValueError, match=r"even number.*got 1.*2 x devices"):
        mixed(MIXUP, FLAT[:4], labels(0, 1, 2, 3), devices=4)


def test_no_batch_compiles_anew():
    for seed in range(3):
        mixed(MIXUP, FLAT, DIFFERENT % (seed + 1), seed=seed)
    assert program(MIXUP, 1)[0]._cache_size() == 1


def test_mixtures_compare_and_hash_by_value():
    one, other = (
        Mixed(PLAIN, PatchMixup(4), labels="soft", classes=3) for _ in range(2)
    )
    assert one == other and hash(one) == hash(other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Mixup(0.0),
            "Mixup.alpha 0.0 must be above 0 and finite, 1 is uniform",
        ),
        (lambda: PatchMixup(5)(KEY, 8, 10), "5 x 5 .* 8 x 10"),
        (lambda: Mixed(PLAIN, Mixup(), labels="soft"), 'classes None .*labels="soft"'),
        (lambda: Mixed(PLAIN, Mixup(), classes=3), 'classes 3 .*got labels="drawn"'),
    ],
)
def test_constructors_name_field_value_and_constraint(make, message):
    with pytest.raises(ValueError, match=message):
        make()
