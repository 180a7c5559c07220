"""Worst groups: Waterbirds or CelebA, whose classes are confounded with something else.

    python -m jax_rcl.main --config=configs/groups.py:folder=data/waterbirds
    python -m jax_rcl.main --workdir=runs/dro \
        --config=configs/groups.py:folder=data/waterbirds,method=dro

A group is a class with a value of the confounder (landbirds on water). The accuracy of
the worst group is that of the head; `recovery` says how well clusters of the embeddings
find the groups that nobody told. Chen, Fu et al. 2022 compare the contrastive methods;
their tables are not quoted here. Obtained: not yet run; the images must be there.
Options of the file: `data`, `folder`, `method`, `depth` of the ResNet, `weights` (of
torchvision, a file to start from), `size`, `epochs`, `batch_size`.
"""

from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config import Best, Experiment, node, parse
from jax_rcl.data.published.celeba import CelebA
from jax_rcl.data.published.grouped import Grouped
from jax_rcl.evaluate.groups import GroupAccuracy
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.recovery import GroupRecovery
from jax_rcl.evaluate.when import AtEnd, Every
from jax_rcl.networks.heads import Linear, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import Classify
from jax_rcl.objectives.group_dro import GroupDRO
from jax_rcl.objectives.spread import Spread
from jax_rcl.objectives.terms import Contrast
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.weights.imports import ImportResNet

SOURCES = {"waterbirds": Grouped, "celeba": CelebA}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        data=tuple(SOURCES),
        folder="waterbirds",
        method=("ce", "dro", "supcon", "spread"),
        depth=50,
        weights="",
        size=224,
        epochs=100,
        batch_size=128,
    )
    train, val, test = (
        node(SOURCES[o.data], o.folder, split=split, size=o.size)
        for split in ("train", "val", "test")
    )
    encoder = node(
        Normalized,
        node(ResNet, depth=o.depth, stem="imagenet"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    head, contrastive = node(Linear, 2), o.method in ("supcon", "spread")
    objective = node(Classify, encoder, head)
    if o.method == "dro":
        objective = node(GroupDRO, objective, groups=4)
    elif contrastive:
        term = node(Contrast, spread=0.0 if o.method == "supcon" else 1.0)
        objective = node(Spread, encoder, head, contrasts=(term,))
    crop = node(RandomResizedCrop, o.size, area=(0.7, 1.0))
    often, last = node(Every, epochs=max(1, o.epochs // 20)), node(AtEnd)
    return node(
        Experiment,
        source=train,
        augment=node(
            Views, node(Chain, (crop, node(Flip))), count=2 if contrastive else 1
        ),
        objective=objective,
        optimizer=node(
            Sgd, learning_rate=1e-3, momentum=0.9, weight_decay=1e-4, decayed="all"
        ),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=(node(ImportResNet, o.weights),) if o.weights else (),
        best=node(Best, "val/worst_group_top1"),
        evaluators={
            "val": node(GroupAccuracy, node(HeadAccuracy, val, when=often)),
            "test": node(GroupAccuracy, node(HeadAccuracy, test, when=last), train),
            "recovery": node(GroupRecovery, train, when=last),
        },
    )
