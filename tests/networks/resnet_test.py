"""ResNet: torchvision's sizes and names, and what its options change."""

import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from jax_rcl.networks.heads import Headed, Linear, Mlp
from jax_rcl.networks.resnet import ResNet


def shapes(network, size=32, channels=3):
    init = functools.partial(network.init, train=False)
    images = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), images)


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def names(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(part.key for part in path): leaf.shape for path, leaf in leaves}


@pytest.mark.parametrize(
    ("depth", "published"),
    [
        (18, 11_176_512),
        (50, 23_508_032),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(34, 21_284_672), (101, 42_500_160), (152, 58_143_808)]
        ),
    ],
)
def test_sizes_are_torchvisions_without_fc(depth, published):
    assert count(shapes(ResNet(depth=depth))["params"]) == published


@pytest.mark.parametrize(("depth", "features"), [(18, 512), (50, 2048), (14, 2048)])
def test_features_are_8_or_32_times_as_wide_as_the_stem(depth, features):
    network = ResNet(depth=depth)
    apply = functools.partial(network.apply, train=False)
    images = jax.ShapeDtypeStruct((3, 32, 32, 3), jnp.float32)
    assert jax.eval_shape(apply, shapes(network), images).shape == (3, features)


def test_names_are_the_checkpoint_format():
    found = names(shapes(ResNet(depth=10, width=8, stem="small")))
    block = {
        "params/stage2_block1/conv1/kernel": (3, 3, 8, 16),
        "params/stage2_block1/norm1/scale": (16,),
        "params/stage2_block1/norm1/bias": (16,),
        "params/stage2_block1/conv2/kernel": (3, 3, 16, 16),
        "params/stage2_block1/norm2/scale": (16,),
        "params/stage2_block1/norm2/bias": (16,),
        "params/stage2_block1/downsample_conv/kernel": (1, 1, 8, 16),
        "params/stage2_block1/downsample_norm/scale": (16,),
        "params/stage2_block1/downsample_norm/bias": (16,),
        "batch_stats/stage2_block1/norm1/mean": (16,),
        "batch_stats/stage2_block1/norm1/var": (16,),
        "batch_stats/stage2_block1/norm2/mean": (16,),
        "batch_stats/stage2_block1/norm2/var": (16,),
        "batch_stats/stage2_block1/downsample_norm/mean": (16,),
        "batch_stats/stage2_block1/downsample_norm/var": (16,),
    }
    assert {n: s for n, s in found.items() if "stage2_block1" in n} == block
    assert found["params/stem/kernel"] == (3, 3, 3, 8)
    assert {name.split("/")[1] for name in found} == {
        "stem",
        "stem_norm",
        "stage1_block1",
        "stage2_block1",
        "stage3_block1",
        "stage4_block1",
    }


def test_bottlenecks_are_4_times_as_wide_as_their_middle():
    found = names(shapes(ResNet(depth=14, width=8))["params"])
    assert found["stem/kernel"] == (7, 7, 3, 8)
    assert found["stage1_block1/conv1/kernel"] == (1, 1, 8, 8)
    assert found["stage1_block1/conv2/kernel"] == (3, 3, 8, 8)
    assert found["stage1_block1/conv3/kernel"] == (1, 1, 8, 32)
    assert found["stage1_block1/downsample_conv/kernel"] == (1, 1, 8, 32)


def test_group_normalisation_has_no_batch_statistics():
    network = ResNet(depth=10, width=8, norm="group")
    assert set(shapes(network)) == {"params"}
    other = shapes(ResNet(depth=10, width=8, norm="local"))
    assert names(shapes(network)["params"]) == names(other["params"])


@pytest.fixture(scope="module")
def initial():
    network = ResNet(depth=10, width=8, stem="small", zero_init_residual=True)
    init = jax.jit(functools.partial(network.init, train=False))
    return init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_convolutions_start_normal_by_fan_out(initial):
    for name, fan_out in [("stage4_block1", 9 * 64), ("stage3_block1", 9 * 32)]:
        kernel = initial["params"][name]["conv1"]["kernel"]
        assert abs(kernel.std() / np.sqrt(2 / fan_out) - 1) < 0.05
        # Not uniform and not truncated at two standard deviations.
        assert jnp.abs(kernel).max() > 2.5 * kernel.std()


@pytest.mark.parametrize(("channels", "bound"), [(3, 0.19245), (1, 1 / 3)])
def test_a_uniform_stem_starts_as_pytorchs_convolutions(channels, bound):
    network = ResNet(depth=10, width=128, stem="small", stem_initial="uniform")
    images = jnp.zeros((1, 8, 8, channels))

    @jax.jit  # of which the compiler keeps the stem alone
    def started(key):
        return network.init(key, images, train=False)["params"]["stem"]["kernel"]

    kernel = np.asarray(started(jax.random.key(0)))
    assert kernel.shape == (3, 3, channels, 128)
    assert 0.99 * bound < np.abs(kernel).max() <= bound + 1e-5
    spread = stats.uniform(-bound, 2 * bound)
    assert stats.kstest(kernel.ravel(), spread.cdf).pvalue > 1e-3


def test_a_uniform_stem_changes_only_how_the_stem_starts(initial):
    network = ResNet(
        depth=10,
        width=8,
        stem="small",
        stem_initial="uniform",
        zero_init_residual=True,
    )
    init = jax.jit(functools.partial(network.init, train=False))
    other = init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    ours, theirs = (dict(names_and_leaves(x)) for x in (initial, other))
    differ = {n for n in ours if not np.array_equal(ours[n], theirs[n])}
    assert ours.keys() == theirs.keys() and differ == {"params/stem/kernel"}


UNIFORMITY = {"stem": "small", "stem_padding": 2, "stem_initial": "uniform"}


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [({"depth": 18, **UNIFORMITY}, 12_219_456), ({"depth": 50}, 27_704_384)],
)
def test_sizes_are_those_of_decoupled_uniformity_with_its_layer(fields, parameters):
    network = Headed(ResNet(**fields), Linear(2048))
    assert count(shapes(network)["params"]) == parameters


def test_the_head_of_decoupled_uniformity_has_its_size():
    head = functools.partial(Mlp((2048, 256), first="relu").init, train=False)
    features = jax.ShapeDtypeStruct((1, 2048), jnp.float32)
    made = jax.eval_shape(head, jax.random.key(0), features)
    assert count(made["params"]) == 4_720_896


def test_the_small_stem_with_padding_2_makes_maps_of_34_17_9_and_5():
    network = ResNet(depth=18, **UNIFORMITY)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    apply = functools.partial(network.apply, train=False, capture_intermediates=True)
    _, seen = jax.eval_shape(apply, shapes(network), images)
    maps = seen["intermediates"]
    sides = [
        maps[name]["__call__"][0].shape[1:3]
        for name in ("stem", *(f"stage{stage}_block2" for stage in (1, 2, 3, 4)))
    ]
    assert sides == [(side, side) for side in (34, 34, 17, 9, 5)]


def test_zero_init_residual_silences_the_last_norm_of_each_block(initial):
    scales = {
        name: leaf
        for name, leaf in names_and_leaves(initial["params"])
        if name.endswith("scale")
    }
    zero = {name for name, leaf in scales.items() if not leaf.any()}
    assert zero == {f"stage{stage}_block1/norm2/scale" for stage in (1, 2, 3, 4)}
    assert all((scales[name] == 1).all() for name in set(scales) - zero)


def names_and_leaves(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield "/".join(part.key for part in path), leaf


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"depth": 18, "stem": "small", "stem_padding": 3},
            r"stem_padding 3 must be in \[1, 2\]",
        ),
        ({"depth": 18, "stem_padding": 2}, 'write stem="small"'),
        (
            {"depth": 18, "stem_initial": "uniform"},
            "ResNet.stem_initial 'uniform' is for the small stem",
        ),
    ],
)
def test_what_the_stem_cannot_do_is_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**fields)


def test_an_unknown_depth_names_the_known_ones(monkeypatch):
    # The tests' type checker would refuse it first, and in its own words.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"depth is 19; write one of 10, 14, 18, 34"):
        ResNet(depth=19)
