"""MoCo on CIFAR with a ResNet-18, with or without non-semantic negatives.

    python -m jax_rcl.main --config=configs/cifar_moco.py --workdir=runs/cifar_moco
    python -m jax_rcl.main --config=configs/cifar_moco.py:negatives=patch,alpha=2.0 \
        --workdir=runs/cifar_moco_patch

The recipe of MoCo's own demonstration on CIFAR-10, whose notebook (colab/ of
github.com/facebookresearch/moco, branch colab-notebook) reports for its asymmetric loss
82.6 after 200 epochs, 86.3 after 400 and 88.7 after 800: the vote of 200 neighbours on
the 128 numbers of the head, `knn/top1` here, with norm=released. Nobody reports
non-semantic negatives at this size. Obtained: not yet run.
"""

import common
import moco_common
from common import CIFAR, COMPUTE

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse

BATCH = 512
# 96 of 224 pixels are 13.7 of 32.
TEXTURE = node(rcl.augment.Quilting, 32, patch=14)


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        negatives=("none", "patch", "quilting"),
        alpha=2.0,
        classes=10,  # or 100
        queue=4096,
        norm=("sync", "released"),  # released: of an eighth of the batch, keys shuffled
        # Sides of patches: 16 and 72 of 224 pixels are 2.3 and 10.3 of 32.
        low=2,
        high=10,
        epochs=200,
        depth=18,
        compute=COMPUTE,
        folder="",  # where CIFAR lies, in any version; else $JAX_RCL_DATA
    )
    only_with(o, o.negatives != "none", "negatives=patch or quilting", "alpha")
    only_with(o, o.negatives == "patch", "negatives=patch", "low", "high")
    train, test = common.cifar(o.classes, folder=o.folder)
    norm = common.local_norm(o.norm, BATCH // 8)
    encoder = {"stem": "small", "compute": o.compute, **norm}
    vote = {"k": 200, "temperature": 0.1, "layer": "embedding"}
    often = common.every(o.epochs)
    return node(
        Experiment,
        source=train,
        augment=moco_common.with_negatives(
            common.simclr_view(32), o.negatives, side=(o.low, o.high), texture=TEXTURE
        ),
        objective=moco_common.moco(
            o,
            common.resnet(o.depth, CIFAR, **encoder),
            node(rcl.networks.Linear, 128),
            momentum=0.99,
            temperature=0.1,
            keys=moco_common.keys_of(o.norm),
        ),
        optimizer=common.sgd(0.06, weight_decay=5e-4),
        batch_size=BATCH,
        epochs=o.epochs,
        evaluators={
            "knn": node(rcl.evaluate.Neighbours, train, test, **vote, when=often),
            "probe": node(rcl.evaluate.LinearProbe, train, test),
        },
    )
