"""CLIP's weights fill both towers from any of three namings, and come back exactly."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.weights import clip
from jax_rcl.weights.clip import (
    Architecture,
    architecture,
    from_variables,
    to_variables,
)
from jax_rcl.weights.rules import WeightsMismatch, flatten

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
KINDS = ("resnet", "vit")
VISUAL = {
    "resnet": {"depths": (2, 1, 1, 1), "width": 8, "output": 32, "image_size": 64},
    "vit": {"patch": 16, "width": 128, "layers": 2, "output": 32, "image_size": 48},
}
TEXT = {"width": 64, "layers": 2, "output": 32, "context": 12, "vocabulary": 64}
SCALARS = {"input_resolution": 64, "context_length": 12, "vocab_size": 64}


@functools.cache
def state_of(kind):
    """A state dict in OpenAI's names, float16 as theirs; not to be changed."""
    with np.load(GOLDEN / f"clip_{kind.replace('resnet', 'rn')}_tiny.npz") as file:
        names = [name for name in file if name.startswith("state_dict/")]
        return {name.removeprefix("state_dict/"): file[name] for name in names}


@functools.cache
def shapes_of(kind):
    """All parts of a model, as shapes."""
    visual = {"resnet": ClipResNet, "vit": ClipViT}[kind](**VISUAL[kind])
    size = VISUAL[kind]["image_size"]
    inputs = {
        visual: jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),
        ClipText(**TEXT): jax.ShapeDtypeStruct((1, 12), jnp.int32),
    }
    towers = [
        jax.eval_shape(
            functools.partial(network.init, train=False), jax.random.key(0), x
        )
        for network, x in inputs.items()
    ]
    scale = jax.ShapeDtypeStruct((), jnp.float32)
    return dict(zip(("visual", "text"), towers, strict=True)) | {"logit_scale": scale}


@functools.cache
def variables_of(kind):
    return to_variables(state_of(kind), shapes_of(kind))


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_has_the_structure_shapes_and_types_of_the_towers(kind):
    found, shapes = variables_of(kind), shapes_of(kind)
    assert jax.tree.structure(found) == jax.tree.structure(shapes)
    jax.tree.map(
        lambda x, s: np.testing.assert_equal((x.shape, x.dtype), (s.shape, s.dtype)),
        found,
        shapes,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_back_bit_for_bit_in_openais_names(kind):
    back = from_variables(variables_of(kind))
    expected = {n: x for n, x in state_of(kind).items() if "num_batches" not in n}
    assert set(back) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(back[name], array.astype(np.float32))
        assert back[name].shape == array.shape
        assert back[name].flags.c_contiguous
    assert_same(to_variables(back, shapes_of(kind)), variables_of(kind))


def test_each_array_of_a_resnet_is_where_it_belongs():
    state, visual = state_of("resnet"), variables_of("resnet")["visual"]
    params, stats = visual["params"], visual["batch_stats"]
    equal = np.testing.assert_array_equal
    kernel = state["visual.conv2.weight"].transpose(2, 3, 1, 0)
    equal(params["stem2"]["kernel"], kernel)
    equal(stats["stem_norm3"]["var"], state["visual.bn3.running_var"])
    kernel = state["visual.layer1.1.conv2.weight"].transpose(2, 3, 1, 0)
    equal(params["stage1_block2"]["conv2"]["kernel"], kernel)
    mean = stats["stage1_block1"]["downsample_norm"]["mean"]
    equal(mean, state["visual.layer1.0.downsample.1.running_mean"])
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "c")):
        for leaf, name in (("kernel", "weight"), ("bias", "bias")):
            array = state[f"visual.attnpool.{theirs}_proj.{name}"]
            equal(params["pool"][ours][leaf], array.T)
    positions = state["visual.attnpool.positional_embedding"]
    equal(params["pool"]["positions"], positions)


@pytest.mark.parametrize("before", ["visual.", ""])
def test_each_array_of_a_transformer_is_where_it_belongs(before):
    state = state_of("vit")
    params = variables_of("vit")["visual" if before else "text"]["params"]
    equal = np.testing.assert_array_equal
    there = f"{before}transformer.resblocks.1"
    weight = state[f"{there}.attn.in_proj_weight"]
    bias = state[f"{there}.attn.in_proj_bias"]
    width, block = weight.shape[1], params["block2"]
    for place, name in enumerate(("query", "key", "value")):
        rows = slice(place * width, (place + 1) * width)
        equal(block["attention"][name]["kernel"], weight[rows].T)
        equal(block["attention"][name]["bias"], bias[rows])
    equal(block["attention"]["out"]["kernel"], state[f"{there}.attn.out_proj.weight"].T)
    equal(block["hidden"]["kernel"], state[f"{there}.mlp.c_fc.weight"].T)
    equal(block["out"]["bias"], state[f"{there}.mlp.c_proj.bias"])
    equal(block["norm2"]["scale"], state[f"{there}.ln_2.weight"])
    equal(params["positions"], state[f"{before}positional_embedding"])
    projection = state["visual.proj" if before else "text_projection"]
    equal(params["projection"], projection)  # not transposed
    if before:
        patches = state["visual.conv1.weight"].transpose(2, 3, 1, 0)
        equal(params["patches"]["kernel"], patches)
        equal(params["class_token"], state["visual.class_embedding"])
        equal(params["norm_before"]["scale"], state["visual.ln_pre.weight"])
        equal(params["norm_after"]["bias"], state["visual.ln_post.bias"])
    else:
        equal(params["tokens"], state["token_embedding.weight"])
        equal(params["norm_after"]["scale"], state["ln_final.weight"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["visual", "text", "logit_scale"])
def test_parts_that_are_not_asked_for_are_left_out(kind, part):
    found = to_variables(state_of(kind), {part: shapes_of(kind)[part]})
    assert_same(found, {part: variables_of(kind)[part]})
    state = {n: x for n, x in state_of(kind).items() if n.startswith("visual.")}
    if part == "visual":
        assert_same(to_variables(state, {part: shapes_of(kind)[part]}), found)
    else:
        with pytest.raises(WeightsMismatch, match=rf"\+ {part}"):
            to_variables(state, {part: shapes_of(kind)[part]})


def text_below(prefix, state):
    """The state of a tower class of open_clip that keeps its text tower apart."""
    return {
        name if name.startswith(("visual.", "logit_scale")) else f"{prefix}{name}": x
        for name, x in state.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        lambda state: {f"module.{name}": x for name, x in state.items()},
        lambda state: state | {name: np.asarray(n) for name, n in SCALARS.items()},
        lambda state: text_below("text.", state),
        lambda state: {n: x.astype(np.float64) for n, x in state.items()},
        lambda state: {
            "noisy_visual_encoder.proj": np.zeros(1),
            **{f"baseclip.{name}": x for name, x in state.items()},
        },
    ],
    ids=["parallel", "OpenAI's scalars", "open_clip's text", "float64", "a student's"],
)
def test_what_programs_add_to_openais_names_does_not_matter(kind, change):
    state = change(state_of(kind))
    assert_same(to_variables(state, shapes_of(kind)), variables_of(kind))
    assert architecture(state) == architecture(state_of(kind))


def hugging_face(state):
    """The same weights by the names of Hugging Face's CLIPModel."""
    found = {"logit_scale": state["logit_scale"]}
    towers = (
        ("visual.", "vision_model", "visual_projection", "visual.proj"),
        ("", "text_model", "text_projection", "text_projection"),
    )
    for before, model, projection, theirs in towers:
        positions = state[f"{before}positional_embedding"]
        found[f"{model}.embeddings.position_embedding.weight"] = positions
        found[f"{model}.embeddings.position_ids"] = np.arange(len(positions))[None]
        found[f"{projection}.weight"] = state[theirs].T
        for i in range(2):
            there = f"{before}transformer.resblocks.{i}"
            here = f"{model}.encoder.layers.{i}"
            for leaf, name in (("weight", "in_proj_weight"), ("bias", "in_proj_bias")):
                thirds = np.split(state[f"{there}.attn.{name}"], 3)
                for x, part in zip(thirds, "qkv", strict=True):
                    found[f"{here}.self_attn.{part}_proj.{leaf}"] = x
                for ours, openais in (
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    found[f"{here}.{ours}.{leaf}"] = state[f"{there}.{openais}.{leaf}"]
    vision, text = "vision_model", "text_model"
    found[f"{vision}.embeddings.class_embedding"] = state["visual.class_embedding"]
    patches = state["visual.conv1.weight"]
    found[f"{vision}.embeddings.patch_embedding.weight"] = patches
    found[f"{text}.embeddings.token_embedding.weight"] = state["token_embedding.weight"]
    for leaf in ("weight", "bias"):
        found[f"{vision}.pre_layrnorm.{leaf}"] = state[f"visual.ln_pre.{leaf}"]
        found[f"{vision}.post_layernorm.{leaf}"] = state[f"visual.ln_post.{leaf}"]
        found[f"{text}.final_layer_norm.{leaf}"] = state[f"ln_final.{leaf}"]
    return found


def test_a_model_of_hugging_face_is_the_same_model():
    state = hugging_face(state_of("vit"))
    assert len(state) == len(state_of("vit")) + 2 + 2 * 2 * 4  # position_ids; q, k, v
    assert_same(to_variables(state, shapes_of("vit")), variables_of("vit"))
    assert architecture(state, 2, 1) == architecture(state_of("vit"), 2, 1)
    for part in ("visual", "text"):
        found = to_variables(state, {part: shapes_of("vit")[part]})
        assert_same(found, {part: variables_of("vit")[part]})


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_alone_say_the_hyperparameters_but_for_heads(kind):
    found = architecture(state_of(kind), heads=4, text_heads=2)
    told = {"heads": 4} if kind == "vit" else {}
    assert (found.kind, found.visual) == (kind, VISUAL[kind] | told)
    assert found.text == TEXT | {"heads": 2}
    visual = {n: x for n, x in state_of(kind).items() if n.startswith("visual.")}
    assert architecture(visual).text is None


def test_a_tower_is_refused_where_its_heads_are_not_known_and_asked_for():
    found = architecture(state_of("vit"), text_heads=2)
    assert found.text is not None  # whatever the other tower's are
    with pytest.raises(WeightsMismatch, match=r"image tower is 128 .* heads=2\."):
        _ = found.visual
    found = architecture(state_of("vit"), heads=2)
    assert found.visual["heads"] == 2
    with pytest.raises(WeightsMismatch, match=r"text tower is 64 .*heads=1\."):
        _ = found.text


def test_heads_of_published_models_are_known():
    assert architecture(state_of("resnet")).visual == VISUAL["resnet"]
    for width in (768, 1024, 1280):  # of ViT-B, -L and -H
        assert Architecture("vit", {"width": width}, {"width": width}).text
        assert "heads" not in Architecture("vit", {"width": width}, None).visual


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"conv1.weight": np.zeros((4, 3, 3, 3))}, r"no name begins with 'visual\.'"),
        ({}, r"the first is 'none'"),
        ({"visual.conv1.weight": np.zeros((4, 3, 3, 3))}, "not all arrays of CLIP"),
        ({"vision_model.x": np.zeros(3)}, "not all arrays of CLIP"),
    ],
)
def test_what_is_not_clip_is_one_clear_error(state, words):
    with pytest.raises(WeightsMismatch, match=words):
        architecture(state)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("visual.positional_embedding", np.zeros((12, 128)), "no square grid"),
        ("visual.proj", np.zeros(128), "not of its shapes"),
        ("visual.transformer.resblocks.0.ln_1.weight", None, r"numbers in .* \[2\]"),
        ("text_projection", None, "text/params/projection"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(name, array, words):
    state = dict(state_of("vit")) | {name: array}
    state = {name: x for name, x in state.items() if x is not None}
    with pytest.raises(WeightsMismatch, match=words):
        architecture(state)


@pytest.mark.parametrize("naming", [dict, hugging_face])
def test_what_is_left_over_on_both_sides_is_listed_together(naming):
    state = naming(state_of("vit"))
    gone = (
        next(name for name in state if name.endswith("mlp.c_fc.bias"))
        if (naming is dict)
        else "vision_model.encoder.layers.0.mlp.fc1.bias"
    )
    del state[gone]
    before = "visual" if naming is dict else "vision_model"
    state[f"{before}.extra"] = np.zeros(3)
    with pytest.raises(WeightsMismatch) as told:
        to_variables(state, shapes_of("vit"))
    lines = str(told.value).splitlines()[1:]
    assert f"- {before}.extra (3,)" in lines
    assert "+ visual/params/block1/hidden/bias (512,)" in lines
    assert len(lines) == 2


def test_an_absent_third_of_attention_is_named():
    state = dict(state_of("vit"))
    name = "visual.transformer.resblocks.0.attn.in_proj_weight"
    state[name] = state[name][:256]
    with pytest.raises(
        WeightsMismatch, match=r"! visual\S+in_proj_weight \(256, 128\)"
    ):
        to_variables(state, shapes_of("vit"))


def test_towers_of_other_sizes_are_refused_with_the_shapes():
    small = jax.tree.map(lambda x: x, shapes_of("resnet"))
    small["visual"]["params"]["pool"]["positions"] = np.zeros((50, 256), np.float32)
    with pytest.raises(
        WeightsMismatch,
        match=r"! visual\.attnpool\.positional_embedding \(5, 256\) -> .*\(50, 256\)",
    ):
        to_variables(state_of("resnet"), small)
    with pytest.raises(WeightsMismatch, match=r"- visual\.bn1\.running_mean"):
        to_variables(state_of("resnet"), shapes_of("vit"))


def test_what_no_tower_has_gets_no_name():
    strange = {"visual": {"params": {"stem": {"kernel": np.zeros((3, 3, 3, 4))}}}}
    with pytest.raises(WeightsMismatch, match=r"\+ visual/params/stem/kernel"):
        from_variables(strange)


@pytest.mark.parametrize("kind", KINDS)
def test_types_stay_as_they_are_on_the_way_out(kind):
    half = jax.tree.map(lambda x: x.astype(np.float16), variables_of(kind))
    assert {x.dtype for x in from_variables(half).values()} == {np.dtype("float16")}
    assert {x.dtype for x in flatten(variables_of(kind)).values()} == {
        np.dtype("float32")
    }


def test_weights_for_networks_that_must_have_been_told_their_heads_warn(caplog):
    clip._warn_once.cache_clear()
    state = state_of("vit")
    to_variables(state, shapes_of("vit"))
    image, text = [record.getMessage() for record in caplog.records]
    assert "width of 128" in image and "other ClipViT.heads than theirs" in image
    assert "width of 64" in text and "other ClipText.heads than theirs" in text
    caplog.clear()
    to_variables(state, shapes_of("vit"))
    assert not caplog.records


def test_models_of_open_clip_may_have_a_bias_of_their_logits():
    state = state_of("vit") | {"logit_bias": np.float32(-10)}
    assert_same(to_variables(state, shapes_of("vit")), variables_of("vit"))
