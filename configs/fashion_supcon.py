"""SupCon on Fashion-MNIST with a narrow ResNet-10: the benchmark for two CPU cores.

    python -m jax_rcl.main --config=configs/fashion_supcon.py --workdir=runs/fashion

Obtained: 90.8 % by kNN, 91.3 % by a linear probe, in 29 minutes on two cores of an AMD
EPYC that were also running other programs (commit 78bc1b8, 2026-11-22, one seed).
"""

from common import FASHION, fashion, knn_and_probe, resnet, simclr_view

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse


def get_config(arg=""):
    """The experiment; `width` is that of the ResNet."""
    o = parse(arg, epochs=6, batch_size=256, width=16)
    train, test = fashion()
    view = simclr_view(28, smallest=0.3, rgb=False)
    often = node(rcl.evaluate.Every, epochs=2)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, view),
        objective=node(
            rcl.objectives.SupCon,
            resnet(10, FASHION, width=o.width, stem="small"),
            projector=node(rcl.networks.Mlp, (128, 128)),
        ),
        optimizer=node(
            rcl.optim.Sgd,
            learning_rate=0.4,
            reference_batch=256,
            schedule=node(rcl.optim.Cosine, warmup_epochs=min(1.0, o.epochs / 2)),
            weight_decay=1e-4,
            nesterov=True,
        ),
        batch_size=o.batch_size,
        epochs=o.epochs,
        evaluators=knn_and_probe(train, test, often, k=200),
    )
