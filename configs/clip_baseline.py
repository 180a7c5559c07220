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
of `augment.distortions.CONDITIONS`; `method` (distilled: what a classifier of clean
images, the run `teacher` of this file, makes of the clean image is learned, too);
`schedule` (released: cosine of the epoch, nearly constant; cosine: to zero); `epochs`,
`batch_size`; `sweep` (on: 10 repeats at every level); `folder` (has train/ and val/).
"""

import clip_common
from clip_common import TOWERS, TRAINED_ON
from common import FROZEN, IMAGENET, crop_and_flip

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import CONDITIONS, sweeps_of
from jax_rcl.data.published.imagenet import IMAGENET_100


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        backbone=("resnet101", "resnet50", *TOWERS),
        weights="resnet101.pth",
        released="",
        encoder=("trained", "frozen"),
        distortion=TRAINED_ON,
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
    train, val = clip_common.folders(o.folder, size)
    distortion = CONDITIONS[o.distortion]
    kinds = sweeps_of(o.distortion) if o.sweep == "on" else ()
    return node(
        Experiment,
        source=train,
        **learn(o.encoder, encoder, size, distortion, distilled),
        # The released T_max: 126,689 // 256, of the authors' global batch.
        optimizer=clip_common.adam(1e-3, o.schedule, 494.0),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=(start,),
        evaluators=clip_common.accuracies("val", val, size, distortion, kinds),
    )


def backbone(o):
    """Encoder, the side of what it sees, and what fills it."""
    if o.backbone in TOWERS:
        encoder, size, places = clip_common.tower_of(o.backbone)
        kind = rcl.weights.ImportClip
    else:
        resnet = node(rcl.networks.ResNet, int(o.backbone.removeprefix("resnet")))
        encoder, size = node(rcl.networks.Normalized, resnet, *IMAGENET), 224
        kind, places = rcl.weights.ImportResNet, FROZEN
    into = places if o.encoder == "frozen" else {}
    if o.method == "distilled":
        start = node(rcl.weights.Restore, o.teacher, rcl.objectives.FROM_CLASSIFIER)
    elif o.released:
        into = {**into, "head": "params/head"}
        start = node(rcl.weights.ImportDistill, o.released, "baseline", **into)
    else:
        start = node(kind, o.weights, **into)
    return encoder, size, start


def learn(encoder_is, encoder, size, distortion, distilled):
    """Views and objective, from labels or also from what `teacher` makes of images."""
    head = node(rcl.networks.Linear, len(IMAGENET_100))
    if distilled:
        return {
            "augment": node(rcl.augment.Pair, crop_and_flip(size), distortion),
            "objective": node(rcl.objectives.KnowledgeDistillation, encoder, head),
        }
    view = crop_and_flip(size, distortion)
    classify = node(rcl.objectives.Classify, encoder, head, encoder_is=encoder_is)
    return {"augment": node(rcl.augment.Views, view, count=1), "objective": classify}
