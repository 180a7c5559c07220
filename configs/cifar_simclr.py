"""SimCLR on CIFAR with a ResNet-18: contrastive learning without labels.

    python -m jax_rcl.main --config=configs/cifar_simclr.py --workdir=runs/cifar_simclr

SimCLR's CIFAR recipe (Chen et al. 2020, appendix B.9: temperature 0.5, no blur), with
SGD. After 1000 epochs with a ResNet-18, solo-learn reports 90.7 % (CIFAR-10) and 65.8 %
(CIFAR-100).
Obtained: not yet run.
"""

from common import (
    CIFAR,
    cifar,
    corrupted_cifar,
    knn_and_probe,
    resnet,
    simclr_sgd,
    simclr_view,
)

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        classes=10,  # or 100
        epochs=1000,
        batch_size=1024,
        depth=18,
        compute="float32",  # or bfloat16
        source=("archive", "tfds"),  # tfds: as TensorFlow Datasets prepared it
        folder="",  # where CIFAR lies, in any version; else $JAX_RCL_DATA
        corrupted="",  # the folder of CIFAR-10-C or CIFAR-100-C
    )
    train, test = cifar(o.classes, o.source, o.folder)
    hidden = 512 if o.depth < 50 else 2048  # as wide as the features
    often = node(rcl.evaluate.Every, epochs=10)
    looks = knn_and_probe(train, test, often, k=200)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, simclr_view(32)),
        objective=node(
            rcl.objectives.SimCLR,
            resnet(o.depth, CIFAR, stem="small", compute=o.compute),
            projector=node(rcl.networks.Mlp, (hidden, 128)),
            temperature=0.5,
        ),
        optimizer=simclr_sgd(o.epochs),
        batch_size=o.batch_size,
        epochs=o.epochs,
        evaluators={
            **looks,
            **corrupted_cifar(looks["probe"], test, o.corrupted),
        },
    )
