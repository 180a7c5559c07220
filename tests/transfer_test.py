"""A run starts from another run's weights, or a file's: all of them, or an error."""

import shutil

import jax
import numpy as np
import pytest

from jax_rcl.checkpoint import (
    FROZEN,
    STATES,
    VARIABLES,
    Checkpoints,
    flat,
    read_variables,
)
from jax_rcl.core import Variables
from jax_rcl.networks.resnet import ResNet
from jax_rcl.transfer import ImportResNet, Restore
from jax_rcl.weights import torchvision

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
    assert "  - params/encoder/stem/kernel (3, 4)\n" in str(told.value)
    assert str(told.value).endswith("  + params/encoder/stem/kernel (3, 8)")


def test_arrays_without_counterpart_are_listed_on_their_side(other):
    own = variables()
    own.params["encoder"]["tail"] = {"scale": np.zeros(2, np.float32)}
    del own.params["encoder"]["stem"]["bias"]
    with pytest.raises(ValueError, match="do not hold the same arrays") as told:
        Restore(str(other), {"params/encoder": "params/encoder"})(own)
    lines = str(told.value).splitlines()[1:]
    assert lines == [
        "  - params/encoder/stem/bias (4,)",
        "  + params/encoder/tail/scale (2,)",
    ]


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
