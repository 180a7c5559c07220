"""SupCon on the 8x8 digits that scikit-learn carries: everything, in two minutes.

    python -m jax_rcl.main --config=configs/quickstart.py --workdir=runs/quickstart

A narrow ResNet-10 learns from 1,438 images and is tested on the other fifth.
Obtained: 99.4 % by kNN, 99.4 % by a linear probe, in one minute on two cores of an AMD
EPYC, compilation and report included (commit 88ca6c0, 2026-11-22, one seed).
Options of the file: `epochs`, `batch_size`.
"""

from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.geometry import RandomResizedCrop
from jax_rcl.config import Experiment, node, parse
from jax_rcl.data.sources import Digits
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.supcon import SupCon
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Cosine


def get_config(arg=""):
    """The experiment; options `epochs` and `batch_size`."""
    options = parse(arg, epochs=10, batch_size=64)
    train, test = node(Digits, split="train"), node(Digits, split="test")
    encoder = node(
        Normalized,
        encoder=node(ResNet, depth=10, width=16, stem="small"),
        mean=(0.3,),
        std=(0.37,),
    )
    crop = node(RandomResizedCrop, 8, area=(0.5, 1.0))
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Chain, (crop,))),
        objective=node(
            SupCon, encoder=encoder, projector=node(Mlp, (64, 64)), temperature=0.1
        ),
        optimizer=node(
            Sgd,
            learning_rate=0.1,
            schedule=node(Cosine, warmup_epochs=options.epochs / 5),
            weight_decay=1e-4,
            nesterov=True,
        ),
        batch_size=options.batch_size,
        epochs=options.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, when=node(Every, epochs=2)),
            "probe": node(LinearProbe, train, test),
        },
        log_every=5,
        save_every=50,
    )
