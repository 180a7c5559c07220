"""A run starts from another run's weights, or a file's: all of them, or an error."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl import parallel
from jax_rcl.checkpoint import (
    BEST,
    FROZEN,
    STATES,
    VARIABLES,
    Checkpoints,
    flat,
    read_variables,
)
from jax_rcl.config import node
from jax_rcl.core import Clock, Variables
from jax_rcl.networks.heads import Headed, Linear, Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.networks.vit import ViT
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.moco import MoCo
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.transfer import ImportMoCo, ImportResNet, ImportUniformity, Restore
from jax_rcl.weights import moco, torchvision, uniformity

# Reads that are still under way when another one fails end in a closed event loop.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def damage(folder):
    """Changes one byte in the middle of every file that holds arrays."""
    files = [path for path in folder.rglob("d/*") if path.is_file()]
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)


def variables(seed=0):
    random = np.random.default_rng(seed)

    def array(*shape):
        return random.normal(size=shape).astype(np.float32)

    return Variables(
        params={
            "encoder": {"stem": {"kernel": array(3, 4), "bias": array(4)}},
            "head": {"kernel": array(4, 2)},
        },
        frozen={"teacher": {"kernel": array(4, 4)}},
        memory={"encoder": {"stem": {"mean": array(4)}}, "head": {}},
    )


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The workdir of another run."""
    made, workdir = variables(1), tmp_path_factory.mktemp("runs") / "other"
    with Checkpoints(workdir / STATES, keep=1) as saved:
        arrays = {"params": made.params, "memory": made.memory}
        saved.save(3, {VARIABLES: arrays, "training": {"step": np.int32(3)}})
    with Checkpoints(workdir / FROZEN, keep=1) as saved:
        saved.save(0, {FROZEN: made.frozen})
    return workdir


def test_all_variables_of_a_run_are_read_by_path(other):
    found, expected = read_variables(other), flat(variables(1))
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array)


@pytest.mark.parametrize("leaves", ["arrays", "shapes"])
@pytest.mark.parametrize(
    ("paths", "filled"),
    [
        (
            {"params/encoder": "params/encoder", "memory/encoder": "memory/encoder"},
            {
                "params/encoder/stem/kernel": "params/encoder/stem/kernel",
                "params/encoder/stem/bias": "params/encoder/stem/bias",
                "memory/encoder/stem/mean": "memory/encoder/stem/mean",
            },
        ),
        (
            {"frozen/teacher": "frozen/teacher"},
            {"frozen/teacher/kernel": "frozen/teacher/kernel"},
        ),
        (
            {"params/head/kernel": "params/head/kernel"},
            {"params/head/kernel": "params/head/kernel"},
        ),
        (
            {"params/encoder/stem/bias": "memory/encoder/stem/mean"},
            {"params/encoder/stem/bias": "memory/encoder/stem/mean"},
        ),
        ({"memory/head": "memory/head"}, {}),
    ],
)
def test_what_is_named_is_replaced_and_nothing_else(other, paths, filled, leaves):
    own, theirs = variables(0), flat(variables(1))
    if leaves == "shapes":
        own = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), own)
    found = Restore(str(other), paths)(own)
    assert jax.tree.structure(found) == jax.tree.structure(own)
    for path, leaf in flat(found).items():
        if path in filled:
            np.testing.assert_array_equal(leaf, theirs[filled[path]])
        else:
            assert leaf is flat(own)[path]


def test_a_damaged_run_is_not_started_from(other, tmp_path):
    run = shutil.copytree(other, tmp_path / "run")
    damage(run / STATES / "3" / VARIABLES)
    with pytest.raises(ValueError, match=r"checkpoint \S+/3 is damaged"):
        Restore(str(run), {"params": "params"})(variables())


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (
            {"params/encodr": "params/encoder"},
            r"nothing below 'params/encodr' in this run; there are: "
            r"frozen/teacher, memory/encoder, params/encoder, params/head\.",
        ),
        (
            {"params/encoder": "params/enc"},
            r"nothing below 'params/enc' in \S+other; there are: "
            r"frozen/teacher, memory/encoder, params/encoder, params/head\.",
        ),
        (
            {"params/backbone": "params/backbone"},
            r"nothing below 'params/backbone' in this run",
        ),
    ],
)
def test_a_prefix_that_is_not_there_is_named_with_those_that_are(other, paths, words):
    with pytest.raises(ValueError, match=words):
        Restore(str(other), paths)(variables())


def test_other_shapes_are_shown_on_both_sides(other):
    own = variables()
    own.params["encoder"]["stem"]["kernel"] = np.zeros((3, 8), np.float32)
    with pytest.raises(ValueError, match="do not hold the same arrays") as told:
        Restore(str(other), {"params/encoder": "params/encoder"})(own)
    lines = str(told.value).splitlines()[1:]
    assert lines == [
        "  - params/encoder/stem/kernel (3, 4)",
        "  + params/encoder/stem/kernel (3, 8)",
        "Give this run the network of the other one, or start it from a run of its "
        "own.",
    ]


def test_arrays_without_counterpart_are_listed_on_their_side(other):
    own = variables()
    own.params["encoder"]["tail"] = {"scale": np.zeros(2, np.float32)}
    del own.params["encoder"]["stem"]["bias"]
    with pytest.raises(ValueError, match="do not hold the same arrays") as told:
        Restore(str(other), {"params/encoder": "params/encoder"})(own)
    lines = str(told.value).splitlines()[1:-1]
    assert lines == [
        "  - params/encoder/stem/bias (4,)",
        "  + params/encoder/tail/scale (2,)",
    ]


def vit_run(workdir, step=4, total_steps=4, folder=STATES, **fields):
    """The workdir of a run of a ViT, with a config, and its variables."""
    fields = {"patch": 4, "width": 8, "depth": 1, "heads": 2} | fields
    network = ViT(**fields)
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), images
    )
    made = jax.tree.map(lambda x: np.full(x.shape, step, np.float32), shapes)
    params = {"encoder": made["params"]}
    facts = {"total_steps": total_steps}
    with Checkpoints(workdir / folder, keep=1) as saved:
        saved.save(step, {VARIABLES: {"params": params, "memory": {}}}, facts)
    trained = {"class": "somewhere:SupCon", "encoder": node(ViT, **fields).to_dict()}
    (workdir / "config.json").write_text(json.dumps({"objective": trained}))
    return Variables(params, {}, {})


def lists_of(error):
    """The paths that the message names on the other run's side, and on this one's."""
    lines = str(error).splitlines()
    return [{x[4:] for x in lines if x.startswith(f"  {sign} ")} for sign in "-+"]


ENCODER = {"params/encoder": "params/encoder"}


def test_an_encoder_of_another_width_is_refused_with_both_lists_and_what_theirs_is(
    tmp_path,
):
    vit_run(tmp_path / "narrow")
    own = vit_run(tmp_path / "wide", width=16)
    with pytest.raises(ValueError, match="do not hold the same arrays") as told:
        Restore(str(tmp_path / "narrow"), ENCODER)(own)
    theirs, ours = lists_of(told.value)
    assert "params/encoder/block1/attention_norm/scale (8,)" in theirs
    assert "params/encoder/block1/attention_norm/scale (16,)" in ours
    assert {x.split(" ")[0] for x in theirs} == {x.split(" ")[0] for x in ours}
    assert "The other run's encoder is ViT(" in str(told.value)


@pytest.mark.parametrize(("theirs", "own"), [(1, 2), (2, 1)])
def test_an_encoder_of_another_depth_is_refused_with_the_blocks_that_are_missing(
    tmp_path, theirs, own
):
    vit_run(tmp_path / "other", depth=theirs)
    variables = vit_run(tmp_path / "own", depth=own)
    with pytest.raises(ValueError, match="do not hold the same arrays") as told:
        Restore(str(tmp_path / "other"), ENCODER)(variables)
    both = lists_of(told.value)
    more = both[theirs < own]
    assert more and not both[theirs > own]
    assert all(path.startswith("params/encoder/block2/") for path in more)
    assert f"depth={theirs}" in str(told.value)


def test_of_many_arrays_that_differ_the_first_of_each_side_are_shown(tmp_path):
    vit_run(tmp_path / "other", depth=3)
    own = vit_run(tmp_path / "own", depth=1, width=16)
    with pytest.raises(ValueError, match="do not hold the same arrays") as told:
        Restore(str(tmp_path / "other"), ENCODER)(own)
    lines = str(told.value).splitlines()
    for sign in "-+":
        side = [line for line in lines if line.startswith(f"  {sign} ")]
        assert 10 < len(side) <= 21
    assert any(line.startswith("  - … ") for line in lines)


def test_an_unfinished_run_may_be_started_from_but_it_is_said(tmp_path, caplog):
    own = vit_run(tmp_path / "done")
    Restore(str(tmp_path / "done"), ENCODER)(own)
    assert "unfinished" not in caplog.text
    vit_run(tmp_path / "half", step=2)
    Restore(str(tmp_path / "half"), ENCODER)(own)
    assert "half is unfinished: it was saved at step 2 of 4" in caplog.text


def test_the_best_state_of_a_run_is_taken_where_it_is_asked_for(tmp_path):
    own = vit_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"no best checkpoint: .* Take its newest, or"):
        Restore(str(tmp_path / "run"), ENCODER, which="best")(own)
    vit_run(tmp_path / "run", step=2, folder=BEST)
    for which, step in (("newest", 4), ("best", 2)):
        found = Restore(str(tmp_path / "run"), ENCODER, which=which)(own)
        assert all((x == step).all() for x in jax.tree.leaves(found.params))


def test_a_workdir_without_checkpoints_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nowhere holds no checkpoint to start from"):
        Restore(str(tmp_path / "nowhere"), {"params": "params"})(variables())
    (tmp_path / "empty" / STATES).mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no finished checkpoint"):
        Restore(str(tmp_path / "empty"), {"params": "params"})(variables())


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


def drawn(objective, seed=0):
    """Variables of an objective, with random values."""
    shapes = jax.eval_shape(objective.init, jax.random.key(0), LABELLED)
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(random.random(x.shape), x.dtype), shapes)


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
    shapes = jax.eval_shape(MOCO.init, jax.random.key(0), LABELLED)
    found = ImportMoCo(file, "everything")(shapes)
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
    shapes = jax.eval_shape(UNIFORMITY.init, jax.random.key(0), LABELLED)
    found = ImportUniformity(file)(shapes)
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
    images = jnp.asarray(np.random.default_rng(0).random((2, 8, 8, 3)), np.float32)
    np.testing.assert_allclose(
        probe.encode(found, images)["features"],
        UNIFORMITY.encode(given, images)["features"],
        rtol=1e-5,
    )
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
