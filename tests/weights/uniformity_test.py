"""Checkpoints of decoupled uniformity's authors are the same network here."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_rcl.networks.heads import Linear, Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.weights import torchvision
from jax_rcl.weights.files import read
from jax_rcl.weights.rules import WeightsMismatch
from jax_rcl.weights.uniformity import from_variables, to_variables

# As wide as a ResNet can be small: 32 features, then 12 instead of 2048.
ENCODER = ResNet(depth=10, width=4, stem="small", stem_padding=2)
POOLED, WIDTH, DIM = 32, 12, 6
FC, PROJECTOR = Linear(WIDTH), Mlp((WIDTH, DIM), first="relu")
# Before 23 May 2023 the projector read the pooled features.
FORMS = ("now", "before")


@functools.cache
def shapes_of(form):
    """The parts of a run, as shapes."""
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)

    def network(module, *size):
        init = functools.partial(module.init, train=False)
        return {**jax.eval_shape(init, jax.random.key(0), shape(size))}

    encoder = network(ENCODER, 1, 8, 8, 3)
    if form == "before":
        return {"encoder": encoder, "projector": network(PROJECTOR, 1, POOLED)}
    fc, projector = network(FC, 1, POOLED), network(PROJECTOR, 1, WIDTH)
    return {"encoder": encoder, "fc": fc, "projector": projector}


@functools.cache
def state_of(form):
    """The state dict of a checkpoint, written down from the authors' modules."""
    random = np.random.default_rng(1)

    def draw(x):
        normal = random.normal(size=x.shape)
        if len(x.shape) == 1:
            return 1 + 0.3 * normal
        return 2 * normal / np.sqrt(np.prod(x.shape[:-1]))

    drawn = jax.tree.map(draw, shapes_of(form)["encoder"])
    state = {}
    for name, x in torchvision.from_variables(drawn).items():
        state[f"module.encoder.{name}"] = np.abs(x) if name.endswith("var") else x
        if name.endswith("running_mean"):
            counted = name.replace("running_mean", "num_batches_tracked")
            state[f"module.encoder.{counted}"] = np.asarray(7)
    layers = {
        "now": {"encoder.fc": (WIDTH, POOLED), "head.1": (WIDTH,) * 2},
        "before": {"encoder.fc.1": (WIDTH, POOLED)},
    }[form]
    last = "head.3" if form == "now" else "encoder.fc.3"
    for name, size in {**layers, last: (DIM, WIDTH)}.items():
        state[f"module.{name}.weight"] = random.normal(size=size) / np.sqrt(size[1])
        state[f"module.{name}.bias"] = random.normal(size=size[0])
    return {
        name: x.astype(np.float32) if x.dtype.kind == "f" else x.astype(np.int64)
        for name, x in state.items()
    }


def of(tree, *parts):
    return {part: tree[part] for part in parts}


@pytest.mark.parametrize("form", FORMS)
def test_everything_has_the_structure_shapes_and_types_of_the_run(form):
    found = to_variables(state_of(form), shapes_of(form))
    assert jax.tree.structure(found) == jax.tree.structure(shapes_of(form))
    jax.tree.map(
        lambda x, s: np.testing.assert_equal((x.shape, x.dtype), (s.shape, s.dtype)),
        found,
        shapes_of(form),
    )


def test_each_layer_is_where_it_belongs():
    state, found = state_of("now"), to_variables(state_of("now"), shapes_of("now"))
    equal = np.testing.assert_array_equal
    stem = found["encoder"]["params"]["stem"]["kernel"]
    equal(stem, state["module.encoder.conv1.weight"].transpose(2, 3, 1, 0))
    mean = found["encoder"]["batch_stats"]["stage2_block1"]["norm2"]["mean"]
    equal(mean, state["module.encoder.layer2.0.bn2.running_mean"])
    for part, layer, name in (
        ("fc", "out", "encoder.fc"),
        ("projector", "hidden1", "head.1"),
        ("projector", "out", "head.3"),
    ):
        params = found[part]["params"][layer]
        equal(params["kernel"], state[f"module.{name}.weight"].T)
        equal(params["bias"], state[f"module.{name}.bias"])


def test_the_projector_of_before_is_the_encoders_fc():
    state, found = (
        state_of("before"),
        to_variables(state_of("before"), shapes_of("before")),
    )
    for layer, name in (("hidden1", "fc.1"), ("out", "fc.3")):
        kernel = found["projector"]["params"][layer]["kernel"]
        np.testing.assert_array_equal(kernel, state[f"module.encoder.{name}.weight"].T)


@pytest.mark.parametrize("form", FORMS)
def test_a_run_comes_back_bit_for_bit(form):
    found = to_variables(state_of(form), shapes_of(form))
    back = from_variables(found)
    expected = {n: x for n, x in state_of(form).items() if "num_batches" not in n}
    assert set(back) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype and back[name].flags.c_contiguous
    again = to_variables(back, shapes_of(form))
    jax.tree.map(np.testing.assert_array_equal, again, found)


@pytest.mark.parametrize(
    ("form", "parts"),
    [("now", ("encoder",)), ("now", ("encoder", "fc")), ("before", ("encoder",))],
)
def test_of_what_is_not_asked_for_nothing_is_read(form, parts):
    found = to_variables(state_of(form), of(shapes_of(form), *parts))
    whole = to_variables(state_of(form), shapes_of(form))
    jax.tree.map(np.testing.assert_array_equal, found, of(whole, *parts))
    names = from_variables(found)
    assert ("module.encoder.fc.weight" in names) == ("fc" in parts)
    assert not any(name.startswith("module.head") for name in names)


def test_names_may_have_lost_what_data_parallelism_put_before_them():
    bare = {name.removeprefix("module."): x for name, x in state_of("now").items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        to_variables(bare, shapes_of("now")),
        to_variables(state_of("now"), shapes_of("now")),
    )


@pytest.mark.parametrize("state", [{}, {"module.encoder_q.conv1.weight": np.zeros(1)}])
def test_a_file_of_something_else_is_told_from_such_a_checkpoint(state):
    with pytest.raises(
        WeightsMismatch, match=r"begins with 'encoder\.',.*`ImportMoCo`"
    ):
        to_variables(state, of(shapes_of("now"), "encoder"))


def test_a_file_of_before_has_no_layer_that_evaluation_keeps():
    for parts in (("encoder", "fc"), ("encoder", "fc", "projector")):
        with pytest.raises(
            WeightsMismatch,
            match=r"no name is module\.encoder\.fc\.weight: .* no layer `fc` .* before "
            r"23 May 2023\. Import without it \(parts='encoder', or 'encoder and",
        ):
            to_variables(state_of("before"), of(shapes_of("now"), *parts))


def test_the_projector_of_now_is_not_taken_without_the_layer_that_it_reads():
    with pytest.raises(WeightsMismatch, match=r"projector of this file reads .*'every"):
        to_variables(state_of("now"), of(shapes_of("now"), "encoder", "projector"))


def test_nothing_of_a_part_may_be_absent_or_left_over_or_of_another_shape():
    state = dict(state_of("now"))
    del state["module.encoder.layer3.0.bn1.running_var"]
    state["module.encoder.layer9.0.conv1.weight"] = np.zeros((1, 1, 1, 1))
    state["module.head.5.weight"] = np.zeros((1, 1))
    state["module.head.3.weight"] = np.zeros((DIM + 1, WIDTH))
    with pytest.raises(WeightsMismatch) as error:
        to_variables(state, shapes_of("now"))
    message = str(error.value)
    assert "+ encoder/batch_stats/stage3_block1/norm1/var" in message
    assert "- encoder.layer9.0.conv1.weight" in message
    assert "- head.5.weight" in message
    assert "! head.3.weight (7, 12) -> projector/params/out/kernel (12, 6)" in message


def test_what_is_no_part_of_such_a_run_has_no_name():
    found = to_variables(state_of("now"), shapes_of("now"))
    with pytest.raises(WeightsMismatch, match=r"\+ queue"):
        from_variables({**found, "queue": np.zeros((4, 2))})


# The release in PyTorch: modules under torchvision's names, as its program makes them.


def torch_block(torch, fan_in, width, stride):
    """A basic block of a ResNet."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            conv = functools.partial(torch.nn.Conv2d, kernel_size=3, bias=False)
            self.conv1 = conv(fan_in, width, stride=stride, padding=1)
            self.bn1 = torch.nn.BatchNorm2d(width)
            self.conv2 = conv(width, width, padding=1)
            self.bn2 = torch.nn.BatchNorm2d(width)
            shortcut = torch.nn.Conv2d(fan_in, width, 1, stride, bias=False)
            norm = torch.nn.BatchNorm2d(width)
            same = stride == 1 and fan_in == width
            self.downsample = torch.nn.Sequential(*(() if same else (shortcut, norm)))

        def forward(self, x):
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            return torch.relu(y + self.downsample(x))

    return Block()


def torch_release(torch, form):
    """Encoder and head as two modules; of before, the head is the encoder's `fc`."""
    relu, linear = torch.nn.ReLU, torch.nn.Linear

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 4, 3, stride=1, padding=2, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(4)
            widths = (4, 4, 8, 16, 32)
            for stage in (1, 2, 3, 4):
                block = torch_block(
                    torch, widths[stage - 1], widths[stage], 1 if stage == 1 else 2
                )
                setattr(self, f"layer{stage}", torch.nn.Sequential(block))
            self.fc = torch.nn.Linear(POOLED, WIDTH)
            if form == "before":
                self.fc = torch.nn.Sequential(
                    relu(), linear(POOLED, WIDTH), relu(), linear(WIDTH, DIM)
                )

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    release = torch.nn.Module()
    release.encoder = Encoder()
    if form == "now":
        release.head = torch.nn.Sequential(
            relu(), linear(WIDTH, WIDTH), relu(), linear(WIDTH, DIM)
        )
    return release.eval()


@pytest.fixture(scope="module")
def ours():
    """What each part of a run gives, as one program."""

    @functools.partial(jax.jit, static_argnames="form")
    def outputs(variables, images, form):
        x = ENCODER.apply(variables["encoder"], images, train=False)
        if form == "now":
            x = FC.apply(variables["fc"], x, train=False)
        return x, PROJECTOR.apply(variables["projector"], x, train=False)

    return outputs


@pytest.mark.parametrize("form", FORMS)
def test_features_and_embeddings_are_those_of_the_release(tmp_path, ours, form):
    torch = pytest.importorskip("torch")
    release = torch_release(torch, form)
    tensors = {n[7:]: torch.from_numpy(x.copy()) for n, x in state_of(form).items()}
    release.load_state_dict(tensors)  # strictly: the names are those of the modules
    images = np.random.default_rng(0).random((3, 9, 9, 3)).astype(np.float32)
    with torch.no_grad():
        kept = release.encoder(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        embedding = release.head(kept) if form == "now" else kept
    path = tmp_path / "checkpoint_0399.pth.tar"
    content = {
        "epoch": 400,
        "arch": "resnet18",
        "state_dict": {f"module.{n}": x for n, x in release.state_dict().items()},
        "optimizer": torch.optim.SGD(release.parameters(), 0.3).state_dict(),
    }
    torch.save(content, path)
    variables = to_variables(read(path), shapes_of(form))
    features, found = ours(variables, images, form)
    for value, reference in (
        ((features, kept), (found, embedding)) if form == "now" else ((found, kept),)
    ):
        reference = reference.numpy()
        assert reference.std() > 0.1
        np.testing.assert_allclose(value, reference, rtol=0, atol=1e-4)
