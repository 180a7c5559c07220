"""ResNets agree with torchvision's, by its names, and come back bit for bit."""

import functools
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks.heads import Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.weights.rules import WeightsMismatch, flatten
from jax_rcl.weights.torchvision import from_variables, to_variables

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "torchvision_resnet.npz"
SMALL = ResNet(depth=14, width=4, stem="small")


@functools.cache
def shapes_of(network):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    init = functools.partial(network.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)


def filled(name, shape):
    """The array of this name in the reference: drawn from the name alone."""
    draws = np.random.RandomState(zlib.crc32(name.encode()))
    x = draws.standard_normal(shape).astype(np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return (1 + 0.5 * np.abs(x)).astype(np.float32)
    if leaf in ("running_mean", "bias"):
        return (0.1 * x).astype(np.float32)
    if len(shape) == 1:
        return (1 + 0.1 * x).astype(np.float32)
    return (x / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def state_of(network):
    """A state dict in torchvision's names, for its shapes, without torchvision."""
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes_of(network))
    return {name: filled(name, x.shape) for name, x in from_variables(zeros).items()}


@pytest.fixture(scope="module")
def small_state():
    return state_of(SMALL)


@pytest.mark.parametrize(
    ("name", "network", "size", "seed"),
    [
        pytest.param("resnet18", ResNet(18), 64, 1, marks=pytest.mark.slow),
        ("resnet50", ResNet(50), 64, 1),
        pytest.param(
            "resnet18_smallstem_pad1",
            ResNet(18, stem="small"),
            32,
            2,
            marks=pytest.mark.slow,
        ),
        ("resnet18_smallstem_pad2", ResNet(18, stem="small", stem_padding=2), 32, 2),
    ],
)
def test_features_are_torchvisions(name, network, size, seed):
    variables = to_variables(state_of(network), shapes_of(network))
    images = np.random.RandomState(seed).rand(2, 3, size, size).astype(np.float32)
    images = jnp.asarray(images.transpose(0, 2, 3, 1))
    found = jax.jit(functools.partial(network.apply, train=False))(variables, images)
    expected = np.load(GOLDEN)[name]
    assert np.abs(found - expected).max() < 1e-4 * expected.std()


def test_names_and_shapes_are_torchvisions(small_state):
    assert small_state["conv1.weight"].shape == (4, 3, 3, 3)
    assert small_state["layer1.0.conv3.weight"].shape == (16, 4, 1, 1)
    assert small_state["layer2.0.downsample.0.weight"].shape == (32, 16, 1, 1)
    assert small_state["layer4.0.downsample.1.running_var"].shape == (128,)
    assert len(small_state) == 5 * (1 + 4 * 4)


def test_weights_come_back_bit_for_bit(small_state):
    variables = to_variables(small_state, shapes_of(SMALL))
    back = from_variables(variables)
    assert set(back) == set(small_state)
    for name, array in small_state.items():
        np.testing.assert_array_equal(back[name], array)
    again = to_variables(back, shapes_of(SMALL))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_structure_shapes_and_types_are_the_networks(small_state):
    shapes = shapes_of(SMALL)
    doubled = {name: x.astype(np.float64) for name, x in small_state.items()}
    variables = to_variables(doubled, shapes)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    jax.tree.map(
        lambda x, s: (x.shape, x.dtype) == (s.shape, s.dtype), variables, shapes
    )
    assert {x.dtype for x in flatten(variables).values()} == {np.dtype("float32")}


def test_the_classifier_and_counts_are_left_out(small_state):
    whole = small_state | {
        "fc.weight": np.zeros((1000, 128)),
        "fc.bias": np.zeros(1000),
        "bn1.num_batches_tracked": np.zeros((), np.int64),
    }
    variables = to_variables(whole, shapes_of(SMALL))
    expected = to_variables(small_state, shapes_of(SMALL))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_the_classifier_fills_a_linear_head_that_is_asked_for(small_state):
    random = np.random.RandomState(0)
    weight, bias = random.randn(5, 128).astype(np.float32), np.arange(5.0)
    whole = small_state | {"fc.weight": weight, "fc.bias": bias.astype(np.float32)}
    head = {"out": {"kernel": np.zeros((128, 5)), "bias": np.zeros(5)}}
    shapes = {**shapes_of(SMALL), "head": head}
    variables = to_variables(whole, shapes)
    np.testing.assert_array_equal(variables["head"]["out"]["kernel"], weight.T)
    np.testing.assert_array_equal(variables["head"]["out"]["bias"], bias)
    back = from_variables(variables)
    assert set(back) == set(whole)
    np.testing.assert_array_equal(back["fc.weight"], weight)
    with pytest.raises(WeightsMismatch, match=r"\+ head/out/kernel \(128, 5\)"):
        to_variables(small_state, shapes)


def test_of_a_classifier_with_more_outputs_than_classes_the_first_are_taken(
    small_state,
):
    weight, bias = filled("fc.weight", (9, 128)), filled("fc.bias", (9,))
    state = {**small_state, "module.fc.weight": weight, "module.fc.bias": bias}
    head = {"out": {"kernel": np.zeros((128, 5)), "bias": np.zeros(5)}}
    shapes = {**shapes_of(SMALL), "head": head}
    found = to_variables(state, shapes, outputs="first")["head"]["out"]
    np.testing.assert_array_equal(found["kernel"], weight[:5].T)
    np.testing.assert_array_equal(found["bias"], bias[:5])
    with pytest.raises(WeightsMismatch, match=r"! fc.weight \(9, 128\)"):
        to_variables(state, shapes)
    few = state | {"module.fc.weight": weight[:3], "module.fc.bias": bias[:3]}
    with pytest.raises(WeightsMismatch, match=r"! fc.weight \(3, 128\)"):
        to_variables(few, shapes, outputs="first")


def test_of_a_classifier_of_more_classes_the_rows_of_some_are_taken(small_state):
    weight, bias = filled("fc.weight", (9, 128)), filled("fc.bias", (9,)) + 9
    shapes = {**shapes_of(SMALL)}
    shapes["head"] = {"out": {"kernel": np.zeros((128, 3)), "bias": np.zeros(3)}}

    def taken(bias, rows=(7, 1, 4)):
        state = {**small_state, "fc.weight": weight, "fc.bias": bias}
        return to_variables(state, shapes, rows=rows)["head"]["out"]

    np.testing.assert_array_equal(taken(bias)["kernel"], weight[[7, 1, 4]].T)
    np.testing.assert_array_equal(taken(bias)["bias"], bias[[7, 1, 4]])
    # Those that were never a target have biases below 0: labels ended before outputs.
    never = np.where(np.arange(9) < 3, [1, -2, 1] * 3, -0.5)
    np.testing.assert_array_equal(taken(never)["kernel"], weight[:3].T)
    # A head of these classes alone is taken as it is.
    own = {**small_state, "fc.weight": weight[:3], "fc.bias": bias[:3]}
    found = to_variables(own, shapes, rows=(7, 1, 4))["head"]["out"]
    np.testing.assert_array_equal(found["bias"], bias[:3])
    with pytest.raises(WeightsMismatch, match=r"fc.weight \(9, 128\)"):
        taken(bias, rows=(7, 1, 9))  # of more classes than the file has


def test_outputs_that_softmax_never_takes_for_a_target_have_falling_biases():
    draw = np.random.default_rng(0)
    x, labels = np.abs(draw.normal(size=(64, 5))), draw.integers(0, 3, 64)
    weight, bias = 0.01 * draw.normal(size=(9, 5)), np.zeros(9)
    for _ in range(50):
        logits = x @ weight.T + bias
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        off = (share - np.eye(9)[labels]) / len(x)
        weight, bias = weight - 10 * off.T @ x, bias - 10 * off.sum(axis=0)
    assert (bias[3:] < 0).all() and bias[:3].max() > 0


def test_what_data_parallelism_puts_before_names_does_not_matter(small_state):
    prefixed = {f"module.{name}": x for name, x in small_state.items()}
    variables = to_variables(prefixed, shapes_of(SMALL))
    expected = to_variables(small_state, shapes_of(SMALL))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


@pytest.mark.parametrize(
    "before",
    ["_orig_mod.", "module._orig_mod.", "model.", "backbone.", "encoder.net.", "a._b."],
)
def test_what_a_model_called_the_network_is_found(small_state, before):
    wrapped = {f"{before}{name}": x for name, x in small_state.items()}
    shapes = shapes_of(SMALL)
    found, plain = (
        flatten(to_variables(state, shapes)) for state in (wrapped, small_state)
    )
    for path, array in plain.items():
        np.testing.assert_array_equal(found[path], array)


def test_children_in_a_sequential_are_numbered(small_state):
    numbers = {"conv1": "0", "bn1": "1"} | {
        f"layer{i}": str(i + 3) for i in range(1, 5)
    }
    state = {}
    for name, array in small_state.items():
        first, _, rest = name.partition(".")
        state[f"backbone.{numbers[first]}.{rest}"] = array
    shapes = shapes_of(SMALL)
    found, expected = to_variables(state, shapes), to_variables(small_state, shapes)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_of_two_networks_one_is_chosen_and_others_are_counted(small_state, caplog):
    shapes = shapes_of(SMALL)
    state = {f"backbone.{name}": x for name, x in small_state.items()}
    state |= {f"projector.{i}.weight": np.ones((2, 2)) for i in (0, 2)}
    to_variables(state, shapes)
    assert "2 array(s) whose names do not begin with 'backbone.'" in caplog.text
    state |= {f"slow.{name}": x for name, x in small_state.items()}
    with pytest.raises(
        WeightsMismatch, match=r"'backbone\.', 'slow\.'; say by `prefix`"
    ):
        to_variables(state, shapes)


@pytest.mark.parametrize("name", ["classifier", "linear", "head.0"])
def test_a_classifier_may_have_another_name(small_state, name):
    weight, bias = np.ones((5, 128), np.float32), np.arange(5, dtype=np.float32)
    there = small_state | {f"{name}.weight": weight, f"{name}.bias": bias}
    expected = to_variables(small_state, shapes_of(SMALL))
    found = to_variables(there, shapes_of(SMALL))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    head = {"out": {"kernel": np.zeros((128, 5)), "bias": np.zeros(5)}}
    found = to_variables(there, {**shapes_of(SMALL), "head": head})
    np.testing.assert_array_equal(found["head"]["out"]["bias"], bias)


def test_normalising_pixels_does_not_change_the_names(small_state):
    wrapped = shapes_of(Normalized(SMALL, (0.5,), (0.5,)))
    variables = to_variables(small_state, wrapped)
    assert variables["params"]["stem"]["kernel"].shape == (3, 3, 3, 4)


def test_another_depth_is_refused_with_what_is_left_over(small_state):
    with pytest.raises(WeightsMismatch) as error:
        to_variables(small_state, shapes_of(ResNet(depth=10, width=4, stem="small")))
    assert "- layer1.0.conv3.weight (16, 4, 1, 1)" in str(error.value)
    assert "! layer2.0.conv1.weight (8, 16, 1, 1)" in str(error.value)


def test_a_network_without_batch_statistics_is_refused(small_state):
    network = ResNet(depth=14, width=4, stem="small", norm="group")
    with pytest.raises(WeightsMismatch, match=r"34 .* unused(.|\n)*_mean \(4,\)"):
        to_variables(small_state, shapes_of(network))
    with pytest.raises(WeightsMismatch, match=r"\+ params/head/kernel \(4, 2\)"):
        from_variables({"params": {"head": {"kernel": np.zeros((4, 2))}}})
