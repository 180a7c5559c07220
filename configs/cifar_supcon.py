"""SupCon on CIFAR, the recipe of Khosla et al. 2020 with a ResNet-18.

    python -m jax_rcl.main --config=configs/cifar_supcon.py --workdir=runs/cifar_supcon

The paper's 96.0 % (CIFAR-10) and 76.5 % (CIFAR-100) are of a ResNet-50 after 1000
epochs in batches of 1024; with a ResNet-18, solo-learn reports 93.8 % and 70.4 %.
Obtained: not yet run.
Options of the file: `classes` (10 or 100), `epochs`, `batch_size`, `depth`, `compute`
(float32 or bfloat16), `source` (archive, or tfds for a prepared data set).
"""

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, parse
from jax_rcl.data.folders import Tfds
from jax_rcl.data.sources import Cifar
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
    options = parse(
        arg,
        classes=10,
        epochs=1000,
        batch_size=1024,
        depth=18,
        compute="float32",
        source=("archive", "tfds"),
    )

    def cifar(split):
        if options.source == "tfds":
            return node(Tfds, f"cifar{options.classes}", split)
        return node(Cifar, options.classes, split)

    train, test = cifar("train"), cifar("test")
    jitter = node(ColorJitter, 0.4, 0.4, 0.4, 0.1)
    view = node(
        Chain,
        (
            node(RandomResizedCrop, 32, area=(0.2, 1.0)),
            node(Flip),
            node(Maybe, jitter, 0.8),
            node(Maybe, node(Grayscale), 0.2),
        ),
    )
    encoder = node(
        Normalized,
        encoder=node(
            ResNet, depth=options.depth, stem="small", compute=options.compute
        ),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    )
    hidden = 512 if options.depth < 50 else 2048  # as wide as the features
    return node(
        Experiment,
        source=train,
        augment=node(Views, view),
        objective=node(SupCon, encoder, projector=node(Mlp, (hidden, 128))),
        optimizer=node(
            Sgd,
            learning_rate=0.5,
            reference_batch=1024,
            schedule=node(Cosine, warmup_epochs=10.0, final=5e-4),
            weight_decay=1e-4,
            decayed="all",
        ),
        batch_size=options.batch_size,
        epochs=options.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, k=200, when=node(Every, epochs=10)),
            "probe": node(LinearProbe, train, test),
        },
    )
