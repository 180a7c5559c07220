"""Students that see through masks, noise and blur, on Fashion-MNIST.

    python -m jax_rcl.main --config=configs/fashion_distill.py:method=teacher \
        --workdir=runs/teacher
    python -m jax_rcl.main --workdir=runs/student90 \
        --config=configs/fashion_distill.py:distortion=mask90,teacher=runs/teacher

A small copy of the experiments of Ravula et al. 2021: instead of CLIP the teacher is a
SupCon encoder of clean clothes, and a sixth of Fashion-MNIST takes a minute on two CPU
cores. All rows, three seeds: tables/distill_fashion.py. Obtained: README.
"""

import common
from fashion_common import DISTORTIONS, classifiers

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        # supervised: by labels; distilled: also by a supervised run of clean images.
        method=("student", "teacher", "supervised", "distilled"),
        distortion=tuple(DISTORTIONS),
        teacher="runs/teacher",  # the run that each of the others starts from
        loss="simclr_st",  # of the student
        share=(1 / 6, common.SHARE),  # of the images
        epochs=8,
        width=16,  # of the ResNet-10
    )
    only_with(
        o,
        o.method != "teacher",
        "method=student, supervised or distilled",
        "distortion",
        "teacher",
    )
    only_with(o, o.method == "student", "method=student", "loss")
    train, test = common.fashion(o.share)
    encoder = common.resnet(10, common.FASHION, width=o.width)
    view = common.crop_and_flip(28, smallest=0.5)
    chained = o.method == "supervised"
    home = "augment.operation.operations[2]" if chained else "augment.distortion"
    method = teacher if o.method == "teacher" else learner
    return node(
        Experiment,
        source=train,
        **method(o, encoder, view),
        batch_size=256,
        epochs=o.epochs,
        evaluators=classifiers(o, train, test, home),
    )


def teacher(o, encoder, view):
    """What the methods differ in: views, objective, optimizer and start."""
    projector = node(rcl.networks.Mlp, (8 * o.width, 8 * o.width))
    return {
        "augment": node(rcl.augment.Views, view),
        "objective": node(rcl.objectives.SupCon, encoder, projector),
        "optimizer": node(rcl.optim.Sgd, 0.1, node(rcl.optim.Cosine)),
    }


def learner(o, encoder, view):
    """The same of a student and of classifiers, which start from a run."""
    head, distortion = node(rcl.networks.Linear, 10), DISTORTIONS[o.distortion]
    augment = node(rcl.augment.Pair, view, distortion)
    if o.method == "student":
        objective = node(rcl.objectives.Distill, encoder, loss_type=o.loss)
        paths = rcl.objectives.FROM_ONE_RUN
    elif o.method == "distilled":
        objective = node(rcl.objectives.KnowledgeDistillation, encoder, head)
        paths = rcl.objectives.FROM_CLASSIFIER
    else:
        view = node(rcl.augment.Chain, (*view.operations, distortion))
        augment = node(rcl.augment.Views, view, count=1)
        objective = node(rcl.objectives.Classify, encoder, head)
        paths = rcl.objectives.TRAINED_ENCODER
    return {
        "augment": augment,
        "objective": objective,
        "optimizer": node(rcl.optim.Adam, 1e-3, node(rcl.optim.Cosine)),
        "init_from": (node(rcl.weights.Restore, o.teacher, paths),),
    }
