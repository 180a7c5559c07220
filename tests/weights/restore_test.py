"""A run starts from another run's weights: all of them that are named, or an error."""

import json
import shutil

import jax
import numpy as np
import pytest

from jax_rcl.checkpoint import (
    BEST,
    FROZEN,
    STATES,
    VARIABLES,
    Checkpoints,
    flat,
    read_variables,
)
from jax_rcl.config.nodes import node
from jax_rcl.core import Variables
from jax_rcl.networks.vit import ViT
from jax_rcl.weights.restore import Restore

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


def test_a_network_that_the_other_run_kept_frozen_is_found_by_its_name(tmp_path):
    made = variables(1)
    encoder = {"params": made.params["encoder"], "batch_stats": made.memory["encoder"]}
    with Checkpoints(tmp_path / STATES, keep=1) as saved:
        arrays = {"params": {"head": made.params["head"]}, "memory": {"head": {}}}
        saved.save(1, {VARIABLES: arrays})
    with Checkpoints(tmp_path / FROZEN, keep=1) as saved:
        saved.save(0, {FROZEN: {"encoder": encoder}})
    same = ("params/encoder", "memory/encoder", "params/head", "memory/head")
    found = Restore(str(tmp_path), {path: path for path in same})(variables())
    jax.tree.map(np.testing.assert_array_equal, found.params, made.params)
    jax.tree.map(np.testing.assert_array_equal, found.memory, made.memory)


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
