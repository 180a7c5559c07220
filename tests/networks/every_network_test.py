"""What every network keeps: names, types, and that evaluation sees one image."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.networks.decoder import ResNetDecoder
from jax_rcl.networks.dropout import DropRates
from jax_rcl.networks.heads import Concatenated, Headed, Mlp, Normalized
from jax_rcl.networks.mixer import Mixer
from jax_rcl.networks.resnet import ResNet
from jax_rcl.networks.vit import ViT

KEY = jax.random.key(0)
SMALL = ResNet(depth=10, width=8, stem="small")
BALANCED = ViT(
    patch=4,
    width=16,
    depth=2,
    heads=2,
    mlp_width=32,
    attention="plain",
    initial="uniform",
    patch_norm="layer",
    epsilon=1e-5,
    drop=DropRates(patches=0.3, attention=0.2, units=0.2, depth=0.3, queries=0.2),
)
MIXER = Mixer(patch=4, width=16, depth=1, dropout=0.2)
ENCODERS = {
    "resnet": SMALL,
    "resnet by groups": ResNet(depth=14, width=8, norm="group"),
    "vit": ViT(patch=4, width=16, depth=1, heads=2),
    "vit by mean": ViT(patch=2, width=16, depth=1, heads=4, pool="mean"),
    "with a head": Headed(
        Normalized(ViT(patch=4, width=8, depth=1, heads=1), (0.5,), (0.25,)),
        Mlp((8, 4), norm="local"),
    ),
    "balanced vit": BALANCED,
    "balanced vit in bfloat16": BALANCED.copy(compute="bfloat16"),
    "mixer": MIXER,
    "side by side": Concatenated((MIXER, Normalized(MIXER, (0.5,), (0.25,)))),
}
DECODERS = {
    "decoder": ResNetDecoder(8, width=2),
}
NETWORKS = ENCODERS | DECODERS
every_network = pytest.mark.parametrize("name", NETWORKS)
every_encoder = pytest.mark.parametrize("name", ENCODERS)


def inputs_of(name, count=4, channels=3):
    shape = (8, 8, channels) if name in ENCODERS else (16,)
    return np.random.RandomState(1).rand(count, *shape).astype(np.float32)


@functools.cache
def shapes_of(name, channels=3):
    init = functools.partial(NETWORKS[name].init, train=False)
    return jax.eval_shape(init, jax.random.key(0), inputs_of(name, 4, channels))


def filled(shapes):
    """Random variables, statistics included; scales and variances are around one."""
    draws = np.random.RandomState(0)

    def fill(path, leaf):
        x = draws.randn(*leaf.shape).astype(np.float32)
        around = {"scale": 1 + 0.1 * x, "mean": 0.1 * x, "var": 1 + 0.1 * np.abs(x)}
        fan_in = np.prod(leaf.shape[:-1])
        return jnp.asarray(around.get(path[-1].key, x / np.sqrt(max(fan_in, 1))))

    return jax.tree_util.tree_map_with_path(fill, shapes)


@functools.cache
def built(name):
    """Random variables, statistics included, and `encode`."""
    encode = jax.jit(functools.partial(NETWORKS[name].apply, train=False))
    return filled(shapes_of(name)), encode, jnp.asarray(inputs_of(name))


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
def test_outputs_are_float32_and_finite(name):
    variables, encode, inputs = built(name)
    outputs = encode(variables, inputs)
    assert outputs.ndim == (2 if name in ENCODERS else 4)
    assert len(outputs) == len(inputs)
    assert outputs.dtype == jnp.float32
    assert jnp.isfinite(outputs).all()


@every_network
def test_outputs_of_an_example_depend_on_it_alone(name):
    variables, encode, inputs = built(name)
    outputs = encode(variables, inputs)
    others = encode(variables, inputs.at[1:].set(1 - inputs[1:]))
    np.testing.assert_allclose(others[0], outputs[0], rtol=1e-6, atol=1e-6)
    assert jnp.abs(others[1:] - outputs[1:]).max() > 1e-3


def test_bfloat16_stays_close_to_float32():
    variables, encode, inputs = built("balanced vit")
    _, rough, _ = built("balanced vit in bfloat16")
    exact, close = encode(variables, inputs), rough(variables, inputs)
    assert jnp.abs(close - exact).max() > 0  # It does compute in another type.
    assert jnp.abs(close - exact).max() < 0.05 * exact.std()


WIDE = {
    "resnet": (ResNet(depth=10, width=32, stem="small"), (28, 28, 3)),
    "resnet, large stem": (ResNet(depth=10, width=32), (112, 112, 3)),
    "resnet, shortcuts": (ResNet(depth=18, width=32, stem="small"), (28, 28, 3)),
    "resnet, bottlenecks": (ResNet(depth=14, width=32, stem="small"), (28, 28, 3)),
    "resnet by groups": (
        ResNet(depth=10, width=32, stem="small", norm="group"),
        (28, 28, 3),
    ),
    "vit": (ViT(patch=4, width=64, depth=1, heads=4), (28, 28, 3)),
    "mixer": (Mixer(patch=4, width=64, depth=1), (28, 28, 3)),
    "decoder": (ResNetDecoder(28, width=32), (64,)),
    "clip resnet": (
        ClipResNet(depths=(1, 1, 1, 1), width=32, output=64, image_size=64),
        (64, 64, 3),
    ),
    "clip vit": (
        ClipViT(patch=8, width=128, layers=1, output=64, image_size=32),
        (32, 32, 3),
    ),
    "clip text": (
        ClipText(width=128, layers=1, output=64, context=16, vocabulary=100),
        (16,),
    ),
}
"""Networks and inputs of a size at which XLA fuses activations with reductions."""


@pytest.mark.parametrize("name", WIDE)
def test_bfloat16_stays_close_where_much_is_fused(name):
    # jaxlib 0.11.2 to 0.12.0.1 gave NaN here for every ResNet with a large last map.
    network, shape = WIDE[name]
    inputs = np.random.RandomState(1).rand(4, *shape).astype(np.float32)
    if name == "clip text":
        inputs = (100 * inputs).astype(np.int32)
    kinds = network, network.copy(compute="bfloat16")
    shapes, same = (
        jax.eval_shape(functools.partial(kind.init, train=False), KEY, inputs)
        for kind in kinds
    )
    assert shapes == same  # in float32, both
    variables = filled(shapes)
    exact, close = (
        jax.jit(functools.partial(kind.apply, train=False))(variables, inputs)
        for kind in kinds
    )
    assert exact.dtype == close.dtype == jnp.float32
    differences = jnp.square(close - exact).mean() ** 0.5
    assert 0 < differences < 0.03 * exact.std()


@functools.cache
def trained(name, devices):
    """Outputs, statistics and gradient of one training step on so many devices."""
    network, variables = NETWORKS[name], built(name)[0]

    def loss(params, others, key, inputs):
        outputs, changed = network.apply(
            {"params": params, **others},
            inputs,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return parallel.mean(outputs**2), (parallel.gather_constant(outputs), changed)

    mesh = parallel.make_mesh(jax.devices()[:devices])
    others = {kind: tree for kind, tree in variables.items() if kind != "params"}
    whole = (variables["params"], others, jax.random.key(0))
    step = parallel.data_parallel(jax.grad(loss, has_aux=True), mesh, whole=3)
    arguments = *parallel.replicate(whole, mesh), parallel.put(inputs_of(name, 8), mesh)
    return jax.tree.map(np.asarray, jax.jit(step)(*arguments))


# Batch statistics on devices are tested in norms_test.py and clip_test.py, too.
@pytest.mark.parametrize(
    "name",
    [
        "balanced vit",
        "mixer",
        pytest.param("side by side", marks=pytest.mark.slow),
        pytest.param("decoder", marks=pytest.mark.slow),
    ],
)
def test_training_does_not_see_the_number_of_devices(name):
    alone, together = trained(name, 1), trained(name, 8)

    def close(x, y):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * (1 + np.abs(y).max()))

    jax.tree.map(close, together, alone)


@pytest.mark.parametrize("name", ["balanced vit", "mixer"])
def test_training_drops(name):
    variables, encode, _ = built(name)
    _, (outputs, _) = trained(name, 1)
    assert np.abs(outputs - encode(variables, inputs_of(name, 8))).min(axis=1).all()


@every_encoder
def test_gray_images_are_images(name):
    variables = shapes_of(name, channels=1)
    first = [leaf for path, leaf in leaves(variables) if path[-2:] in STEMS]
    assert {leaf.shape[2] for leaf in first} == {1}


@every_network
def test_networks_are_values(name):
    network = NETWORKS[name]
    assert network == network.copy() and hash(network) == hash(network.copy())
