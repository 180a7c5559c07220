"""MoCo on CIFAR with a ResNet-18, with or without non-semantic negatives.

    python -m jax_rcl.main --config=configs/cifar_moco.py --workdir=runs/cifar_moco
    python -m jax_rcl.main --config=configs/cifar_moco.py:negatives=patch,alpha=2.0 \
        --workdir=runs/cifar_moco_patch

The recipe of MoCo's own demonstration on CIFAR-10, whose notebook (colab/ of
github.com/facebookresearch/moco, branch colab-notebook) reports for its asymmetric loss
82.6 after 200 epochs, 86.3 after 400 and 88.7 after 800: the vote of 200 neighbours on
the 128 numbers of the head, `knn/top1` here, with norm=released. Nobody reports
non-semantic negatives at this size. Obtained: not yet run.
Options of the file: `negatives` (none, patch, quilting), `alpha`, `classes` (10, 100),
`queue`, `norm` (released: statistics of an eighth of the batch, keys shuffled), `low`
and `high` (sides of patches; 16 and 72 of 224 pixels are 2.3 and 10.3 of 32, rounded
down), `epochs`, `depth`, `compute`.
"""

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.augment.negatives import Negatives, PatchMosaic, TextureNegatives
from jax_rcl.augment.quilting import Quilting
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.sources import Cifar
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Linear, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.moco import MoCo
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import EpochCosine

BATCH = 512


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        negatives=("none", "patch", "quilting"),
        alpha=2.0,
        classes=10,
        queue=4096,
        norm=("sync", "released"),
        low=2,
        high=10,
        epochs=200,
        depth=18,
        compute=("float32", "bfloat16"),
    )
    only_with(o, o.negatives != "none", "negatives=patch or quilting", "alpha")
    only_with(o, o.negatives == "patch", "negatives=patch", "low", "high")
    train, test = (node(Cifar, o.classes, split) for split in ("train", "test"))
    jitter = node(ColorJitter, 0.4, 0.4, 0.4, 0.1)
    view = node(
        Chain,
        (
            node(RandomResizedCrop, 32, area=(0.08, 1.0)),
            node(Flip),
            node(Maybe, jitter, 0.8),
            node(Maybe, node(Grayscale), 0.2),
        ),
    )
    augment = node(Views, view)
    if o.negatives == "patch":
        augment = node(Negatives, augment, node(PatchMosaic, (o.low, o.high)))
    elif o.negatives == "quilting":
        # 96 of 224 pixels are 13.7 of 32.
        augment = node(TextureNegatives, augment, node(Quilting, 32, patch=14))
    released, plain = o.norm == "released", o.negatives == "none"
    norm = {"norm": "local", "ghost_batch": BATCH // 8} if released else {}
    body = node(ResNet, o.depth, stem="small", compute=o.compute, **norm)
    encoder = node(
        Normalized, body, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010)
    )
    vote = {"k": 200, "temperature": 0.1, "layer": "embedding"}
    often = node(Every, epochs=max(1, o.epochs // 20))
    return node(
        Experiment,
        source=train,
        augment=augment,
        objective=node(
            MoCo,
            encoder,
            projector=node(Linear, 128),
            queue_size=o.queue,
            momentum=0.99,
            temperature=0.1,
            negatives=0 if plain else 1,
            alpha=None if plain else o.alpha,
            keys="shuffled" if released else "in order",
        ),
        optimizer=node(Sgd, 0.06, node(EpochCosine), weight_decay=5e-4, decayed="all"),
        batch_size=BATCH,
        epochs=o.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, **vote, when=often),
            "probe": node(LinearProbe, train, test),
        },
    )
