"""What is exported is imported again bit for bit; what has no names is refused."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors

from jax_rcl.checkpoint import FROZEN, STATES, VARIABLES, Checkpoints
from jax_rcl.cli.export import main
from jax_rcl.core import Variables
from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.resnet import ResNet
from jax_rcl.networks.vit import ViT
from jax_rcl.weights import files
from jax_rcl.weights.imports import ImportClip, ImportResNet

NETWORKS = {
    "resnet": ResNet(depth=14, width=4, stem="small"),
    "group": ResNet(depth=10, width=8, stem="small", norm="group"),
    "clip resnet": ClipResNet((1, 1, 1, 1), width=2, output=6, image_size=32),
    "clip vit": ClipViT(patch=4, width=64, layers=1, output=6, image_size=8),
    "vit": ViT(patch=4, width=8, depth=1, heads=2),
}
NAMES = {"resnet": "torchvision", "clip resnet": "openai", "clip vit": "openai"}


@functools.cache
def shapes_of(kind):
    size = 32 if kind == "clip resnet" else 8
    return jax.eval_shape(
        functools.partial(NETWORKS[kind].init, train=False),
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, size, size, 3), np.float32),
    )


def drawn(kind, seed):
    """Parameters and statistics of a network, random."""
    random = np.random.default_rng(seed)
    made = jax.tree.map(lambda x: random.random(x.shape, np.float32), shapes_of(kind))
    return made["params"], made.get("batch_stats", {})


def linear(features):
    kernel = np.ones((features, 3), np.float32)
    return {"out": {"kernel": kernel, "bias": np.arange(3, dtype=np.float32)}}


def trained(kind, seed, head=None):
    """A run of an encoder that is trained, with a head where one is given."""
    params, statistics = drawn(kind, seed)
    heads = {} if head is None else {"head": head}
    return Variables(
        {"encoder": params} | heads, {}, {"encoder": statistics, "head": {}}
    )


def frozen(kind, seed, place="encoder", statistics_in="frozen"):
    params, statistics = drawn(kind, seed)
    kept = {"batch_stats": statistics} if statistics_in == "frozen" else {}
    memory = {} if statistics_in == "frozen" else {place: statistics}
    held = {"params": params} | kept
    return Variables({"head": linear(128)}, {place: held}, memory)


def run_of(variables, workdir):
    """The workdir of a run that has ended with these variables."""
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps({"objective": {"rate": 1}}))
    with Checkpoints(workdir / STATES, keep=1) as saved:
        arrays = {"params": variables.params, "memory": variables.memory}
        saved.save(7, {VARIABLES: arrays})
    if variables.frozen:
        with Checkpoints(workdir / FROZEN, keep=1) as saved:
            saved.save(0, {FROZEN: variables.frozen})
    return workdir


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Runs of encoders that are trained, by kind; each is saved once."""

    @functools.cache
    def saved(kind):
        return run_of(trained(kind, 1), tmp_path_factory.mktemp("saved") / "run")

    return saved


@pytest.fixture
def plain(saved, tmp_path):
    """Copies of them in the folder of the test."""
    return lambda kind: shutil.copytree(saved(kind), tmp_path / "run")


def export(workdir, names, *more):
    out = workdir.parent / "out" / "made.safetensors"
    flags = [f"--run={workdir}", f"--names={names}", f"--out={out}", *more]
    return main(flags), out


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("kind", NAMES)
def test_an_encoder_goes_out_and_comes_back_exactly(plain, tmp_path, kind, capsys):
    given = trained(kind, 1)
    status, out = export(plain(kind), NAMES[kind])
    assert status == 0
    count = len(jax.tree.leaves(shapes_of(kind)))
    count -= 4 if kind == "clip vit" else 0  # query, key and value are one array there
    told = capsys.readouterr().out
    assert f"{count} arrays of 'encoder' of {tmp_path}/run" in told
    assert "newest checkpoint, step 7." in told
    rule = ImportResNet if NAMES[kind] == "torchvision" else ImportClip
    assert_same(rule(str(out))(trained(kind, 2)), given)


def test_the_file_says_what_it_holds_and_pytorch_can_take_it(plain):
    _, out = export(plain("resnet"), "torchvision")
    with safetensors.safe_open(out, framework="numpy") as file:
        assert file.metadata() == {
            "format": "pt",
            "names": "torchvision",
            "part": "encoder",
            "step": "7",
        }
        assert "layer4.0.downsample.1.running_var" in set(file.keys())
    torch = pytest.importorskip("torch")
    found = pytest.importorskip("safetensors.torch").load_file(out)
    norm = torch.nn.BatchNorm2d(4)
    own = {n[4:]: x for n, x in found.items() if n.startswith("bn1.")}
    norm.load_state_dict(own)
    mean = drawn("resnet", 1)[1]["stem_norm"]["mean"]
    np.testing.assert_array_equal(norm.running_mean.numpy(), mean)


def test_openais_names_have_visual_in_front(plain):
    _, out = export(plain("clip vit"), "openai")
    names = set(files.read(out))
    assert all(name.startswith("visual.") for name in names)
    assert "visual.transformer.resblocks.0.attn.in_proj_weight" in names


def test_a_classifier_goes_along_as_fc(tmp_path, capsys):
    given = trained("resnet", 1, head=linear(128))
    _, out = export(run_of(given, tmp_path / "run"), "torchvision")
    assert "with its classifier as fc" in capsys.readouterr().out
    assert files.read(out)["fc.weight"].shape == (3, 128)
    own = trained("resnet", 2, head=jax.tree.map(np.zeros_like, linear(128)))
    assert_same(ImportResNet(str(out), head="params/head")(own), given)


def test_a_head_that_is_no_one_linear_layer_stays_behind(tmp_path):
    head = linear(128) | {"hidden1": {"kernel": np.ones((128, 128), np.float32)}}
    workdir = run_of(trained("resnet", 1, head=head), tmp_path / "run")
    status, out = export(workdir, "torchvision")
    assert status == 0 and "fc.weight" not in files.read(out)


@pytest.mark.parametrize("statistics_in", ["frozen", "memory"])
def test_a_frozen_encoder_is_found_wherever_its_statistics_are(tmp_path, statistics_in):
    given = frozen("resnet", 1, statistics_in=statistics_in)
    status, out = export(run_of(given, tmp_path / "run"), "torchvision")
    assert status == 0
    found = ImportResNet(str(out), head="params/head")(
        trained("resnet", 2, head=linear(128))
    )
    assert_same(found, trained("resnet", 1, head=linear(128)))


def test_another_part_is_taken_by_its_name(tmp_path):
    given = frozen("clip resnet", 3, place="teacher")
    _, out = export(run_of(given, tmp_path / "run"), "openai", "--part=teacher")
    found = ImportClip(str(out))(trained("clip resnet", 2))
    assert_same(found, trained("clip resnet", 3))


def test_a_network_that_the_method_keeps_is_a_part_too(tmp_path):
    params, statistics = drawn("resnet", 4)
    slow = {"encoder": {"params": params, "batch_stats": statistics}}
    given = trained("resnet", 1)
    given = Variables(given.params, {}, given.memory | {"slow": slow})
    workdir = run_of(given, tmp_path / "run")
    _, out = export(workdir, "torchvision", "--part=slow/encoder")
    assert_same(ImportResNet(str(out))(trained("resnet", 2)), trained("resnet", 4))


@pytest.mark.parametrize(
    ("kind", "names", "words"),
    [
        ("vit", "torchvision", "is for a `ResNet` with batch normalisation, and"),
        ("vit", "openai", "is for a `ClipResNet` or a `ClipViT`, and 'encoder' of"),
        ("clip vit", "torchvision", "array(s) have no name there, first params/"),
        ("resnet", "openai", "array(s) have no name there, first visual/"),
        ("group", "torchvision", "has no batch statistics."),
    ],
)
def test_a_network_without_such_names_is_one_clear_error(
    plain, kind, names, words, capsys
):
    status, out = export(plain(kind), names)
    told = capsys.readouterr().err
    assert status == 2 and words in told and not out.exists()
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--part=teacher"], "--part=teacher: there is no such network in"),
        (["--which=best"], "holds no best checkpoint"),
        (["--out=made.npz"], "--out made.npz must be a file, FILE.safetensors."),
        (["--run=nowhere"], "nowhere holds no run"),
    ],
)
def test_what_cannot_be_written_is_said_in_a_line(plain, flags, words, capsys):
    workdir = plain("resnet")
    status, out = export(workdir, "torchvision", *flags)
    told = capsys.readouterr().err
    assert status == 2 and words in told and not out.exists()


def test_a_file_that_is_there_stays_unless_it_may_be_replaced(plain, tmp_path, capsys):
    workdir = plain("resnet")
    out = tmp_path / "out" / "made.safetensors"
    out.parent.mkdir()
    out.write_bytes(b"mine")
    assert export(workdir, "torchvision")[0] == 2
    assert "exists already; write --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert export(workdir, "torchvision", "--overwrite")[0] == 0
    assert "conv1.weight" in files.read(out)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
