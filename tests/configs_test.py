"""Every config file: its resolved fields, and that it trains, resumes and evaluates.

`python -m tests.configs_test` writes the resolved configs anew; read the difference.
"""

import ast
import contextlib
import functools
import importlib
import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jax_rcl import checkpoint, parallel
from jax_rcl import config as configs
from jax_rcl.augment import (
    Curriculum,
    GaussianBlur,
    GaussianNoise,
    RandomMask,
    SquareMask,
)
from jax_rcl.augment.distortions import CONDITIONS, Fixed
from jax_rcl.augment.negatives import PatchMosaic
from jax_rcl.checkpoint import STATES, Checkpoints
from jax_rcl.cli.table import main as train_table
from jax_rcl.config.types import ConfigError
from jax_rcl.data.packed import FORMAT, RECORDS
from jax_rcl.data.published.imagenet import IMAGENET_100, RENDITIONS
from jax_rcl.networks import decoder, resnet
from jax_rcl.results.table import load as load_table
from jax_rcl.train import evaluation
from jax_rcl.train.loop import train
from jax_rcl.train.plan import plan
from jax_rcl.weights import moco, restore, uniformity
from tests.small import (
    STAGES,
    birds,
    flat,
    fresh,
    one_evaluator,
    plain,
    prepare,
    published,
    shrunk,
)

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
    "thanos_coarse:data=cifar100u,network=mixer,subset=0.5,mix=mixup",
    "thanos_coarse:data=mnist,channels=three,mix=cutout,method=ce,network=resnet18",
    "thanos_transfer:first=runs/first",
    "thanos_transfer:first=runs/first,second=runs/second,encoder=released",
    "groups:size=16",
    "groups:size=16,data=celeba,method=dro",
    "groups:size=16,method=spread",
    "groups:size=16,data=isic",
    "groups:size=16,method=dro,groups=runs/groups,draw=equally",
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
    "imagenet100_moco:negatives=texture,longest=400",
    "imagenet100_moco:crops=square",
    "imagenet100_probe:source=runs/patch",
    "imagenet100_probe:source=runs/patch,shifts=computed",
    "imagenet100_probe:weights=moco.npz,shifts=data/shifts,keep=best",
    "imagenet100_probe:probe=moco_probe.npz",
    "cifar_uniformity",
    "cifar_uniformity:weights=du_small.npz",
    "emoji_uniformity",
    "emoji_uniformity:prior=words",
    "emoji_uniformity:method=simclr",
    "fashion_uniformity:method=autoencoder",
    "fashion_uniformity:prior=features,first=runs/auto",
    "imagenet100_uniformity",
    "imagenet100_uniformity:prior=data/bigbigan.npz,scope=released,lars=simclr",
    "attributes_uniformity",
    "attributes_uniformity:data=zappos",
    "attributes_uniformity:weights=du_large.npz",
    "chexpert_uniformity",
    "chexpert_uniformity:weights=du_large.npz",
    "uniformity_probe:source=runs/uniformity",
    "uniformity_probe:weights=du.npz,layer=pooled",
    "fashion_distill:method=teacher",
    "fashion_distill:distortion=all,teacher=runs/clothes",
    "fashion_distill:method=supervised,distortion=none,teacher=runs/clothes",
    "fashion_distill:method=distilled,distortion=noise,teacher=runs/clean",
    "clip_student:clip=clip.npz,text_heads=1",
    "clip_student:clip=vit.npz,heads=1,distortion=all,classes=none,schedule=cosine",
    "clip_student:clip=clip.npz,distortion=masks,fixed=7,curriculum=on,"
    "loss=clip,teacher_norm=batch,norm=released,classes=none",
    "clip_student:released=student.npz,text_heads=1,distortion=mask75",
    "clip_probe:source=runs/student",
    "clip_probe:clip=vit.npz,tower=ViT-B-32,distortion=noise30,labels=0.1",
    "clip_probe:released=probe.npz,part=probe,distortion=mask90",
    "clip_baseline:weights=resnet101.npz",
    "clip_baseline:backbone=RN101,weights=clip.npz,encoder=frozen,distortion=none",
    "clip_baseline:method=distilled,teacher=runs/baseline",
    "clip_baseline:method=distilled,teacher=runs/probe",
    "clip_transfer:source=runs/student",
    "clip_transfer:source=runs/probe,data=covid,folder=data/covid,draws=1",
    "clip_evaluate:run=runs/probe",
    "clip_evaluate:run=runs/probe,encoder=runs/student,what=unseen",
    "clip_evaluate:run=runs/probe,encoder=runs/mixed,what=draws,distortion=noises",
    "clip_evaluate:run=runs/probe,what=corruptions",
    "clip_evaluate:run=runs/probe,what=denoise",
    "clip_evaluate:run=runs/probe,what=inpaint,steps=20",
    "clip_evaluate:run=runs/transfer,kinds=mask,levels=0.6+0.7,folder=moved/covid",
)
# Trained by default, with flat networks: of each paper one.
FAST = (
    "thanos_coarse",
    "emoji_moco:negatives=patch,alpha=3,labels=subgroup",
    "emoji_uniformity:prior=words",
    "clip_student:clip=vit.npz,heads=1,distortion=all,classes=none,schedule=cosine",
)
# By slow tests evaluated with all that they have; the others with one evaluator.
EVALUATED = (
    "fashion_supcon",
    "thanos_coarse:data=fashion,network=resnet10,decoder=label,encoders=two",
    "thanos_transfer:first=runs/first,second=runs/second,encoder=released",
    "groups:size=16",
    "imagenet100_probe:source=runs/patch,shifts=computed",
    "attributes_uniformity:data=zappos",
    "fashion_distill:distortion=all,teacher=runs/clothes",
    "clip_student:clip=clip.npz,text_heads=1",
    "clip_probe:source=runs/student",
    "clip_transfer:source=runs/student",
    "clip_evaluate:run=runs/probe",
    "clip_evaluate:run=runs/probe,what=corruptions",
    "clip_evaluate:run=runs/probe,encoder=runs/student,what=unseen",
    "clip_evaluate:run=runs/probe,what=denoise",
    "clip_evaluate:run=runs/probe,what=inpaint,steps=20",
)
# By slow tests trained with flat networks: theirs are those of variants beside them.
FLAT = (
    "cifar_simclr",
    "cifar_classify",
    "thanos_coarse:data=cifar100,method=supcon_infonce,form=released,labels=fine",
    "thanos_coarse:data=mnist,channels=three,mix=cutout,method=ce,network=resnet18",
    "groups:size=16,data=celeba,method=dro",
    "groups:size=16,method=spread",
    "groups:size=16,data=isic",
    "emoji_moco:negatives=patch,alpha=3,labels=subgroup",
    "emoji_moco:negatives=texture",
    "cifar_moco",
    "cifar_moco:negatives=quilting",
    "imagenet100_moco",
    "imagenet100_moco:negatives=texture,recipe=ifm,queue=65536",
    "imagenet100_moco:negatives=quilting,version=v1",
    "imagenet100_moco:negatives=texture,packed=data/packed",
    "imagenet100_moco:negatives=texture,longest=400",
    "imagenet100_moco:crops=square",
    "cifar_uniformity",
    "emoji_uniformity:prior=words",
    "emoji_uniformity:method=simclr",
    "attributes_uniformity",
    "chexpert_uniformity",
)
# By slow tests stopped and resumed, with views as they are: of each paper one; a
# student in a test of its own.
RESUMED = (
    "thanos_transfer:first=runs/first,second=runs/second,encoder=released",
    "cifar_moco:negatives=patch,norm=released",
    "fashion_uniformity:prior=features,first=runs/auto",
)
# Planned by default with networks that files of weights fill.
FILLED = (
    "clip_student:released=student.npz,text_heads=1,distortion=mask75",
    "cifar_uniformity:weights=du_small.npz",
    "imagenet100_probe:probe=moco_probe.npz",
    "clip_baseline:weights=resnet101.npz",
)
# The configs of the runs that these start from.
STARTS = {
    "runs/cifar_supcon": "cifar_supcon",
    "runs/first": "thanos_coarse:data=fashion,network=resnet10",
    "runs/second": "thanos_coarse:data=fashion,network=resnet10,decoder=gray,"
    "encoders=two",
    "runs/groups": "groups:size=16",
    "runs/patch": "imagenet100_moco:negatives=patch,norm=released",
    "runs/auto": "fashion_uniformity:method=autoencoder",
    "runs/uniformity": "imagenet100_uniformity",
    "runs/clothes": "fashion_distill:method=teacher",
    "runs/clean": "fashion_distill:method=supervised,distortion=none,"
    "teacher=runs/clothes",
    "runs/student": "clip_student:clip=clip.npz,text_heads=1",
    "runs/probe": "clip_probe:source=runs/student",
    "runs/mixed": "clip_probe:source=runs/student,distortion=mixture1",
    "runs/transfer": "clip_transfer:source=runs/student,data=covid",
    "runs/baseline": "clip_baseline:weights=resnet101.npz,distortion=none",
}
# What commands of docs/inverse_problems.md name, and what is here instead.
OTHER_FILES = {
    "RN101.pt": "clip.npz",
    "runs/clean": "runs/probe",
    "runs/stl10": "runs/transfer",
    "student.py:released=mask90.ckpt": "student.py:released=student.npz",
}
# Files that others import, without an experiment of their own.
PIECES = {path.stem for path in (ROOT / "configs").glob("*common.py")}


def load(variant):
    name, _, arg = variant.partition(":")
    return configs.load(f"{ROOT / 'configs' / name}.py:{arg}")


def golden(variant):
    return GOLDEN / f"{variant.replace(':', '+').replace('/', '-')}.json"


def run(made, workdir):
    return train(made, workdir, mesh=parallel.make_mesh(jax.devices()[:1]))


def arrays(workdir):
    with Checkpoints(workdir / STATES) as saved:
        return {
            f"{item}/{path}": x
            for item in ("variables", "training")
            for path, x in checkpoint.flat(saved.newest(item)).items()
        }


def store(workdir, variant):
    """Puts a config where others look for that of a run."""
    Path(workdir).mkdir(parents=True, exist_ok=True)
    (Path(workdir) / "config.json").write_text(configs.to_json(load(variant)))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with data, and with the configs of `STARTS`."""
    folder = prepare(tmp_path_factory.mktemp("stored"))
    with contextlib.chdir(folder):
        for workdir, variant in STARTS.items():
            store(workdir, variant)
    return folder


@pytest.fixture(scope="module")
def prepared(stored, tmp_path_factory):
    """A folder with the same data, which `train_starts` puts runs into."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    ignored = shutil.ignore_patterns("runs")
    return shutil.copytree(stored, folder, ignore=ignored)


def store_run(workdir, variant, small):
    """Puts the config where others take data from; of those run by others, as it is."""
    if variant in (STARTS["runs/auto"], STARTS["runs/groups"]):
        (Path(workdir) / "config.json").write_text(configs.to_json(small))
    else:
        store(workdir, variant)


def train_starts(variant):
    """Small runs of those of `STARTS` that a variant mentions, where there are none."""
    for workdir in mentioned(variant):
        if not Path(workdir).exists():
            train_starts(STARTS[workdir])
            made = plain(shrunk(load(STARTS[workdir])))
            short = configs.from_json(configs.to_json(made))
            best = made.best.monitor.partition("/")[0] if made.best else ""
            with short.unlocked():  # the others take most of the time
                short.evaluators = {best: made.evaluators[best]} if best else {}
                short.steps = min(1, made.steps)
            run(short, Path(workdir))
            store_run(workdir, STARTS[workdir], made)


@pytest.fixture(autouse=True, scope="module")
def shallow():
    """ResNets of one block, decoders of one block a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.BLOCKS, 10, STAGES)
        patch.setitem(decoder.BLOCKS, 18, (1, 1, 1, 1))
        yield


@pytest.fixture
def quick(monkeypatch):
    """Initialises without compiling, shows no views and writes no page."""
    monkeypatch.setattr("jax_rcl.train.step.create", fresh)
    monkeypatch.setattr("jax_rcl.train.loop.first_views", lambda run, key: None)
    monkeypatch.setattr("jax_rcl.train.loop.write_page", lambda *run: "none")


def mentioned(variant):
    return [each for each in STARTS if re.search(rf"{each}(,|$)", variant)]


def test_every_file_is_tried():
    files = {path.stem for path in (ROOT / "configs").glob("*.py")} - PIECES
    assert files == {variant.partition(":")[0] for variant in VARIANTS}


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_fields_are_those_that_were_reviewed(variant, stored, monkeypatch):
    monkeypatch.chdir(stored)
    text = configs.to_json(load(variant))
    assert text + "\n" == golden(variant).read_text()
    assert configs.to_json(configs.from_json(text)) == text


@pytest.mark.parametrize("name", sorted({v.partition(":")[0] for v in VARIANTS}))
def test_its_docstring_says_how_to_run_it_and_what_was_obtained(name):
    text = ast.get_docstring(ast.parse((ROOT / f"configs/{name}.py").read_text()))
    assert f"python -m jax_rcl.main --config=configs/{name}.py" in text
    assert "Obtained" in text or "obtained" in text


@functools.cache
def shapes(variant):
    """Of the variables of a config with flat networks; rules of `Restore` may fail."""
    text = configs.to_json(flat(plain(shrunk(load(variant)))))
    return planned(configs.from_json(text)).variables


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_parts_fit_together_and_what_it_starts_from(variant, stored, monkeypatch):
    monkeypatch.chdir(stored)
    monkeypatch.setattr(restore, "progress", lambda workdir: (1, 1))
    monkeypatch.setattr(
        restore,
        "read_variables",
        lambda workdir, which: checkpoint.flat(shapes(STARTS[str(workdir)])),
    )
    assert shapes(variant)


@pytest.mark.parametrize("variant", FILLED)
def test_files_of_weights_fit_its_networks(variant, stored, monkeypatch):
    monkeypatch.chdir(stored)
    variables = planned(one_evaluator(plain(shrunk(load(variant))))).variables
    filled = [x for x in jax.tree.leaves(variables) if isinstance(x, np.ndarray)]
    assert len(filled) > 10


def trained_and_resumed(made, workdir, between=lambda: None):
    """The results of a run, whose last step is made twice."""
    results = run(made, workdir)
    whole = arrays(workdir)
    between()
    shutil.rmtree(workdir / STATES / str(made.steps))
    shutil.rmtree(workdir / "report", ignore_errors=True)
    assert run(made, workdir) == results
    again = arrays(workdir)
    for path in whole:
        np.testing.assert_array_equal(whole[path], again[path], err_msg=path)
    return results


def test_the_quickstart_trains_two_steps_and_resumes(tmp_path, quick):
    made = flat(plain(shrunk(load("quickstart"))))
    results = trained_and_resumed(made, tmp_path / "run")
    assert {"knn/top1", "probe/top1"} <= set(results)


@pytest.mark.parametrize("variant", FAST)
def test_a_config_of_each_paper_trains(variant, prepared, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(prepared)
    made = flat(plain(shrunk(load(variant))))
    with made.unlocked():
        made.evaluators, made.best, made.steps = {}, None, 1
    run(made, tmp_path / "run")
    assert all(np.isfinite(x).all() for x in arrays(tmp_path / "run").values())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_trains_and_evaluates(variant, prepared, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(prepared)
    train_starts(variant)
    # Others may start from this run.
    place = next((Path(x) for x, v in STARTS.items() if v == variant), tmp_path / "run")
    workdir = tmp_path / "again" if place.exists() else place
    whole = made = shrunk(load(variant))
    if variant in EVALUATED:
        monkeypatch.setattr("jax_rcl.train.loop.write_page", evaluation.write_page)
    else:
        made = one_evaluator(configs.from_json(configs.to_json(whole)))
    if variant in RESUMED:
        results = trained_and_resumed(made, workdir)
    else:
        made.steps = min(1, made.steps)
        made = plain(made)
        results = run(flat(made) if variant in FLAT else made, workdir)
    store_run(workdir, variant, whole)
    assert results or not made.evaluators
    assert all(np.isfinite(value) for value in results.values())


OF_TRAINING = {
    "clip_student:clip=clip.npz,text_heads=1": "augment.distortion",
    "clip_probe:source=runs/student": "augment.operation.operations[1]",
    "clip_baseline:weights=resnet101.npz": "augment.operation.operations[1]",
    "clip_baseline:method=distilled,teacher=runs/baseline": "augment.distortion",
    "clip_transfer:source=runs/student": "augment.operation.operations[2]",
    "fashion_distill:distortion=mask90,teacher=runs/clothes": "augment.distortion",
    "fashion_distill:method=supervised,distortion=mask90,teacher=runs/clothes": (
        "augment.operation.operations[2]"
    ),
}


def judge_of(made):
    """The evaluator of images that are distorted as in training."""
    return next(x for x in ("zero_shot", "val", "test") if x in made.evaluators)


@pytest.mark.parametrize("variant", OF_TRAINING)
def test_a_level_is_changed_in_training_and_evaluation_together(
    variant, stored, monkeypatch
):
    monkeypatch.chdir(stored)
    made = load(variant)
    configs.override(made, f"{OF_TRAINING[variant]}.rate", "(0.95, 0.95)")
    text = configs.to_json(configs.resolved(made))
    assert configs.build(configs.at(made, OF_TRAINING[variant])).rate == (0.95, 0.95)
    judged = judge_of(made)
    with pytest.raises(ConfigError, match=rf"the same as {OF_TRAINING[variant][:7]}"):
        configs.override(made, f"evaluators.{judged}.distortion.rate", "(0.9, 0.9)")
    assert configs.resolved(made).evaluators[judged].distortion.rate == (0.95, 0.95)
    again = configs.resolved(configs.from_json(configs.to_json(made)))
    assert configs.to_json(again) == text


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("clip_student:clip=clip.npz,percent_missing=0.8", RandomMask((0.8, 0.8))),
        (
            "clip_student:clip=clip.npz,distortion=mask50,percent_missing=0.2-0.7,fixed=3",
            Fixed(RandomMask((0.2, 0.7)), 3),
        ),
        (
            "clip_probe:clip=clip.npz,tower=RN50,distortion=noise10,std=0.15-0.2",
            GaussianNoise((0.15, 0.2)),
        ),
        (
            "clip_baseline:weights=resnet101.npz,distortion=blur21,kernel_size=11,sigma=2",
            GaussianBlur(11, (2.0, 2.0)),
        ),
        (
            "clip_baseline:weights=resnet101.npz,distortion=square50,length=20-30,"
            "offset=center,fixed=0",
            Fixed(SquareMask((20, 30)), 0),
        ),
        (
            "clip_transfer:source=runs/student,distortion=mask50,percent_missing=0.6",
            RandomMask((0.6, 0.6)),
        ),
    ],
)
def test_levels_of_distortions_are_options(variant, expected, stored, monkeypatch):
    monkeypatch.chdir(stored)
    made = load(variant)
    augment = configs.resolved(made).augment
    found = augment.get("distortion") or augment.operation.operations[-1]
    assert configs.build(found) == expected
    judged = configs.resolved(made).evaluators[judge_of(made)]
    assert configs.build(judged.distortion) == expected


def test_what_distorts_has_one_home_from_which_sweeps_take_the_seed(
    stored, monkeypatch
):
    monkeypatch.chdir(stored)
    made = load("clip_baseline:weights=resnet101.npz,fixed=3")
    last = "augment.operation.operations[-1]"
    for text in ("RandomMask((0.5, 0.5))", "None", "Identity"):
        with pytest.raises(ConfigError, match=r"for both: --config.augment.*\[-1\]=…"):
            configs.override(made, "evaluators.val.distortion", text)
    with pytest.raises(ConfigError, match=r"\[-1\] would be Grayscale instead of Fix"):
        chain = "(Flip, RandomMask((0.8, 0.8)), Grayscale)"
        configs.override(made, "augment.operation.operations", chain)
    configs.override(made, f"{last}.seed", "9")
    resolved = configs.resolved(made)
    assert configs.at(resolved, last).seed == 9
    assert {x.distortion.seed for x in resolved.evaluators.values()} == {9}
    store("runs/fixed", "clip_baseline:weights=resnet101.npz,fixed=3")
    swept = load("clip_evaluate:run=runs/fixed").evaluators
    masks, noises = (configs.build(swept[x].distortion) for x in ("masks", "noises"))
    assert masks == Fixed(RandomMask((0.5, 0.95)), 3)
    assert noises == GaussianNoise((0.1, 0.3))


def test_a_curriculum_rises_over_the_epochs_of_the_run(stored, monkeypatch):
    monkeypatch.chdir(stored)
    made = load("clip_student:clip=clip.npz,text_heads=1,curriculum=on,epochs=4")
    assert configs.build(configs.resolved(made).augment).curriculum == Curriculum(4)
    configs.override(made, "epochs", "8")
    assert configs.build(configs.resolved(made).augment).curriculum == Curriculum(8)


# Runs of distorted images are wanted, and these are others.
UNDISTORTED = (
    "imagenet100_probe:source=runs/patch",
    "cifar_classify",
    "cifar_classify:mix=mixup",
    "uniformity_probe:source=runs/uniformity",
    "thanos_transfer:first=runs/first",
)


@pytest.mark.parametrize("variant", UNDISTORTED)
def test_a_run_without_a_distortion_is_told_from_those_with_one(
    variant, stored, monkeypatch
):
    monkeypatch.chdir(stored)
    store("runs/clear", variant)
    with pytest.raises(ConfigError, match=r"clear .* give a run of clip_student.py, "):
        load("clip_transfer:source=runs/clear")
    with pytest.raises(ConfigError, match="clear was trained on images without a dist"):
        load("clip_evaluate:run=runs/clear,what=draws")
    made = load("clip_evaluate:run=runs/clear,what=draws,distortion=all")
    assert (
        configs.build(made.evaluators.draws.distortion.operation) == CONDITIONS["all"]
    )


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "cutout"])
def test_a_transfer_sees_the_views_that_were_mixed(mix, stored, monkeypatch):
    monkeypatch.chdir(stored)
    store("runs/mixing", f"thanos_coarse:data=fashion,network=resnet10,mix={mix}")
    made = load("thanos_transfer:first=runs/mixing")
    count = len(made.augment.operation.operations)
    plain_view = load("thanos_transfer:first=runs/first").augment.operation
    assert count == len(plain_view.operations) + (mix == "cutout")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("std=0.1", "'std' does nothing here: it is for distortion=noise"),
        ("distortion=all,percent_missing=0.5", "'percent_missing' does nothing here"),
        ("distortion=blur21,fixed=1", "'fixed' does nothing here"),
        ("percent_missing=hot", "takes a number or two, percent_missing=0.5 or"),
        ("percent_missing=1.5", r"rate \(1.5, 1.5\) must be two shares"),
        ("percent_missing=0.9-0.5", r"must be two shares of the pixels"),
        ("distortion=square50,length=2.5", "takes tuple"),
    ],
)
def test_levels_that_cannot_be_are_refused(options, words, stored, monkeypatch):
    monkeypatch.chdir(stored)
    with pytest.raises(ConfigError, match=words):
        load(f"clip_student:clip=clip.npz,{options}")


def test_a_level_needs_the_word_of_a_distortion(stored, monkeypatch):
    monkeypatch.chdir(stored)
    with pytest.raises(
        ConfigError, match="for distortion=WORD, other than the source's"
    ):
        load("clip_probe:source=runs/student,percent_missing=0.5")


def test_forms_of_the_release_are_words(stored, monkeypatch):
    monkeypatch.chdir(stored)
    arg = "loss=clip,averaged=twice,rounding=float16,teacher_norm=batch"
    student = configs.build(load(f"clip_student:clip=clip.npz,{arg}").objective)
    assert student.averaged == "twice" and student.teacher_norm == "batch"
    assert student.encoder.rounding == "float16" and student.teacher.rounding == "none"
    arg = "backbone=RN50,weights=clip.npz,reduction=sum,rounding=float16"
    baseline = configs.build(load(f"clip_baseline:{arg}").objective)
    assert baseline.reduction == "sum" and baseline.encoder.rounding == "float16"
    for encoder in ("backbone=RN50,weights=clip.npz", "weights=resnet101.npz"):
        arg = f"clip_baseline:{encoder},norm=released"
        inner = configs.build(load(arg).objective).encoder.encoder
        assert (inner.norm, inner.ghost_batch) == ("local", 64)
    for wrong in (
        "clip_student:clip=clip.npz,averaged=twice",
        "clip_baseline:rounding=float16",
        "clip_baseline:backbone=RN50,weights=clip.npz,encoder=frozen,norm=released",
        "clip_baseline:method=distilled,teacher=runs/baseline,norm=released",
    ):
        with pytest.raises(ConfigError, match="does nothing here"):
            load(wrong)


@pytest.mark.parametrize(
    ("variant", "batch", "period"),
    [
        ("clip_student:clip=clip.npz", 256, 123.0),
        ("clip_student:clip=clip.npz", 64, 494.0),
        ("clip_baseline:weights=resnet101.npz", 256, 494.0),
        ("clip_baseline:weights=resnet101.npz", 64, 1979.0),
    ],
)
def test_the_released_period_follows_the_batch(
    variant, batch, period, stored, monkeypatch
):
    monkeypatch.chdir(stored)
    made = load(f"{variant},batch_size={batch}")
    assert made.optimizer.schedule.period == period


@pytest.mark.slow
def test_views_are_possible(stored, monkeypatch, subtests):
    monkeypatch.chdir(stored)
    seen = set()
    for variant in VARIANTS:
        made = flat(shrunk(load(variant)))
        views = configs.to_json(made.augment)
        if views not in seen:
            with made.unlocked(), subtests.test(variant):
                made.init_from, made.evaluators, made.best = (), {}, None
                assert planned(made).augmented
        seen.add(views)


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
        for workdir in ("runs/patch", "runs/uniformity"):
            store(workdir, STARTS[workdir])
    return folder


def narrow(variant):
    """A config of full-size views with a small ResNet, and what it starts from."""
    made = plain(load(variant))
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
    made = flat(plain(load(variant)))
    with made.unlocked():
        made.init_from, made.batch_size = (), 16
    assert planned(made).augmented["views"].shape[2:] == (224, 224, 3)


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
    made = plain(load(f"uniformity_probe:weights=du.npz,layer={layer}"))
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
        ("inverse_problems", 14, OTHER_FILES),
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
    text = re.sub(r"\\\n\s+", "", text)  # lines that go on in the next
    for line in re.findall(r"(?:`|^    )jax-rcl ([^`\n]*)", text, re.MULTILINE):
        command, *rest = shlex.split(line.replace("configs/", f"{ROOT}/configs/"))
        if command == "prepare":
            command = f"prepare.{rest.pop(0)}"
        # Only named in the text, or of runs that must be there.
        if rest and "…" not in line and command != "compare":
            program = importlib.import_module(f"jax_rcl.cli.{command}")
            assert program.main.parse(rest)


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


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"objective.contrasts[0].positives_in_denominator": "2.0"}, [2.0]),
        ({"objective.contrasts": "()"}, []),
    ],
)
def test_held_out_losses_of_thanos_are_those_that_are_trained(change, expected):
    file = f"{ROOT}/configs/thanos_coarse.py:method=supcon"
    made = configs.resolved(configs.load(file, list(change.items())))
    for name in ("losses", "geometry"):
        terms = configs.build(made.evaluators[name].terms, "terms")
        assert [term.positives_in_denominator for term in terms] == expected
        assert terms == configs.build(made.objective.contrasts, "contrasts")


FOUND_GROUPS = f"{ROOT}/configs/tables/found_groups.py"


def test_groups_are_found_in_the_run_before_the_one_that_they_train():
    table = load_table(f"{FOUND_GROUPS}:data=isic,epochs=3,draw=equally,known=yes")
    first, found, known = (
        configs.load(f"{ROOT}/{run.config.replace('{first}', 'runs/first')}")
        for run in table.runs
    )
    assert found.source.source.source.workdir == "runs/first"
    assert found.source.source.source.source == known.source.source.source
    assert found.source.source.source.source == first.source.source
    assert found.objective == known.objective != first.objective
    assert first.source.source.folder == "isic" and first.epochs == found.epochs == 3


@pytest.mark.slow
def test_groups_are_found_and_then_trained_on_by_one_command(tmp_path, capsys):
    birds(tmp_path)
    small = "depth=10,size=16,epochs=1,batch_size=8"
    options = f"folder={tmp_path / 'birds'},{small}"
    flags = [f"--table={FOUND_GROUPS}:{options}", f"--workdir={tmp_path / 'runs'}"]
    assert train_table([*flags, "--seeds=0"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"DRO on groups found in its features \| +\d", printed)
    stored = configs.stored_config(tmp_path / "runs" / "found" / "seed0")
    assert stored.source.source.workdir == str(tmp_path / "runs" / "first" / "seed0")


def test_every_row_of_the_table_is_documented():
    table = load_table(f"{ROOT}/configs/tables/nonsemantic_imagenet100.py")
    text = (ROOT / "docs" / "nonsemantic_negatives.md").read_text()
    for row, run in zip(table.rows, table.runs[::2], strict=True):
        line = next(x for x in text.splitlines() if x.startswith(f"| `{row.name}`"))
        options = line.split("`")[3]
        assert run.name == row.name
        assert run.config.startswith(f"configs/imagenet100_moco.py:{options},folder=")
        reported = re.findall(r"(\d+\.\d+) ±", line)
        printed = [row.paper[column.name] for column in table.columns]
        assert list(map(float, reported)) == printed


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ("", {"clean", "corruption", "sketch", "stylized", "rendition"}),
        ("sets=computed+r", {"clean", "rendition"}),
        ("norm=sync", set()),
        ("epochs=100", set()),
        ("fine_epochs=30", set()),
    ],
)
def test_published_numbers_stand_beside_what_they_were_made_with(options, printed):
    file = f"{ROOT}/configs/tables/nonsemantic_imagenet100.py"
    table = load_table(f"{file}:{options}")
    assert all(set(row.paper) == printed for row in table.rows)
    assert ("Paper:" in table.note) == bool(printed)


@pytest.mark.parametrize(
    ("option", "field", "default", "other"),
    [
        ("clip=released", "contrasts[0].logit_clip", None, 1.0),
        ("lengths=released", "contrasts[0].similarity", "cosine", "released"),
        ("direction=one-way", "contrasts[0].direction", "symmetric", "one-way"),
        ("queries=0.0", "encoder.encoder.drop.queries", 0.1, 0.0),
        ("schedule=released", "period", None, 100.0),
    ],
)
def test_each_form_of_thanos_is_a_switch_of_its_own(option, field, default, other):
    def fields(arg):
        made = load(f"thanos_coarse:{arg}")
        places = {
            "contrasts[0].logit_clip": made.objective,
            "contrasts[0].similarity": made.objective,
            "contrasts[0].direction": made.objective,
            "encoder.encoder.drop.queries": made.objective,
            "period": made.optimizer.schedule,
        }
        return {name: configs.at(place, name) for name, place in places.items()}

    usual = fields("")
    assert usual[field] == default
    assert fields(option) == {**usual, field: other}
    released = fields("form=released")
    assert released[field] == (default if field.endswith("queries") else other)
    # The first word of each goes back to the paper's, of this alone.
    name = option.partition("=")[0]
    words = {"clip": "none", "lengths": "cosine", "direction": "symmetric"}
    back = f"{name}={words.get(name, 'cosine')}"
    if name != "queries":
        assert fields(f"form=released,{back}") == {**released, field: default}


@pytest.mark.parametrize(
    ("variant", "group"),
    [
        ("attributes_uniformity:prior=none", 64),
        ("attributes_uniformity:data=zappos,prior=none,batch=16", 4),
        ("chexpert_uniformity:prior=none", 256),
        ("imagenet100_uniformity:depth=50", 64),
    ],
)
def test_configs_of_uniformity_on_several_gpus_have_the_released_scope(variant, group):
    usual, released = (
        load(v).objective for v in (variant, f"{variant},scope=released")
    )
    assert (usual.scope, usual.group) == ("global", None)
    assert (released.scope, released.group) == ("device", group)
    with pytest.raises(ConfigError, match="10 is no multiple of 4: batch=8"):
        load(f"{variant.partition(',batch')[0]},scope=released,batch=10")


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
        for run in table.runs if cells == 5 else table.runs[:2]:
            config = re.sub(r"\{[^}]*\}", "runs/patch", run.config)
            made = configs.load(f"{ROOT}/{config}")
        # The last of them is a probe, as that of every row.
        for name, (_, number) in table.rows[0].cells.items():
            evaluator, _, rest = number.partition("/")
            known = made.evaluators[evaluator].get("sets", ())
            assert rest == "top1" or rest.split("/")[0] in known, name


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("clip_evaluate:run=runs/probe,levels=0.5", r"for one of mask\+noise\+blur"),
        ("clip_evaluate:run=runs/probe,kinds=mask,levels=high", "high is no level"),
        (
            "clip_evaluate:run=runs/probe,what=inpaint,kinds=noise",
            r"one level of one distortion: write .*, such as kinds=noise,levels=",
        ),
        ("imagenet100_probe:probe=x,keep=best", "'keep' does nothing here: it is for"),
        ("imagenet100_probe:probe=x,crops=square", "'crops' does nothing here"),
        ("clip_evaluate:run=runs/transfer,what=corruptions", "other classes apart"),
        ("clip_baseline:fixed=-5", "'fixed' -5 must be at least 0"),
        ("clip_probe:labels=1.5", r"'labels' 1.5 must be in \(0, 1\]"),
        ("clip_transfer:labels=0", r"'labels' 0 must be in \(0, 1\]"),
        ("clip_transfer:draws=-3", "'draws' -3 must be at least 1"),
        ("thanos_coarse:subset=1.5", r"'subset' 1.5 must be in \(0, 1\]"),
        ("clip_evaluate:run=runs/student", "student is not a run of clip_probe.py"),
        ("clip_baseline:method=distilled,teacher=runs/transfer", "teach by a class"),
        ("clip_baseline:method=distilled,backbone=RN50", "'backbone' does nothing"),
        ("clip_student:released=student.npz,clip=clip.npz", "'clip' does nothing here"),
        ("groups:draw=equally", "'draw' does nothing here: it is for method=dro"),
        (
            "thanos_coarse:channels=three",
            "'channels' does nothing here: it is for gray",
        ),
        (
            "thanos_coarse:width=32",
            "'width' does nothing here: it is for network=resnet",
        ),
        ("thanos_coarse:method=ce,clip=none", "'clip' does .* for method=spread, sup"),
        ("imagenet100_moco:textures=x", "'textures' .* is for negatives=texture"),
        ("imagenet100_moco:packed=x,folder=y", "'folder' .* for images in folders, w"),
        ("imagenet100_moco:negatives=texture,packed=x,textures=y", "'textures' does n"),
        ("uniformity_probe:source=x,weights=y", "'source' .* for a run, source=RUN w"),
        ("attributes_uniformity:prior=x,weights=y", "'prior' .* is for epochs=N, a fi"),
        ("attributes_uniformity:ridge=1.0,weights=y", "'ridge' .* is for epochs=N, a"),
        ("attributes_uniformity:ridge=1.0,prior=none", "'ridge' .* is for prior=FILE"),
        ("chexpert_uniformity:prior=x,weights=y", "'prior' .* is for epochs=N, a fil"),
        ("emoji_moco:alpha=3", r"'alpha' does nothing here: it is for negatives=patch"),
        ("cifar_moco:negatives=quilting,low=2", "'low' does nothing here"),
        ("imagenet100_moco:alpha=2.0", "'alpha' does nothing here"),
        ("imagenet100_moco:negatives=texture,high=9", "'high' does nothing here"),
        ("imagenet100_moco:negatives=quilting,crops=square", "'crops' does nothing"),
        ("imagenet100_moco:packed=x,longest=400", "'longest' does nothing here"),
        ("attributes_uniformity:data=zappos,crops=square", "'crops' does nothing"),
        ("imagenet100_probe:weights=moco.npz,sets=c", "'sets' does nothing here"),
        ("imagenet100_probe:probe=x,source=runs/patch", "'source' does nothing here"),
        ("cifar_uniformity:layer=pooled", "'layer' does nothing here"),
        ("imagenet100_probe:source=runs/patch,depth=18", "'depth' does nothing here"),
        ("imagenet100_probe:source=runs/patch,shifts=x,sets=c+sketsh", "'sketsh'"),
        ("imagenet100_probe:source=runs/first", "first is not a run of imagenet100"),
        ("thanos_transfer:first=runs/none", "runs/none holds no run"),
        ("thanos_transfer:first=runs/first,second=runs/patch", "not a run of thanos"),
        ("thanos_transfer:first=runs/first,second=runs/mnist", "other images than"),
    ],
)
def test_options_that_do_not_fit_are_refused(variant, message, stored, monkeypatch):
    monkeypatch.chdir(stored)
    store("runs/mnist", "thanos_coarse:data=mnist")
    with pytest.raises(ConfigError, match=message):
        load(variant)


@pytest.mark.parametrize(
    "name, usual", [("cifar_supcon", 10), ("cifar_simclr", 10), ("fashion_supcon", 1)]
)
def test_a_warm_up_is_shorter_than_the_shortest_run(name, usual):
    for epochs, warm in ((1, 0.5), (2 * usual, usual), (500, usual)):
        made = load(f"{name}:epochs={epochs}")
        assert made.optimizer.schedule.warmup_epochs == warm


@pytest.mark.parametrize(("what", "kind"), [("inpaint", "mask"), ("denoise", "noise")])
def test_restoring_has_one_level_also_where_its_kind_is_named(
    what, kind, stored, monkeypatch
):
    monkeypatch.chdir(stored)
    usual = load(f"clip_evaluate:run=runs/probe,what={what}")
    named = load(f"clip_evaluate:run=runs/probe,what={what},kinds={kind}")
    assert configs.to_json(usual) == configs.to_json(named)
    assert len(named.evaluators[f"{kind}s"].levels) == 1


@pytest.mark.parametrize(
    "variant",
    [
        "attributes_uniformity:prior=none",
        "chexpert_uniformity:prior=none",
        "groups:data=celeba",
        "imagenet100_moco:negatives=patch",
        "imagenet100_probe:weights=moco.npz",
        "imagenet100_uniformity:depth=50",
        "uniformity_probe:weights=du_large.npz",
    ],
)
def test_photographs_may_lie_in_frames_in_every_config_of_them(variant):
    framed, usual = load(f"{variant},longest=300").source, load(variant).source
    assert framed.source.longest == 300 and framed.source.source == usual.source
    with pytest.raises(ConfigError, match="'longest' does nothing here"):
        load(f"{variant},crops=square,longest=300")


def test_crops_of_photographs_are_not_cut_out_of_packed_squares(tmp_path):
    def pack(images):
        (tmp_path / "train").mkdir(exist_ok=True)
        described = {"format": FORMAT, "arrays": dict.fromkeys(images)}
        (tmp_path / "train" / RECORDS).write_text(json.dumps(described))

    pack(["image", "label"])
    words = "holds records of squares, .* write crops=square, or pack photographs in fr"
    with pytest.raises(ConfigError, match=words):
        load(f"imagenet100_moco:packed={tmp_path}")
    load(f"imagenet100_moco:packed={tmp_path},crops=square")
    pack(["image", "label", "extent"])
    load(f"imagenet100_moco:packed={tmp_path}")


def test_no_prior_is_a_word(stored, monkeypatch):
    monkeypatch.chdir(stored)
    made = [load(f"imagenet100_uniformity{x}") for x in ("", ":prior=none")]
    assert configs.to_json(made[0]) == configs.to_json(made[1])


def test_overrides_that_are_documented_are_possible():
    text = (ROOT / "docs" / "nonsemantic_negatives.md").read_text()
    patch = load("imagenet100_moco:negatives=patch")
    overrides = re.findall(r"`--config\.([\w.]+)=(\"[^\"]*\"|\S+)`", text)
    assert len(overrides) == 3
    for path, value in overrides:
        configs.override(patch, path, value)
    assert isinstance(configs.build(patch.augment).operation, PatchMosaic)


@pytest.mark.slow
def test_a_student_resumes_without_the_file_of_weights(
    prepared, tmp_path, monkeypatch, quick
):
    monkeypatch.chdir(prepared)
    shutil.copy("vit.npz", "own.npz")
    arg = "clip=own.npz,heads=1,text_heads=1,distortion=noise30"
    made = plain(shrunk(load(f"clip_student:{arg}")))
    with made.unlocked():
        made.evaluators = {"zero_shot": made.evaluators.zero_shot}
    results = trained_and_resumed(made, tmp_path / "run", Path("own.npz").unlink)
    assert {"zero_shot/top1", "zero_shot/clean/top1"} <= set(results)
    _, encode = evaluation.trained(tmp_path / "run")
    assert encode(np.zeros((2, 32, 32, 3), np.float32))["logits"].shape == (2, 100)


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        published(Path())
        for workdir, variant in STARTS.items():
            store(workdir, variant)
        for variant in VARIANTS:
            golden(variant).write_text(configs.to_json(load(variant)) + "\n")
