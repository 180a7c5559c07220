"""Decoupled uniformity on Fashion-MNIST, an autoencoder's features as prior knowledge.

    python -m jax_rcl.main --config=configs/fashion_uniformity.py:method=autoencoder \
        --workdir=runs/auto
    python -m jax_rcl.main --workdir=runs/fashion_features \
        --config=configs/fashion_uniformity.py:prior=features,first=runs/auto

A small copy of the experiments of Dufumier et al. 2023 with a generative model's
features; a small autoencoder stands in for the model. A sixth of the training images,
in place of all of them, makes it a matter of minutes on two CPU cores. All rows, three
seeds: tables/uniformity.py. Obtained: README.
Options of the file: `method` (uniformity, simclr, autoencoder), `prior` (none,
features of the run `first`, random: a control of numbers that mean nothing) with
`sigma` of the Gaussian kernel, in median distances, and `ridge`; `share` of the
training images, `epochs`, `width` of the ResNet-10.
"""

from jax_rcl.augment.color import ColorJitter
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.prior import WithRandomBits
from jax_rcl.data.sources import Idx
from jax_rcl.data.wrappers import Subset
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import Every
from jax_rcl.losses.kernels import Rbf
from jax_rcl.networks.decoder import ResNetDecoder
from jax_rcl.networks.heads import Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.spread import Spread
from jax_rcl.objectives.supcon import SimCLR
from jax_rcl.objectives.terms import Reconstruction
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim.optimizers import AdamW, Sgd
from jax_rcl.optim.schedules import EpochCosine
from jax_rcl.train.features import WithFeatures

MEAN, STD = (0.286,), (0.353,)


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        method=("uniformity", "simclr", "autoencoder"),
        prior=("none", "features", "random"),
        first="runs/auto",
        sigma=4.0,
        ridge=0.01,
        share=1 / 6,
        epochs=6,
        width=16,
    )
    only_with(o, o.method == "uniformity", "method=uniformity", "prior")
    only_with(o, o.prior != "none", "prior=features or random", "sigma", "ridge")
    only_with(o, o.prior == "features", "prior=features", "first")
    train, test = node(Subset, node(Idx), o.share), node(Idx, split="test")
    source = train
    if o.prior == "features":
        source = node(WithFeatures, train, o.first)
    if o.prior == "random":
        source = node(WithRandomBits, train, bits=8 * o.width, share=0.5)
    crop = node(RandomResizedCrop, 28, area=(0.3, 1.0))
    jitter = node(ColorJitter, brightness=0.4, contrast=0.4)
    augment = node(Views, node(Chain, (crop, node(Flip), node(Maybe, jitter, 0.8))))
    encoder = node(Normalized, node(ResNet, depth=10, width=o.width), MEAN, STD)
    projector = node(Mlp, (8 * o.width, 8 * o.width))
    optimizer = node(
        Sgd, 0.1, schedule=node(EpochCosine), weight_decay=1e-4, decayed="all"
    )
    if o.method == "autoencoder":
        augment = node(Views, node(Flip), count=1)
        decoder = node(ResNetDecoder, 28, 1, width=4)
        objective = node(
            Spread,
            encoder,
            head=None,
            contrasts=(),
            reconstruction=node(Reconstruction, decoder, mean=MEAN, std=STD),
        )
        optimizer = node(AdamW, 3e-3, node(EpochCosine), decayed="all")
    elif o.method == "simclr":
        objective = node(SimCLR, encoder, projector, temperature=0.2)
    else:
        kernel = None if o.prior == "none" else node(Rbf, o.sigma, unit="median")
        objective = node(Uniformity, encoder, projector, kernel=kernel, ridge=o.ridge)
    seldom = node(Every, epochs=o.epochs)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=objective,
        optimizer=optimizer,
        batch_size=256,
        epochs=o.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, k=20, when=seldom),
            "probe": node(LinearProbe, train, test, strengths=(1e-2,)),
        },
    )
