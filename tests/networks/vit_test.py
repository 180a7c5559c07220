"""ViT: published sizes, the equations in numpy, and how it pools."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jax_rcl.networks.vit import ViT, gelu

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
        (ViT(patch=32, width=768, depth=12, heads=12), 87_455_232),
        (ViT(patch=16, width=1024, depth=24, heads=16), 303_301_632),
    ],
    ids=["B/16", "B/32", "L/16"],
)
def test_sizes_are_those_of_the_paper_without_head(network, published):
    init = functools.partial(network.init, train=False)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(init, jax.random.key(0), images))
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == published


def layer_norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def attention(p, x):
    def project(name):
        return np.einsum("td,dhe->the", x, p[name]["kernel"]) + p[name]["bias"]

    query, key, value = project("query"), project("key"), project("value")
    mixed = np.zeros_like(value)
    for head in range(3):
        logits = query[:, head] @ key[:, head].T / np.sqrt(2)
        mixed[:, head] = scipy.special.softmax(logits, axis=1) @ value[:, head]
    return np.einsum("the,hed->td", mixed, p["out"]["kernel"]) + p["out"]["bias"]


def mlp(block, x):
    x = x @ block["mlp_hidden"]["kernel"] + block["mlp_hidden"]["bias"]
    x = x * 0.5 * (1 + scipy.special.erf(x / np.sqrt(2)))
    return x @ block["mlp_out"]["kernel"] + block["mlp_out"]["bias"]


def tokens_in_numpy(p, image):
    kernel = p["patches"]["kernel"].reshape(-1, 6)
    x = [p["class_token"][0, 0]]
    for row in range(0, image.shape[0], 2):
        for column in range(0, image.shape[1], 2):
            patch = image[row : row + 2, column : column + 2].reshape(-1)
            x.append(patch @ kernel + p["patches"]["bias"])
    x = np.stack(x) + p["positions"][0]
    block = p["block1"]
    x = x + attention(block["attention"], layer_norm(block["attention_norm"], x))
    x = x + mlp(block, layer_norm(block["mlp_norm"], x))
    return layer_norm(p["norm"], x)


def test_tokens_follow_the_equations(tiny):
    variables, images = tiny
    found, _ = both(TINY, variables, images)
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


def test_a_patch_that_does_not_divide_the_image_is_an_error():
    images = jnp.zeros((1, 6, 8, 3))
    network = ViT(patch=4, width=6, depth=1, heads=3)
    with pytest.raises(ValueError, match=r"patch 4 must divide .* 6x8 pixels"):
        jax.eval_shape(
            functools.partial(network.init, train=False), jax.random.key(0), images
        )


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match=r"width 64 must be .*heads 7.*Try width 63"):
        ViT(patch=4, width=64, depth=1, heads=7)
    with pytest.raises(ValueError, match="depth must be positive; got 0"):
        ViT(patch=4, width=64, depth=0, heads=8)


def test_gelu_is_that_of_jax_with_its_derivative():
    x = jnp.linspace(-6, 6, 101)

    def theirs(x):
        return jax.nn.gelu(x, approximate=False)

    np.testing.assert_allclose(gelu(x), theirs(x), rtol=1e-6, atol=1e-7)
    own = jax.vmap(jax.grad(gelu))(x)
    np.testing.assert_allclose(own, jax.vmap(jax.grad(theirs))(x), rtol=1e-5, atol=1e-6)
    assert gelu(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
