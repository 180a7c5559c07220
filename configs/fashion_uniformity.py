"""Decoupled uniformity on Fashion-MNIST, an autoencoder's features as prior knowledge.

    python -m jax_rcl.main --config=configs/fashion_uniformity.py:method=autoencoder \
        --workdir=runs/auto
    python -m jax_rcl.main --workdir=runs/fashion_features \
        --config=configs/fashion_uniformity.py:prior=features,first=runs/auto

A small copy of the experiments of Dufumier et al. 2023 with a generative model's
features; a small autoencoder stands in for the model. A sixth of the training images,
instead of all of them, makes it a matter of minutes on two CPU cores. All rows, three
seeds: tables/uniformity.py. Obtained: README.
Options of the file: `method` (uniformity, simclr, autoencoder), `prior` (none,
features of the run `first`, random: a control of numbers that mean nothing) with
`sigma` of the Gaussian kernel, in median distances, and `ridge`; `share` of the
training images, `epochs`, `width` of the ResNet-10.
"""

import common
from common import FASHION

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


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
    train = node(rcl.data.Subset, node(rcl.data.Idx), o.share)
    test = node(rcl.data.Idx, split="test")
    resnet = node(rcl.networks.ResNet, depth=10, width=o.width)
    encoder = node(rcl.networks.Normalized, resnet, *FASHION)
    last = node(rcl.evaluate.Every, epochs=o.epochs)
    auto = o.method == "autoencoder"
    return node(
        Experiment,
        source=with_prior(train, o),
        **(autoencoder(encoder) if auto else contrastive(encoder, o)),
        batch_size=256,
        epochs=o.epochs,
        evaluators=common.knn_and_probe(train, test, last, strengths=(1e-2,)),
    )


def with_prior(train, o):
    """The images, and prior knowledge of each."""
    if o.prior == "features":
        return node(rcl.train.features.WithFeatures, train, o.first)
    if o.prior == "random":
        return node(rcl.data.WithRandomBits, train, bits=8 * o.width, share=0.5)
    return train


def contrastive(encoder, o):
    """Views, objective and optimizer of uniformity and SimCLR."""
    view = common.simclr_view(28, smallest=0.3, jitter=(0.4, 0.4), gray=0)
    return {
        "augment": node(rcl.augment.Views, view),
        "objective": common.small_uniformity(o, encoder),
        "optimizer": common.sgd(0.1),
    }


def autoencoder(encoder):
    """Views, objective and optimizer of the autoencoder."""
    decoder = node(rcl.networks.ResNetDecoder, 28, 1, width=4)
    mean, std = FASHION
    term = node(rcl.objectives.Reconstruction, decoder, mean=mean, std=std)
    falling = node(rcl.optim.EpochCosine)
    return {
        "augment": node(rcl.augment.Views, node(rcl.augment.Flip), count=1),
        "objective": node(
            rcl.objectives.Spread,
            encoder,
            head=None,
            contrasts=(),
            reconstruction=term,
        ),
        "optimizer": node(rcl.optim.AdamW, 3e-3, falling, decayed="all"),
    }
