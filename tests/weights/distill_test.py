"""Networks of a distillation's checkpoints, by the names its authors gave them."""

import argparse
import functools
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.resnet import ResNet
from jax_rcl.weights import clip, torchvision
from jax_rcl.weights.distill import to_variables
from jax_rcl.weights.files import read
from jax_rcl.weights.rules import WeightsMismatch

NETWORKS = {
    "clip resnet": ClipResNet((1, 1, 1, 1), width=2, output=6, image_size=32),
    "clip vit": ClipViT(patch=4, width=64, layers=1, output=6, image_size=8),
    "resnet": ResNet(depth=14, width=4),
}
SIZES = {"clip resnet": 32, "clip vit": 8, "resnet": 32}
FEATURES = {"clip resnet": 6, "clip vit": 6, "resnet": 128}
CLIP = ("clip resnet", "clip vit")


@functools.cache
def shapes_of(kind):
    size = SIZES[kind]
    return jax.eval_shape(
        functools.partial(NETWORKS[kind].init, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),
    )


@functools.cache
def variables_of(kind, seed):
    """A network with random values; not to be changed."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: random.random(x.shape, np.float32), shapes_of(kind))


def below(prefix, state):
    return {f"{prefix}{name}": x for name, x in state.items()}


def tower(kind, seed):
    """Names of a tower alone, written down from the authors' modules."""
    if kind in CLIP:
        state = clip.from_variables({"visual": variables_of(kind, seed)})
        return {name.removeprefix("visual."): x for name, x in state.items()}
    children = {"conv1": "0", "bn1": "1"} | {f"layer{k}": f"{k + 3}" for k in range(5)}
    state = torchvision.from_variables(variables_of(kind, seed))
    named = {}
    for name, x in state.items():
        first, _, rest = name.partition(".")
        named[f"{children[first]}.{rest}"] = x
        if rest.endswith("running_mean"):
            counted = rest.replace("running_mean", "num_batches_tracked")
            named[f"{children[first]}.{counted}"] = np.asarray(7)
    return named


def student_state(kind):
    """A student of seed 1, and a whole CLIP model whose tower has seed 2."""
    text = {
        "token_embedding.weight": (5, 4),
        "positional_embedding": (3, 4),
        "transformer.resblocks.0.ln_1.weight": (4,),
        "ln_final.bias": (4,),
        "text_projection": (4, 6),
        "logit_scale": (),
    }
    model = below("visual.", tower(kind, 2)) | {n: np.ones(s) for n, s in text.items()}
    student = below("noisy_visual_encoder.", tower(kind, 1))
    return student | below("baseclip.", model)


def head_state(prefix, features):
    random = np.random.default_rng(5)
    weight = random.random((3, features), np.float32)
    return {f"{prefix}.weight": weight, f"{prefix}.bias": random.random(3, np.float32)}


def head_shapes(features):
    return {"out": {"kernel": np.zeros((features, 3)), "bias": np.zeros(3)}}


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("kind", CLIP)
@pytest.mark.parametrize(("part", "seed"), [("student", 1), ("teacher", 2)])
def test_student_and_teacher_stand_in_one_file(kind, part, seed):
    shapes = {"encoder": variables_of(kind, 0)}
    found = to_variables(student_state(kind), shapes, part)
    assert_same(found, {"encoder": variables_of(kind, seed)})


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(
    ("part", "encoder", "head"),
    [
        ("probe", "backbone.", "output"),
        ("baseline", "encoder.feature_extractor.", "encoder.classifier"),
    ],
)
def test_a_classifier_comes_with_what_it_looks_at(kind, part, encoder, head):
    features = FEATURES[kind]
    classifier = head_state(head, features)
    state = below(encoder, tower(kind, 1)) | classifier
    shapes = {"encoder": variables_of(kind, 0), "head": head_shapes(features)}
    found = to_variables(state, shapes, part)
    assert_same(found["encoder"], variables_of(kind, 1))
    out = found["head"]["out"]
    weight = classifier[f"{head}.weight"]
    np.testing.assert_array_equal(out["kernel"], weight.T)
    np.testing.assert_array_equal(out["bias"], classifier[f"{head}.bias"])
    alone = to_variables(state, {"encoder": variables_of(kind, 0)}, part)
    assert_same(alone, {"encoder": variables_of(kind, 1)})


def test_children_in_a_row_are_counted_with_those_without_arrays():
    names = set(tower("resnet", 1))
    assert {"0.weight", "1.running_var", "4.0.conv1.weight"} < names
    assert "7.0.downsample.1.running_mean" in names
    assert not any(name.startswith(("2.", "3.", "8.")) for name in names)


def test_a_part_that_the_file_does_not_have_is_named_with_those_there_are():
    state = student_state("clip vit")
    shapes = {"encoder": variables_of("clip vit", 0)}
    with pytest.raises(
        WeightsMismatch,
        match=r"no name begins with 'backbone\.', as those of a probe do; the first is "
        r"'noisy_visual_encoder\S+ Known are noisy_visual_encoder\.\* \(student\), "
        r"baseclip\.visual\.\* \(teacher\), backbone",
    ):
        to_variables(state, shapes, "probe")


@pytest.mark.parametrize("part", ["student", "teacher"])
def test_what_has_no_head_is_not_asked_for_one(part):
    shapes = {"encoder": variables_of("clip vit", 0), "head": head_shapes(6)}
    with pytest.raises(ValueError, match=f"a {part} has no head"):
        to_variables(student_state("clip vit"), shapes, part)


def test_what_is_left_over_is_listed_in_the_names_of_the_file():
    state = student_state("clip vit")
    del state["noisy_visual_encoder.proj"]
    state["noisy_visual_encoder.extra"] = state["something"] = np.zeros(2)
    shapes = {"encoder": variables_of("clip vit", 0)}
    with pytest.raises(WeightsMismatch) as told:
        to_variables(state, shapes, "student")
    assert str(told.value).splitlines()[1:] == [
        "- noisy_visual_encoder.extra (2,)",
        "- something (2,)",
        "+ encoder/params/projection (64, 6)",
    ]


def lightning(name, base):
    """A class that pickles as one of Lightning's, which is not installed."""
    return type(name, (base,), {"__module__": "pytorch_lightning.utilities.parsing"})


@pytest.mark.parametrize("arguments", ["AttributeDict", "Namespace"])
def test_a_lightning_checkpoint_is_read_with_what_else_it_holds(
    tmp_path, monkeypatch, arguments
):
    torch = pytest.importorskip("torch")
    module = types.ModuleType("pytorch_lightning.utilities.parsing")
    module.AttributeDict = lightning("AttributeDict", dict)
    module.ModelCheckpoint = lightning("ModelCheckpoint", object)
    hyper = {"lr": 1e-4, "distortion": "randommask", "levels": [0.5, 0.95]}
    stored = (
        module.AttributeDict(args=argparse.Namespace(**hyper))
        if arguments == "AttributeDict"
        else argparse.Namespace(**hyper)
    )
    state = student_state("clip resnet")
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.utilities"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        content = {
            "epoch": 24,
            "pytorch-lightning_version": "1.2.6",
            "callbacks": {module.ModelCheckpoint: {"best_model_score": None}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
            "state_dict": {n: torch.from_numpy(np.array(x)) for n, x in state.items()},
            "hyper_parameters": stored,
        }
        torch.save(content, tmp_path / "epoch=24-step=123.ckpt")
    found = read(tmp_path / "epoch=24-step=123.ckpt")
    assert set(found) == set(state)
    shapes = {"encoder": variables_of("clip resnet", 0)}
    assert_same(
        to_variables(found, shapes, "student"),
        {"encoder": variables_of("clip resnet", 1)},
    )
