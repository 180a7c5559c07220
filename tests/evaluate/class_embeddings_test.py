"""Class embeddings from text: tokens, names, and CLIP's text tower over templates."""

import math
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jax_rcl.cli.prepare.class_embeddings import main, prepare
from jax_rcl.config.nodes import build, from_json, node, to_json
from jax_rcl.core import Variables
from jax_rcl.data.published.imagenet import (
    IMAGENET_100,
    IMAGENET_100_NAMES,
    IMAGENET_100B,
)
from jax_rcl.evaluate import class_embeddings
from jax_rcl.evaluate.class_embeddings import (
    FillClasses,
    FromText,
    called,
    text_features,
    tokens,
)
from jax_rcl.evaluate.zero_shot import ClassEmbeddings, FromFile
from jax_rcl.weights.rules import WeightsMismatch

WIDTH, LAYERS, OUTPUT = 64, 2, 8


def state_dict(vocabulary: int = 49_408) -> dict[str, np.ndarray]:
    """A random CLIP in OpenAI's names with a small vision transformer."""
    draw = np.random.default_rng(0)
    arrays = {
        "token_embedding.weight": (vocabulary, WIDTH),
        "positional_embedding": (77, WIDTH),
        "text_projection": (WIDTH, OUTPUT),
        "visual.class_embedding": (WIDTH,),
        "visual.conv1.weight": (WIDTH, 3, 4, 4),
        "visual.positional_embedding": (5, WIDTH),
        "visual.proj": (WIDTH, OUTPUT),
    }
    norms = {"ln_final": WIDTH, "visual.ln_pre": WIDTH, "visual.ln_post": WIDTH}
    for tower, layers in (("", LAYERS), ("visual.", 1)):
        for i in range(layers):
            block = f"{tower}transformer.resblocks.{i}"
            arrays |= {
                f"{block}.attn.in_proj_weight": (3 * WIDTH, WIDTH),
                f"{block}.attn.in_proj_bias": (3 * WIDTH,),
                f"{block}.attn.out_proj.weight": (WIDTH, WIDTH),
                f"{block}.attn.out_proj.bias": (WIDTH,),
                f"{block}.mlp.c_fc.weight": (4 * WIDTH, WIDTH),
                f"{block}.mlp.c_fc.bias": (4 * WIDTH,),
                f"{block}.mlp.c_proj.weight": (WIDTH, 4 * WIDTH),
                f"{block}.mlp.c_proj.bias": (WIDTH,),
            }
            norms |= {f"{block}.ln_1": WIDTH, f"{block}.ln_2": WIDTH}
    state = {
        # Large enough for attention to matter.
        name: (2 * draw.normal(size=shape) / math.sqrt(shape[-1])).astype(np.float16)
        for name, shape in arrays.items()
    }
    for name, width in norms.items():
        state[f"{name}.weight"] = draw.uniform(0.5, 1.5, width).astype(np.float32)
        state[f"{name}.bias"] = draw.normal(size=width).astype(np.float32)
    return state | {"logit_scale": np.float32(2.6), "context_length": np.int64(77)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The file of a small CLIP."""
    path = tmp_path_factory.mktemp("clip") / "clip.npz"
    np.savez(path, **state_dict())
    return str(path)


@pytest.fixture(scope="module")
def tokenizer():
    """Skips a test where the extra is not installed."""
    return pytest.importorskip("instant_clip_tokenizer").Tokenizer()


# Tokens.


def test_texts_begin_and_end_with_their_marks_and_are_filled_with_zeros(tokenizer):
    rows = tokens(["a photo of a cat", "A photo of robin", ""])
    assert rows.shape == (3, 77) and rows.dtype == np.int32
    assert rows[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert rows[1, :6].tolist() == [49406, 320, 1125, 539, 7988, 49407]
    assert rows[2, :2].tolist() == [49406, 49407]
    assert not rows[0, 7:].any() and not rows[1, 6:].any() and not rows[2, 2:].any()
    assert [tokenizer.start_of_text(), tokenizer.end_of_text()] == [49406, 49407]


def test_case_white_space_and_html_make_no_difference(tokenizer):
    rows = tokens(["Gila  monster &amp;amp; I\n", "gila monster & i"])
    np.testing.assert_array_equal(rows[0], rows[1])
    batch = tokenizer.tokenize_batch(["gila monster & i"], context_length=77)
    np.testing.assert_array_equal(rows[:1], batch)


def test_a_text_that_is_too_long_is_named_with_its_tokens(tokenizer):
    assert tokens(["x " * 75]).argmax() == 76
    with pytest.raises(ValueError, match=r"'(x ){76}' has 78 tokens, .* 77 at most"):
        tokens(["short", "x " * 76])
    with pytest.raises(ValueError, match=r"'a photo of a cat' has 7 tokens, .* 6 at m"):
        tokens(["a photo of a cat"], context=6)


def test_without_the_tokenizer_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "instant_clip_tokenizer", None)
    with pytest.raises(ImportError, match=r"pip install 'jax_rcl\[zeroshot\]'.*FromF"):
        tokens(["a cat"])


# Names.


def test_classes_are_called_by_their_names_or_by_words_for_wordnet_ids():
    assert called(("aquarium_fish", "T-shirt/top")) == ("aquarium fish", "T-shirt/top")
    assert called(IMAGENET_100) == IMAGENET_100_NAMES
    assert called(("n01558993", "car")) == ("robin", "car")


def test_names_may_be_given_in_order_or_by_class():
    assert called(("a", "b"), ("ant", "bee")) == ("ant", "bee")
    assert called(("b", "a"), {"a": "ant", "b": "bee", "c": "cat"}) == ("bee", "ant")
    with pytest.raises(ValueError, match="has 2 names for 3 classes"):
        called(("a", "b", "c"), ("ant", "bee"))
    with pytest.raises(ValueError, match=r"1 of 2 classes have no name .* first 'b'"):
        called(("a", "b"), {"a": "ant"})


def test_an_unknown_wordnet_id_is_no_word_for_a_text():
    with pytest.raises(
        ValueError, match=r"100 of 100 classes have no name .*n01484850"
    ):
        called(IMAGENET_100B)


# Embeddings.


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_features_are_those_of_the_tower_as_openai_writes_it(tokenizer, weights):
    torch = pytest.importorskip("torch")
    texts = ["A photo of robin", "A photo of an American Staffordshire terrier!"]
    state = {k: torch.tensor(np.asarray(x)).float() for k, x in state_dict().items()}
    ids = torch.tensor(tokens(texts), dtype=torch.int64)
    x = state["token_embedding.weight"][ids] + state["positional_embedding"]
    mask = torch.full((77, 77), -torch.inf).triu(1)

    def norm(name, x):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return torch.nn.functional.layer_norm(x, (WIDTH,), weight, bias)

    for i in range(LAYERS):
        at = f"transformer.resblocks.{i}"
        y = norm(f"{at}.ln_1", x).transpose(0, 1)
        y, _ = torch.nn.functional.multi_head_attention_forward(
            *(y, y, y, WIDTH, 1),
            state[f"{at}.attn.in_proj_weight"],
            state[f"{at}.attn.in_proj_bias"],
            *(None, None, False, 0.0),
            state[f"{at}.attn.out_proj.weight"],
            state[f"{at}.attn.out_proj.bias"],
            need_weights=False,
            attn_mask=mask,
        )
        x = x + y.transpose(0, 1)
        y = norm(f"{at}.ln_2", x)
        y = y @ state[f"{at}.mlp.c_fc.weight"].T + state[f"{at}.mlp.c_fc.bias"]
        y = y * torch.sigmoid(1.702 * y)
        x = x + y @ state[f"{at}.mlp.c_proj.weight"].T
        x = x + state[f"{at}.mlp.c_proj.bias"]
    x = norm("ln_final", x)[torch.arange(2), ids.argmax(dim=1)]
    wanted = (x @ state["text_projection"]).numpy()
    found = text_features(weights, texts, heads=1)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * wanted.std())


def test_heads_that_weights_do_not_tell_are_asked_for(weights):
    with pytest.raises(WeightsMismatch, match=r"text tower is 64 wide.* heads=1\.$"):
        text_features(weights, ["ant"])


def test_a_class_is_the_unit_mean_of_unit_vectors_whatever_the_size_of_a_call(
    tokenizer, weights, monkeypatch
):
    rule = FromText(
        weights, ("A photo of {}", "{}, drawn"), ("ant", "bee", "cat"), heads=1
    )
    assert isinstance(rule, ClassEmbeddings)
    found = rule(("a", "b", "c"))
    assert found.shape == (3, OUTPUT) and found.dtype == np.float32
    texts = [f"A photo of {name}" for name in ("ant", "bee", "cat")]
    texts += [f"{name}, drawn" for name in ("ant", "bee", "cat")]
    monkeypatch.setattr(class_embeddings, "TEXTS", 4)
    vectors = unit(text_features(weights, texts, heads=1))
    assert vectors.shape == (6, OUTPUT)
    np.testing.assert_allclose(found, unit(vectors[:3] + vectors[3:]), atol=1e-5)
    assert rule(("a", "b", "c")) is found  # computed once


def test_the_file_that_the_command_writes_holds_the_same(tokenizer, weights, tmp_path):
    (tmp_path / "names.txt").write_text("sea_lion\nn02508021\traccoon\n")
    out = str(tmp_path / "out.npz")
    flags = [f"--clip={weights}", f"--names={tmp_path / 'names.txt'}", f"--out={out}"]
    flags += ["--heads=1"]
    prepare(main.parse(flags))
    wanted = FromText(weights, names=("raccoon", "sea lion"), heads=1)(
        ("n02508021", "sea_lion")
    )
    found = FromFile(out)(("n02508021", "sea_lion"))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_activation_can_be_that_of_other_models(tokenizer, weights):
    one, other = (
        FromText(weights, activation=each, heads=1)(("ant", "bee"))
        for each in ("quick gelu", "gelu")
    )
    assert np.abs(one - other).max() > 1e-3


def test_a_long_name_is_refused_before_the_tower_is_run(tokenizer, weights):
    with pytest.raises(ValueError, match=r"'A photo of (very )+long' has 8\d tokens"):
        FromText(weights, heads=1)(("short", "very " * 79 + "long"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state_dict(vocabulary=100), "has 100 tokens, CLIP's vocab"),
        (
            lambda state: {k: x for k, x in state.items() if k.startswith("visual")},
            "has no text tower; take weights of all of CLIP",
        ),
        (
            lambda state: {k: x for k, x in state.items() if k != "ln_final.bias"},
            r"\+ text/params/norm_after/bias",
        ),
    ],
)
def test_weights_without_a_whole_text_tower_are_refused(
    tokenizer, tmp_path, change, message
):
    np.savez(tmp_path / "clip.npz", **change(state_dict()))
    with pytest.raises(ValueError, match=message):
        FromText(str(tmp_path / "clip.npz"), heads=1)(("ant", "bee"))


def test_a_file_of_a_published_name_must_be_the_published_one(
    tokenizer, weights, tmp_path
):
    file = tmp_path / "RN50.pt"
    file.write_bytes(b"cut off")
    with pytest.raises(ValueError, match=r"checksum of .*RN50\.pt is .*checksum='any'"):
        FromText(str(file), heads=1)(("ant", "bee"))
    with np.load(weights) as arrays:
        save_file(dict(arrays), tmp_path / "clip.safetensors")
    rule = FromText(str(tmp_path / "clip.safetensors"), checksum="any", heads=1)
    found, wanted = rule(("ant", "bee")), FromText(weights, heads=1)(("ant", "bee"))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("templates", [(), ("A photo",), ("{}", "a photo of it")])
def test_every_template_has_a_place_for_the_name(templates):
    with pytest.raises(ValueError, match=r"FromText\.templates .* each with \{\}"):
        FromText("clip.npz", templates)


@pytest.mark.parametrize("names", [None, ("ant", "bee"), {"a": "ant", "b": "bee"}])
def test_it_can_be_configured_and_is_its_settings(names):
    config = node(FromText, "clip.npz", names=names)
    rule = build(from_json(to_json(config)))
    assert rule == FromText("clip.npz", names=names)
    assert hash(rule) == hash(FromText("clip.npz", names=names))
    assert rule != FromText("clip.npz", ("a {}",), names)
    assert str(rule) == "clip.npz for 'A photo of {}'"


def kept(classes, width):
    """Variables of a run that keeps so many class embeddings."""
    shape = jax.ShapeDtypeStruct((classes, width), np.float32)
    return Variables(params={}, frozen={"classes": shape}, memory={})


@pytest.fixture
def written(tmp_path):
    """A file of embeddings of two classes, five wide."""
    rows = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.savez(tmp_path / "classes.npz", embedding=rows, names=["b", "a"])
    return FromFile(str(tmp_path / "classes.npz"))


def test_a_run_keeps_the_embeddings_of_its_classes_in_their_order(written):
    filled = FillClasses(written, ("a", "b"))(kept(2, 5))
    np.testing.assert_array_equal(filled.frozen["classes"], written(("a", "b")))


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (kept(2, 8), r"gives \[2, 5\] .* holds \[2, 8\]"),
        (kept(3, 5), r"gives \[2, 5\] .* holds \[3, 5\]"),
        (Variables(params={}, frozen={}, memory={}), r"Distill\(classes=2\)"),
    ],
    ids=["width", "number", "none"],
)
def test_embeddings_that_do_not_fit_a_run_are_refused(written, variables, told):
    with pytest.raises(ValueError, match=told):
        FillClasses(written, ("a", "b"))(variables)
