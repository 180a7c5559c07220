"""Checkpoints of MoCo's authors fill our variables by name, and come back exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks.heads import Linear, Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.weights import torchvision
from jax_rcl.weights.files import read
from jax_rcl.weights.moco import from_variables, to_variables
from jax_rcl.weights.rules import WeightsMismatch

# As wide as a ResNet can be small: four blocks of two convolutions, 32 features.
ENCODER, FEATURES = ResNet(depth=10, width=4, stem="small"), 32
HEADS = {"v1": Linear(6), "v2": Mlp((FEATURES, 6))}
QUEUE, DIM = 8, 6


@functools.cache
def shapes_of(version):
    """The parts of a run, as shapes."""
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)

    def network(module, x):
        init = functools.partial(module.init, train=False)
        return {**jax.eval_shape(init, jax.random.key(0), x)}

    encoder = network(ENCODER, shape((1, 8, 8, 3)))
    projector = network(HEADS[version], shape((1, FEATURES)))
    return {
        "encoder": encoder,
        "projector": projector,
        "slow": {"encoder": encoder, "projector": projector},
        "queue": shape((QUEUE, DIM)),
        "cursor": jax.ShapeDtypeStruct((), jnp.int32),
    }


def resnet_state(random, prefix):
    """A ResNet in torchvision's names below a prefix, with what else its norms keep."""
    shapes = shapes_of("v1")["encoder"]
    drawn = jax.tree.map(lambda x: random.normal(size=x.shape), shapes)
    names = torchvision.from_variables(drawn)
    state = {f"{prefix}.{name}": x for name, x in names.items()}
    counts = [n for n in names if n.endswith("running_mean")]
    for name in counts:
        counted = name.replace("running_mean", "num_batches_tracked")
        state[f"{prefix}.{counted}"] = np.asarray(7)
    return state


def head_state(random, prefix, version):
    """A head as PyTorch names the layers of a Linear, or of a Sequential."""
    layers = {"v1": {"fc": DIM}, "v2": {"fc.0": FEATURES, "fc.2": DIM}}[version]
    state = {}
    for name, width in layers.items():
        state[f"{prefix}.{name}.weight"] = random.normal(size=(width, FEATURES))
        state[f"{prefix}.{name}.bias"] = random.normal(size=width)
    return state


@functools.cache
def state_of(version):
    """The state dict of a checkpoint, written down from the authors' modules."""
    random = np.random.default_rng(1)
    state = {}
    for network in ("module.encoder_q", "module.encoder_k"):
        state |= resnet_state(random, network)
        state |= head_state(random, network, version)
    state["module.queue"] = random.normal(size=(DIM, QUEUE))
    state["module.queue_ptr"] = np.array([3])
    return {
        name: x.astype(np.float32) if x.dtype.kind == "f" else x.astype(np.int64)
        for name, x in state.items()
    }


def of(tree, *parts):
    return {part: tree[part] for part in parts}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_query_encoder_is_the_one_that_is_filled(version):
    state = state_of(version)
    found = to_variables(state, of(shapes_of(version), "encoder"))
    assert set(found) == {"encoder"}
    kernel = found["encoder"]["params"]["stem"]["kernel"]
    weight = state["module.encoder_q.conv1.weight"]
    np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))
    mean = found["encoder"]["batch_stats"]["stage2_block1"]["norm2"]["mean"]
    stored = state["module.encoder_q.layer2.0.bn2.running_mean"]
    np.testing.assert_array_equal(mean, stored)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_everything_has_the_structure_shapes_and_types_of_the_run(version):
    shapes, state = shapes_of(version), state_of(version)
    found = to_variables(state, shapes)
    assert jax.tree.structure(found) == jax.tree.structure(shapes)
    jax.tree.map(
        lambda x, s: np.testing.assert_equal((x.shape, x.dtype), (s.shape, s.dtype)),
        found,
        shapes,
    )
    np.testing.assert_array_equal(found["queue"], state["module.queue"].T)
    assert found["cursor"] == 3
    kernel = found["slow"]["encoder"]["params"]["stem"]["kernel"]
    weight = state["module.encoder_k.conv1.weight"]
    np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))


def test_the_head_of_v1_is_one_layer_and_that_of_v2_two():
    one = to_variables(state_of("v1"), shapes_of("v1"))
    weight = state_of("v1")["module.encoder_q.fc.weight"]
    kernel = one["projector"]["params"]["out"]["kernel"]
    np.testing.assert_array_equal(kernel, weight.T)
    two = to_variables(state_of("v2"), shapes_of("v2"))
    for place, head in (("encoder_q", two), ("encoder_k", two["slow"])):
        params = head["projector"]["params"]
        for layer, name in (("hidden1", "fc.0"), ("out", "fc.2")):
            source = f"module.{place}.{name}"
            weight, bias = (state_of("v2")[f"{source}.{x}"] for x in ("weight", "bias"))
            np.testing.assert_array_equal(params[layer]["kernel"], weight.T)
            np.testing.assert_array_equal(params[layer]["bias"], bias)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_run_comes_back_bit_for_bit(version):
    found = to_variables(state_of(version), shapes_of(version))
    back = from_variables(found)
    expected = {n: x for n, x in state_of(version).items() if "num_batches" not in n}
    assert set(back) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype and back[name].flags.c_contiguous
    again = to_variables(back, shapes_of(version))
    jax.tree.map(np.testing.assert_array_equal, again, found)


def test_parts_come_back_alone():
    found = to_variables(state_of("v2"), of(shapes_of("v2"), "encoder", "projector"))
    names = {name for name in state_of("v2") if "encoder_q" in name}
    assert set(from_variables(found)) == {n for n in names if "num_batches" not in n}


def test_names_may_have_lost_what_data_parallelism_put_before_them():
    bare = {name.removeprefix("module."): x for name, x in state_of("v2").items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        to_variables(bare, shapes_of("v2")),
        to_variables(state_of("v2"), shapes_of("v2")),
    )


@pytest.mark.parametrize("state", [{}, {"module.conv1.weight": np.zeros((4, 3, 3, 3))}])
def test_a_file_of_something_else_is_told_from_a_checkpoint_of_moco(state):
    with pytest.raises(
        WeightsMismatch, match=r"begins with 'encoder_q\.'.*ImportResNet"
    ):
        to_variables(state, of(shapes_of("v2"), "encoder"))


@pytest.mark.parametrize(("given", "asked"), [("v1", "v2"), ("v2", "v1")])
def test_the_head_of_the_other_version_is_refused_with_both_sides(given, asked):
    with pytest.raises(WeightsMismatch) as error:
        to_variables(state_of(given), of(shapes_of(asked), "encoder", "projector"))
    more = "- encoder_q.fc.0.weight" if given == "v2" else "+ projector/params/hidden1"
    assert more in str(error.value)


def test_another_queue_is_refused_with_both_shapes():
    shapes = shapes_of("v2") | {"queue": jax.ShapeDtypeStruct((16, DIM), jnp.float32)}
    with pytest.raises(WeightsMismatch, match=r"! queue \(6, 8\) -> queue \(16, 6\)"):
        to_variables(state_of("v2"), shapes)


def test_nothing_of_a_part_may_be_absent_or_left_over():
    state = dict(state_of("v2"))
    del state["module.encoder_k.layer3.0.bn1.running_var"]
    state["module.encoder_q.layer9.0.conv1.weight"] = np.zeros((1, 1, 1, 1))
    with pytest.raises(WeightsMismatch) as error:
        to_variables(state, shapes_of("v2"))
    message = str(error.value)
    assert "+ slow/encoder/batch_stats/stage3_block1/norm1/var" in message
    assert "- encoder_q.layer9.0.conv1.weight" in message


@pytest.mark.parametrize("zipped", [True, False], ids=["now", "before 2020"])
def test_a_file_of_the_authors_program_is_read(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    tensors = {n: torch.from_numpy(x.copy()) for n, x in state_of("v2").items()}
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], 0.03, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    content = {
        "epoch": 200,
        "arch": "resnet50",
        "state_dict": tensors,
        "optimizer": optimizer.state_dict(),
    }
    path = tmp_path / "checkpoint_0199.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    jax.tree.map(
        np.testing.assert_array_equal,
        to_variables(read(path), shapes_of("v2")),
        to_variables(state_of("v2"), shapes_of("v2")),
    )


def test_the_names_are_those_of_pytorchs_modules():
    torch = pytest.importorskip("torch")
    layers = (torch.nn.Linear(FEATURES, FEATURES), torch.nn.Linear(FEATURES, DIM))
    head = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    names = {f"module.encoder_q.fc.{name}" for name in head.state_dict()}
    assert names == {n for n in state_of("v2") if n.startswith("module.encoder_q.fc")}
    found = to_variables(
        state_of("v2") | {n: head.state_dict()[n[20:]].numpy() for n in names},
        of(shapes_of("v2"), "encoder", "projector"),
    )
    x = np.random.default_rng(0).normal(size=(2, FEATURES)).astype(np.float32)
    ours = HEADS["v2"].apply(found["projector"], jnp.asarray(x), train=False)
    theirs = head(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-6)
