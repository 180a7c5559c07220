"""Deep Decoder's generator: the release's size, the equations in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks.deep_decoder import Generator, doublings_for
from tests.tiny import quick_jit


def shapes(network):
    noise = jax.ShapeDtypeStruct(network.input_shape, jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), noise)["params"]


def made(network):
    noise = jax.ShapeDtypeStruct(network.input_shape, jnp.float32)
    return jax.eval_shape(network.apply, {"params": shapes(network)}, noise)


def test_the_size_is_that_of_the_release():
    network = Generator((224, 224))
    sizes = [int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes(network))]
    assert sum(sizes) == 397_056
    assert network.input_shape == (7, 7, 256)
    assert network.stages == 6


@pytest.mark.parametrize("size", [(1, 1), (13, 14), (50, 30)])
@pytest.mark.parametrize("doublings", [None, 0, 3])
def test_images_have_the_size_that_is_asked_for(size, doublings):
    image = made(Generator(size, 1, width=4, doublings=doublings))
    assert image.shape == (*size, 1)
    assert image.dtype == jnp.float32


@pytest.mark.parametrize(
    ("size", "doublings", "start"),
    [
        (1, 0, 1),
        (3, 1, 2),
        (8, 2, 2),
        (28, 4, 2),
        (32, 4, 2),
        (64, 5, 2),
        (96, 5, 3),
        (224, 5, 7),
        (288, 5, 9),
    ],
)
def test_the_first_map_is_small_but_not_too_small(size, doublings, start):
    assert doublings_for((size, size)) == doublings
    assert Generator((size, size)).input_shape[:2] == (start, start)


def test_the_shorter_side_decides_how_often_the_map_is_doubled():
    assert (
        doublings_for((28, 224)) == doublings_for((224, 28)) == doublings_for((28,) * 2)
    )


def test_names_are_the_checkpoint_format():
    params = shapes(Generator((28, 28), doublings=1))
    stages = {f"stage{place}_{part}" for place in (1, 2) for part in ("conv", "norm")}
    assert set(params) == {*stages, "image"}
    assert set(params["stage1_conv"]) == set(params["image"]) == {"kernel"}
    assert set(params["stage1_norm"]) == {"scale", "bias"}


def test_layers_start_as_in_pytorch():
    network = Generator((4, 4), width=64, doublings=0)
    params = quick_jit(network.init)(jax.random.key(0), jnp.zeros(network.input_shape))
    params = params["params"]
    for name in ("stage1_conv", "image"):
        kernel = params[name]["kernel"]
        assert 0.9 / 8 < jnp.abs(kernel).max() <= 1 / 8
        assert abs(8 * kernel.std() - 3**-0.5) < 0.05
    assert (params["stage1_norm"]["scale"] == 1).all()
    assert (params["stage1_norm"]["bias"] == 0).all()


def doubled(x):
    """Twice the side; new pixel i reads the old ones at (i + 1/2) / 2 - 1/2."""
    for axis in (0, 1):
        last = x.shape[axis] - 1
        place = np.clip((np.arange(2 * last + 2) + 0.5) / 2 - 0.5, 0, last)
        low = np.floor(place).astype(int)
        share = np.expand_dims(place - low, [1 - axis, 2])
        near, far = (
            np.take(x, rows, axis) for rows in (low, np.minimum(low + 1, last))
        )
        x = (1 - share) * near + share * far
    return x


def in_numpy(params, x, size, stages):
    for stage in range(1, stages + 1):
        x = x @ params[f"stage{stage}_conv"]["kernel"]
        x = np.maximum(doubled(x) if stage < stages else x, 0)
        norm = params[f"stage{stage}_norm"]
        x = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
        x = x * norm["scale"] + norm["bias"]
    x = 1 / (1 + np.exp(-x @ params["image"]["kernel"]))
    return x[: size[0], : size[1]]


def drawn(network, seed=0):
    """Random parameters, scales and biases too, and a noise map."""
    draws = np.random.RandomState(seed)
    params = jax.tree.map(
        lambda leaf: draws.randn(*leaf.shape).astype(np.float32), shapes(network)
    )
    return params, jnp.asarray(draws.rand(*network.input_shape), jnp.float32)


def test_images_follow_the_equations():
    network = Generator((11, 18), width=6, doublings=2)
    params, noise = drawn(network)
    found = quick_jit(network.apply)({"params": params}, noise)
    full = jax.tree.map(lambda x: np.asarray(x, np.float64), (params, noise))
    expected = in_numpy(*full, (11, 18), 3)
    assert network.input_shape == (3, 5, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_images_and_gradients_follow_pytorch():
    torch = pytest.importorskip("torch")
    network = Generator((16, 16), width=8, doublings=2)
    params, noise = drawn(network, seed=1)

    class Stage(torch.nn.Sequential):
        def __init__(self, number):
            conv = torch.nn.Conv2d(8, 8, 1, bias=False)
            up = torch.nn.Upsample(scale_factor=2, mode="bilinear")
            norm, start = torch.nn.BatchNorm2d(8), params[f"stage{number}_norm"]
            kernel = params[f"stage{number}_conv"]["kernel"]
            conv.weight.data = torch.tensor(kernel.T[..., None, None])
            norm.weight.data = torch.tensor(start["scale"])
            norm.bias.data = torch.tensor(start["bias"])
            ups = [up] if number < 3 else []
            super().__init__(conv, *ups, torch.nn.ReLU(), norm)

    last = torch.nn.Conv2d(8, 3, 1, bias=False)
    last.weight.data = torch.tensor(params["image"]["kernel"].T[..., None, None])
    other = torch.nn.Sequential(Stage(1), Stage(2), Stage(3), last, torch.nn.Sigmoid())
    expected = other(torch.tensor(np.asarray(noise).transpose(2, 0, 1))[None])[0]
    expected.square().mean().backward()

    @functools.partial(quick_jit, static_argnums=0)
    @functools.partial(jax.value_and_grad, argnums=1, has_aux=True)
    def loss(network, params):
        image = network.apply({"params": params}, noise)
        return jnp.square(image).mean(), image

    (_, image), grads = loss(network, params)
    channels_first = np.transpose(image, (2, 0, 1))
    np.testing.assert_allclose(
        channels_first, expected.detach().numpy(), rtol=1e-4, atol=1e-5
    )
    first = other[0][0].weight.grad.numpy()[..., 0, 0].T
    found = grads["stage1_conv"]["kernel"]
    np.testing.assert_allclose(found, first, rtol=1e-3, atol=1e-3 * np.abs(first).max())


def test_a_size_is_not_zero():
    with pytest.raises(ValueError, match=r"Generator.size \(0, 4\) must be at least 1"):
        Generator((0, 4))


def test_networks_are_values():
    assert Generator((8, 8)) == Generator((8, 8), 3, 256)
    assert hash(Generator((8, 8))) == hash(Generator((8, 8)))
