"""Worst groups: Waterbirds or CelebA, whose classes are confounded with something else.

    python -m jax_rcl.main --config=configs/groups.py:folder=data/waterbirds
    python -m jax_rcl.main --workdir=runs/dro \
        --config=configs/groups.py:folder=data/waterbirds,method=dro
    python -m jax_rcl.main --workdir=runs/found \
        --config=configs/groups.py:folder=data/waterbirds,method=dro,groups=runs/groups

A group is a class with a value of the confounder (landbirds on water). The accuracy of
the worst group is that of the head; `recovery` says how well clusters of the embeddings
recover groups without their labels; the last command trains DRO on clusters of the
first run instead of groups; tables/found_groups.py does both in one. isic is skin
lesions: the table of ISIC 2020, train.csv, with columns patch, 0 or 1, and split; the
files are <image_name>.jpg. Chen, Fu et al. 2022 compare the contrastive methods; their
tables are not quoted here. Obtained: not yet run; the images must be there.
"""

import common

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.config import Best

LESIONS = {
    "table_file": "train.csv",
    "image": "image_name",
    "label": "benign_malignant",
    "confounder": "patch",
    "names": ("benign", "malignant"),
    "confounder_names": ("no patch", "patch"),
    "suffix": ".jpg",
}
SOURCES = {
    "waterbirds": (rcl.data.Grouped, {}),
    "celeba": (rcl.data.CelebA, {}),
    "isic": (rcl.data.Grouped, LESIONS),
}


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        data=tuple(SOURCES),
        folder="",  # as the option data, if not given
        method=("ce", "dro", "supcon", "spread"),
        groups="",  # of method=dro: a run in whose features they are found, two a class
        draw=("as they come", "equally"),  # of method=dro: groups in training
        reduction=("principal components", "umap"),  # before clusters are found
        depth=50,  # of the ResNet
        weights="",  # a file of torchvision to start from
        size=224,
        **common.CUT,
        epochs=100,
        batch_size=128,
    )
    only_with(o, o.method == "dro", "method=dro", "groups", "draw")
    kind, fields = SOURCES[o.data]
    train, val, test = (
        node(kind, o.folder or o.data, split=split, size=o.size, **fields)
        for split in ("train", "val", "test")
    )
    clustering = node(rcl.evaluate.recovery.Clustering, reduction=o.reduction)
    source = train
    if o.groups:
        found = o.groups, (2, 2), clustering
        images = train if o.crops == "whole" else None
        found_groups = rcl.train.features.WithFoundGroups
        source = node(found_groups, train, *found, images=images)
    if o.draw == "equally":
        source = node(rcl.data.EqualGroups, source)
    view = common.crop_and_flip(o.size, smallest=0.7)
    count = 2 if o.method in ("supcon", "spread") else 1
    views = node(rcl.augment.Views, view, count=count)
    source, views = common.cropped(o, source, views)
    often, last = common.every(o.epochs), node(rcl.evaluate.AtEnd)
    val = node(rcl.evaluate.HeadAccuracy, val, when=often)
    test = node(rcl.evaluate.HeadAccuracy, test, when=last)
    return node(
        Experiment,
        source=source,
        augment=views,
        objective=objective(o.method, common.resnet(o.depth, common.IMAGENET)),
        optimizer=common.sgd(1e-3, schedule=node(rcl.optim.Constant)),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=(node(rcl.weights.ImportResNet, o.weights),) if o.weights else (),
        best=node(Best, "val/worst_group_top1"),
        evaluators={
            "val": node(rcl.evaluate.GroupAccuracy, val),
            "test": node(rcl.evaluate.GroupAccuracy, test, train),
            "recovery": node(
                rcl.evaluate.GroupRecovery, train, clustering=clustering, when=last
            ),
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
