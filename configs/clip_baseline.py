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

import common
from common import FROZEN, IMAGENET

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import CONDITIONS, sweeps_of
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.networks import clip

TOWERS = {name.replace("/", "-"): name for name in clip.TOWERS}


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
    encoder, size, start = backbone(o)
    train, val = common.clip_folders(o.folder, size)
    distortion = CONDITIONS[o.distortion]
    accuracy = common.head_accuracy(val, size, distortion=distortion)
    sweeps = {}
    if o.sweep == "on":
        sweeps = common.level_sweeps(accuracy, sweeps_of(o.distortion))
    # The released T_max: 126,689 // 256, of the authors' global batch.
    falling = common.distill_schedule(o.schedule, 494.0)
    learn = learn_from_teacher if distilled else learn_from_labels
    return node(
        Experiment,
        source=train,
        **learn(o, encoder, size, distortion),
        optimizer=node(rcl.optim.Adam, 1e-3, falling),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=(start,),
        evaluators={"val": accuracy, **sweeps},
    )


def backbone(o):
    """Encoder, the side of what it sees, and what fills it."""
    frozen = o.encoder == "frozen"
    if o.backbone in TOWERS:
        fields = clip.fields(TOWERS[o.backbone])
        encoder, size = common.clip_tower(fields), fields["image_size"]
        into = common.frozen_places(fields) if frozen else {}
        start = node(rcl.weights.ImportClip, o.weights, **into)
    else:
        resnet = node(rcl.networks.ResNet, int(o.backbone.removeprefix("resnet")))
        encoder, size = node(rcl.networks.Normalized, resnet, *IMAGENET), 224
        into = FROZEN if frozen else {}
        start = node(rcl.weights.ImportResNet, o.weights, **into)
    if o.method == "distilled":
        start = node(rcl.weights.Restore, o.teacher, rcl.objectives.FROM_CLASSIFIER)
    elif o.released:
        into = {**into, "head": "params/head"}
        start = node(rcl.weights.ImportDistill, o.released, "baseline", **into)
    return encoder, size, start


def learn_from_labels(o, encoder, size, distortion):
    """Views and objective of a classifier."""
    head = node(rcl.networks.Linear, len(IMAGENET_100))
    view = common.crop_and_flip(size, distortion)
    return {
        "augment": node(rcl.augment.Views, view, count=1),
        "objective": node(rcl.objectives.Classify, encoder, head, encoder_is=o.encoder),
    }


def learn_from_teacher(o, encoder, size, distortion):
    """Views and objective of one that also learns what `teacher` makes of images."""
    head = node(rcl.networks.Linear, len(IMAGENET_100))
    view = common.crop_and_flip(size)
    return {
        "augment": node(rcl.augment.Pair, view, distortion),
        "objective": node(rcl.objectives.KnowledgeDistillation, encoder, head),
    }
