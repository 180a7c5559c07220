"""Students that see through masks, noise and blur, on Fashion-MNIST.

    python -m jax_rcl.main --config=configs/fashion_distill.py:method=teacher \
        --workdir=runs/teacher
    python -m jax_rcl.main --workdir=runs/student90 \
        --config=configs/fashion_distill.py:distortion=mask90,teacher=runs/teacher

A small copy of the experiments of Ravula et al. 2021: in the place of CLIP the teacher
is a SupCon encoder of clean clothes, and a sixth of Fashion-MNIST takes a minute on two
CPU cores. All rows, three seeds: tables/distill_fashion.py. Obtained: README.
Options of the file: `method` (student; teacher; supervised, the labelled images
distorted; distilled, the same taught by the supervised run on clean images `teacher`),
`distortion` (mask50, mask75, mask90, noise, blur; all: every distortion at every level,
the clean image among them; none), `teacher`, the run that student and supervised start
from; `loss` of the student; `share` of the images, `epochs`, `width` of the ResNet-10.
"""

from jax_rcl.augment.compose import Chain, OneOf, Pair, Views
from jax_rcl.augment.distortions.pixelwise import GaussianNoise, Identity, RandomMask
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.sources import Idx
from jax_rcl.data.wrappers import Subset
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.evaluate.when import AtEnd
from jax_rcl.networks.heads import Linear, Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import TRAINED_ENCODER, Classify
from jax_rcl.objectives.distill import FROM_ONE_RUN, Distill
from jax_rcl.objectives.knowledge_distillation import (
    FROM_CLASSIFIER,
    KnowledgeDistillation,
)
from jax_rcl.objectives.supcon import SupCon
from jax_rcl.optim.optimizers import Adam, Sgd
from jax_rcl.optim.schedules import Cosine
from jax_rcl.weights.restore import Restore

MEAN, STD = (0.286,), (0.353,)
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
    train, test = node(Subset, node(Idx), o.share), node(Idx, split="test")
    crop, flip = node(RandomResizedCrop, 28, area=(0.5, 1.0)), node(Flip)
    clean, distortion = node(Chain, (crop, flip)), DISTORTIONS[o.distortion]
    encoder = node(Normalized, node(ResNet, depth=10, width=o.width), MEAN, STD)
    head, probed = node(Linear, 10), {"strengths": (1e-2,), "mapped": 500}
    pair, optimizer = node(Pair, clean, distortion), node(Adam, 1e-3, node(Cosine))
    if o.method == "teacher":
        classifier, start = node(LinearProbe, train, test, **probed), ()
        objective = node(SupCon, encoder, node(Mlp, (8 * o.width, 8 * o.width)))
        augment, optimizer = node(Views, clean), node(Sgd, 0.1, node(Cosine))
    elif o.method == "student":
        probed["distortion"] = distortion
        classifier = node(LinearProbe, train, test, **probed)
        objective = node(Distill, encoder, loss_type=o.loss)
        augment, start = pair, node(Restore, o.teacher, FROM_ONE_RUN)
    else:
        shown = {"distortion": distortion, "mapped": 500, "when": node(AtEnd)}
        classifier = node(HeadAccuracy, test, **shown)
        if o.method == "distilled":
            objective = node(KnowledgeDistillation, encoder, head)
            augment, start = pair, node(Restore, o.teacher, FROM_CLASSIFIER)
        else:
            seen = node(Chain, (crop, flip, distortion))
            objective = node(Classify, encoder, head)
            augment = node(Views, seen, count=1)
            start = node(Restore, o.teacher, TRAINED_ENCODER)
    evaluators, several = {"test": classifier}, o.distortion in ("all", "none")
    if o.method == "teacher":
        several = True
        for name in ("mask50", "mask75", "mask90", "noise", "blur"):
            known = {**probed, "distortion": DISTORTIONS[name]}
            evaluators[name] = node(LinearProbe, train, test, **known)
    for kind, sweep in SWEEPS.items():
        if several or o.distortion.startswith(kind):
            evaluators[f"{kind}s"] = node(LevelSweep, classifier, *sweep, repeats=1)
    return node(
        Experiment,
        source=train,
        augment=augment,
        objective=objective,
        optimizer=optimizer,
        batch_size=256,
        epochs=o.epochs,
        init_from=(start,) if start else (),
        evaluators=evaluators,
    )
