"""Every config file: its resolved fields, and that it trains, resumes and evaluates.

`python tests/configs_test.py` writes the resolved configs anew; read the difference.
"""

import ast
import contextlib
import functools
import importlib
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.negatives import PatchMosaic
from jax_rcl.checkpoint import STATES, Checkpoints, flat
from jax_rcl.config.nodes import CLASS, node
from jax_rcl.config.types import ConfigError
from jax_rcl.data.prior import WithRandomBits
from jax_rcl.data.published.chexpert import PATHOLOGIES, CheXpert
from jax_rcl.data.published.grouped import Grouped
from jax_rcl.data.published.imagenet import IMAGENET_100, RENDITIONS
from jax_rcl.data.sources import Synthetic
from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.networks.resnet import ResNet
from jax_rcl.networks.vit import ViT
from jax_rcl.results.table import load as load_table
from jax_rcl.train.evaluation import trained
from jax_rcl.train.loop import train
from jax_rcl.train.plan import plan
from jax_rcl.weights import clip, moco, torchvision, uniformity

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
    "emoji_moco",
    "emoji_moco:negatives=patch,alpha=3,labels=subgroup",
    "emoji_moco:negatives=texture",
    "cifar_moco",
    "cifar_moco:negatives=patch,norm=released",
    "cifar_moco:negatives=quilting",
    "imagenet100_moco",
    "imagenet100_moco:negatives=patch,norm=released",
    "imagenet100_moco:negatives=texture,recipe=ifm,queue=65536",
    "imagenet100_moco:negatives=quilting,version=v1",
    "imagenet100_moco:negatives=texture,packed=data/packed",
    "imagenet100_probe:source=runs/patch",
    "imagenet100_probe:source=runs/patch,shifts=computed",
    "imagenet100_probe:weights=moco.npz,shifts=data/shifts,keep=best",
    "cifar_uniformity",
    "emoji_uniformity",
    "emoji_uniformity:prior=words",
    "emoji_uniformity:method=simclr",
    "fashion_uniformity:method=autoencoder",
    "fashion_uniformity:prior=features,first=runs/auto",
    "imagenet100_uniformity",
    "imagenet100_uniformity:prior=data/bigbigan.npz,scope=released,lars=simclr",
    "attributes_uniformity",
    "attributes_uniformity:data=zappos",
    "chexpert_uniformity",
    "uniformity_probe:source=runs/uniformity",
    "uniformity_probe:weights=du.npz,layer=pooled",
    "fashion_distill:method=teacher",
    "fashion_distill:distortion=all,teacher=runs/clothes",
    "fashion_distill:method=supervised,distortion=none,teacher=runs/clothes",
    "fashion_distill:method=distilled,distortion=noise,teacher=runs/clean",
    "clip_student:clip=clip.npz",
    "clip_student:clip=vit.npz,distortion=all,classes=none,schedule=cosine",
    "clip_student:clip=clip.npz,distortion=masks,fixed=7,curriculum=on,"
    "loss=clip,teacher_norm=batch,norm=released,classes=none",
    "clip_probe:source=runs/student",
    "clip_probe:clip=vit.npz,tower=ViT-B-32,distortion=noise30,labels=0.1",
    "clip_probe:released=probe.npz,part=probe,distortion=mask90",
    "clip_baseline:weights=resnet101.npz",
    "clip_baseline:backbone=RN101,weights=clip.npz,encoder=frozen,distortion=none",
    "clip_baseline:method=distilled,teacher=runs/baseline",
    "clip_transfer:source=runs/student",
    "clip_transfer:source=runs/probe,data=covid,folder=data/covid,draws=1",
    "clip_evaluate:run=runs/probe",
    "clip_evaluate:run=runs/probe,encoder=runs/student,what=unseen",
    "clip_evaluate:run=runs/probe,what=corruptions",
    "clip_evaluate:run=runs/probe,what=denoise",
    "clip_evaluate:run=runs/probe,what=inpaint,steps=20",
)
# Trained by slow tests, the first ones with all evaluators.
WHOLE = (
    "thanos_coarse:data=fashion,network=resnet10,decoder=label,encoders=two",
    "thanos_transfer:first=runs/first,second=runs/second,encoder=released",
    "groups:size=16",
    "imagenet100_probe:source=runs/patch,shifts=computed",
    "attributes_uniformity:data=zappos",
    "fashion_distill:distortion=all,teacher=runs/clothes",
    "clip_student:clip=clip.npz",
    "clip_probe:source=runs/student",
    "clip_transfer:source=runs/student",
    *(f"clip_evaluate:run=runs/probe{x}" for x in ("", ",what=corruptions")),
    "clip_evaluate:run=runs/probe,encoder=runs/student,what=unseen",
    "clip_evaluate:run=runs/probe,what=denoise",
    "clip_evaluate:run=runs/probe,what=inpaint,steps=20",
)
SLOW = (
    *WHOLE,
    "cifar_supcon:classes=100,source=tfds,compute=bfloat16",
    "thanos_coarse:data=tiny,method=ce,decoder=gray,network=resnet18",
    "emoji_moco:negatives=texture",
    "cifar_moco:negatives=patch,norm=released",
    "fashion_uniformity:prior=features,first=runs/auto",
    "chexpert_uniformity",
    "uniformity_probe:source=runs/uniformity",
    "fashion_distill:method=distilled,distortion=noise,teacher=runs/clean",
)
# Trained by default: of each paper one, where an encoder that compiles fast takes the
# place of a ResNet.
FAST = (
    "thanos_coarse",
    "emoji_moco:negatives=patch,alpha=3,labels=subgroup",
    "emoji_uniformity:prior=words",
    "clip_student:clip=vit.npz,distortion=all,classes=none,schedule=cosine",
)
# The configs of the runs that these start from.
STARTS = {
    "runs/first": "thanos_coarse:data=fashion,network=resnet10",
    "runs/second": "thanos_coarse:data=fashion,network=resnet10,decoder=gray,"
    "encoders=two",
    "runs/patch": "imagenet100_moco:negatives=patch,norm=released",
    "runs/auto": "fashion_uniformity:method=autoencoder",
    "runs/uniformity": "imagenet100_uniformity",
    "runs/clothes": "fashion_distill:method=teacher",
    "runs/clean": "fashion_distill:method=supervised,distortion=none,"
    "teacher=runs/clothes",
    "runs/student": "clip_student:clip=clip.npz",
    "runs/probe": "clip_probe:source=runs/student",
    "runs/baseline": "clip_baseline:weights=resnet101.npz,distortion=none",
}
# Stand-ins for data that the tests do not have: classes, size, channels.
SHAPES = {
    "Digits": (10, 8, 1),
    "Idx": (10, 28, 1),
    "Cifar": (10, 32, 3),
    "TinyImageNet": (200, 64, 3),
    "Emoji": (9, 64, 3),
    "Cub200": (200, 40, 3),
    "Zappos": (21, 32, 3),
    "Stl10": (10, 96, 3),
}
CLIP = {"output": 8, "image_size": 32}

# Files that others import, without an experiment of their own.
PIECES = {"common"}
# Those that nothing trains by default.
PLANNED = [v for v in VARIANTS if v != "quickstart" and v not in FAST]

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
    if kind in ("ImageFolder", "Packed", "CorruptedFolders"):
        test = not value.folder.endswith("train")
        seed = len(value.folder) * test
        classes = 2 if "covid" in value.folder else len(value.get("classes", ())) or 100
        return node(Synthetic, classes, 40, 3, 24 if test else 80, seed=seed)
    if kind == "CheXpert":
        return node(CheXpert, "chest", value.split, 16)
    if kind in ("WithTexture", "FewLabels"):
        return shrunk(value.source)
    if kind in ("WithPrior", "WithKeywords"):
        return node(WithRandomBits, shrunk(value.source), bits=8)
    small = {
        "ResNet": {"depth": 10, "width": 4}
        | ({"ghost_batch": 2} if value.get("ghost_batch") else {}),
        "ResNetDecoder": {"width": 4},
        "ViT": {"width": 8, "depth": 1, "heads": 2, "mlp_width": 8},
        "Mlp": {"widths": (8, 8)},
        "RandomResizedCrop": {
            "size": 32 if value.get("size") == 224 else value.get("size")
        },
        "CenterCrop": {"size": 32},
        "ResizeShorter": {"size": 32},
        "ClipResNet": {**CLIP, "depths": (1, 1, 1, 1), "width": 8}
        | ({"ghost_batch": 2} if value.get("ghost_batch") else {}),
        "ClipViT": {**CLIP, "patch": 8, "width": 64, "layers": 1},
        "SquareMask": {"length": (4, 8)},
        "Relabel": {"class_names": tuple(f"grating {i}" for i in range(100))}
        if value.get("name") == "RELABELLED"
        else {},
        "LevelSweep": {"repeats": 1, "levels": few_levels(value)},
        "DeepDecoder": {"width": 4},
        "PatchMosaic": {"side": (2, 10)},
        "Quilting": {"size": 32, "patch": 12},
        "MoCo": {"queue_size": 16},
        "Uniformity": {"group": 2} if value.get("group") else {},
        "Linear": {"features": min(value.get("features", 0), 100)},
        "Corrupted": {"corruptions": value.get("corruptions", ())[:2]},
        "Neighbours": {"k": 5},
        "LinearProbe": {"strengths": (0.1,), "max_iterations": 20},
        "CrossValidated": {"strengths": (0.1, 1.0), "folds": 2, "max_iterations": 20},
        "PerTarget": {"strengths": (0.1,), "folds": 2, "max_iterations": 20},
        "Cosine": {"warmup_epochs": 0.0},
        "Experiment": {
            "batch_size": 8,
            "epochs": None,
            "steps": 0 if value.get("steps") == 0 else 2,
            "save_every": 1,
        },
    }.get(kind, {})
    fields = {key: shrunk(value[key]) for key in value} | small
    return ConfigDict(fields, type_safe=False).lock()


def few_levels(sweep):
    """Two levels of a sweep, or what squares of a small image can have."""
    if sweep.get("levels") and sweep.distortion[CLASS].endswith(":SquareMask"):
        return (4, 8)
    return sweep.get("levels", ())[:2]


def with_one_evaluator(made):
    """The experiment with the evaluator of its best state, or with its first one."""
    if made.evaluators:
        name = next(iter(made.evaluators))
        if made.best:
            name = made.best.monitor.partition("/")[0]
        with made.unlocked():
            made.evaluators = {name: made.evaluators[name]}
    return made


def with_tiny_encoder(value):
    """The same with a vision transformer of one block in place of every ResNet."""
    if isinstance(value, tuple):
        return tuple(with_tiny_encoder(item) for item in value)
    if not isinstance(value, ConfigDict):
        return value
    if value.get(CLASS, "").endswith(":ResNet"):
        return node(ViT, patch=8, width=8, depth=1, heads=2, mlp_width=8)
    fields = {key: with_tiny_encoder(value[key]) for key in value}
    return ConfigDict(fields, type_safe=False).lock()


def birds(folder):
    """Group-labelled images in the layout of Waterbirds: 16 of each split."""
    (folder / "birds").mkdir()
    lines, rng = ["img_filename,y,split,place"], np.random.default_rng(0)
    for number in range(48):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "birds" / f"{number}.png")
        lines.append(f"{number}.png,{number % 2},{number // 16},{number // 2 % 2}")
    (folder / "birds" / "metadata.csv").write_text("\n".join(lines) + "\n")


def chest(folder):
    """Radiographs in the layout of CheXpert: 24 of each split, all findings known."""
    rng = np.random.default_rng(0)
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
    header = [*columns, "No Finding", *PATHOLOGIES]
    for split in ("train", "valid"):
        lines = [",".join(header)]
        for number in range(24):
            place = f"{split}/patient{number:05}/study1"
            (folder / "chest" / place).mkdir(parents=True)
            pixels = rng.integers(0, 256, (20, 16), np.uint8)
            Image.fromarray(pixels).save(folder / "chest" / place / "view1.jpg")
            known = ",".join(str(x) for x in rng.permutation(13) % 2)
            path = f"CheXpert-v1.0-small/{place}/view1.jpg"
            lines.append(f"{path},Male,50,Frontal,AP,0,{known}")
        (folder / "chest" / f"{split}.csv").write_text("\n".join(lines) + "\n")


def published(folder):
    """Files of weights as others publish them, of the towers that `shrunk` makes."""
    words = filled(ClipText(width=64, layers=1, output=8), jnp.zeros((1, 4), jnp.int32))
    towers = {
        "clip": ClipResNet((1, 1, 1, 1), width=8, **CLIP),
        "vit": ClipViT(patch=8, width=64, layers=1, **CLIP),
        "resnet101": ResNet(10, width=4),
    }
    for name, tower in towers.items():
        made = filled(tower, jnp.zeros((1, 32, 32, 3)))
        if name == "resnet101":
            state = torchvision.from_variables(made)
        else:
            parts = {"visual": made, "text": words, "logit_scale": np.float32(0.0)}
            state = clip.from_variables(parts)
        np.savez(folder / f"{name}.npz", **state)


def filled(network, example):
    """A network's variables without initialising it, which would compile for long."""
    init = functools.partial(network.init, train=False)
    rng = np.random.default_rng(0)

    def value(x):
        if x.ndim < 2:  # of norms and biases
            return np.ones(x.shape, x.dtype)
        fan_in = np.prod(x.shape[:-1])
        return (rng.standard_normal(x.shape) / np.sqrt(fan_in)).astype(x.dtype)

    return jax.tree.map(value, jax.eval_shape(init, jax.random.key(0), example))


def run(made, workdir):
    return train(made, workdir, mesh=parallel.make_mesh(jax.devices()[:1]))


def arrays(workdir):
    with Checkpoints(workdir / STATES) as saved:
        return {
            f"{item}/{path}": x
            for item in ("variables", "training")
            for path, x in flat(saved.newest(item)).items()
        }


def store_starts(*workdirs):
    """Puts configs of `STARTS`, all or some of them, where others look for them."""
    for workdir in workdirs or STARTS:
        variant = STARTS[workdir]
        Path(workdir).mkdir(parents=True)
        (Path(workdir) / "config.json").write_text(configs.to_json(load(variant)))


def prepare(folder):
    """Birds, radiographs and weights, where configs look for them."""
    birds(folder)
    chest(folder)
    published(folder)
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with data, and with the configs of `STARTS`."""
    folder = prepare(tmp_path_factory.mktemp("stored"))
    with contextlib.chdir(folder):
        store_starts()
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with data, which `train_starts` puts runs into."""
    return prepare(tmp_path_factory.mktemp("prepared"))


def train_starts(variant):
    """Small runs of those of `STARTS` that a variant mentions, where there are none."""
    for workdir, start in STARTS.items():
        mentioned = re.search(rf"{workdir}(,|$)", variant)
        if mentioned and not Path(workdir).exists():
            train_starts(start)
            made = shrunk(load(start))
            with made.unlocked():  # what nobody reads takes the most time
                made.evaluators = {
                    name: each
                    for name, each in made.evaluators.items()
                    if not each.get("distortion")
                }
            run(made, Path(workdir))


def test_every_file_is_tried():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")} - PIECES
    assert files == {variant.partition(":")[0] for variant in VARIANTS}


@each
def test_its_fields_are_those_that_were_reviewed(variant, stored, monkeypatch):
    monkeypatch.chdir(stored)
    made = load(variant)
    assert configs.to_json(made) + "\n" == golden(variant).read_text()
    small = shrunk(made)
    again = configs.from_json(configs.to_json(small))
    assert configs.build(again) == configs.build(small)


@pytest.mark.parametrize("name", sorted({v.partition(":")[0] for v in VARIANTS}))
def test_its_docstring_says_how_to_run_it_and_what_was_obtained(name):
    text = ast.get_docstring(ast.parse((ROOT / f"configs/{name}.py").read_text()))
    assert f"python -m jax_rcl.main --config=configs/{name}.py" in text
    assert "Obtained" in text or "obtained" in text


FIRST = {variant.partition(":")[0]: variant for variant in reversed(VARIANTS)}


@pytest.mark.parametrize(
    "variant",
    [
        v if v in FIRST.values() else pytest.param(v, marks=pytest.mark.slow)
        for v in PLANNED
    ],
)
def test_its_parts_fit_together(variant, stored, monkeypatch):
    monkeypatch.chdir(stored)
    made = shrunk(load(variant))
    with made.unlocked():  # what needs a trained run, or a file that is not here
        made.init_from = tuple(
            rule for rule in made.init_from if Path(rule.get("file", "none")).exists()
        )
    assert planned(made).total_steps == made.steps


def test_the_quickstart_trains_two_steps_and_resumes(tmp_path):
    made = shrunk(load("quickstart"))
    results = run(made, tmp_path / "run")
    assert {"knn/top1", "probe/top1"} <= set(results)
    whole = arrays(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / STATES / str(made.steps))
    shutil.rmtree(tmp_path / "run" / "report")
    assert run(made, tmp_path / "run") == results
    again = arrays(tmp_path / "run")
    for path in whole:
        np.testing.assert_array_equal(whole[path], again[path], err_msg=path)


@pytest.mark.parametrize("variant", FAST)
def test_a_config_of_each_paper_trains(variant, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(prepared)
    made = with_one_evaluator(with_tiny_encoder(shrunk(load(variant))))
    results = run(made, tmp_path / "run")
    assert bool(results) == bool(made.evaluators)
    assert all(np.isfinite(value) for value in results.values())


@pytest.mark.slow
@pytest.mark.parametrize("variant", SLOW)
def test_it_trains(variant, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(prepared)
    train_starts(variant)
    made = shrunk(load(variant))
    if variant not in WHOLE:
        made = with_one_evaluator(made)
    results = run(made, tmp_path / "run")
    assert results
    assert all(np.isfinite(value) for value in results.values())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("fashion_supcon", "runs/other is not a run of thanos_coarse.py"),
        ("thanos_coarse:data=mnist", "learned from other images than runs/first"),
    ],
)
def test_transfer_starts_from_runs_of_stage_1_on_the_same_images(
    other, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    store_starts("runs/first")
    Path("runs/other").mkdir()
    Path("runs/other/config.json").write_text(configs.to_json(load(other)))
    with pytest.raises(ConfigError, match=message):
        load("thanos_transfer:first=runs/first,second=runs/other")
    with pytest.raises(ConfigError, match="runs/none holds no run"):
        load("thanos_transfer:first=runs/none")


def test_a_linear_evaluation_starts_from_a_run_of_moco(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store_starts("runs/first", "runs/patch")
    with pytest.raises(ConfigError, match="runs/first is not a run of imagenet100"):
        load("imagenet100_probe:source=runs/first")
    with pytest.raises(ConfigError, match="'sets' has no value 'sketsh'"):
        load("imagenet100_probe:source=runs/patch,shifts=x,sets=c+sketsh")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A folder with the layout of all data that docs/nonsemantic_negatives.md names."""
    folder = tmp_path_factory.mktemp("imagenet")
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    cells = [f"imagenet-c/{name}/{k}" for name in ("blur/fog", "snow") for k in "12345"]
    sets = ("imagenet-sketch", "imagenet-stylized/val", "imagenet-r", *cells)
    parts = [Path("shifts", each) for each in sets]
    parts += [Path("imagenet100", each) for each in ("train", "val")]
    for part in [*parts, Path("imagenet100-textures/train")]:
        present = RENDITIONS if part.name == "imagenet-r" else IMAGENET_100
        for name in present if "imagenet100" in str(part) else (*present, "n00000001"):
            (folder / "data" / part / name).mkdir(parents=True)
            for place in range(2 if part.name == "train" else 1):
                image.save(folder / "data" / part / name / f"{place}.png")
    with contextlib.chdir(folder):
        store_starts("runs/patch", "runs/uniformity")
    return folder


def narrow(variant):
    """A config of full-size views with a small ResNet, and what it starts from."""
    made = load(variant)
    made.objective.encoder.encoder.depth, made.objective.encoder.encoder.width = 10, 4
    start, made.init_from = made.init_from, ()
    made.batch_size = 16
    return made, start


def planned(made):
    return plan(configs.build(made), parallel.make_mesh(jax.devices()[:1]))


@pytest.mark.parametrize(
    "variant",
    [
        "imagenet100_moco:negatives=texture",
        "imagenet100_probe:source=runs/patch,shifts=data/shifts",
        "imagenet100_probe:source=runs/patch,shifts=data/shifts,"
        "sets=computed+sketch+stylized+r",
    ],
)
def test_data_is_found_where_the_documentation_puts_it(variant, imagenet, monkeypatch):
    monkeypatch.chdir(imagenet)
    shapes = planned(narrow(variant)[0]).augmented
    assert shapes["views"].shape[2:] == (224, 224, 3)


def test_a_linear_evaluation_starts_from_a_file_of_moco(imagenet, monkeypatch):
    monkeypatch.chdir(imagenet)
    made, start = narrow("imagenet100_probe:weights=moco.npz")
    frozen = planned(made).variables.frozen
    other = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), frozen)
    np.savez("moco.npz", **moco.from_variables({"encoder": other["encoder"]}))
    made.init_from = start
    filled = planned(made).variables.frozen
    jax.tree.map(np.testing.assert_array_equal, filled, other)


@pytest.mark.parametrize("layer", ["features", "pooled"])
def test_a_linear_evaluation_starts_from_a_file_of_decoupled_uniformity(
    layer, imagenet, monkeypatch
):
    monkeypatch.chdir(imagenet)
    made = load(f"uniformity_probe:weights=du.npz,layer={layer}")
    whole = layer == "features"
    encoder = made.objective.encoder.encoder if whole else made.objective.encoder
    encoder.encoder.depth, encoder.encoder.width = 10, 4
    start, made.init_from, made.batch_size = made.init_from, (), 16
    frozen = planned(made).variables.frozen
    other = jax.tree.map(lambda x: np.full(x.shape, 0.5, x.dtype), frozen)
    params, stats = (other["encoder"][name] for name in ("params", "batch_stats"))
    if whole:
        body = {"params": params["encoder"], "batch_stats": stats["encoder"]}
        parts = {"encoder": body, "fc": {"params": params["head"]}}
    else:
        parts = {"encoder": {"params": params, "batch_stats": stats}}
    np.savez("du.npz", **uniformity.from_variables(parts))
    made.init_from = start
    filled = planned(made).variables.frozen
    jax.tree.map(np.testing.assert_array_equal, filled, other)


@pytest.mark.parametrize(
    ("document", "least", "elsewhere"),
    [
        ("decoupled_uniformity", 9, {}),
        ("inverse_problems", 14, {"RN101.pt": "clip.npz"}),
        ("nonsemantic_negatives", 6, {}),
        ("thanos", 5, {"runs/spread": "runs/first", "runs/auto": "runs/second"}),
    ],
)
def test_every_documented_config_and_command_is_one(
    document, least, elsewhere, stored, monkeypatch
):
    monkeypatch.chdir(stored)
    text = (ROOT / "docs" / f"{document}.md").read_text()
    for name, other in elsewhere.items():
        text = text.replace(name, other)
    named = set(re.findall(r"configs/(\w+)\.py(:[^`\s\")]*)?", text))
    assert len(named) >= least
    for file, options in named:
        assert (ROOT / f"configs/{file}.py").exists()
        if options.strip(":"):  # others may start from a run that is not here
            load(f"{file}{options}")
    for table in re.findall(r"configs/(tables/\w+\.py)", text):
        load_table(f"{ROOT}/configs/{table}")
    text = text.replace("python -m jax_rcl.main", "jax-rcl train")
    for line in re.findall(r"(?:`|^    )jax-rcl ([^`\n]*)", text, re.MULTILINE):
        command, *rest = shlex.split(line.replace("configs/", f"{ROOT}/configs/"))
        if command == "prepare":
            command = f"prepare.{rest.pop(0)}"
        # Only named in the text, or of runs that must be there.
        if rest and "…" not in line and command != "compare":
            program = importlib.import_module(f"jax_rcl.cli.{command}")
            assert program.read_arguments(rest)


def test_every_documented_option_of_thanos_is_one(stored, monkeypatch):
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


def test_every_row_of_the_table_is_documented():
    table = load_table(f"{ROOT}/configs/tables/nonsemantic_imagenet100.py")
    text = (ROOT / "docs" / "nonsemantic_negatives.md").read_text()
    for row, run in zip(table.rows, table.runs[::2], strict=True):
        line = next(x for x in text.splitlines() if x.startswith(f"| `{row.name}`"))
        options = line.split("`")[3]
        assert run.name == row.name
        assert run.config.startswith(f"configs/imagenet100_moco.py:{options},folder=")
        reported = re.findall(r"(\d+\.\d+) ±", line)
        assert list(map(float, reported)) == list(row.paper.values())


def test_rows_and_their_probes_are_configs(stored, monkeypatch):
    monkeypatch.chdir(stored)
    file = f"{ROOT}/configs/tables/nonsemantic_imagenet100.py"
    for options, cells in (
        ("sets=c+sketch+stylized+r", 5),
        ("sets=computed+r", 3),
        ("shifts=computed", 2),
        ("shifts=", 1),
    ):
        table = load_table(f"{file}:{options}")
        assert len(table.columns) == len(table.rows[0].cells) == cells
        for run in table.runs:
            config = re.sub(r"\{[^}]*\}", "runs/patch", run.config)
            made = configs.load(f"{ROOT}/{config}")
        for name, (_, number) in table.rows[0].cells.items():
            evaluator, _, rest = number.partition("/")
            known = made.evaluators[evaluator].get("sets", ())
            assert rest == "top1" or rest.split("/")[0] in known, name


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("emoji_moco:alpha=3", r"'alpha' does nothing here: it is for negatives=patch"),
        ("cifar_moco:negatives=quilting,low=2", "'low' does nothing here"),
        ("imagenet100_moco:alpha=2.0", "'alpha' does nothing here"),
        ("imagenet100_moco:negatives=texture,high=9", "'high' does nothing here"),
        ("imagenet100_probe:weights=moco.npz,sets=c", "'sets' does nothing here"),
        ("imagenet100_probe:source=runs/patch,depth=18", "'depth' does nothing here"),
    ],
)
def test_options_of_negatives_that_would_do_nothing_are_refused(variant, message):
    with pytest.raises(ConfigError, match=message):
        load(variant)


def test_overrides_that_are_documented_are_possible():
    text = (ROOT / "docs" / "nonsemantic_negatives.md").read_text()
    patch = load("imagenet100_moco:negatives=patch")
    overrides = re.findall(r"`--config\.([\w.]+)=(\"[^\"]*\"|\S+)`", text)
    assert len(overrides) == 3
    for path, value in overrides:
        configs.override(patch, path, value)
    assert isinstance(configs.build(patch.augment).operation, PatchMosaic)


@pytest.mark.slow
def test_a_student_needs_no_file_of_weights_once_it_is_trained(
    prepared, tmp_path, monkeypatch
):
    monkeypatch.chdir(prepared)
    made = shrunk(load("clip_student:clip=clip.npz,distortion=noise30"))
    with made.unlocked():
        made.evaluators = {"zero_shot": made.evaluators.zero_shot}
    results = run(made, tmp_path / "run")
    assert {"zero_shot/top1", "zero_shot/clean/top1"} <= set(results)
    shutil.rmtree(tmp_path / "run" / STATES / str(made.steps))
    shutil.rmtree(tmp_path / "run" / "report")
    hidden = Path("clip.npz").rename("hidden.npz")
    try:
        assert run(made, tmp_path / "run") == results
        _, encode = trained(tmp_path / "run")
        assert encode(np.zeros((2, 32, 32, 3), np.float32))["logits"].shape == (2, 100)
    finally:
        hidden.rename("clip.npz")


@pytest.mark.slow
def test_a_probe_starts_from_the_encoder_of_another_run(tmp_path):
    run(with_one_evaluator(shrunk(load("cifar_supcon"))), tmp_path / "run")
    made = shrunk(load("cifar_classify:probe=runs/cifar_supcon"))
    with made.init_from[0].unlocked():
        made.init_from[0].workdir = str(tmp_path / "run")
    frozen = flat(planned(made).variables.frozen)
    with Checkpoints(tmp_path / "run" / STATES) as saved:
        theirs = flat(saved.newest("variables"))
    assert len(frozen) > 10
    for path, array in frozen.items():
        kind, _, rest = path.removeprefix("encoder/").partition("/")
        prefix = "params/encoder" if kind == "params" else "memory/encoder"
        np.testing.assert_array_equal(array, theirs[f"{prefix}/{rest}"], err_msg=path)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        published(Path())
        store_starts()
        for each_variant in VARIANTS:
            text = configs.to_json(load(each_variant)) + "\n"
            golden(each_variant).write_text(text)
