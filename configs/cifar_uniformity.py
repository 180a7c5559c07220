"""Decoupled uniformity on CIFAR, without prior, as the code of Dufumier et al. 2023.

    python -m jax_rcl.main --config=configs/cifar_uniformity.py --workdir=runs/cifar_du
    python -m jax_rcl.main --workdir=runs/released_cifar_du \
        --config=configs/cifar_uniformity.py:weights=checkpoint_0399.pth.tar

A ResNet-18 with a stem of padding 2, a layer of 2048 that is kept, plain gradient
descent without momentum, 400 epochs. The release has one GPU for it, whose loss is of
the whole batch. The README of the authors' code gives the command and no number.
Obtained: not yet run. The second measures a file of that code.
"""

from common import COMPUTE, STRONG, cifar, every, length, resnet, simclr_view
from uniformity_common import (
    LAYERS,
    SMALL_STEM,
    measured,
    released,
    uniformity,
    uniformity_sgd,
)

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse

HALF = (0.5,), (0.5,)


def get_config(arg=""):
    """The experiment; `classes` may be 10 or 100."""
    o = parse(
        arg,
        classes=10,  # or 100
        depth=18,
        weights="",  # a file of the authors' code; trained on if epochs are given
        layer=LAYERS,  # pooled: the file is of before 23 May 2023
        batch=256,
        epochs=400,
        compute=COMPUTE,
        folder="",  # where CIFAR lies, in any version; else $JAX_RCL_DATA
    )
    train, test = cifar(o.classes, folder=o.folder)
    often = every(o.epochs)
    encoder = resnet(o.depth, HALF, compute=o.compute, **SMALL_STEM)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, simclr_view(32, jitter=STRONG)),
        objective=uniformity(encoder, layer=o.layer),
        # Deviation: the release trains on the smaller last batch of an epoch, too.
        optimizer=uniformity_sgd(),
        batch_size=o.batch,
        **length(o, measured(o)),
        init_from=released(o),
        evaluators={
            "knn": node(rcl.evaluate.Neighbours, train, test, k=200, when=often),
            "probe": node(rcl.evaluate.CrossValidated, train, test),
        },
    )
