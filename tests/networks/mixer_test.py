"""Mixer: the release's size, the equations in numpy, and what it refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jax_rcl.networks.mixer import Mixer
from tests.tiny import quick_jit


def shapes(network, images):
    init = functools.partial(network.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)


def test_size_is_that_of_the_release():
    found = shapes(Mixer(patch=4), jnp.zeros((1, 32, 32, 3)))
    assert set(found) == {"params"}
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(found))
    # 64 tokens of width 256 in 4 blocks, and the embedding of the patches.
    assert count == 1_122_560 + 13_056


def test_hidden_widths_are_twice_what_they_mix_unless_given():
    images = jnp.zeros((1, 8, 8, 3))
    block = shapes(Mixer(4, width=6, depth=1), images)["params"]["block1"]
    assert set(block) == {
        "tokens_norm",
        "tokens_hidden",
        "tokens_out",
        "channels_norm",
        "channels_hidden",
        "channels_out",
    }
    assert block["tokens_hidden"]["kernel"].shape == (4, 8)
    assert block["channels_hidden"]["kernel"].shape == (6, 12)
    other = Mixer(4, width=6, depth=1, token_width=5, mlp_width=7)
    block = shapes(other, images)["params"]["block1"]
    assert block["tokens_hidden"]["kernel"].shape == (4, 5)
    assert block["channels_hidden"]["kernel"].shape == (6, 7)


def layer_norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def mlp(block, name, x):
    hidden, out = block[f"{name}_hidden"], block[f"{name}_out"]
    x = x @ hidden["kernel"] + hidden["bias"]
    x = x * 0.5 * (1 + scipy.special.erf(x / np.sqrt(2)))
    return x @ out["kernel"] + out["bias"]


def in_numpy(p, image):
    patches = [
        image[row : row + 2, column : column + 2].reshape(-1)
        for row in range(0, image.shape[0], 2)
        for column in range(0, image.shape[1], 2)
    ]
    x = np.stack(patches) @ p["patches"]["kernel"].reshape(len(patches[0]), -1)
    x = layer_norm(p["patches_norm"], x + p["patches"]["bias"])
    for name in ("block1", "block2"):
        block = p[name]
        x = x + mlp(block, "tokens", layer_norm(block["tokens_norm"], x).T).T
        x = x + mlp(block, "channels", layer_norm(block["channels_norm"], x))
    return layer_norm(p["norm"], x).mean(axis=0)


def test_features_follow_the_equations():
    network, draws = Mixer(2, width=5, depth=2), np.random.RandomState(0)
    images = jnp.asarray(draws.rand(2, 4, 6, 3), jnp.float32)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(draws.randn(*leaf.shape) / 2, leaf.dtype),
        shapes(network, images),
    )
    found = quick_jit(functools.partial(network.apply, train=False))(variables, images)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])
    expected = [in_numpy(params, image) for image in np.asarray(images, np.float64)]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-5)


def test_dropout_is_a_rate():
    with pytest.raises(ValueError, match=r"Mixer.dropout 1.0 must be in \[0, 1\)"):
        Mixer(4, dropout=1.0)


def test_a_patch_that_does_not_divide_the_image_is_an_error():
    with pytest.raises(ValueError, match=r"Mixer.patch 4 must divide .* 6x8 pixels"):
        shapes(Mixer(4), jnp.zeros((1, 6, 8, 3)))
