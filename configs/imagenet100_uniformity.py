"""Decoupled uniformity on ImageNet-100, with or without a generative model's features.

    python -m jax_rcl.main --config=configs/imagenet100_uniformity.py \
        --workdir=runs/uniformity
    python -m jax_rcl.main --workdir=runs/uniformity_bigbigan \
        --config=configs/imagenet100_uniformity.py:prior=data/bigbigan.npz

A ResNet-50 trained with LARS for 400 epochs as by the code of Dufumier et al. 2023,
whose README gives the commands and no number; uniformity_probe.py measures it.
Obtained: not yet run. How a prior is made: docs/decoupled_uniformity.md.
"""

import common
from common import COMPUTE, IMAGENET, STRONG
from uniformity_common import LARS, SCOPES, scope, uniformity, uniformity_lars

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        prior="",  # a file of `jax-rcl prepare`; none: trains without, as by default
        sigma=100.0,  # of the kernel
        ridge=0.01,
        scope=SCOPES,
        lars=tuple(LARS),
        batch=256,
        depth=50,
        epochs=400,
        compute=COMPUTE,
        **common.CUT,
        folder="data/imagenet100",  # has train/ and val/
    )
    known = o.prior not in ("", "none")
    only_with(o, known, "prior=FILE", "sigma", "ridge")
    train, val = common.image_folders(o.folder)
    source = node(rcl.data.WithPrior, train, o.prior) if known else train
    augment = node(rcl.augment.Views, common.simclr_view(224, jitter=STRONG))
    source, augment = common.cropped(o, source, augment)
    encoder = common.resnet(o.depth, IMAGENET, compute=o.compute)
    sigma = o.sigma if known else None
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=uniformity(encoder, sigma, ridge=o.ridge, **scope(o)),
        optimizer=uniformity_lars(0.3 * 0.075 * o.batch**0.5, o.lars),
        batch_size=o.batch,
        epochs=o.epochs,
        evaluators=common.imagenet_knn_and_probe(train, val, o.epochs),
    )
