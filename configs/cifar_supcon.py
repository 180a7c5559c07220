"""SupCon on CIFAR, the recipe of Khosla et al. 2020 with a ResNet-18.

    python -m jax_rcl.main --config=configs/cifar_supcon.py --workdir=runs/cifar_supcon

The paper's 96.0 % (CIFAR-10) and 76.5 % (CIFAR-100) are of a ResNet-50 after 1000
epochs in batches of 1024; with a ResNet-18, solo-learn reports 93.8 % and 70.4 %.
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
        augment=node(rcl.augment.Views, simclr_view(32, smallest=0.2)),
        objective=node(
            rcl.objectives.SupCon,
            resnet(o.depth, CIFAR, stem="small", compute=o.compute),
            projector=node(rcl.networks.Mlp, (hidden, 128)),
        ),
        optimizer=simclr_sgd(o.epochs),
        batch_size=o.batch_size,
        epochs=o.epochs,
        evaluators={
            **looks,
            **corrupted_cifar(looks["probe"], test, o.corrupted),
        },
    )
