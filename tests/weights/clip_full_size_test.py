"""CLIP's published sizes run on weights in OpenAI's names, image and text towers."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks import clip as towers
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.weights.clip import architecture, from_variables, to_variables

pytestmark = pytest.mark.slow

NAMES = ("RN50", "RN101", "ViT-B/32")
VISUAL_PARAMETERS = {"RN50": 38_316_896, "RN101": 56_259_936, "ViT-B/32": 87_849_216}
PARAMETERS = {"RN50": 102_007_137, "RN101": 119_688_033, "ViT-B/32": 151_277_313}
TEXT = {"width": 512, "layers": 12}
TOKENS = (49406, 320, 1125, 539, 320, 2368, 49407, 0)


def weight(name, shape):
    """An array from its name and shape alone, of a size that keeps signals alive."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    draws = np.random.RandomState(zlib.crc32(name.encode()))
    x = np.asarray(draws.standard_normal(shape), np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "logit_scale":
        return np.asarray(2, np.float32)
    if leaf == "running_var":
        return 1 + np.float32(0.5) * np.abs(x)
    if leaf == "running_mean" or leaf.endswith("bias"):
        return np.float32(0.1) * x
    if len(shape) == 1:
        return (1 if leaf == "weight" else 0) + np.float32(0.1) * x
    return x / np.float32(np.sqrt(np.prod(shape[1:])))


@functools.cache
def networks(name):
    fields = towers.fields(name)
    side = fields["image_size"]
    image = towers.ClipResNet if "depths" in fields else towers.ClipViT
    text = ClipText(**TEXT, output=fields["output"])
    return {
        "visual": (image(**fields), np.ones((1, side, side, 3), np.float32)),
        "text": (text, np.asarray([TOKENS], np.int32)),
    }


def shapes_of(name):
    shapes = {
        part: jax.eval_shape(
            functools.partial(network.init, train=False), jax.random.key(0), inputs
        )
        for part, (network, inputs) in networks(name).items()
    }
    return shapes | {"logit_scale": jax.ShapeDtypeStruct((), np.float32)}


def state_of(shapes):
    """A state dict in OpenAI's names, with what else their archives hold."""
    empty = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), shapes)
    sizes = {n: x.shape for n, x in from_variables(empty).items()}
    sizes |= {
        name.replace("running_mean", "num_batches_tracked"): ()
        for name in sizes
        if name.endswith("running_mean")
    }
    scalars = {n: np.asarray(1) for n in ("input_resolution", "context_length")}
    return {n: weight(n, shape) for n, shape in sizes.items()} | scalars


def count(shapes):
    return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", NAMES)
def test_a_published_size_goes_in_runs_and_comes_back(name):
    shapes = shapes_of(name)
    visual, text = (count(shapes[part]["params"]) for part in ("visual", "text"))
    assert visual == VISUAL_PARAMETERS[name]
    assert visual + text + count(shapes["logit_scale"]) == PARAMETERS[name]

    if name == "RN101":  # is made of more of RN50's blocks
        return
    state = state_of(shapes)
    found = architecture(state)
    assert found.visual == towers.fields(name)
    sizes = {"output": found.visual["output"], "context": 77, "vocabulary": 49408}
    assert found.text == TEXT | sizes

    variables = to_variables(state, shapes)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    back = from_variables(variables)
    assert all(np.array_equal(x, state[n]) for n, x in back.items())
    left = set(state) - set(back)
    assert all(n.endswith(("tracked", "resolution", "length")) for n in left)

    random = np.random.RandomState(0)
    for part, (network, inputs) in networks(name).items():
        if part == "visual":
            inputs = random.standard_normal(inputs.shape).astype(np.float32)
        apply = jax.jit(functools.partial(network.apply, train=False))
        vector = apply(variables[part], jnp.asarray(inputs))
        assert vector.shape == (1, towers.fields(name)["output"])
        assert np.isfinite(vector).all() and np.std(vector) > 1e-3
