"""CLIP's text tower: published sizes, what it reads of a text, how it starts."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.config.nodes import build, from_json, node, to_json
from jax_rcl.networks.clip_block import attend, quick_gelu
from jax_rcl.networks.clip_text import ClipText

TINY = ClipText(width=32, layers=2, output=8, context=7, vocabulary=10, heads=4)
TEXTS = np.asarray([[1, 4, 2, 9, 0, 0, 0], [3, 9, 0, 0, 0, 0, 0]], np.int32)


@functools.cache
def shapes(tower):
    init = functools.partial(tower.init, train=False)
    tokens = jax.ShapeDtypeStruct((2, tower.context), jnp.int32)
    return jax.eval_shape(init, jax.random.key(0), tokens)


def flat(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


@functools.cache
def filled(tower):
    draws = np.random.RandomState(0)

    def fill(path, leaf):
        x = draws.randn(*leaf.shape)
        x = 1 + 0.1 * x if path[-1].key == "scale" else x / np.sqrt(len(x))
        return jnp.asarray(x, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes(tower))


@functools.cache
def encoder(tower):
    return jax.jit(functools.partial(tower.apply, filled(tower), train=False))


def vectors(tokens, tower=TINY):
    return np.asarray(encoder(tower)(jnp.asarray(tokens, jnp.int32)))


@pytest.mark.parametrize(
    ("width", "output", "visual", "total"),
    [
        pytest.param(512, 1024, 38_316_896, 102_007_137, id="RN50"),
        pytest.param(512, 512, 56_259_936, 119_688_033, id="RN101"),
        pytest.param(640, 640, 87_137_080, 178_300_601, id="RN50x4"),
        pytest.param(768, 768, 167_328_912, 290_979_217, id="RN50x16"),
        pytest.param(512, 512, 87_849_216, 151_277_313, id="ViT-B/32"),
        pytest.param(512, 512, 86_192_640, 149_620_737, id="ViT-B/16"),
        pytest.param(768, 768, 303_966_208, 427_616_513, id="ViT-L/14"),
    ],
)
def test_with_the_image_tower_and_a_scale_sizes_are_the_published_ones(
    width, output, visual, total
):
    tower = ClipText(width=width, layers=12, output=output)
    leaves = jax.tree.leaves(shapes(tower))
    assert visual + sum(int(np.prod(x.shape)) for x in leaves) + 1 == total


def test_names_are_the_checkpoint_format():
    found = {name: leaf.shape for name, leaf in flat(shapes(TINY)).items()}
    expected = {
        "params/tokens": (10, 32),
        "params/positions": (7, 32),
        "params/projection": (32, 8),
        "params/norm_after/scale": (32,),
        "params/norm_after/bias": (32,),
    }
    for block in ("params/block1", "params/block2"):
        for norm in ("norm1", "norm2"):
            expected |= {f"{block}/{norm}/{name}": (32,) for name in ("scale", "bias")}
        for name, inputs, outputs in [
            *((f"attention/{map}", 32, 32) for map in ("query", "key", "value", "out")),
            ("hidden", 32, 128),
            ("out", 128, 32),
        ]:
            expected[f"{block}/{name}/kernel"] = (inputs, outputs)
            expected[f"{block}/{name}/bias"] = (outputs,)
    assert found == expected


def test_heads_are_64_wide_unless_told():
    told = TINY.copy(width=128, layers=1, heads=2)
    expected = vectors(TEXTS, told)
    np.testing.assert_array_equal(vectors(TEXTS, told.copy(heads=None)), expected)
    assert np.abs(vectors(TEXTS, told.copy(heads=4)) - expected).max() > 1e-3


def test_what_stands_behind_the_end_has_no_influence():
    other = TEXTS.copy()
    other[0, 4:] = [5, 8, 3]
    other[1, 2:] = 7
    np.testing.assert_allclose(vectors(other), vectors(TEXTS), rtol=1e-5, atol=1e-6)


def test_what_stands_before_the_end_has():
    for place in range(3):
        other = TEXTS.copy()
        other[0, place] = 6
        changed = np.abs(vectors(other) - vectors(TEXTS)).max(axis=1)
        assert changed[0] > 1e-2 and changed[1] < 1e-6


def test_the_end_is_the_first_token_with_the_largest_id():
    twice = TEXTS.copy()
    twice[0, 5] = 9
    np.testing.assert_allclose(vectors(twice), vectors(TEXTS), rtol=1e-5, atol=1e-6)
    later = TEXTS.copy()
    later[0] = [1, 4, 2, 7, 9, 0, 0]
    assert np.abs(vectors(later)[0] - vectors(TEXTS)[0]).max() > 1e-2


def test_rows_may_be_shorter_than_the_context():
    np.testing.assert_allclose(
        vectors(TEXTS[:, :4]), vectors(TEXTS), rtol=1e-5, atol=1e-6
    )


def test_rows_longer_than_the_context_are_an_error():
    tokens = jax.ShapeDtypeStruct((2, 78), jnp.int32)
    init = functools.partial(ClipText(512, 1, 8).init, train=False)
    with pytest.raises(ValueError, match="reads 77 tokens at most; got rows of 78"):
        jax.eval_shape(init, jax.random.key(0), tokens)


def test_an_id_outside_the_vocabulary_gives_nan():
    other = TEXTS.copy()
    other[0, 3] = 10
    found = np.isnan(vectors(other))
    assert found[0].all() and not found[1].any()


def test_types_are_float32_also_in_bfloat16():
    rough = TINY.copy(compute="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(shapes(rough))} == {jnp.dtype("float32")}
    exact, close = vectors(TEXTS), vectors(TEXTS, rough)
    assert close.dtype == np.float32
    assert 0 < np.abs(close - exact).max() < 0.05 * exact.std()


@pytest.mark.parametrize("looks", ["everywhere", "back"])
def test_attention_follows_the_equation(looks):
    draws = np.random.RandomState(0)
    query, key, value = draws.randn(3, 2, 5, 6)
    expected = np.zeros_like(value)
    for row in range(2):
        for head in (slice(0, 2), slice(2, 4), slice(4, 6)):
            for t in range(5):
                seen = t + 1 if looks == "back" else 5
                scores = key[row, :seen, head] @ query[row, t, head] / np.sqrt(2)
                weights = np.exp(scores) / np.exp(scores).sum()
                expected[row, t, head] = weights @ value[row, :seen, head]
    tokens = (jnp.asarray(x, jnp.float32) for x in (query, key, value))
    found = attend(*tokens, heads=3, looks=looks)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_quick_gelu_has_its_values():
    found = quick_gelu(jnp.asarray([1.0, -1.0, 0.0]))
    np.testing.assert_allclose(found, [0.8457957660, -0.1542042340, 0], rtol=1e-5)


def test_gelu_is_another_activation():
    other = TINY.copy(activation="gelu")
    difference = np.abs(vectors(TEXTS, other) - vectors(TEXTS)).max()
    assert 1e-4 < difference < 0.2


def test_products_start_normal_by_width_and_depth():
    tower = TINY.copy(width=64, layers=2, output=64, vocabulary=200, context=70)
    deviations = {
        "tokens": 0.02,
        "positions": 0.01,
        "projection": 1 / 8,
        "block2/attention/query/kernel": 1 / 8,
        "block2/attention/out/kernel": 1 / 8 / 2,
        "block2/hidden/kernel": 128**-0.5,
        "block2/out/kernel": 1 / 8 / 2,
    }
    zero = [f"block2/attention/{name}/bias" for name in ("query", "value", "out")]
    uniform = "block2/out/bias"

    @jax.jit  # of which the compiler keeps these alone
    def started(key):
        params = flat(tower.init(key, jnp.asarray(TEXTS), train=False)["params"])
        return {name: params[name] for name in [*deviations, *zero, uniform]}

    params = started(jax.random.key(0))
    for name, deviation in deviations.items():
        assert abs(params[name].std() / deviation - 1) < 0.05
        assert abs(params[name]).max() > 2.5 * deviation
    assert not any(params[name].any() for name in zero)
    assert 0.9 / 16 < abs(params[uniform]).max() <= 1 / 16


def test_a_config_names_a_tower():
    config = node(ClipText, width=64, layers=1, output=8)
    assert build(config) == build(from_json(to_json(config))) == ClipText(64, 1, 8)
    assert hash(build(config)) == hash(ClipText(64, 1, 8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": None}, "width 32 must be a multiple of 64.*unless `heads`"),
        ({"heads": 5}, "width 32 must be a multiple of 5, as `heads`.*Try 30"),
        ({"heads": 0}, "ClipText.heads 0 must be at least 1"),
    ],
)
def test_a_tower_that_cannot_be_is_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        TINY.copy(**fields)
