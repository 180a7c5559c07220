"""CLIP's image towers: published sizes, the release's numbers, names, types, errors."""

import functools
from pathlib import Path

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.config.nodes import build, from_json, node, to_json
from jax_rcl.networks import clip
from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.networks.heads import Normalized
from jax_rcl.weights.clip import architecture, to_variables

GOLDEN = Path(__file__).parents[1] / "golden"

RESNET = ClipResNet(depths=(1, 1, 1, 1), width=4, output=8, image_size=64)
VIT = ClipViT(patch=8, width=64, layers=2, output=8, image_size=16)
TOWERS = {"resnet": RESNET, "vit": VIT}
every_tower = pytest.mark.parametrize("kind", TOWERS)


@functools.cache
def traced(tower):
    """Shapes of the vectors of two images, and of the variables."""
    init = functools.partial(tower.init_with_output, train=False)
    side = tower.image_size
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    return jax.eval_shape(init, jax.random.key(0), images)


def tower_named(name):
    """The tower of this name."""
    fields = clip.fields(name)
    return (ClipResNet if "depths" in fields else ClipViT)(**fields)


def shapes(tower):
    return traced(tower)[1]


def flat(tree):
    return flax.traverse_util.flatten_dict(tree, sep="/")


def images_of(tower, count=8):
    side = tower.image_size
    draws = np.random.RandomState(3)
    colour = 2 * draws.randn(count, 1, 1, 3)
    return jnp.asarray(colour + draws.randn(count, side, side, 3), jnp.float32)


@functools.cache
def filled(tower):
    """Random variables, statistics included; scales and variances around one."""
    draws = np.random.RandomState(0)

    def fill(path, leaf):
        x = draws.randn(*leaf.shape)
        around = {"scale": 1 + 0.1 * x, "mean": 0.1 * x, "var": 1 + 0.1 * np.abs(x)}
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return jnp.asarray(around.get(path[-1].key, x / np.sqrt(fan_in)), jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes(tower))


@functools.cache
def encoder(tower):
    return jax.jit(functools.partial(tower.apply, train=False))


# Sizes.


@pytest.mark.parametrize(
    ("name", "published", "output"),
    [
        ("RN50", 38_316_896, 1024),
        ("RN101", 56_259_936, 512),
        pytest.param("RN50x4", 87_137_080, 640, marks=pytest.mark.slow),
        pytest.param("RN50x16", 167_328_912, 768, marks=pytest.mark.slow),
        ("ViT-B/32", 87_849_216, 512),
        ("ViT-B/16", 86_192_640, 512),
        pytest.param("ViT-L/14", 303_966_208, 768, marks=pytest.mark.slow),
    ],
)
def test_sizes_are_the_published_ones(name, published, output):
    vectors, variables = traced(tower_named(name))
    count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables["params"]))
    assert count == published
    assert vectors.shape == (2, output) and vectors.dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "places", "features"),
    [
        ("RN50", 49, 2048),
        ("RN101", 49, 2048),
        pytest.param("RN50x4", 81, 2560, marks=pytest.mark.slow),
    ],
)
def test_attention_pools_what_the_resnets_make_of_an_image(name, places, features):
    pool = shapes(tower_named(name))["params"]["pool"]
    assert pool["positions"].shape == (places + 1, features)


def test_rn101_has_318_statistics_in_its_batch_normalisations():
    # Two for each of 106; PyTorch counts batches in a third one.
    assert len(flat(shapes(tower_named("RN101"))["batch_stats"])) == 318 * 2 // 3


# Names.


def test_names_of_the_resnet_are_the_checkpoint_format():
    tower = RESNET.copy(depths=(1, 2, 1, 1), width=2)
    found = {name: leaf.shape for name, leaf in flat(shapes(tower)).items()}
    block = {
        "params/stage2_block1/conv1/kernel": (1, 1, 8, 4),
        "params/stage2_block1/conv2/kernel": (3, 3, 4, 4),
        "params/stage2_block1/conv3/kernel": (1, 1, 4, 16),
        "params/stage2_block1/downsample_conv/kernel": (1, 1, 8, 16),
    }
    for norm, width in [
        ("norm1", 4),
        ("norm2", 4),
        ("norm3", 16),
        ("downsample_norm", 16),
    ]:
        for kind, name in [
            ("params", "scale"),
            ("params", "bias"),
            ("batch_stats", "mean"),
            ("batch_stats", "var"),
        ]:
            block[f"{kind}/stage2_block1/{norm}/{name}"] = (width,)
    assert {n: s for n, s in found.items() if "stage2_block1" in n} == block
    assert not [n for n in found if "stage2_block2/downsample" in n]
    pool = {"params/pool/positions": (5, 64)}
    for name, width in [("query", 64), ("key", 64), ("value", 64), ("out", 8)]:
        pool[f"params/pool/{name}/kernel"] = (64, width)
        pool[f"params/pool/{name}/bias"] = (width,)
    assert {n: s for n, s in found.items() if "/pool/" in n} == pool
    stems = [found[f"params/stem{place}/kernel"] for place in (1, 2, 3)]
    assert stems == [(3, 3, 3, 1), (3, 3, 1, 1), (3, 3, 1, 2)]
    assert {name.split("/")[1] for name in found} == {
        *(f"stem{place}" for place in (1, 2, 3)),
        *(f"stem_norm{place}" for place in (1, 2, 3)),
        *("stage1_block1", "stage2_block1", "stage2_block2"),
        *("stage3_block1", "stage4_block1", "pool"),
    }


def test_names_of_the_transformer_are_the_checkpoint_format():
    found = {name: leaf.shape for name, leaf in flat(shapes(VIT)).items()}
    expected = {
        "params/patches/kernel": (8, 8, 3, 64),
        "params/class_token": (64,),
        "params/positions": (5, 64),
        "params/projection": (64, 8),
    }
    for norm in ("norm_before", "norm_after"):
        expected |= {f"params/{norm}/{name}": (64,) for name in ("scale", "bias")}
    for block in ("params/block1", "params/block2"):
        for norm in ("norm1", "norm2"):
            expected |= {f"{block}/{norm}/{name}": (64,) for name in ("scale", "bias")}
        for name, inputs, outputs in [
            *((f"attention/{map}", 64, 64) for map in ("query", "key", "value", "out")),
            ("hidden", 64, 256),
            ("out", 256, 64),
        ]:
            expected[f"{block}/{name}/kernel"] = (inputs, outputs)
            expected[f"{block}/{name}/bias"] = (outputs,)
    assert found == expected


# The release's numbers.


@functools.cache
def tiny(kind):
    """Outputs of a tiny model of the release, and ours by the same names."""
    with np.load(GOLDEN / f"clip_{kind}_tiny.npz") as file:
        golden = dict(file)
    start = "state_dict/"
    state = {
        name.removeprefix(start): array
        for name, array in golden.items()
        if name.startswith(start)
    }
    found = architecture(state, heads=2, text_heads=1)  # of 64 each
    image = (ClipResNet if found.kind == "resnet" else ClipViT)(**found.visual)
    text = ClipText(**found.text)
    tokens = jnp.asarray(golden["text"])
    init = functools.partial(text.init, train=False)
    wanted = {
        "visual": shapes(image),
        "text": jax.eval_shape(init, jax.random.key(0), tokens),
        "logit_scale": jax.ShapeDtypeStruct((), jnp.float32),
    }
    variables = jax.tree.map(jnp.asarray, to_variables(state, wanted))
    images = jnp.asarray(golden["image"].transpose(0, 2, 3, 1))
    ours = {
        "image_features": encoder(image)(variables["visual"], images),
        "text_features": encoder(text)(variables["text"], tokens),
    }
    directions = [x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in ours.values()]
    scale = jnp.exp(variables["logit_scale"])
    return golden, ours | {"logits_per_image": scale * directions[0] @ directions[1].T}


@pytest.mark.parametrize("kind", ["rn", "vit"])
@pytest.mark.parametrize(
    "name", ["image_features", "text_features", "logits_per_image"]
)
def test_a_tiny_model_agrees_with_the_release(kind, name):
    golden, ours = tiny(kind)
    difference = np.abs(golden[name] - ours[name]).max()
    assert difference < 1e-4 * golden[name].std()


# Types, and who sees whom.


@every_tower
def test_variables_and_vectors_are_float32(kind):
    # How close they are to those of float32 is tested in every_network_test.py.
    vectors, variables = traced(TOWERS[kind].copy(compute="bfloat16"))
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert vectors.dtype == jnp.float32


@every_tower
def test_the_vector_of_an_image_depends_on_it_alone(kind):
    tower = TOWERS[kind]
    variables, images = filled(tower), images_of(tower)
    vectors = encoder(tower)(variables, images)
    others = encoder(tower)(variables, images.at[1:].set(-images[1:]))
    np.testing.assert_allclose(others[0], vectors[0], rtol=1e-5, atol=1e-5)
    assert jnp.abs(others[1:] - vectors[1:]).max() > 1e-2


def test_normalized_leaves_the_names_alone_and_moves_the_pixels():
    tower = VIT
    wrapped = Normalized(tower, clip.MEAN, clip.STD)
    init = functools.partial(wrapped.init, train=False)
    pixels = (images_of(tower) * 0.1 + 0.5).clip(0, 1)
    found = jax.eval_shape(init, jax.random.key(0), pixels)
    assert flat(found).keys() == flat(shapes(tower)).keys()
    mean, std = (jnp.asarray(x).reshape(1, 1, 1, 3) for x in (clip.MEAN, clip.STD))
    np.testing.assert_allclose(
        encoder(wrapped)(filled(tower), pixels),
        encoder(tower)(filled(tower), (pixels - mean) / std),
        rtol=1e-4,
        atol=1e-5,
    )


@functools.cache
def trained(tower, devices, gradient=True):
    """Gradient, vectors and statistics of one training step on so many devices."""
    variables = filled(tower)

    def loss(params, statistics, images):
        vectors, changed = tower.apply(
            {"params": params, **statistics},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        return parallel.mean(vectors**2), (parallel.gather_constant(vectors), changed)

    mesh = parallel.make_mesh(jax.devices()[:devices])
    statistics = {k: tree for k, tree in variables.items() if k != "params"}
    whole = parallel.replicate((variables["params"], statistics), mesh)
    run = jax.grad(loss, has_aux=True) if gradient else loss
    step = parallel.data_parallel(run, mesh, whole=2)
    images = parallel.put(np.asarray(images_of(tower)), mesh)
    return jax.tree.map(np.asarray, jax.jit(step)(*whole, images))


def close(x, y):
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * (1 + np.abs(y).max()))


def test_training_does_not_see_the_number_of_devices():
    alone = trained(RESNET, 1, gradient=False)[1]
    jax.tree.map(close, trained(RESNET, 2)[1], alone)


@pytest.mark.slow
@every_tower
def test_its_gradient_does_not_see_the_number_of_devices(kind):
    jax.tree.map(close, trained(TOWERS[kind], 2), trained(TOWERS[kind], 1))


@every_tower
def test_training_moves_everything(kind):
    gradient, (_, changed) = trained(TOWERS[kind], 2)
    still = {name for name, x in flat(gradient).items() if np.abs(x).max() < 1e-6}
    # Of a key's bias, which adds the same to all scores of a query.
    assert all(name.endswith("key/bias") for name in still)
    old = filled(TOWERS[kind]).get("batch_stats", {})
    for name, x in flat(changed.get("batch_stats", {})).items():
        assert np.abs(x - flat(old)[name]).max() > 1e-6


@pytest.mark.slow
def test_local_statistics_are_those_of_a_share_or_of_a_ghost_batch():
    local = RESNET.copy(norm="local")
    shares = trained(local, 2, gradient=False)
    ghosts = trained(local.copy(ghost_batch=4), 1, gradient=False)
    jax.tree.map(close, shares, ghosts)
    everyone = trained(RESNET, 1, gradient=False)
    assert np.abs(shares[1][0] - everyone[1][0]).max() > 1e-2


# How they start.


def started(tower, names):
    """Parameters at the start, of which the compiler keeps those of these names."""

    @jax.jit
    def init(key):
        params = tower.init(key, images_of(tower, 1), train=False)["params"]
        return {name: flat(params)[name] for name in names}

    return {name: np.asarray(x) for name, x in init(jax.random.key(0)).items()}


@pytest.fixture(scope="module")
def resnet_started():
    """What the tests below ask of a ResNet with a wide output, by one program."""
    tower = RESNET.copy(output=128)
    pool = ("positions", "query/kernel", "key/kernel", "value/kernel", "value/bias")
    names = [name for name in flat(shapes(tower)["params"]) if "/scale" in name]
    names += [f"pool/{name}" for name in (*pool, "out/kernel")]
    return started(tower, [*names, "stage4_block1/conv2/kernel"])


def test_blocks_of_the_resnet_start_as_their_shortcut(resnet_started):
    scales = {name: x for name, x in resnet_started.items() if "/scale" in name}
    zero = {name for name, x in scales.items() if not x.any()}
    assert zero == {f"stage{stage}_block1/norm3/scale" for stage in (1, 2, 3, 4)}
    assert all((scales[name] == 1).all() for name in set(scales) - zero)


def test_the_attention_pool_starts_normal_by_width(resnet_started):
    params = resnet_started
    for name in ("query", "key", "value"):
        kernel = params[f"pool/{name}/kernel"]
        assert abs(kernel.std() * 128**0.5 - 1) < 0.02
        assert abs(kernel).max() * 128**0.5 > 2.5
    assert 0.9 * 128**-0.5 < abs(params["pool/value/bias"]).max() <= 128**-0.5
    for name in ("pool/positions", "pool/out/kernel"):
        assert abs(params[name].std() * 128**0.5 - 1) < 0.1


def test_convolutions_start_uniform_by_fan_in(resnet_started):
    kernel = resnet_started["stage4_block1/conv2/kernel"]
    bound = (9 * 32) ** -0.5
    assert 0.99 * bound < abs(kernel).max() <= bound * 1.0001
    assert abs(kernel.std() / bound - 3**-0.5) < 0.02


def test_the_transformer_starts_as_pytorchs_but_for_tokens_and_projection():
    tower = VIT.copy(layers=1, output=64)
    normal = ("class_token", "positions", "projection")
    bounds = {
        "patches/kernel": 192**-0.5,
        "block1/attention/query/kernel": (6 / 256) ** 0.5,
        "block1/attention/out/kernel": 1 / 8,
        "block1/hidden/kernel": 1 / 8,
        "block1/hidden/bias": 1 / 8,
        "block1/out/kernel": 1 / 16,
        "block1/out/bias": 1 / 16,
    }
    zero = [f"block1/attention/{name}/bias" for name in ("query", "value", "out")]
    params = started(tower, [*normal, *bounds, *zero])
    for name in normal:
        assert abs(params[name].std() * 8 - 1) < 0.3
        assert abs(params[name]).max() * 8 > 1.8
    for name, bound in bounds.items():
        assert 0.9 * bound < abs(params[name]).max() <= bound * 1.0001
        assert abs(params[name].std() / bound - 3**-0.5) < 0.1
    assert not any(params[name].any() for name in zero)


# Presets and errors.


@pytest.mark.parametrize("name", clip.TOWERS)
def test_a_config_names_a_published_tower(name):
    tower = tower_named(name)
    config = node(type(tower), **clip.fields(name))
    assert build(config) == build(from_json(to_json(config))) == tower
    assert hash(tower) == hash(tower_named(name))


def test_fields_are_the_callers_own():
    clip.fields("RN50")["width"] = 1
    assert clip.fields("RN50")["width"] == 64


def test_an_unknown_tower_names_the_known_ones():
    with pytest.raises(ValueError, match=r"no CLIP tower 'RN51'; .* RN50, RN101, "):
        tower_named("RN51")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("RN50x4", (224, 224, 3), r"ClipResNet needs images of 288x288 .* got 224x224"),
        (
            "RN50",
            (224, 192, 3),
            r"images of 224x224 .* got 224x192.* resize them to 22",
        ),
        ("ViT-B/32", (32, 32, 3), r"ClipViT needs images of 224x224 .* got 32x32"),
        ("ViT-B/16", (224, 224, 1), "3 channels, red, green and blue; got 1"),
        ("RN101", (224, 224, 4), "3 channels, red, green and blue; got 4"),
    ],
)
def test_other_images_are_an_error_that_says_what_the_tower_needs(name, shape, message):
    init = functools.partial(tower_named(name).init, train=False)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(init, jax.random.key(0), images)


@pytest.mark.parametrize(
    ("tower", "fields", "message"),
    [
        (RESNET, {"depths": (3, 4, 0, 3)}, r"depths \(3, 4, 0, 3\) must be at least 1"),
        (RESNET, {"width": 5}, r"width 5 must be a multiple of 2.*Try 4"),
        (RESNET, {"image_size": 230}, "image_size 230 must be a multiple of 32.*224"),
        (RESNET, {"ghost_batch": 4}, 'ghost_batch 4 is for norm="local"'),
        (VIT, {"width": 100}, "width 100 must be a multiple of 64.*Try 128"),
        (VIT, {"heads": 5}, "width 64 must be a multiple of 5, as `heads`.*Try 65"),
        (VIT, {"image_size": 30}, "image_size 30 must be a multiple of 8.*Try 32"),
    ],
)
def test_a_tower_that_cannot_be_is_an_error(tower, fields, message):
    with pytest.raises(ValueError, match=message):
        tower.copy(**fields)


@pytest.mark.parametrize(
    ("width", "heads"),
    [(768, 12), (1024, 16), (1280, 16), (1408, 16), (1664, 16), (128, 2), (320, 5)],
)
def test_published_transformers_have_their_heads(width, heads):
    tower = ClipViT(patch=8, width=width, layers=1, output=8, image_size=16)
    key, images = jax.random.key(0), jnp.zeros((1, 16, 16, 3))

    def scores(tower):
        lines = str(jax.make_jaxpr(lambda: tower.init(key, images, train=False))())
        return f"f32[1,{heads},5,5]" in lines

    assert scores(tower) and scores(tower.copy(heads=heads))
    assert not scores(tower.copy(heads=2 * heads))
