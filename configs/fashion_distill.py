"""Students that see through masks, noise and blur, on Fashion-MNIST.

    python -m jax_rcl.main --config=configs/fashion_distill.py:method=teacher \
        --workdir=runs/teacher
    python -m jax_rcl.main --workdir=runs/student90 \
        --config=configs/fashion_distill.py:distortion=mask90,teacher=runs/teacher

A small copy of the experiments of Ravula et al. 2021: instead of CLIP the teacher is a
SupCon encoder of clean clothes, and a sixth of Fashion-MNIST takes a minute on two CPU
cores. All rows, three seeds: tables/distill_fashion.py. Obtained: README.
Options of the file: `method` (student; teacher; supervised, the labelled images
distorted; distilled, the same taught by the supervised run on clean images `teacher`),
`distortion` (mask50, mask75, mask90, noise, blur; all: every distortion at every level,
the clean image among them; none), `teacher`, the run that student and supervised start
from; `loss` of the student; `share` of the images, `epochs`, `width` of the ResNet-10.
"""

from common import FASHION, crop_and_flip

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment import GaussianBlur, GaussianNoise, Identity, OneOf, RandomMask

MASK, NOISE = RandomMask((0.25, 0.95)), GaussianNoise((0.1, 0.75))
BLUR = GaussianBlur(27, (1.0, 6.0))
DISTORTIONS = {
    "mask50": RandomMask((0.5, 0.5)),
    "mask75": RandomMask((0.75, 0.75)),
    "mask90": RandomMask((0.9, 0.9)),
    "noise": GaussianNoise((0.5, 0.5)),
    "blur": GaussianBlur(27, (4.0, 4.0)),
    "all": OneOf((Identity(), MASK, NOISE, BLUR)),
    "none": Identity(),
}
SWEEPS = {
    "mask": (MASK, (0.5, 0.75, 0.9, 0.95)),
    "noise": (NOISE, (0.25, 0.5, 0.75)),
    "blur": (BLUR, (2.0, 4.0, 6.0)),
}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        method=("student", "teacher", "supervised", "distilled"),
        distortion=tuple(DISTORTIONS),
        teacher="runs/teacher",
        loss="simclr_st",
        share=1 / 6,
        epochs=8,
        width=16,
    )
    only_with(o, o.method != "teacher", "another method", "distortion", "teacher")
    only_with(o, o.method == "student", "method=student", "loss")
    train = node(rcl.data.Subset, node(rcl.data.Idx), o.share)
    test = node(rcl.data.Idx, split="test")
    resnet = node(rcl.networks.ResNet, depth=10, width=o.width)
    encoder = node(rcl.networks.Normalized, resnet, *FASHION)
    method = teacher if o.method == "teacher" else learner
    return node(
        Experiment,
        source=train,
        **method(o, encoder),
        batch_size=256,
        epochs=o.epochs,
        evaluators=evaluators(o, train, test),
    )


def teacher(o, encoder):
    """What the methods differ in: views, objective, optimizer and start."""
    projector = node(rcl.networks.Mlp, (8 * o.width, 8 * o.width))
    return {
        "augment": node(rcl.augment.Views, crop_and_flip(28, smallest=0.5)),
        "objective": node(rcl.objectives.SupCon, encoder, projector),
        "optimizer": node(rcl.optim.Sgd, 0.1, node(rcl.optim.Cosine)),
    }


def learner(o, encoder):
    """The same of a student, and of classifiers: supervised, or also distilled."""
    view, distortion = crop_and_flip(28, smallest=0.5), DISTORTIONS[o.distortion]
    head = node(rcl.networks.Linear, 10)
    augment = node(rcl.augment.Pair, view, distortion)
    if o.method == "student":
        objective = node(rcl.objectives.Distill, encoder, loss_type=o.loss)
        paths = rcl.objectives.FROM_ONE_RUN
    elif o.method == "distilled":
        objective = node(rcl.objectives.KnowledgeDistillation, encoder, head)
        paths = rcl.objectives.FROM_CLASSIFIER
    else:
        view = crop_and_flip(28, distortion, smallest=0.5)
        augment = node(rcl.augment.Views, view, count=1)
        objective = node(rcl.objectives.Classify, encoder, head)
        paths = rcl.objectives.TRAINED_ENCODER
    return {
        "augment": augment,
        "objective": objective,
        "optimizer": node(rcl.optim.Adam, 1e-3, node(rcl.optim.Cosine)),
        "init_from": (node(rcl.weights.Restore, o.teacher, paths),),
    }


def evaluators(o, train, test):
    """A classifier of images distorted as in training, and at every level."""

    def probe(**distorted):
        fields = {"strengths": (1e-2,), "mapped": 500, **distorted}
        return node(rcl.evaluate.LinearProbe, train, test, **fields)

    distortion, others = DISTORTIONS[o.distortion], {}
    if o.method == "teacher":
        names = ("mask50", "mask75", "mask90", "noise", "blur")
        others = {name: probe(distortion=DISTORTIONS[name]) for name in names}
        judge = probe()
    elif o.method == "student":
        judge = probe(distortion=distortion)
    else:
        fields = {"mapped": 500, "when": node(rcl.evaluate.AtEnd)}
        judge = node(rcl.evaluate.HeadAccuracy, test, distortion=distortion, **fields)
    several = o.method == "teacher" or o.distortion in ("all", "none")
    sweeps = {
        f"{kind}s": node(rcl.evaluate.LevelSweep, judge, *sweep, repeats=1)
        for kind, sweep in SWEEPS.items()
        if several or o.distortion.startswith(kind)
    }
    return {"test": judge, **others, **sweeps}
