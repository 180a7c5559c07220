"""ResNetDecoder: the release's sizes, the equations in numpy, images it can make."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.networks.decoder import ResNetDecoder, enlargement
from tests.tiny import quick_jit


def shapes(network, features=16):
    init = functools.partial(network.init, train=False)
    x = jax.ShapeDtypeStruct((3, features), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), x)


def made(network, features=16):
    apply = functools.partial(network.apply, train=False)
    x = jax.ShapeDtypeStruct((3, features), jnp.float32)
    return jax.eval_shape(apply, shapes(network, features), x).shape


@pytest.mark.parametrize(
    ("features", "depth", "published"),
    [
        (256, 18, 8_625_600),
        (512, 18, 10_722_752),
        (256, 50, 10_767_040),
    ],
)
def test_sizes_are_those_of_the_release(features, depth, published):
    params = shapes(ResNetDecoder(32, depth=depth), features)["params"]
    assert (
        sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)) == published
    )


@pytest.mark.parametrize(("size", "channels"), [(4, 3), (28, 1), (40, 3)])
def test_images_have_the_size_that_is_asked_for(size, channels):
    network = ResNetDecoder(size, channels, width=2)
    assert made(network) == (3, size, size, channels)


@pytest.mark.parametrize(
    ("size", "side", "factors"),
    [
        (8, 4, (1, 1, 2, 1)),
        (28, 7, (1, 2, 2, 1)),
        (32, 4, (2, 2, 2, 1)),
        (64, 8, (2, 2, 2, 1)),
        (96, 12, (2, 2, 2, 1)),
    ],
)
def test_the_last_of_three_stages_double_the_side(size, side, factors):
    assert enlargement(size) == (side, factors)


def test_no_place_of_the_first_map_is_lost():
    for size in range(4, 260, 4):
        side, factors = enlargement(size)
        assert side >= 4 and side * np.prod(factors) == size


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (30, r"size 30 must be a positive multiple of 4.* Try 28 or 32"),
        (0, r"size 0 must be .* Try 4 or 8"),
    ],
)
def test_other_sizes_are_an_error_that_names_neighbours(size, message):
    with pytest.raises(ValueError, match=message):
        ResNetDecoder(size)


def test_names_are_the_checkpoint_format():
    params = shapes(ResNetDecoder(32, width=2))["params"]
    blocks = {
        f"stage{stage}_block{place}" for stage in (1, 2, 3, 4) for place in (1, 2)
    }
    assert set(params) == {"project", "image", *blocks}
    plain = {"conv1", "norm1", "conv2", "norm2"}
    assert set(params["stage3_block1"]) == {*plain, "upsample_conv", "upsample_norm"}
    assert set(params["stage3_block2"]) == set(params["stage4_block1"]) == plain
    assert set(params["image"]) == set(params["stage1_block1"]["conv1"]) == {"kernel"}


def test_group_normalisation_has_no_batch_statistics():
    assert set(shapes(ResNetDecoder(8, width=2, norm="group"))) == {"params"}


def test_layers_start_uniform_by_fan_in():
    network = ResNetDecoder(4, width=8)

    @quick_jit
    def some(key):
        params = network.init(key, jnp.zeros((1, 16)), train=False)["params"]
        return {
            16: [params["project"]["kernel"], params["project"]["bias"]],
            9 * 64: [params["stage1_block1"]["conv1"]["kernel"]],
            9 * 8: [params["stage4_block2"]["conv2"]["kernel"]],
        }

    starts = some(jax.random.key(0))
    for fan_in, leaves in starts.items():
        bound = fan_in**-0.5
        for leaf in leaves:
            assert 0.95 * bound < jnp.abs(leaf).max() <= bound
            assert abs(leaf.std() / bound - 3**-0.5) < 0.05


def conv(x, kernel):
    side = len(kernel)
    x = np.pad(x, [(0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    return np.einsum("bijcyx,yxcd->bijd", windows, kernel)


def larger(x, side):
    places = np.floor(np.arange(side) * (x.shape[1] / side)).astype(int)
    return x[:, places][:, :, places]


def block_in_numpy(p, stats, x, factor, train):
    def norm(name, x):
        mean, var = stats[name]["mean"], stats[name]["var"]
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = (x - mean) / np.sqrt(var + 1e-5)
        return x * p[name]["scale"] + p[name]["bias"]

    side = x.shape[1] * factor
    y = np.maximum(norm("norm1", conv(x, p["conv1"]["kernel"])), 0)
    y = norm("norm2", conv(larger(y, side), p["conv2"]["kernel"]))
    if "upsample_conv" in p:
        x = conv(larger(x, side), p["upsample_conv"]["kernel"])
        x = norm("upsample_norm", x)
    return np.maximum(x + y, 0)


def in_numpy(variables, x, size, train):
    p, stats = variables["params"], variables["batch_stats"]
    x = x @ p["project"]["kernel"] + p["project"]["bias"]
    side, factors = enlargement(size)
    x = larger(x.reshape(len(x), 4, 4, -1), side)
    for stage, factor in enumerate(factors, start=1):
        for place in (1, 2):
            name = f"stage{stage}_block{place}"
            x = block_in_numpy(p[name], stats[name], x, factor, train)
            factor = 1
    return conv(x, p["image"]["kernel"])


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_images_follow_the_equations(train):
    network, draws = ResNetDecoder(20, width=2), np.random.RandomState(0)

    def fill(path, leaf):
        x = draws.randn(*leaf.shape)
        around = {"scale": 1 + 0.1 * x, "var": 1 + 0.1 * np.abs(x)}
        scale = np.sqrt(max(np.prod(leaf.shape[:-1]), 1))
        return around.get(path[-1].key, x / scale).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(fill, shapes(network, 5))
    x = draws.randn(3, 5).astype(np.float32)

    def step(variables, x):
        apply = functools.partial(network.apply, variables, x, train=train)
        return parallel.gather_constant(apply(mutable=["batch_stats"])[0])

    mesh = parallel.make_mesh(jax.devices()[:1])
    found = quick_jit(parallel.data_parallel(step, mesh))(variables, x)
    full = jax.tree.map(lambda x: x.astype(np.float64), (variables, x))
    expected = in_numpy(*full, 20, train)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.std())
    assert (expected < 0).any()  # Nothing bounds the pixels.
