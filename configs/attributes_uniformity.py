"""Decoupled uniformity with attributes as prior knowledge: birds (CUB) and shoes.

    jax-rcl prepare cub --folder=data/CUB_200_2011 --out=data/cub_prior.npz
    python -m jax_rcl.main --config=configs/attributes_uniformity.py --workdir=runs/cub
    jax-rcl prepare zappos --folder=data/zappos --out=data/zappos_prior.npz
    python -m jax_rcl.main --config=configs/attributes_uniformity.py:data=zappos \
        --workdir=runs/zappos

A ResNet-18, 1000 epochs, a Gaussian kernel on 312 attributes of birds or 126 of shoes,
as by the code of Dufumier et al. 2023, whose README gives the commands and no number.
Obtained: not yet run.
Options of the file: `data` (cub, zappos) in `folder`, `prior` (its file; none for
training without), `sigma` of the kernel (20 for birds, 100 for shoes) and `ridge`,
`batch`, `epochs`, `compute`.
"""

import common
from common import COMPUTE, STRONG

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse

DATA = {
    "cub": (rcl.data.Cub200, "data/CUB_200_2011"),
    "zappos": (rcl.data.Zappos, "data/zappos"),
}
STATISTICS = {
    "cub": ((0.4863, 0.4999, 0.4312), (0.2070, 0.2018, 0.2428)),
    "zappos": ((0.8342, 0.8142, 0.8081), (0.2804, 0.3014, 0.3072)),
}
SIGMA = {"cub": 20.0, "zappos": 100.0}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        data=tuple(DATA),
        folder="",
        prior="",
        sigma=0.0,
        ridge=0.01,
        batch=256,
        epochs=1000,
        compute=COMPUTE,
    )
    known = o.prior != "none"
    only_with(o, known, "a prior", "sigma", "ridge")
    sigma = o.sigma if "sigma" in o.given else SIGMA[o.data]
    source, train, test = sources(o)
    side, stem, shown = geometry(o.data)
    resnet = node(rcl.networks.ResNet, 18, compute=o.compute, **stem)
    encoder = node(rcl.networks.Normalized, resnet, *STATISTICS[o.data])
    knn = node(
        rcl.evaluate.Neighbours, train, test, when=common.every(o.epochs), **shown
    )
    return node(
        Experiment,
        source=source,
        augment=node(rcl.augment.Views, common.simclr_view(side, jitter=STRONG)),
        objective=common.uniformity(encoder, sigma if known else None, ridge=o.ridge),
        optimizer=common.uniformity_sgd(),
        batch_size=o.batch,
        epochs=o.epochs,
        evaluators={
            "knn": knn,
            "probe": node(rcl.evaluate.CrossValidated, train, test, **shown),
        },
    )


def sources(o):
    """What is trained on, and the training and test images of the evaluation.

    Deviation: the release crops whole photographs of birds; here they are central
    squares of 256 pixels.
    """
    kind, folder = DATA[o.data]
    folder = o.folder or folder
    size, shown_size = (256, 256) if o.data == "cub" else (102, 32)
    source = node(kind, folder, "train", size)
    train, test = (node(kind, folder, split, shown_size) for split in ("train", "test"))
    if o.prior == "none":
        return source, train, test
    prior = o.prior or f"data/{o.data}_prior.npz"
    return node(rcl.data.WithPrior, source, prior), train, test


def geometry(data):
    """Side of a view, stem of the ResNet, and what evaluators see of an image."""
    if data == "cub":
        return 224, {}, {"preprocess": node(rcl.augment.CenterCrop, 224)}
    # Photographs of shoes are seen whole, a third wider than high.
    return 32, common.UNIFORMITY_STEM, {}
