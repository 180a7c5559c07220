"""Cross-entropy on CIFAR: the supervised baseline, or a linear probe trained by SGD.

    python -m jax_rcl.main --config=configs/cifar_classify.py --workdir=runs/cifar_base
    python -m jax_rcl.main --workdir=runs/cifar_probe \
        --config=configs/cifar_classify.py:probe=runs/cifar_supcon,epochs=100

The second takes the frozen encoder of a finished run, here one of cifar_supcon.py.
Khosla et al. 2020 report 95.0 % (CIFAR-10) and 75.3 % (CIFAR-100) for the baseline
with a ResNet-50. Obtained: not yet run.
"""

from common import CIFAR, MIXES, cifar, corrupted_cifar, resnet, views

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        probe="",  # the workdir of a run
        classes=10,  # or 100
        epochs=200,
        batch_size=512,
        depth=18,
        mix=tuple(MIXES),  # of examples; cutout: squares of up to 20 pixels
        compute="float32",  # or bfloat16
        folder="",  # where CIFAR lies, in any version; else $JAX_RCL_DATA
        corrupted="",  # the folder of CIFAR-10-C or CIFAR-100-C
    )
    train, test = cifar(o.classes, folder=o.folder)
    crop = node(rcl.augment.RandomCrop, 32, padding=4)
    view = node(rcl.augment.Chain, (crop, node(rcl.augment.Flip)))
    often = node(rcl.evaluate.Every, epochs=10)
    start = node(rcl.weights.Restore, o.probe, rcl.objectives.FROZEN_ENCODER)
    accuracy = node(rcl.evaluate.HeadAccuracy, test, when=often)
    return node(
        Experiment,
        source=train,
        augment=views(view, 1, o.mix),
        objective=node(
            rcl.objectives.Classify,
            resnet(o.depth, CIFAR, stem="small", compute=o.compute),
            head=node(rcl.networks.Linear, o.classes),
            encoder_is="frozen" if o.probe else "trained",
        ),
        optimizer=node(
            rcl.optim.Sgd,
            learning_rate=1.0 if o.probe else 0.2,
            schedule=node(rcl.optim.Cosine),
            weight_decay=0.0 if o.probe else 5e-4,
            decayed="all",
            nesterov=True,
        ),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=(start,) if o.probe else (),
        evaluators={
            "test": accuracy,
            **corrupted_cifar(accuracy, test, o.corrupted),
        },
    )
