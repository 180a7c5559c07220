"""ViT: published sizes, the equations in numpy, and how it pools."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jax_rcl import parallel
from jax_rcl.config.nodes import build, from_json, node, to_json
from jax_rcl.networks.dropout import Dropout, DropRates, StochasticDepth
from jax_rcl.networks.vit import PERFECTLY_BALANCED, Attention, ViT, gelu

BALANCED = {
    "attention": "plain",
    "initial": "uniform",
    "patch_norm": "layer",
    "epsilon": 1e-5,
    "drop": DropRates(patches=0.1, attention=0.05, units=0.05, depth=0.05, queries=0.1),
}
"""What sets the encoder of Perfectly Balanced apart, but for its size."""

PAPER = ViT(**(PERFECTLY_BALANCED | BALANCED))
TINY = ViT(patch=2, width=6, depth=1, heads=3, mlp_width=5)


def variables_of(network, images):
    # Random where the initial ones are 0 or 1, which would hide mistakes.
    init = functools.partial(network.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), images)
    draws = np.random.RandomState(1)
    return jax.tree.map(
        lambda leaf: jnp.asarray(draws.randn(*leaf.shape) / 2, leaf.dtype), shapes
    )


@functools.partial(jax.jit, static_argnums=(0,))
def both(network, variables, images):
    """Tokens and features."""
    tokens = network.apply(variables, images, train=False, method="tokens")
    return tokens, network.apply(variables, images, train=True)


@pytest.fixture(scope="module")
def tiny():
    images = jnp.asarray(np.random.RandomState(0).rand(2, 4, 6, 3), jnp.float32)
    return variables_of(TINY, images), images


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (ViT(patch=16, width=768, depth=12, heads=12), 85_798_656),
        pytest.param(
            ViT(patch=32, width=768, depth=12, heads=12),
            87_455_232,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ViT(patch=16, width=1024, depth=24, heads=16),
            303_301_632,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["B/16", "B/32", "L/16"],
)
def test_sizes_are_those_of_the_paper_without_head(network, published):
    init = functools.partial(network.init, train=False)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), images))
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == published


@pytest.mark.parametrize(
    ("side", "channels", "encoder", "patches"),
    [
        (32, 3, 3_241_728, 13_056),
        (28, 1, 3_237_888, 4_864),
        (64, 3, 3_290_880, 13_056),
    ],
)
def test_sizes_are_those_of_perfectly_balanced(side, channels, encoder, patches):
    init = functools.partial(PAPER.init, train=False)
    images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), images))
    # Their table of positions has two rows that nobody reads.
    expected = encoder - 2 * 256 + patches
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == expected


def layer_norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def attention(p, x):
    def project(name):
        y = np.einsum("td,dhe->the", x, p[name]["kernel"])
        return y + p[name].get("bias", 0)

    query, key, value = project("query"), project("key"), project("value")
    mixed = np.zeros_like(value)
    for head in range(3):
        logits = query[:, head] @ key[:, head].T / np.sqrt(2)
        mixed[:, head] = scipy.special.softmax(logits, axis=1) @ value[:, head]
    if "out" not in p:
        return mixed.reshape(x.shape)
    return np.einsum("the,hed->td", mixed, p["out"]["kernel"]) + p["out"]["bias"]


def mlp(block, x):
    x = x @ block["mlp_hidden"]["kernel"] + block["mlp_hidden"]["bias"]
    x = x * 0.5 * (1 + scipy.special.erf(x / np.sqrt(2)))
    return x @ block["mlp_out"]["kernel"] + block["mlp_out"]["bias"]


def tokens_in_numpy(p, image):
    kernel = p["patches"]["kernel"].reshape(-1, 6)
    x = []
    for row in range(0, image.shape[0], 2):
        for column in range(0, image.shape[1], 2):
            patch = image[row : row + 2, column : column + 2].reshape(-1)
            x.append(patch @ kernel + p["patches"]["bias"])
    x = layer_norm(p["patches_norm"], np.stack(x)) if "patches_norm" in p else x
    x = np.stack([p["class_token"][0, 0], *x]) + p["positions"][0]
    block = p["block1"]
    x = x + attention(block["attention"], layer_norm(block["attention_norm"], x))
    x = x + mlp(block, layer_norm(block["mlp_norm"], x))
    return layer_norm(p["norm"], x)


@pytest.mark.parametrize("options", [{}, BALANCED], ids=["default", "balanced"])
def test_tokens_follow_the_equations(tiny, options):
    network, images = TINY.copy(**options), tiny[1]
    variables = variables_of(network, images)
    found = jax.jit(functools.partial(network.apply, train=False, method="tokens"))(
        variables, images
    )
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    for image, tokens in zip(np.asarray(images, np.float64), found, strict=True):
        expected = tokens_in_numpy(params, image)
        np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-5)


def test_pool_token_is_the_first_token(tiny):
    variables, images = tiny
    tokens, features = both(TINY, variables, images)
    assert tokens.shape == (2, 1 + 2 * 3, 6)
    np.testing.assert_array_equal(features, tokens[:, 0])


def test_pool_mean_has_no_class_token():
    network = ViT(patch=2, width=6, depth=1, heads=3, pool="mean")
    images = jnp.asarray(np.random.RandomState(0).rand(2, 4, 6, 3), jnp.float32)
    variables = variables_of(network, images)
    assert "class_token" not in variables["params"]
    tokens, features = both(network, variables, images)
    assert tokens.shape == (2, 2 * 3, 6)
    np.testing.assert_allclose(features, tokens.mean(axis=1), rtol=1e-6)


def test_there_is_nothing_but_params(tiny):
    variables, images = tiny
    assert set(variables) == {"params"}
    train = functools.partial(TINY.apply, train=True, mutable=["batch_stats"])
    _, changed = jax.eval_shape(train, variables, images)
    assert changed == {}


def test_names_are_the_checkpoint_format(tiny):
    params = tiny[0]["params"]
    assert set(params) == {"patches", "class_token", "positions", "block1", "norm"}
    assert set(params["block1"]) == {
        "attention_norm",
        "attention",
        "mlp_norm",
        "mlp_hidden",
        "mlp_out",
    }
    assert set(params["block1"]["attention"]) == {"query", "key", "value", "out"}


def test_plain_attention_has_neither_biases_nor_a_last_product(tiny):
    params = variables_of(TINY.copy(**BALANCED), tiny[1])["params"]
    assert set(params) == {
        "patches",
        "patches_norm",
        "class_token",
        "positions",
        "block1",
        "norm",
    }
    attention = params["block1"]["attention"]
    assert set(attention) == {"query", "key", "value"}
    assert all(set(attention[name]) == {"kernel"} for name in attention)


@pytest.fixture(scope="module")
def initial():
    """Parameters of one block of the paper's width, and features, at the start."""
    network = PAPER.copy(depth=1)
    images = jnp.asarray(np.random.RandomState(0).rand(8, 32, 32, 3), jnp.float32)
    init = jax.jit(functools.partial(network.init_with_output, train=False))
    features, variables = init(jax.random.key(0), images)
    return variables["params"], features


def test_products_start_uniform_by_fan_in(initial):
    params, block = initial[0], initial[0]["block1"]
    starts = {
        48: [*params["patches"].values()],
        256: [*jax.tree.leaves(block["attention"]), *block["mlp_hidden"].values()],
        512: [*block["mlp_out"].values()],
    }
    for fan_in, leaves in starts.items():
        bound = fan_in**-0.5
        for leaf in leaves:
            assert 0.95 * bound < jnp.abs(leaf).max() <= bound
            assert abs(leaf.std() / bound - 3**-0.5) < 0.06


def test_positions_and_class_token_start_as_a_clipped_normal(initial):
    for name, tolerance in [("positions", 0.02), ("class_token", 0.12)]:
        x = initial[0][name]
        assert x.shape[1:] == ((65 if name == "positions" else 1), 256)
        # A third of a normal distribution is further out than its deviation.
        assert abs((jnp.abs(x) > 0.0999).mean() - 0.317) < tolerance
        assert abs(x).max() <= 0.1001 and abs(x.mean()) < 0.1 * tolerance


def test_features_start_with_the_norm_of_their_width(initial):
    norms = jnp.linalg.norm(initial[1], axis=1)
    np.testing.assert_allclose(norms, 16, rtol=1e-3)


def layers_of(network):
    """Layers of a network, by path, in the order of a call in training."""
    found = {}

    def record(call, args, kwargs, context):
        found["/".join(context.module.path)] = context.module
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    with nn.intercept_methods(record):
        init = functools.partial(network.init, train=True)
        jax.eval_shape(init, jax.random.key(0), images)
    return found


def test_rates_reach_their_layers():
    layers = layers_of(PAPER)
    rates = {
        path: layer.rate for path, layer in layers.items() if type(layer) is Dropout
    }
    for block in range(1, 8):
        for path, rate in [
            ("attention/query_dropout", 0.1),
            ("attention/dropout", 0.05),
            ("attention/out_dropout", 0.05),
            ("mlp_hidden_dropout", 0.05),
            ("mlp_out_dropout", 0.05),
        ]:
            assert rates.pop(f"block{block}/{path}") == rate
    assert rates == {"patches_dropout": 0.1}
    norms = [x.epsilon for x in layers.values() if isinstance(x, nn.LayerNorm)]
    assert norms == [1e-5] * 16


def test_depth_is_dropped_linearly():
    layers = layers_of(PAPER)
    for branch in ("attention", "mlp"):
        paths = [f"block{block}/{branch}_depth" for block in range(1, 8)]
        assert all(isinstance(layers[path], StochasticDepth) for path in paths)
        np.testing.assert_allclose(
            [1 - layers[path].rate for path in paths],
            [1.0, 0.9917, 0.9833, 0.975, 0.9667, 0.9583, 0.95],
            atol=5e-5,
        )
    assert layers_of(PAPER.copy(depth=1))["block1/mlp_depth"].rate == 0


def test_a_dropped_query_looks_at_all_tokens_evenly():
    network = Attention(2, "plain", drop=DropRates(queries=0.4))
    x = np.random.RandomState(0).randn(16, 5, 6).astype(np.float32)
    params = variables_of(network, x)["params"]

    def step(key, x):
        draw = {"dropout": key}
        y = network.apply({"params": params}, x, train=True, rngs=draw)
        return parallel.gather_constant(y)

    mesh = parallel.make_mesh(jax.devices()[:1])
    found = jax.jit(parallel.data_parallel(step, mesh))(jax.random.key(0), x)

    query, key, value = (
        np.einsum("btd,dhe->bhte", x, params[name]["kernel"])
        for name in ("query", "key", "value")
    )
    scores = query @ key.swapaxes(2, 3) / np.sqrt(3) / 0.6
    kept = (scipy.special.softmax(scores, axis=-1) @ value).swapaxes(1, 2)
    even = value.mean(axis=2, keepdims=True).swapaxes(1, 2)
    kept, even = kept.reshape(x.shape), np.broadcast_to(even.reshape(16, 1, 6), x.shape)
    is_kept, is_even = (
        np.isclose(found, expected, rtol=1e-3, atol=1e-4).all(axis=2)
        for expected in (kept, even)
    )
    # Each query is one or the other, with all its heads.
    np.testing.assert_array_equal(is_even, ~is_kept)
    assert abs(is_even.mean() - 0.4) < 4 * np.sqrt(0.4 * 0.6 / is_even.size)


def test_a_config_describes_the_network():
    size = {"patch": 4, "width": 256, "depth": 7, "heads": 8, "mlp_width": 512}
    rates = {name: getattr(BALANCED["drop"], name) for name in vars(BALANCED["drop"])}
    config = node(ViT, **size, **BALANCED | {"drop": node(DropRates, **rates)})
    assert build(config) == build(from_json(to_json(config))) == PAPER
    assert config.drop.queries == 0.1
    assert build(node(ViT, 4, 256, 7, 8)).drop == DropRates()


def test_a_patch_that_does_not_divide_the_image_is_an_error():
    images = jnp.zeros((1, 6, 8, 3))
    network = ViT(patch=4, width=6, depth=1, heads=3)
    with pytest.raises(ValueError, match=r"patch 4 must divide .* 6x8 pixels"):
        jax.eval_shape(
            functools.partial(network.init, train=False), jax.random.key(0), images
        )


def test_heads_divide_the_width():
    with pytest.raises(
        ValueError, match=r"width 64 must be a multiple of 7, as `heads`.*Try 63"
    ):
        ViT(patch=4, width=64, depth=1, heads=7)


def test_gelu_is_that_of_jax_with_its_derivative():
    x = jnp.linspace(-6, 6, 101)

    def theirs(x):
        return jax.nn.gelu(x, approximate=False)

    own, expected = (
        jax.jit(jax.vmap(jax.value_and_grad(function)))(x)
        for function in (gelu, theirs)
    )
    np.testing.assert_allclose(own[0], expected[0], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(own[1], expected[1], rtol=1e-5, atol=1e-6)
    assert gelu(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
