"""SupCon on Fashion-MNIST with a narrow ResNet-10: the benchmark for two CPU cores.

    python -m jax_rcl.main --config=configs/fashion_supcon.py --workdir=runs/fashion

Obtained: 90.8 % by kNN, 91.3 % by a linear probe, in 29 minutes on two cores of an AMD
EPYC that were also running other programs (commit 78bc1b8, 2026-11-22, one seed).
Options of the file: `epochs`, `batch_size`, `width` of the ResNet.
"""

from jax_rcl.augment.color import ColorJitter
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, parse
from jax_rcl.data.sources import Idx
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.supcon import SupCon
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Cosine


def get_config(arg=""):
    """The experiment; see the options above."""
    options = parse(arg, epochs=6, batch_size=256, width=16)
    train, test = node(Idx, split="train"), node(Idx, split="test")
    crop = node(RandomResizedCrop, 28, area=(0.3, 1.0))
    jitter = node(ColorJitter, brightness=0.4, contrast=0.4)
    view = node(Chain, (crop, node(Flip), node(Maybe, jitter, 0.8)))
    encoder = node(
        Normalized,
        encoder=node(ResNet, depth=10, width=options.width, stem="small"),
        mean=(0.286,),
        std=(0.353,),
    )
    return node(
        Experiment,
        source=train,
        augment=node(Views, view),
        objective=node(SupCon, encoder, projector=node(Mlp, (128, 128))),
        optimizer=node(
            Sgd,
            learning_rate=0.4,
            reference_batch=256,
            schedule=node(Cosine, warmup_epochs=1.0),
            weight_decay=1e-4,
            nesterov=True,
        ),
        batch_size=options.batch_size,
        epochs=options.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, k=200, when=node(Every, epochs=2)),
            "probe": node(LinearProbe, train, test),
        },
    )
