"""Heads, and wrappers of encoders: their equations, sizes and names."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.config.nodes import build, node
from jax_rcl.networks.heads import (
    Concatenated,
    Headed,
    Linear,
    Mlp,
    Normalized,
    conv,
)
from jax_rcl.networks.resnet import ResNet
from jax_rcl.networks.vit import ViT


class Flat(nn.Module):
    """One layer of all pixels."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(4, name="layer")(images.reshape(len(images), -1))


ENCODER = Flat()


@functools.partial(jax.jit, static_argnums=(0,))
def init(network, x):
    return network.init(jax.random.key(0), x, train=False)


@functools.partial(jax.jit, static_argnums=(0,))
def encode(network, variables, images):
    return network.apply(variables, images, train=False)


def shapes(network, x):
    init = functools.partial(network.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), x)


@pytest.fixture
def x():
    return jnp.asarray(np.random.RandomState(0).randn(3, 64), jnp.float32)


def test_linear_is_a_matrix_and_a_bias(x):
    variables = init(Linear(5), x)
    out = jax.tree.map(np.asarray, variables["params"]["out"])
    found = Linear(5).apply(variables, x, train=True)
    np.testing.assert_allclose(
        found, np.asarray(x) @ out["kernel"] + out["bias"], rtol=1e-5, atol=1e-6
    )


def test_layers_start_uniform_by_fan_in(x):
    out = init(Linear(4096), x)["params"]["out"]
    for leaf in (out["kernel"], out["bias"]):
        assert 0.124 < leaf.max() <= 1 / 8 and -1 / 8 <= leaf.min() < -0.124
        assert abs(leaf.std() - 1 / 8 / np.sqrt(3)) < 2e-3


def test_a_linear_layer_may_start_small_as_in_mocos_linear_evaluation(x):
    out = init(Linear(4096, initial="small normal"), x)["params"]["out"]
    assert not out["bias"].any()
    assert abs(out["kernel"].mean()) < 1e-4
    assert abs(out["kernel"].std() - 0.01) < 1e-4
    assert out["kernel"].max() > 0.03  # beyond a uniform distribution of this deviation


def test_mlp_has_relu_between_layers_only(x):
    network = Mlp((7, 5))
    variables = init(network, x)
    params = jax.tree.map(np.asarray, variables["params"])
    first, last = params["hidden1"], params["out"]
    hidden = np.maximum(np.asarray(x) @ first["kernel"] + first["bias"], 0)
    expected = hidden @ last["kernel"] + last["bias"]
    assert (expected < 0).any()
    found = network.apply(variables, x, train=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_mlp_may_rectify_its_input(x):
    plain, relu = Mlp((7, 5)), Mlp((7, 5), first="relu")
    variables = init(plain, x)
    np.testing.assert_array_equal(
        relu.apply(variables, x, train=True),
        plain.apply(variables, jnp.maximum(x, 0), train=True),
    )


def test_norm_replaces_the_bias_of_hidden_layers(x):
    params = shapes(Mlp((7, 6, 5), norm="sync"), x)["params"]
    assert set(params) == {"hidden1", "norm1", "hidden2", "norm2", "out"}
    assert set(params["hidden1"]) == {"kernel"}
    assert set(params["out"]) == {"kernel", "bias"}


def test_the_last_layer_may_have_no_bias(x):
    params = shapes(Mlp((7, 5), last_bias=False), x)["params"]
    assert set(params["out"]) == {"kernel"}


@pytest.mark.parametrize(
    ("widths", "message"),
    [((), "must have at least one entry"), ((0, 5), r"\(0, 5\) must be at least 1")],
)
def test_an_mlp_without_widths_is_an_error(widths, message):
    with pytest.raises(ValueError, match=message):
        Mlp(widths)


def test_headed_is_the_head_of_the_encoder():
    images = jnp.asarray(np.random.RandomState(0).rand(2, 4, 4, 3), jnp.float32)
    network = Headed(ENCODER, Linear(5))
    variables = init(network, images)
    assert set(variables["params"]) == {"encoder", "head"}
    parts = {name: {"params": tree} for name, tree in variables["params"].items()}
    features = encode(ENCODER, parts["encoder"], images)
    expected = Linear(5).apply(parts["head"], features, train=False)
    found = encode(network, variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_normalized_leaves_no_trace_in_the_variables():
    images = jnp.asarray(np.random.RandomState(0).rand(2, 4, 4, 3), jnp.float32)
    mean, std = (0.5, 0.25, 0.125), (0.5, 0.25, 2.0)
    network = Normalized(ENCODER, mean, std)
    alone, wrapped = init(ENCODER, images), init(network, images)
    jax.tree.map(np.testing.assert_array_equal, alone, wrapped)
    moved = jnp.asarray((np.asarray(images) - np.float32(mean)) / np.float32(std))
    np.testing.assert_allclose(
        encode(network, alone, images),
        encode(ENCODER, alone, moved),
        rtol=1e-5,
        atol=1e-6,
    )


def test_normalized_may_round_what_the_encoder_sees_to_float16():
    images = jnp.asarray(np.random.RandomState(0).rand(2, 4, 4, 3), jnp.float32)
    mean, std = (0.5, 0.25, 0.125), (0.5, 0.25, 2.0)
    variables = init(ENCODER, images)
    seen = (np.asarray(images) - np.float32(mean)) / np.float32(std)
    half = seen.astype(np.float16).astype(np.float32)
    assert not np.array_equal(half, seen)
    np.testing.assert_allclose(
        encode(Normalized(ENCODER, mean, std, "float16"), variables, images),
        encode(ENCODER, variables, jnp.asarray(half)),
        rtol=1e-6,
        atol=1e-6,
    )


def test_normalized_keeps_the_names_of_statistics():
    encoder = ResNet(depth=10, width=4, stem="small")
    images = jnp.zeros((1, 8, 8, 1))
    wrapped = shapes(Normalized(encoder, (0.5,), (0.5,)), images)
    assert wrapped == shapes(encoder, images)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (0.5, 0.5), "one number per channel"),
        ((), (), "one number per channel"),
        ((0.5,), (0.0,), "must be above 0"),
    ],
)
def test_statistics_that_cannot_be_are_an_error(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalized(ENCODER, mean, std)


def test_statistics_have_a_number_per_channel():
    network = Normalized(ENCODER, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="has 3 channels, the images have 1"):
        shapes(network, jnp.zeros((1, 4, 4, 1)))


NORMALIZED = Normalized(ENCODER, (0.5,), (0.25,))
STATISTICS = Mlp((3, 3), norm="sync")
IMAGES = jnp.asarray(np.random.RandomState(0).rand(2, 8, 8, 3), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "shape", "size"),
    [
        (
            Headed(ResNet(18, stem="small", stem_padding=2), Linear(2048)),
            (32, 32, 3),
            12_219_456,
        ),
        (Headed(ResNet(50), Linear(2048)), (32, 32, 3), 27_704_384),
        (Mlp((2048, 256), first="relu"), (2048,), 4_720_896),
    ],
)
def test_sizes_of_decoupled_uniformity(network, shape, size):
    leaves = jax.tree.leaves(shapes(network, jnp.zeros((1, *shape)))["params"])
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == size


def test_concatenated_encoders_are_those_of_runs_of_their_own():
    encoders = NORMALIZED, Headed(NORMALIZED, STATISTICS)
    draws = np.random.RandomState(0)

    def variables_of(encoder):
        return jax.tree.map(
            lambda leaf: jnp.asarray(1 + draws.rand(*leaf.shape), leaf.dtype),
            shapes(encoder, IMAGES),
        )

    first, second = (variables_of(encoder) for encoder in encoders)
    # What a transfer does: `params/left` from `params/encoder` of the first run.
    joined = {
        "params": {"left": first["params"], "right": second["params"]},
        "batch_stats": {"right": second["batch_stats"]},
    }
    network = Concatenated(encoders, ("left", "right"))
    assert jax.tree.structure(shapes(network, IMAGES)) == jax.tree.structure(joined)
    features = [
        encode(encoders[0], first, IMAGES),
        encode(encoders[1], second, IMAGES),
    ]
    np.testing.assert_allclose(
        encode(network, joined, IMAGES), np.concatenate(features, axis=1), rtol=1e-6
    )


def test_equal_encoders_are_separate_networks():
    params = init(Concatenated((ENCODER, ENCODER)), IMAGES)["params"]
    assert set(params) == {"first", "second"}
    first, second = (params[name]["layer"]["kernel"] for name in params)
    assert (first != second).any()


def test_one_or_three_encoders_can_be_concatenated():
    for count, names in [(1, ("first",)), (3, ("first", "second", "third"))]:
        network = Concatenated((ENCODER,) * count, names)
        apply = functools.partial(network.apply, train=False)
        features = jax.eval_shape(apply, shapes(network, IMAGES), IMAGES)
        assert features.shape == (2, 4 * count)


@pytest.mark.parametrize(
    ("encoders", "names", "message"),
    [
        ((), (), "must be a different name for each of 0 encoders"),
        ((ENCODER,), ("first", "second"), "different name for each of 1 encoders"),
        ((ENCODER, ENCODER), ("first", "first"), "must be a different name for each"),
        ((ENCODER, ENCODER), ("first", "with/slash"), "2 encoders, of letters, digits"),
    ],
)
def test_names_that_cannot_be_are_an_error(encoders, names, message):
    with pytest.raises(ValueError, match=message):
        Concatenated(encoders, names)


def test_what_is_concatenated_are_vectors():
    class Tokens(ViT):
        def __call__(self, images, *, train):
            return self.tokens(images, train=train)

    network = Concatenated((ENCODER, Tokens(patch=2, width=4, depth=1, heads=2)))
    with pytest.raises(ValueError, match=r"'second' gives \(2, 17, 4\) for 2 images"):
        shapes(network, IMAGES)


def test_a_config_describes_concatenated_encoders():
    fields = {"patch": 2, "width": 4, "depth": 1, "heads": 2}
    config = node(Concatenated, encoders=(node(ViT, **fields), node(ViT, **fields)))
    assert build(config) == Concatenated((ViT(**fields), ViT(**fields)))


class Rectified(nn.Module):
    """A convolution between ReLUs, with or without a shortcut, and a mean."""

    size: int
    stride: int
    shortcut: bool

    @nn.compact
    def __call__(self, x):
        x = nn.relu(x)
        y = conv(x, 64, self.size, stride=self.stride, name="conv")
        return nn.relu(x + y if self.shortcut else y).astype(jnp.float32).mean((1, 2))


@pytest.mark.parametrize(
    ("size", "stride", "shortcut"),
    [(3, 1, False), (3, 1, True), (3, 2, False), (1, 1, False), (7, 2, False)],
)
def test_bfloat16_is_close_where_a_convolution_is_between_relus(size, stride, shortcut):
    # jaxlib 0.11.2 to 0.12.0.1 made one program of these four, which gave NaN.
    network = Rectified(size, stride, shortcut)
    maps = np.random.default_rng(0).standard_normal((8, 28, 28, 64), np.float32)
    variables = network.init(jax.random.key(0), maps[:1])
    apply = jax.jit(network.apply)
    exact, close = (
        apply(variables, jnp.asarray(maps, x)) for x in ("float32", "bfloat16")
    )
    assert 0 < jnp.abs(close - exact).max() < 0.05 * exact.std()
