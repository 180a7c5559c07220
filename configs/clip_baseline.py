"""Classifiers of distorted images that are trained with labels, end to end.

    python -m jax_rcl.main --config=configs/clip_baseline.py:weights=resnet101.pth \
        --workdir=runs/baseline

What students of clip_student.py are compared with by Ravula et al. 2021: a ResNet-101
that starts from torchvision's weights for ImageNet, whose labels include these hundred
classes, or CLIP's. One trustworthy number of the authors survives, for mask90: top-1
72.4, top-5 91.8. Obtained: not yet run.
Options of the file: `backbone` (resnet101, resnet50, or a tower of CLIP: RN50, RN101,
RN50x4, ViT-B-32 …) and `weights`, its file, or `released`, a file of the authors with
its head; `encoder` (trained; frozen: only the head learns, the clean head of
docs/inverse_problems.md with distortion=none and a tower of CLIP); `distortion`, a word
of `augment.conditions.CONDITIONS`; `method` (distilled: what a classifier of clean
images, the run `teacher` of this file, makes of the clean image is learned, too);
`schedule` (released: cosine of the epoch, nearly constant; cosine: to zero); `epochs`,
`batch_size`; `sweep` (on: 10 repeats at every level); `folder` (has train/ and val/).
"""

from jax_rcl.augment.compose import Chain, Pair, Views
from jax_rcl.augment.distortions.conditions import CONDITIONS, SWEEPS, sweeps_of
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.networks import clip
from jax_rcl.networks.heads import Linear, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.knowledge_distillation import (
    FROM_CLASSIFIER,
    KnowledgeDistillation,
)
from jax_rcl.optim.optimizers import Adam
from jax_rcl.optim.schedules import Cosine, EpochCosine
from jax_rcl.weights.imports import ImportClip, ImportDistill, ImportResNet
from jax_rcl.weights.restore import Restore

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOWERS = {name.replace("/", "-"): name for name in clip.TOWERS}
FROZEN = {
    "params": "frozen/encoder/params",
    "batch_stats": "frozen/encoder/batch_stats",
}
AS = {"resize": "as torchvision"}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        backbone=("resnet101", "resnet50", *TOWERS),
        weights="resnet101.pth",
        released="",
        encoder=("trained", "frozen"),
        distortion=("mask90", *(x for x in CONDITIONS if x != "mask90")),
        method=("classify", "distilled"),
        teacher="runs/clean",
        schedule=("released", "cosine"),
        epochs=25,
        batch_size=256,
        sweep=("on", "off"),
        folder="data/imagenet100",
    )
    distilled = o.method == "distilled"
    only_with(o, distilled, "method=distilled", "teacher")
    only_with(o, not distilled, "method=classify", "encoder", "weights", "released")
    into = FROZEN if o.encoder == "frozen" else {}
    if o.backbone in TOWERS:
        fields = clip.fields(TOWERS[o.backbone])
        size, statistics = fields["image_size"], (clip.MEAN, clip.STD)
        residual = "depths" in fields
        body = node(clip.ClipResNet if residual else clip.ClipViT, **fields)
        into = into if residual else {k: x for k, x in into.items() if k == "params"}
        start = node(ImportClip, o.weights, **into)
    else:
        size, statistics = 224, IMAGENET
        body = node(ResNet, int(o.backbone.removeprefix("resnet")))
        start = node(ImportResNet, o.weights, **into)
    if o.released:
        start = node(ImportDistill, o.released, "baseline", **into, head="params/head")
    encoder, head = node(Normalized, body, *statistics), node(Linear, len(IMAGENET_100))
    stored = {"size": size * 8 // 7, "classes": IMAGENET_100, **AS}
    train, val = (
        node(ImageFolder, f"{o.folder}/{part}", **stored) for part in ("train", "val")
    )
    distortion = CONDITIONS[o.distortion]
    crop, flip = node(RandomResizedCrop, size, area=(0.08, 1.0)), node(Flip)
    if distilled:
        objective = node(KnowledgeDistillation, encoder, head)
        augment = node(Pair, node(Chain, (crop, flip)), distortion)
        start = node(Restore, o.teacher, FROM_CLASSIFIER)
    else:
        objective = node(Classify, encoder, head, encoder_is=o.encoder)
        augment = node(Views, node(Chain, (crop, flip, distortion)), count=1)
    shown = {"mapped": 0, "preprocess": node(CenterCrop, size)}
    accuracy = node(HeadAccuracy, val, distortion=distortion, **shown)
    evaluators = {"val": accuracy}
    if o.sweep == "on":
        for kind in sweeps_of(o.distortion):
            evaluators[f"{kind}s"] = node(LevelSweep, accuracy, *SWEEPS[kind])
    # The released T_max: 126,689 // 256, of the authors' global batch.
    released = o.schedule == "released"
    rate = node(EpochCosine, period=494.0) if released else node(Cosine)
    return node(
        Experiment,
        source=train,
        augment=augment,
        objective=objective,
        optimizer=node(Adam, 1e-3, rate),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=(start,),
        evaluators=evaluators,
    )
