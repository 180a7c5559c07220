"""Worst groups: Waterbirds or CelebA, whose classes are confounded with something else.

    python -m jax_rcl.main --config=configs/groups.py:folder=data/waterbirds
    python -m jax_rcl.main --workdir=runs/dro \
        --config=configs/groups.py:folder=data/waterbirds,method=dro

A group is a class with a value of the confounder (landbirds on water). The accuracy of
the worst group is that of the head; `recovery` says how well clusters of the embeddings
recover groups without their labels. Chen, Fu et al. 2022 compare the contrastive
methods; their tables are not quoted here. Obtained: not yet run; the images must be
there.
"""

import common

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse
from jax_rcl.config import Best

SOURCES = {"waterbirds": rcl.data.Grouped, "celeba": rcl.data.CelebA}


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        data=tuple(SOURCES),
        folder="waterbirds",
        method=("ce", "dro", "supcon", "spread"),
        depth=50,  # of the ResNet
        weights="",  # a file of torchvision to start from
        size=224,
        epochs=100,
        batch_size=128,
    )
    train, val, test = (
        node(SOURCES[o.data], o.folder, split=split, size=o.size)
        for split in ("train", "val", "test")
    )
    view = common.crop_and_flip(o.size, smallest=0.7)
    count = 2 if o.method in ("supcon", "spread") else 1
    often, last = common.every(o.epochs), node(rcl.evaluate.AtEnd)
    val = node(rcl.evaluate.HeadAccuracy, val, when=often)
    test = node(rcl.evaluate.HeadAccuracy, test, when=last)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, view, count=count),
        objective=objective(o.method, common.resnet(o.depth, common.IMAGENET)),
        optimizer=common.sgd(1e-3, schedule=node(rcl.optim.Constant)),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=(node(rcl.weights.ImportResNet, o.weights),) if o.weights else (),
        best=node(Best, "val/worst_group_top1"),
        evaluators={
            "val": node(rcl.evaluate.GroupAccuracy, val),
            "test": node(rcl.evaluate.GroupAccuracy, test, train),
            "recovery": node(rcl.evaluate.GroupRecovery, train, when=last),
        },
    )


def objective(method, encoder):
    """Two classes told apart by the option `method`."""
    head = node(rcl.networks.Linear, 2)
    if method in ("supcon", "spread"):
        term = node(rcl.objectives.Contrast, spread=0.0 if method == "supcon" else 1.0)
        return node(rcl.objectives.Spread, encoder, head, contrasts=(term,))
    classify = node(rcl.objectives.Classify, encoder, head)
    if method == "dro":
        return node(rcl.objectives.GroupDRO, classify, groups=4)
    return classify
