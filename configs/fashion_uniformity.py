"""Decoupled uniformity on Fashion-MNIST, an autoencoder's features as prior knowledge.

    python -m jax_rcl.main --config=configs/fashion_uniformity.py:method=autoencoder \
        --workdir=runs/auto
    python -m jax_rcl.main --workdir=runs/fashion_features \
        --config=configs/fashion_uniformity.py:prior=features,first=runs/auto

A small copy of the experiments of Dufumier et al. 2023 with a generative model's
features; a small autoencoder stands in for the model. A sixth of the training images
makes it a matter of minutes on two CPU cores. All rows, three seeds:
tables/uniformity.py. Obtained: README.
"""

import common
from common import FASHION
from uniformity_common import small_uniformity

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        method=("uniformity", "simclr", "autoencoder"),
        prior=("none", "features", "random"),  # random: numbers that mean nothing
        first="runs/auto",  # the run that has the features
        sigma=4.0,  # of the Gaussian kernel, in median distances
        ridge=0.01,
        share=(1 / 6, common.SHARE),  # of the training images
        epochs=6,
        width=16,  # of the ResNet-10
    )
    only_with(o, o.method == "uniformity", "method=uniformity", "prior")
    only_with(o, o.prior != "none", "prior=features or random", "sigma", "ridge")
    only_with(o, o.prior == "features", "prior=features", "first")
    train, test = common.fashion(o.share)
    encoder = common.resnet(10, FASHION, width=o.width)
    last = node(rcl.evaluate.Every, epochs=o.epochs)
    method = autoencoder if o.method == "autoencoder" else contrastive
    views, objective, optimizer = method(o, encoder)
    return node(
        Experiment,
        source=with_prior(train, o),
        augment=views,
        objective=objective,
        optimizer=optimizer,
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


def contrastive(o, encoder):
    """Views, objective and optimizer of uniformity and SimCLR."""
    view = common.simclr_view(28, smallest=0.3, rgb=False)
    views = node(rcl.augment.Views, view)
    return views, small_uniformity(o, encoder), common.sgd(0.1)


def autoencoder(_, encoder):
    """The same of the autoencoder."""
    views = node(rcl.augment.Views, node(rcl.augment.Flip), count=1)
    decoder, (mean, std) = node(rcl.networks.ResNetDecoder, 28, 1, width=4), FASHION
    term = node(rcl.objectives.Reconstruction, decoder, mean=mean, std=std)
    objective = node(rcl.objectives.Spread, encoder, None, (), term)
    falling = node(rcl.optim.EpochCosine)
    return views, objective, node(rcl.optim.AdamW, 3e-3, falling, decayed="all")
