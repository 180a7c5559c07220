"""Classifiers of distorted images that are trained with labels, end to end.

    python -m jax_rcl.main --config=configs/clip_baseline.py:weights=resnet101.pth \
        --workdir=runs/baseline

What students of clip_student.py are compared with by Ravula et al. 2021: a ResNet-101
that starts from torchvision's weights for ImageNet, whose labels include these hundred
classes, or CLIP's. One trustworthy number of the authors survives, for mask90: top-1
72.4, top-5 91.8. Obtained: not yet run. With encoder=frozen, distortion=none and a
tower of CLIP: the clean head of docs/inverse_problems.md.
"""

import clip_common
from common import CUT, crop_and_flip, cropped, length, local_norm

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import sweeps_of
from jax_rcl.data.published.imagenet import IMAGENET_100


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        backbone=("resnet101", "resnet50", *clip_common.TOWERS),
        weights="resnet101.pth",  # a file of the backbone's
        rounding=("none", "float16"),  # float16: of what a tower sees, as released
        # Instead of it a file of the authors, with its head; measured as it is, and
        # trained on if epochs are given.
        released="",
        encoder=("trained", "frozen"),  # frozen: only the head learns
        distortion=clip_common.TRAINED_ON,
        **clip_common.LEVELS,  # other ones, percent_missing=0.8 or std=0.1-0.3
        method=("classify", "distilled"),  # distilled: also from what `teacher` says
        teacher="runs/clean",  # a run of this file or of a probe, on the clean image
        reduction=("mean", "sum"),  # sum: the loss of a whole batch, as released
        norm=("sync", "released"),  # released: statistics of a quarter of the batch
        schedule=clip_common.SCHEDULES,
        epochs=25,
        batch_size=256,
        sweep=("on", "off"),  # on: 10 repeats at every level
        **CUT,
        folder="data/imagenet100",  # has train/ and val/
    )
    distilled = o.method == "distilled"
    only_with(o, distilled, "method=distilled", "teacher")
    own = "encoder", "backbone", "weights", "released", "reduction", "norm"
    only_with(o, not distilled, "method=classify", *own)
    only_with(o, not o.released, "weights=FILE", "weights")
    only_with(
        o,
        o.backbone in clip_common.TOWERS,
        "backbone=RN101 or another tower of CLIP",
        "rounding",
    )
    only_with(o, o.encoder == "trained", "encoder=trained", "norm")
    norm = local_norm(o.norm, o.batch_size // 4)
    encoder, start = clip_common.backbone(o, **norm)
    size = clip_common.side_of(encoder)
    train, val = clip_common.folders(o.folder, size)
    distortion = clip_common.distortion_of(o)
    kinds = sweeps_of(o.distortion) if o.sweep == "on" else ()
    head = node(rcl.networks.Linear, len(IMAGENET_100))
    home = clip_common.IN_PAIR if distilled else clip_common.IN_CHAIN
    if distilled:  # the networks are those of the teacher
        augment = node(rcl.augment.Pair, crop_and_flip(size), distortion)
        objective = node(rcl.objectives.KnowledgeDistillation, encoder, head)
    else:
        view = crop_and_flip(size, distortion)
        augment = node(rcl.augment.Views, view, count=1)
        fields = {"encoder_is": o.encoder, "reduction": o.reduction}
        objective = node(rcl.objectives.Classify, encoder, head, **fields)
    source, augment = cropped(o, train, augment)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=objective,
        # The released T_max: steps of an epoch, 494 for their global batch of 256.
        optimizer=clip_common.adam(1e-3, o.schedule, clip_common.steps(o.batch_size)),
        batch_size=o.batch_size,
        **length(o, bool(o.released)),
        init_from=(start,),
        evaluators=clip_common.accuracies("val", val, size, distortion, home, kinds),
    )
