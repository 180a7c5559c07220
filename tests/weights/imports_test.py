"""A run starts from a file of another library: all of a network, or an error."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import flat
from jax_rcl.config.nodes import node
from jax_rcl.core import Clock, Variables
from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.networks.heads import Headed, Linear, Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.moco import MoCo
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.weights import clip, moco, torchvision, uniformity
from jax_rcl.weights.clip import SHA256
from jax_rcl.weights.imports import (
    ImportClip,
    ImportDistill,
    ImportMoCo,
    ImportResNet,
    ImportUniformity,
)


def resnet_variables(seed):
    """A small ResNet's variables, as an objective sorts them."""
    network = ResNet(depth=10, width=4, stem="small")
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), images
    )
    random = np.random.default_rng(seed)
    made = jax.tree.map(lambda x: random.random(x.shape, np.float32), shapes)
    return Variables({"encoder": made["params"]}, {}, {"encoder": made["batch_stats"]})


def test_a_file_in_torchvisions_names_fills_an_encoder_exactly(tmp_path):
    given, own = resnet_variables(1), resnet_variables(2)
    stored = {
        "params": given.params["encoder"],
        "batch_stats": given.memory["encoder"],
    }
    np.savez(tmp_path / "weights.npz", **torchvision.from_variables(stored))
    found = ImportResNet(str(tmp_path / "weights.npz"))(own)
    assert jax.tree.structure(found) == jax.tree.structure(own)
    jax.tree.map(np.testing.assert_array_equal, found, given)


def test_a_network_among_others_is_taken_by_its_prefix(tmp_path):
    given, own = resnet_variables(1), resnet_variables(2)
    one, other = (
        torchvision.from_variables(
            {"params": x.params["encoder"], "batch_stats": x.memory["encoder"]}
        )
        for x in (given, own)
    )
    state = {f"module.teacher.{name}": x for name, x in one.items()}
    state |= {f"module.student.{name}": x for name, x in other.items()}
    state["module.teacher.aux.weight"] = np.zeros((3, 3, 1, 1))
    file = str(tmp_path / "weights.npz")
    np.savez(file, **state)
    with pytest.raises(ValueError, match=r"ImportResNet: .*'student\.', 'teacher\.'"):
        ImportResNet(file)(own)
    with pytest.raises(ValueError, match=r"- aux\.weight(.|\n)*"):
        ImportResNet(file, prefix="teacher.")(own)
    found = ImportResNet(file, prefix="teacher.", left_out=("aux.*",))(own)
    jax.tree.map(np.testing.assert_array_equal, found, given)
    with pytest.raises(ValueError, match=r"no name begins with 'tea\.'; .*'student'"):
        ImportResNet(file, prefix="tea.")(own)
    with pytest.raises(ValueError, match=r"left_out 'x\*' matches no name of"):
        ImportResNet(file, prefix="student.", left_out=("x*",))(own)


def test_a_file_of_another_network_is_refused_with_what_is_left_over(tmp_path):
    np.savez(tmp_path / "weights.npz", **{"conv1.weight": np.zeros((4, 3, 3, 3))})
    with pytest.raises(ValueError, match="stage1_block1"):
        ImportResNet(str(tmp_path / "weights.npz"))(resnet_variables(0))
    rule = ImportResNet(str(tmp_path / "weights.npz"), params="params/backbone")
    with pytest.raises(ValueError, match="nothing below 'params/backbone'"):
        rule(resnet_variables(0))


SMALL = ResNet(depth=10, width=4, stem="small")
MOCO = MoCo(SMALL, Mlp((32, 6)), queue_size=8)
LABELLED = {
    "views": jax.ShapeDtypeStruct((2, 2, 8, 8, 3), np.float32),
    "label": jax.ShapeDtypeStruct((2,), np.int32),
}


@functools.cache
def shapes_of(objective):
    return jax.eval_shape(objective.init, jax.random.key(0), LABELLED)


def drawn(objective, seed=0):
    """Variables of an objective, with random values."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.asarray(random.random(x.shape), x.dtype), shapes_of(objective)
    )


def moco_state(given):
    """The state dict that MoCo's authors would have written of a run."""
    stats = given.memory
    return moco.from_variables(
        {
            name: {"params": given.params[name], "batch_stats": stats[name]}
            for name in ("encoder", "projector")
        }
        | {part: stats[part] for part in ("slow", "queue", "cursor")}
    )


@pytest.fixture(scope="module")
def moco_run(tmp_path_factory):
    """A run, and the file that the authors would have written of it."""
    given = drawn(MOCO, 1)
    file = tmp_path_factory.mktemp("moco") / "checkpoint_0199.npz"
    np.savez(file, **moco_state(given))
    return given, str(file)


def differing(found, own):
    """Paths of `found` that are not those of `own`, by value."""
    own = flat(own)
    return {p for p, x in flat(found).items() if not np.array_equal(x, own[p])}


QUERY = ("params/encoder/", "memory/encoder/")


@pytest.mark.parametrize(
    ("parts", "prefixes"),
    [
        ("encoder", QUERY),
        ("encoder and projector", (*QUERY, "params/projector/")),
        ("everything", ("",)),
    ],
)
def test_of_a_moco_checkpoint_the_parts_that_are_asked_for_are_taken(
    moco_run, parts, prefixes
):
    (given, file), own = moco_run, drawn(MOCO, 2)
    found = ImportMoCo(file, parts)(own)
    assert jax.tree.structure(found) == jax.tree.structure(own)
    for path, leaf in flat(found).items():
        source = given if path.startswith(prefixes) else own
        np.testing.assert_array_equal(leaf, flat(source)[path])
        assert leaf.dtype == flat(own)[path].dtype


@pytest.mark.slow
@pytest.mark.parametrize("starts", ["as given", "as fast"])
def test_an_imported_key_encoder_trains_on_where_that_is_said(moco_run, starts):
    objective = dataclasses.replace(MOCO, slow_starts=starts, momentum=0.75)
    variables = ImportMoCo(moco_run[1], "everything")(drawn(objective, 2))
    n = objective.queue_size
    views = np.random.default_rng(0).random((n, 2, 8, 8, 3)).astype(np.float32)
    clock = Clock(jax.random.key(1), jnp.int32(0), jnp.float32(0))

    def memory(whole, batch):
        return objective.loss(whole[0], batch, whole[1]).memory

    step = parallel.data_parallel(memory, parallel.make_mesh(jax.devices()[:1]))
    found = jax.jit(step)((variables, clock), {"views": views})
    share = 0.25 if starts == "as given" else 1.0
    jax.tree.map(
        lambda new, slow, fast: np.testing.assert_allclose(
            new, slow + share * (fast - slow), rtol=1e-4, atol=1e-6
        ),
        found["slow"]["projector"]["params"],
        variables.memory["slow"]["projector"]["params"],
        variables.params["projector"],
    )


def test_a_frozen_probe_has_the_query_encoder_of_a_moco_checkpoint(moco_run):
    given, file = moco_run
    own = drawn(Classify(SMALL, Linear(5), encoder_is="frozen"), 2)
    rule = ImportMoCo(
        file, params="frozen/encoder/params", batch_stats="frozen/encoder/batch_stats"
    )
    found = rule(own)
    encoder = found.frozen["encoder"]
    equal = np.testing.assert_array_equal
    jax.tree.map(equal, encoder["params"], given.params["encoder"])
    jax.tree.map(equal, encoder["batch_stats"], given.memory["encoder"])
    assert all(path.startswith("frozen/encoder") for path in differing(found, own))


def test_a_moco_checkpoint_can_be_checked_by_shapes_alone(moco_run):
    given, file = moco_run
    found = ImportMoCo(file, "everything")(shapes_of(MOCO))
    jax.tree.map(np.testing.assert_array_equal, found, given)


def test_what_a_run_lacks_of_a_moco_checkpoint_is_named(moco_run):
    _, file = moco_run
    probe = drawn(Classify(SMALL, Linear(5)))
    with pytest.raises(
        ValueError,
        match=r"ImportMoCo: nothing below 'params/projector' in this run; there are: "
        r"memory/encoder, params/encoder, params/head\.",
    ):
        ImportMoCo(file, "encoder and projector")(probe)
    longer = MoCo(SMALL, Mlp((32, 6)), queue_size=16)
    with pytest.raises(ValueError, match=r"! queue \(6, 8\) -> queue \(16, 6\)"):
        ImportMoCo(file, "everything")(drawn(longer))
    with pytest.raises(ValueError, match=r"- encoder_q\.fc\.0\.weight"):
        ImportMoCo(file, "encoder and projector")(drawn(MoCo(SMALL, Linear(6))))


def test_weights_of_a_plain_resnet_are_told_from_a_moco_checkpoint(tmp_path):
    own = drawn(MOCO)
    stored = {
        "params": own.params["encoder"],
        "batch_stats": own.memory["encoder"],
    }
    np.savez(tmp_path / "weights.npz", **torchvision.from_variables(stored))
    with pytest.raises(ValueError, match="read by `ImportResNet`"):
        ImportMoCo(str(tmp_path / "weights.npz"))(own)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pth.tar"])
def test_files_of_pytorch_are_taken_by_their_endings(tmp_path, moco_run, name):
    torch = pytest.importorskip("torch")
    given, own = moco_run[0], drawn(MOCO, 2)
    state = {n: torch.from_numpy(x) for n, x in moco_state(given).items()}
    file = tmp_path / name
    torch.save({"epoch": 9, "state_dict": state, "optimizer": {"lr": 0.1}}, file)
    found = ImportMoCo(str(file), "everything")(own)
    jax.tree.map(np.testing.assert_array_equal, found, given)
    query = {n[17:]: x for n, x in state.items() if n.startswith("module.encoder_q")}
    torch.save(query, file)
    found = ImportResNet(str(file))(own)
    assert {"/".join(path.split("/")[:2]) for path in differing(found, own)} == {
        "params/encoder",
        "memory/encoder",
    }
    np.testing.assert_array_equal(
        found.params["encoder"]["stem"]["kernel"],
        given.params["encoder"]["stem"]["kernel"],
    )


def test_a_linear_probe_of_mocos_authors_fills_encoder_and_head(tmp_path):
    probe = Classify(SMALL, Linear(7), encoder_is="frozen")
    given, own = drawn(probe, 1), drawn(probe, 2)
    stored = {**given.frozen["encoder"], "head": given.params["head"]}
    named = torchvision.from_variables(stored)
    file = tmp_path / "model_best_0199.npz"
    np.savez(file, **{f"module.{name}": x for name, x in named.items()})
    found = ImportResNet(
        str(file),
        params="frozen/encoder/params",
        batch_stats="frozen/encoder/batch_stats",
        head="params/head",
    )(own)
    jax.tree.map(np.testing.assert_array_equal, found, given)


UNIFORMITY = Uniformity(SMALL, Mlp((12, 6), first="relu"), fc=Linear(12))
BEFORE = dataclasses.replace(UNIFORMITY, fc=None)
ENCODER_AND_FC = ("params/encoder/", "memory/encoder/", "params/fc/")


def uniformity_file(folder, given):
    """The file that the authors of decoupled uniformity would have written of a run."""
    parts = {name: {"params": params} for name, params in given.params.items()}
    parts["encoder"]["batch_stats"] = given.memory["encoder"]
    np.savez(folder / "checkpoint_0399.npz", **uniformity.from_variables(parts))
    return str(folder / "checkpoint_0399.npz")


@pytest.fixture(scope="module")
def uniformity_run(tmp_path_factory):
    """A run of decoupled uniformity, and its file."""
    given = drawn(UNIFORMITY, 1)
    return given, uniformity_file(tmp_path_factory.mktemp("uniformity"), given)


@pytest.mark.parametrize(
    ("parts", "prefixes"),
    [
        ("encoder", QUERY),
        ("encoder and fc", ENCODER_AND_FC),
        ("everything", ("",)),
    ],
)
def test_of_decoupled_uniformity_the_parts_that_are_asked_for_are_taken(
    uniformity_run, parts, prefixes
):
    (given, file), own = uniformity_run, drawn(UNIFORMITY, 2)
    found = ImportUniformity(file, parts)(own)
    assert jax.tree.structure(found) == jax.tree.structure(own)
    for path, leaf in flat(found).items():
        source = given if path.startswith(prefixes) else own
        np.testing.assert_array_equal(leaf, flat(source)[path])
        assert leaf.dtype == flat(own)[path].dtype


def test_everything_of_decoupled_uniformity_is_taken_unless_less_is_asked_for(
    uniformity_run,
):
    given, file = uniformity_run
    found = ImportUniformity(file)(shapes_of(UNIFORMITY))
    jax.tree.map(np.testing.assert_array_equal, found, given)


def test_a_frozen_probe_keeps_the_layer_that_decoupled_uniformity_is_evaluated_with(
    uniformity_run,
):
    given, file = uniformity_run
    probe = Classify(Headed(SMALL, Linear(12)), Linear(5), encoder_is="frozen")
    own = drawn(probe, 2)
    found = ImportUniformity(
        file,
        "encoder and fc",
        params="frozen/encoder/params/encoder",
        batch_stats="frozen/encoder/batch_stats/encoder",
        fc="frozen/encoder/params/head",
    )(own)
    encoder, equal = found.frozen["encoder"], np.testing.assert_array_equal
    jax.tree.map(equal, encoder["params"]["encoder"], given.params["encoder"])
    jax.tree.map(equal, encoder["params"]["head"], given.params["fc"])
    stats = encoder["batch_stats"]["encoder"]
    jax.tree.map(equal, stats, given.memory["encoder"])
    everything = {path for path in flat(own) if path.startswith("frozen/")}
    assert differing(found, own) == everything


def test_a_frozen_probe_may_see_the_pooled_features_of_decoupled_uniformity(
    uniformity_run,
):
    given, file = uniformity_run
    own = drawn(Classify(SMALL, Linear(5), encoder_is="frozen"), 2)
    found = ImportUniformity(
        file,
        "encoder",
        params="frozen/encoder/params",
        batch_stats="frozen/encoder/batch_stats",
    )(own)
    encoder, equal = found.frozen["encoder"], np.testing.assert_array_equal
    jax.tree.map(equal, encoder["params"], given.params["encoder"])
    jax.tree.map(equal, encoder["batch_stats"], given.memory["encoder"])
    assert all(path.startswith("frozen/encoder") for path in differing(found, own))


def test_files_of_before_fill_a_run_without_the_layer(tmp_path, uniformity_run):
    given = drawn(BEFORE, 1)
    file = uniformity_file(tmp_path, given)
    found = ImportUniformity(file, "encoder and projector")(drawn(BEFORE, 2))
    jax.tree.map(np.testing.assert_array_equal, found, given)
    with pytest.raises(ValueError, match=r"no layer `fc` .* before 23 May"):
        ImportUniformity(file)(drawn(UNIFORMITY))
    with pytest.raises(
        ValueError, match=r"ImportUniformity: nothing below 'params/fc' in this run"
    ):
        ImportUniformity(file)(drawn(BEFORE))
    with pytest.raises(ValueError, match=r"reads what module\.encoder\.fc gives"):
        ImportUniformity(uniformity_run[1], "encoder and projector")(drawn(BEFORE))


# CLIP.

CLIP = {
    "resnet": ClipResNet((1, 1, 1, 1), width=2, output=6, image_size=32),
    "vit": ClipViT(patch=4, width=64, layers=1, output=6, image_size=8),
}
TEXT = ClipText(width=64, layers=1, output=6, context=5, vocabulary=11)
KINDS = pytest.mark.parametrize("kind", CLIP)


@functools.cache
def clip_parts(kind, seed):
    """All parts of a CLIP model, with random values; not to be changed."""
    size = CLIP[kind].image_size
    inputs = {
        "visual": (CLIP[kind], jax.ShapeDtypeStruct((1, size, size, 3), np.float32)),
        "text": (TEXT, jax.ShapeDtypeStruct((1, 5), np.int32)),
    }
    shapes = {
        part: jax.eval_shape(
            functools.partial(network.init, train=False), jax.random.key(0), x
        )
        for part, (network, x) in inputs.items()
    }
    random = np.random.default_rng(seed)
    drawn = jax.tree.map(lambda x: random.random(x.shape, np.float32), shapes)
    return drawn | {"logit_scale": np.float32(4.6)}


def as_run(parts):
    """Variables of a run with an image tower, a text tower and a frozen teacher."""
    parts = jax.tree.map(np.copy, parts)
    statistics = parts["visual"].get("batch_stats", {})
    return Variables(
        {"encoder": parts["visual"]["params"], "text": parts["text"]["params"]},
        {"teacher": {"params": parts["visual"]["params"], "batch_stats": statistics}},
        {"encoder": statistics},
    )


def clip_file(folder, kind):
    state = clip.from_variables(clip_parts(kind, 1))
    np.savez(folder / "clip.npz", **state)
    return str(folder / "clip.npz")


@KINDS
def test_an_image_tower_of_clip_fills_the_encoder_and_nothing_else(tmp_path, kind):
    given, own = as_run(clip_parts(kind, 1)), as_run(clip_parts(kind, 2))
    found = ImportClip(clip_file(tmp_path, kind))(own)
    assert jax.tree.structure(found) == jax.tree.structure(own)
    encoder = {
        path
        for path in flat(own)
        if path.startswith(("params/encoder", "memory/encoder"))
    }
    assert differing(found, own) == encoder
    assert not differing(found, given) & encoder


@KINDS
def test_a_frozen_teacher_and_a_text_tower_are_filled_by_their_prefixes(tmp_path, kind):
    given, own = as_run(clip_parts(kind, 1)), as_run(clip_parts(kind, 2))
    own = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), own)
    file = clip_file(tmp_path, kind)
    found = ImportClip(
        file,
        params="frozen/teacher/params",
        batch_stats="frozen/teacher/batch_stats",
        text="params/text",
    )(ImportClip(file)(own))
    jax.tree.map(np.testing.assert_array_equal, found, given)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = clip.from_variables(clip_parts("vit", 1))
    state["visual.conv1.weight"][0, 0, 0, 0] = np.nan
    np.savez(tmp_path / "clip.npz", **state)
    with pytest.raises(ValueError, match=r"not finite in 1 array.*params/encoder"):
        ImportClip(str(tmp_path / "clip.npz"))(as_run(clip_parts("vit", 2)))


def test_a_tower_of_another_kind_or_size_is_refused_with_what_is_left_over(tmp_path):
    own = as_run(clip_parts("vit", 2))
    with pytest.raises(ValueError, match=r"104 .* unused(.|\n)*- visual\.(.|\n)*more"):
        ImportClip(clip_file(tmp_path, "resnet"))(own)
    with pytest.raises(ValueError, match="ImportClip: nothing below 'params/backbone'"):
        ImportClip(clip_file(tmp_path, "vit"), params="params/backbone")(own)
    own.params["encoder"]["positions"] = np.zeros((50, 64), np.float32)
    with pytest.raises(ValueError, match=r"\(5, 64\) -> .*positions \(50, 64\)"):
        ImportClip(clip_file(tmp_path, "vit"))(own)


def test_a_resnets_statistics_must_have_a_place(tmp_path):
    own = as_run(clip_parts("resnet", 2))
    rule = ImportClip(clip_file(tmp_path, "resnet"), batch_stats="memory/teacher")
    with pytest.raises(ValueError, match=r"38 .* unused(.|\n)*- visual.*_mean"):
        rule(own)


def test_an_archive_of_a_published_name_must_be_the_published_one(tmp_path):
    torch = pytest.importorskip("torch")
    state = clip.from_variables(clip_parts("vit", 1))
    file, own = tmp_path / "ViT-B-32.pt", as_run(clip_parts("vit", 2))
    torch.save({name: torch.from_numpy(x) for name, x in state.items()}, file)
    with pytest.raises(ValueError, match=rf"published {SHA256['ViT-B-32.pt']}"):
        ImportClip(str(file))(own)
    found = ImportClip(str(file), checksum="any")(own)
    expected = clip_parts("vit", 1)["visual"]["params"]
    jax.tree.map(np.testing.assert_array_equal, found.params["encoder"], expected)


# Checkpoints of students of CLIP.


def frozen_probe(encoder, statistics, head):
    return Variables(
        {"head": head},
        {"encoder": {"params": encoder, "batch_stats": statistics}},
        {"head": {}},
    )


HEAD = {"out": {"kernel": np.ones((6, 3), np.float32), "bias": np.zeros(3, np.float32)}}


@KINDS
def test_a_students_probe_fills_a_frozen_encoder_and_its_head(tmp_path, kind):
    parts = clip_parts(kind, 1)
    tower = clip.from_variables({"visual": parts["visual"]})
    backbone = {f"backbone.{n.removeprefix('visual.')}": x for n, x in tower.items()}
    weight = np.arange(18, dtype=np.float32).reshape(3, 6)
    output = {"output.weight": weight, "output.bias": np.arange(3, dtype=np.float32)}
    np.savez(tmp_path / "probe.npz", **backbone, **output)
    own, given = clip_parts(kind, 2)["visual"], parts["visual"]
    found = ImportDistill(
        str(tmp_path / "probe.npz"),
        "probe",
        params="frozen/encoder/params",
        batch_stats="frozen/encoder/batch_stats",
        head="params/head",
    )(frozen_probe(own["params"], own.get("batch_stats", {}), HEAD))
    head = {"out": {"kernel": weight.T, "bias": output["output.bias"]}}
    expected = frozen_probe(given["params"], given.get("batch_stats", {}), head)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_student_is_taken_without_its_teacher_and_has_no_head(tmp_path):
    parts = clip_parts("vit", 1)
    whole = clip.from_variables(clip_parts("vit", 3))
    tower = clip.from_variables({"visual": parts["visual"]})
    student = {
        name.replace("visual.", "noisy_visual_encoder.", 1): x
        for name, x in tower.items()
    }
    teacher = {f"baseclip.{name}": x for name, x in whole.items()}
    np.savez(tmp_path / "student.npz", **student, **teacher)
    file, own = str(tmp_path / "student.npz"), as_run(clip_parts("vit", 2))
    for part, seed in (("student", 1), ("teacher", 3)):
        found = ImportDistill(file, part)(own).params["encoder"]
        expected = clip_parts("vit", seed)["visual"]["params"]
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(ValueError, match="a student has no head"):
        ImportDistill(file, "student", head="params/text")(own)


# What was stored before the rules had a module of their own.


@pytest.mark.parametrize("rule", [ImportResNet, ImportMoCo, ImportUniformity])
def test_a_config_that_names_a_rule_where_it_was_is_read_as_where_it_is(rule):
    now = configs.to_json(node(rule, "weights.npz"))
    before = now.replace("jax_rcl.weights.imports:", "jax_rcl.transfer:")
    assert before != now
    stored = json.dumps({"init_from": [json.loads(before)]})
    (found,) = configs.from_json(stored).init_from
    assert not configs.differences(found, json.loads(now))
    assert configs.build(found) == rule("weights.npz")
