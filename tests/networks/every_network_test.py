"""What every network keeps: names, types, and that evaluation sees one image."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks.heads import Headed, Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.networks.vit import ViT

SMALL = ResNet(depth=10, width=8, stem="small")
NETWORKS = {
    "resnet": SMALL,
    "resnet in bfloat16": ResNet(depth=10, width=8, stem="small", compute="bfloat16"),
    "resnet by groups": ResNet(depth=14, width=8, norm="group"),
    "vit": ViT(patch=4, width=16, depth=2, heads=2),
    "vit in bfloat16": ViT(patch=4, width=16, depth=2, heads=2, compute="bfloat16"),
    "vit by mean": ViT(patch=2, width=16, depth=1, heads=4, pool="mean"),
    "with a head": Headed(
        Normalized(ViT(patch=4, width=8, depth=1, heads=1), (0.5,), (0.25,)),
        Mlp((8, 4), norm="local"),
    ),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def shapes_of(name, channels=3):
    init = functools.partial(NETWORKS[name].init, train=False)
    images = jax.ShapeDtypeStruct((4, 8, 8, channels), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), images)


@functools.cache
def built(name):
    """Random variables, statistics included, and `encode`."""
    draws = np.random.RandomState(0)

    def fill(path, leaf):
        x = draws.randn(*leaf.shape).astype(np.float32)
        around = {"scale": 1 + 0.1 * x, "mean": 0.1 * x, "var": 1 + 0.1 * np.abs(x)}
        fan_in = np.prod(leaf.shape[:-1])
        return jnp.asarray(around.get(path[-1].key, x / np.sqrt(max(fan_in, 1))))

    variables = jax.tree_util.tree_map_with_path(fill, shapes_of(name))
    images = jnp.asarray(draws.rand(4, 8, 8, 3), jnp.float32)
    encode = jax.jit(functools.partial(NETWORKS[name].apply, train=False))
    return variables, encode, images


STEMS = [["stem", "kernel"], ["patches", "kernel"]]


def leaves(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield [part.key for part in path], leaf


@every_network
def test_no_submodule_is_named_by_flax(name):
    automatic = [
        path
        for path, _ in leaves(shapes_of(name))
        if any(re.search(r"_\d+$", part) for part in path)
    ]
    assert not automatic


@every_network
def test_variables_are_float32(name):
    types = {leaf.dtype for _, leaf in leaves(shapes_of(name))}
    assert types == {jnp.dtype("float32")}


@every_network
def test_features_are_float32_and_finite(name):
    variables, encode, images = built(name)
    features = encode(variables, images)
    assert features.ndim == 2 and len(features) == len(images)
    assert features.dtype == jnp.float32
    assert jnp.isfinite(features).all()


@every_network
def test_features_of_an_image_depend_on_it_alone(name):
    variables, encode, images = built(name)
    features = encode(variables, images)
    others = encode(variables, images.at[1:].set(1 - images[1:]))
    np.testing.assert_allclose(others[0], features[0], rtol=1e-6, atol=1e-6)
    assert jnp.abs(others[1:] - features[1:]).max() > 1e-3


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_bfloat16_stays_close_to_float32(name):
    variables, encode, images = built(name)
    _, rough, _ = built(f"{name} in bfloat16")
    exact, close = encode(variables, images), rough(variables, images)
    assert jnp.abs(close - exact).max() > 0  # It does compute in another type.
    assert jnp.abs(close - exact).max() < 0.05 * exact.std()


@every_network
def test_gray_images_are_images(name):
    variables = shapes_of(name, channels=1)
    first = [leaf for path, leaf in leaves(variables) if path[-2:] in STEMS]
    assert [leaf.shape[2] for leaf in first] == [1]


@every_network
def test_networks_are_values(name):
    network = NETWORKS[name]
    assert network == network.copy() and hash(network) == hash(network.copy())
