"""Every config file: its resolved fields, and that it trains, resumes and evaluates.

`python tests/configs_test.py` writes the resolved configs anew; read the difference.
"""

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.checkpoint import STATES, Checkpoints, flat
from jax_rcl.config import CLASS, ConfigError, node
from jax_rcl.data.grouped import Grouped
from jax_rcl.data.sources import Synthetic
from jax_rcl.train import train

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "configs"
# Each file, and each value of an option that changes which parts there are.
VARIANTS = (
    "quickstart",
    "fashion_supcon",
    "cifar_supcon",
    "cifar_supcon:classes=100,source=tfds,compute=bfloat16",
    "cifar_simclr",
    "cifar_classify",
    "cifar_classify:probe=runs/cifar_supcon",
    "thanos_coarse",
    "thanos_coarse:data=fashion,network=resnet10,decoder=label,encoders=two",
    "thanos_coarse:data=cifar100,method=supcon_infonce,form=released,labels=fine",
    "thanos_coarse:data=tiny,method=ce,decoder=gray,network=resnet18",
    "thanos_transfer:first=runs/first",
    "thanos_transfer:first=runs/first,second=runs/second,encoder=released",
    "groups:size=16",
    "groups:size=16,data=celeba,method=dro",
    "groups:size=16,method=spread",
)
# Tried with all evaluators.
WHOLE = (
    "quickstart",
    "fashion_supcon",
    "thanos_coarse:data=fashion,network=resnet10,decoder=label,encoders=two",
    "thanos_transfer:first=runs/first,second=runs/second,encoder=released",
    "groups:size=16",
)
# Trained by slow tests only.
SLOW = {v for v in VARIANTS if "tfds" in v or v.startswith(("thanos", "groups"))}
SLOW |= {"cifar_supcon"}
# The configs of the runs that these start from.
STARTS = {
    "runs/first": "thanos_coarse:data=fashion,network=resnet10",
    "runs/second": "thanos_coarse:data=fashion,network=resnet10,decoder=gray,"
    "encoders=two",
}
# Not trained, since they differ from others in what is tested elsewhere.
ALIKE = (
    "cifar_simclr",
    "cifar_classify",
    "groups:size=16,data=celeba,method=dro",
    "thanos_coarse:data=cifar100,method=supcon_infonce,form=released,labels=fine",
    "thanos_transfer:first=runs/first",
    "groups:size=16,method=spread",
)
# Stand-ins for data that the tests do not have: classes, size, channels.
SHAPES = {
    "Digits": (10, 8, 1),
    "Idx": (10, 28, 1),
    "Cifar": (10, 32, 3),
    "TinyImageNet": (200, 64, 3),
}

each = pytest.mark.parametrize("variant", VARIANTS)


def load(variant):
    name, _, arg = variant.partition(":")
    return configs.load(f"{ROOT / 'configs' / name}.py:{arg}")


def golden(variant):
    return GOLDEN / f"{variant.replace(':', '+').replace('/', '-')}.json"


def shrunk(value):
    """The same experiment on a handful of synthetic images, with narrow networks."""
    if isinstance(value, tuple):
        return tuple(shrunk(item) for item in value)
    if not isinstance(value, ConfigDict):
        return value
    kind = value.get(CLASS, "").rpartition(":")[2]
    if kind in SHAPES or kind == "Tfds":
        classes, size, channels = SHAPES.get(kind, (100, 32, 3))
        classes, test = value.get("classes", classes), value.split == "test"
        count = 24 if test else 80
        return node(Synthetic, classes, size, channels, count, seed=int(test))
    if kind in ("Grouped", "CelebA"):
        return node(Grouped, "birds", value.split, 16)
    small = {
        "ResNet": {"depth": 10, "width": 4},
        "ResNetDecoder": {"width": 4},
        "ViT": {"width": 8, "depth": 1, "heads": 2, "mlp_width": 8},
        "Mlp": {"widths": (8, 8)},
        "Neighbours": {"k": 5},
        "LinearProbe": {"strengths": (0.1,), "max_iterations": 20},
        "Cosine": {"warmup_epochs": 0.0},
        "Experiment": {"batch_size": 8, "epochs": None, "steps": 2, "save_every": 1},
    }.get(kind, {})
    fields = {key: shrunk(value[key]) for key in value} | small
    return ConfigDict(fields, type_safe=False).lock()


def small(variant):
    """`shrunk`, and one evaluator where others are tried by another variant."""
    made = shrunk(load(variant))
    if variant not in WHOLE:
        first = next(iter(made.evaluators))
        name = made.best.monitor.partition("/")[0] if made.best else first
        with made.unlocked():
            made.evaluators = {name: made.evaluators[name]}
    return made


def birds(folder):
    """Group-labelled images in the layout of Waterbirds: 16 of each split."""
    (folder / "birds").mkdir()
    lines, rng = ["img_filename,y,split,place"], np.random.default_rng(0)
    for number in range(48):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "birds" / f"{number}.png")
        lines.append(f"{number}.png,{number % 2},{number // 16},{number // 2 % 2}")
    (folder / "birds" / "metadata.csv").write_text("\n".join(lines) + "\n")


def run(made, workdir):
    return train(made, workdir, mesh=parallel.make_mesh(jax.devices()[:1]))


def arrays(workdir):
    with Checkpoints(workdir / STATES) as saved:
        return {
            f"{item}/{path}": x
            for item in ("variables", "training")
            for path, x in flat(saved.newest(item)).items()
        }


def store_starts():
    """Puts the configs of `STARTS`, as they are, where others look for them."""
    for workdir, variant in STARTS.items():
        Path(workdir).mkdir(parents=True)
        (Path(workdir) / "config.json").write_text(configs.to_json(load(variant)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with the configs of `STARTS`, and with birds."""
    folder = tmp_path_factory.mktemp("stored")
    birds(folder)
    with contextlib.chdir(folder):
        store_starts()
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with small trained runs of `STARTS`, and with birds."""
    folder = tmp_path_factory.mktemp("prepared")
    birds(folder)
    with contextlib.chdir(folder):
        for workdir, variant in STARTS.items():
            run(shrunk(load(variant)), Path(workdir))
    return folder


def test_every_file_is_tried():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")}
    assert files == {variant.partition(":")[0] for variant in VARIANTS}


@each
def test_its_fields_are_those_that_were_reviewed(variant, stored, monkeypatch):
    monkeypatch.chdir(stored)
    assert configs.to_json(load(variant)) + "\n" == golden(variant).read_text()


@each
def test_json_builds_the_same_experiment(variant, stored, monkeypatch):
    monkeypatch.chdir(stored)
    made = shrunk(load(variant))
    again = configs.from_json(configs.to_json(made))
    assert configs.build(again) == configs.build(made)


@each
def test_its_docstring_says_how_to_run_it_and_what_was_obtained(variant):
    name = variant.partition(":")[0]
    text = (ROOT / "configs" / f"{name}.py").read_text()
    assert f"python -m jax_rcl.main --config=configs/{name}.py" in text
    assert len(text.splitlines()) <= 120


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The workdir of a small run of cifar_supcon.py."""
    workdir = tmp_path_factory.mktemp("pretrained") / "run"
    run(shrunk(load("cifar_supcon")), workdir)
    return workdir


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(v, marks=pytest.mark.slow) if v in SLOW else v
        for v in VARIANTS
        if v not in ALIKE
    ],
)
def test_it_trains_two_steps_and_resumes(variant, tmp_path, request, monkeypatch):
    if variant.startswith(("thanos_transfer", "groups")):
        monkeypatch.chdir(request.getfixturevalue("prepared"))
    made = small(variant)
    for rule in made.init_from:
        if rule.workdir == "runs/cifar_supcon":
            with rule.unlocked():
                rule.workdir = str(request.getfixturevalue("pretrained"))
    results = run(made, tmp_path / "run")
    assert results and all(np.isfinite(value) for value in results.values())
    whole = arrays(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / STATES / "2")
    shutil.rmtree(tmp_path / "run" / "report")
    assert run(made, tmp_path / "run") == results
    again = arrays(tmp_path / "run")
    for path in whole:
        np.testing.assert_array_equal(whole[path], again[path], err_msg=path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("fashion_supcon", "runs/other is no run of thanos_coarse.py"),
        ("thanos_coarse:data=mnist", "learned from other images than runs/first"),
    ],
)
def test_transfer_starts_from_runs_of_stage_1_on_the_same_images(
    other, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    store_starts()
    Path("runs/other").mkdir()
    Path("runs/other/config.json").write_text(configs.to_json(load(other)))
    with pytest.raises(ConfigError, match=message):
        load("thanos_transfer:first=runs/first,second=runs/other")
    with pytest.raises(ConfigError, match="runs/none holds no run"):
        load("thanos_transfer:first=runs/none")


def test_every_command_of_the_documentation_is_one(stored, monkeypatch):
    monkeypatch.chdir(stored)
    text = (ROOT / "docs" / "thanos.md").read_text()
    names = "data|labels|method|network|first"
    options = set(re.findall(rf"`((?:{names})=[^`]*)`", text))
    assert len(options) >= 40
    for option in options:
        file = "thanos_transfer" if option.startswith("first") else "thanos_coarse"
        option = re.sub("runs/(spread|joint)", "runs/first", option)
        option = option.replace("runs/auto", "runs/second").replace("…", "tiny")
        load(f"{file}:{option}")
    for file in re.findall(r"--(?:config|table)=([\w/]+\.py)", text):
        assert (ROOT / file).exists()


def test_a_probe_starts_from_the_encoder_of_another_run(pretrained, tmp_path):
    made = shrunk(load("cifar_classify:probe=runs/cifar_supcon"))
    with made.init_from[0].unlocked():
        made.init_from[0].workdir = str(pretrained)
    run(made, tmp_path / "run")
    with Checkpoints(tmp_path / "run" / "frozen") as saved:
        frozen = flat(saved.newest("frozen"))
    with Checkpoints(pretrained / STATES) as saved:
        theirs = flat(saved.newest("variables"))
    assert len(frozen) > 10
    for path, array in frozen.items():
        kind, _, rest = path.removeprefix("encoder/").partition("/")
        prefix = "params/encoder" if kind == "params" else "memory/encoder"
        np.testing.assert_array_equal(array, theirs[f"{prefix}/{rest}"], err_msg=path)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        store_starts()
        for each_variant in VARIANTS:
            text = configs.to_json(load(each_variant)) + "\n"
            golden(each_variant).write_text(text)
