"""Decoupled uniformity on CIFAR, without prior, as the code of Dufumier et al. 2023.

    python -m jax_rcl.main --config=configs/cifar_uniformity.py --workdir=runs/cifar_du

A ResNet-18 with a stem of padding 2, a layer of 2048 that is kept, plain gradient
descent without momentum, 400 epochs. The README of the authors' code gives the command
and no number. Obtained: not yet run.
Options of the file: `classes` (10, 100), `depth`, `batch`, `epochs`, `compute`.
"""

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, parse
from jax_rcl.data.sources import Cifar
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.cross_validated import CrossValidated
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Linear, Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import EpochCosine


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        classes=10,
        depth=18,
        batch=256,
        epochs=400,
        compute=("float32", "bfloat16"),
    )
    train, test = (node(Cifar, o.classes, split) for split in ("train", "test"))
    view = node(
        Chain,
        (
            node(RandomResizedCrop, 32, area=(0.08, 1.0)),
            node(Flip),
            node(Maybe, node(ColorJitter, 0.8, 0.8, 0.8, 0.2), 0.8),
            node(Maybe, node(Grayscale), 0.2),
        ),
    )
    body = node(
        ResNet,
        o.depth,
        stem="small",
        stem_padding=2,
        stem_initial="uniform",
        compute=o.compute,
    )
    often = node(Every, epochs=max(1, o.epochs // 20))
    return node(
        Experiment,
        source=train,
        augment=node(Views, view),
        objective=node(
            Uniformity,
            node(Normalized, body, mean=(0.5,), std=(0.5,)),
            fc=node(Linear, 2048),
            projector=node(Mlp, (2048, 256), first="relu"),
        ),
        # Deviation: the release trains on the smaller last batch of an epoch, too.
        optimizer=node(
            Sgd,
            0.3,
            schedule=node(EpochCosine, final=1e-3),
            momentum=0.0,
            reference_batch=256,
        ),
        batch_size=o.batch,
        epochs=o.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, k=200, when=often),
            "probe": node(CrossValidated, train, test),
        },
    )
