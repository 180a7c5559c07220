"""SupCon on the 8x8 digits that scikit-learn carries: everything, in two minutes.

    python -m jax_rcl.main --config=configs/quickstart.py --workdir=runs/quickstart

A narrow ResNet-10 learns from 1,438 images and is tested on the other fifth.
Obtained: 99.7 % by kNN, 99.7 % by a linear probe, in one minute on two cores of an AMD
EPYC, compilation and report included (commit 0733725, 2026-11-30, one seed).
"""

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(arg, epochs=10, batch_size=64)
    train = node(rcl.data.Digits, split="train")
    test = node(rcl.data.Digits, split="test")
    crop = node(rcl.augment.RandomResizedCrop, 8, area=(0.5, 1.0))
    resnet = node(rcl.networks.ResNet, depth=10, width=16, stem="small")
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, node(rcl.augment.Chain, (crop,))),
        objective=node(
            rcl.objectives.SupCon,
            encoder=node(rcl.networks.Normalized, resnet, mean=(0.3,), std=(0.37,)),
            projector=node(rcl.networks.Mlp, (64, 64)),
            temperature=0.1,
        ),
        optimizer=node(
            rcl.optim.Sgd,
            learning_rate=0.1,
            schedule=node(rcl.optim.Cosine, warmup_epochs=o.epochs / 5),
            weight_decay=1e-4,
            nesterov=True,
        ),
        batch_size=o.batch_size,
        epochs=o.epochs,
        evaluators={
            "knn": node(
                rcl.evaluate.Neighbours,
                train,
                test,
                when=node(rcl.evaluate.Every, epochs=2),
            ),
            "probe": node(rcl.evaluate.LinearProbe, train, test),
        },
        log_every=5,
        save_every=50,
    )
