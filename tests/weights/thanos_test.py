"""Checkpoints of Thanos's authors fill its networks; trajectories_test trains them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.core import Variables
from jax_rcl.networks.decoder import ResNetDecoder
from jax_rcl.networks.heads import Linear
from jax_rcl.networks.vit import PERFECTLY_BALANCED, ViT
from jax_rcl.weights.imports import ImportThanos
from jax_rcl.weights.rules import WeightsMismatch
from jax_rcl.weights.thanos import to_variables

WIDTH, HEADS, HIDDEN, DEPTH, SIDE = 8, 2, 12, 2, 8
SIZES = {"width": WIDTH, "heads": HEADS, "mlp_width": HIDDEN, "depth": DEPTH}
ENCODER = ViT(**{**PERFECTLY_BALANCED, **SIZES})
DECODER = ResNetDecoder(32, 3, width=4)


@functools.cache
def shapes():
    """All parts of a run of two encoders, as shapes."""

    def network(module, *size):
        one = jax.ShapeDtypeStruct(size, jnp.float32)
        init = functools.partial(module.init, train=False)
        return {**jax.eval_shape(init, jax.random.key(0), one)}

    encoder = network(ENCODER, 1, SIDE, SIDE, 3)
    return {
        "encoder": encoder,
        "encoder_auto": encoder,
        "head": network(Linear(3), 1, 2 * WIDTH),
        "decoder": network(DECODER, 1, WIDTH),
    }


def names(suffix):
    """Shapes of an encoder by the names of the authors' modules."""
    before, after = f"ImagePreEncoder{suffix}.emb", f"ImageEncoder{suffix}"
    found = {f"{before}.0.weight": (WIDTH, 48), f"{before}.0.bias": (WIDTH,)}
    found |= {f"{before}.1.{x}": (WIDTH,) for x in ("weight", "bias")}
    # The table of positions has rows for longer sequences, and two more.
    found |= {f"{after}.pe": (67, WIDTH), f"{after}.cls_token": (1, 1, WIDTH)}
    for block in range(DEPTH):
        here = f"{after}.f.{block}"
        found[f"{here}.mha.f.f.qkv.weight"] = (3 * WIDTH, WIDTH)
        for norm in ("mha.f.norm", "ffn.f.norm"):
            found |= {f"{here}.{norm}.{x}": (WIDTH,) for x in ("weight", "bias")}
        found[f"{here}.ffn.f.f.f.0.weight"] = (HIDDEN, WIDTH)
        found[f"{here}.ffn.f.f.f.0.bias"] = (HIDDEN,)
        found[f"{here}.ffn.f.f.f.3.weight"] = (WIDTH, HIDDEN)
        found[f"{here}.ffn.f.f.f.3.bias"] = (WIDTH,)
    return found | {f"{after}.f.{DEPTH}.{x}": (WIDTH,) for x in ("weight", "bias")}


def decoder_names():
    """Those of a decoder of width 4; a map is enlarged in front of a convolution."""
    found = {"linear.weight": (512, WIDTH), "linear.bias": (512,)}
    found["conv1.weight"] = (3, 4, 3, 3)
    narrow = 32
    for stage, wide in enumerate((16, 8, 4, 4), start=1):
        for place in (0, 1):
            here = f"layer{stage}.{place}"
            enlarges = place == 0 and stage < 4
            second = f"{here}.conv2.1.weight" if enlarges else f"{here}.conv2.weight"
            found[f"{here}.conv1.weight"] = (narrow, narrow, 3, 3)
            found[second] = (wide, narrow, 3, 3)
            norms = {"bn1": narrow, "bn2": wide}
            if enlarges:
                found[f"{here}.upsample.0.1.weight"] = (wide, narrow, 1, 1)
                norms["upsample.1"] = wide
            for norm, width in norms.items():
                for x in ("weight", "bias", "running_mean", "running_var"):
                    found[f"{here}.{norm}.{x}"] = (width,)
                found[f"{here}.{norm}.num_batches_tracked"] = ()
            narrow = wide
    return {f"ImageDecoder.decoder.{name}": x for name, x in found.items()}


@functools.cache
def state_of(joint):
    """A checkpoint, in which every module has two names."""
    found = {
        "Classifier.classification_layer.weight": (3, (1 + joint) * WIDTH),
        "Classifier.classification_layer.bias": (3,),
    }
    suffixes = ("Sup", "Auto") if joint else ("",)
    for suffix in suffixes:
        found |= names(suffix)
    found |= decoder_names() if joint else {}
    random = np.random.default_rng(0)
    drawn = {
        name: random.normal(size=x).astype(np.float32) for name, x in found.items()
    }
    twice = ("module_dict.", "model.module_dict.")
    return {f"{start}{name}": x for start in twice for name, x in drawn.items()}


def test_every_array_of_two_encoders_and_a_decoder_has_its_place():
    state, found = state_of(True), to_variables(state_of(True), shapes())
    sizes = functools.partial(jax.tree.map, lambda x: x.shape)
    assert sizes(found) == sizes(shapes())
    for part, suffix in (("encoder", "Sup"), ("encoder_auto", "Auto")):
        params = found[part]["params"]
        # Numbers of a patch lie by rows, columns and channels there, too.
        patches = state[f"module_dict.ImagePreEncoder{suffix}.emb.0.weight"]
        np.testing.assert_array_equal(
            params["patches"]["kernel"].reshape(48, WIDTH), patches.T
        )
        table = state[f"module_dict.ImageEncoder{suffix}.pe"]
        np.testing.assert_array_equal(params["positions"][0], table[:5])
        qkv = state[f"module_dict.ImageEncoder{suffix}.f.1.mha.f.f.qkv.weight"]
        key = params["block2"]["attention"]["key"]["kernel"]
        row = WIDTH + WIDTH // HEADS + 1  # of keys, the second head, its second number
        np.testing.assert_array_equal(key[:, 1, 1], qkv[row])


def test_a_decoder_reads_its_linear_layer_as_the_authors_lay_it_out():
    found = to_variables(state_of(True), {"decoder": shapes()["decoder"]})
    weight = state_of(True)["module_dict.ImageDecoder.decoder.linear.weight"]
    kernel = found["decoder"]["params"]["project"]["kernel"]
    # Theirs is [channels, rows, columns], ours [rows, columns, channels].
    theirs = weight.reshape(32, 4, 4, WIDTH)
    np.testing.assert_array_equal(
        kernel.reshape(WIDTH, 4, 4, 32)[:, 1, 2, 3], theirs[3, 1, 2]
    )


def test_a_rule_fills_an_encoder_wherever_it_is(tmp_path):
    file = str(tmp_path / "best.npz")
    np.savez(file, **state_of(False))
    empty = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes()["encoder"])
    variables = Variables({"encoder": empty["params"]}, {}, {"encoder": {}})
    found = ImportThanos(file)(variables).params["encoder"]
    expected = to_variables(state_of(False), {"encoder": shapes()["encoder"]})
    jax.tree.map(np.testing.assert_array_equal, found, expected["encoder"]["params"])
    frozen = {"encoder": {"params": {"part1": empty["params"]}}}
    place = "frozen/encoder/params/part1"
    probe = ImportThanos(file, params=place)(Variables({}, frozen, {}))
    jax.tree.map(
        np.testing.assert_array_equal, probe.frozen["encoder"]["params"]["part1"], found
    )
    with pytest.raises(
        ValueError, match="ImportThanos: nothing below 'params/encoder'"
    ):
        ImportThanos(file)(Variables({}, {}, {}))


def test_other_files_are_refused():
    with pytest.raises(WeightsMismatch, match="ResNets of that code cannot be read"):
        to_variables({"module_dict.ImageEncoder.conv1.weight": np.zeros(1)}, shapes())
    deeper = ViT(**{**PERFECTLY_BALANCED, **SIZES, "depth": 3})
    one = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    init = functools.partial(deeper.init, train=False)
    wanted = {"encoder": {**jax.eval_shape(init, jax.random.key(0), one)}}
    with pytest.raises(WeightsMismatch, match=r"\+ encoder/params/block3/attention"):
        to_variables(state_of(False), wanted)
