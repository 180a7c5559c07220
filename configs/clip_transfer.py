"""A linear head for other data on a frozen encoder of clip_student or clip_baseline.

    python -m jax_rcl.main --config=configs/clip_transfer.py:source=runs/student \
        --workdir=runs/cifar10

As the code of Ravula et al. 2021; its runs report for students of masks, 25 epochs,
tested with the same random masks: CIFAR-10 80.9, CIFAR-100 58.6, STL-10 89.4,
ImageNet-100B 80.1, COVID 84.0 with area under the curve 91.8; others are in
docs/inverse_problems.md. Obtained: not yet run.
"""

import clip_common
from common import (
    CUT,
    SHARE,
    crop_and_flip,
    cropped,
    frozen_classifier,
    head_accuracy,
)

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import CONDITIONS
from jax_rcl.config import same
from jax_rcl.data.published.imagenet import IMAGENET_100B
from jax_rcl.ranges import AtLeast

CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "covid": 2, "imagenet100b": 100}
FILES = "clip_student.py, clip_probe.py or clip_baseline.py"
OBJECTIVES = ("Distill", "Classify", "KnowledgeDistillation")


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        source="runs/student",  # the run whose encoder it is
        data=tuple(CLASSES),
        folder="",  # of `data`; has train/ and test/, of imagenet100b train/ and val/
        labels=(1.0, SHARE),  # of them
        **CUT,  # of photographs
        distortion=("as the source", *CONDITIONS),
        **clip_common.LEVELS,  # other ones, percent_missing=0.8 or std=0.1-0.3
        epochs=10,
        # Of the distortion in testing, for the mean and its deviation.
        draws=(10, AtLeast(1)),
    )
    encoder, start, distortion = clip_common.source_run(o, FILES, *OBJECTIVES)
    size = clip_common.side_of(encoder)
    train, test = sources(o, size)
    if o.labels < 1:
        train = node(rcl.data.FewLabels, train, o.labels)
    seen, view = node(rcl.augment.CenterCrop, size), crop_and_flip(size, distortion)
    large = o.data in ("covid", "imagenet100b")
    only_with(o, large, "data=covid or imagenet100b", *CUT)
    if not large:  # enlarged, and seen whole
        whole = (node(rcl.augment.ResizeShorter, size), seen)
        seen = node(rcl.augment.Chain, whole)
        view = node(rcl.augment.Chain, (seen, node(rcl.augment.Flip), distortion))
    augment = node(rcl.augment.Views, view, count=1)
    source, augment = cropped(o, train, augment, "" if large else "square")
    trained = same(clip_common.IN_CHAIN)
    accuracy = head_accuracy(test, size, preprocess=seen, distortion=trained)
    evaluators = {"test": accuracy}
    if o.draws > 1:
        full = node(rcl.augment.ByStrength, trained), (1.0,)
        evaluators["draws"] = node(rcl.evaluate.LevelSweep, accuracy, *full, o.draws)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=frozen_classifier(encoder, CLASSES[o.data]),
        optimizer=node(rcl.optim.Adam, 1e-3, node(rcl.optim.EpochCosine)),
        batch_size=512,
        epochs=o.epochs,
        init_from=(start,),
        evaluators=evaluators,
    )


def sources(o, size):
    """Training and test images."""
    if o.data == "covid":
        fields = {"parts": ("train", "test"), "classes": ()}
        return clip_common.folders(o.folder or "data/covid", size, **fields)
    if o.data == "imagenet100b":
        folder = o.folder or "data/imagenet100b"
        return clip_common.folders(folder, size, classes=IMAGENET_100B)
    kind, known = rcl.data.Stl10, {"folder": o.folder or None}
    if o.data != "stl10":
        kind, known["classes"] = rcl.data.Cifar, CLASSES[o.data]
    return tuple(node(kind, split=split, **known) for split in ("train", "test"))
