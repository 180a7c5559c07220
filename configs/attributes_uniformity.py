"""Decoupled uniformity with attributes as prior knowledge: birds (CUB) and shoes.

    jax-rcl prepare cub --folder=data/CUB_200_2011 --out=data/cub_prior.npz
    python -m jax_rcl.main --config=configs/attributes_uniformity.py --workdir=runs/cub
    jax-rcl prepare zappos --folder=data/zappos --out=data/zappos_prior.npz
    python -m jax_rcl.main --config=configs/attributes_uniformity.py:data=zappos \
        --workdir=runs/zappos

A ResNet-18, 1000 epochs, a Gaussian kernel on 312 attributes of birds or 126 of shoes,
as by the code of Dufumier et al. 2023, whose README gives the commands and no number.
Obtained: not yet run. `weights=checkpoint_0999.pth.tar` measures a file of that code.
"""

from common import COMPUTE, CUT, STRONG, cropped, every, length, simclr_view
from uniformity_common import (
    LAYERS,
    SCOPES,
    TRAINED,
    birds,
    measured,
    released,
    scope,
    shoes,
    uniformity,
    uniformity_sgd,
)

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        data=("cub", "zappos"),
        folder="",  # data/CUB_200_2011 or data/zappos by default
        prior="",  # its file, data/cub_prior.npz or data/zappos_prior.npz; or none
        sigma=0.0,  # of the kernel, 20 for birds and 100 for shoes by default
        ridge=0.01,
        **CUT,
        scope=SCOPES,
        logistic=("solved", "released"),  # of birds; released: after 150 passes of saga
        weights="",  # a file of the authors' code; trained on if epochs are given
        layer=LAYERS,  # pooled: the file is of before 23 May 2023
        batch=256,
        epochs=1000,
        compute=COMPUTE,
    )
    only_with(o, o.data == "cub", "data=cub", "logistic")
    solver = {"solver": "saga"} if o.logistic == "released" else {}
    known = o.prior != "none" and not measured(o)
    trained = not measured(o)
    only_with(o, trained or o.prior == "none", TRAINED, "prior")
    only_with(o, trained, TRAINED, "sigma", "ridge")
    only_with(o, known, "prior=FILE", "sigma", "ridge")
    only_with(o, o.data == "cub", "data=cub; shoes are cut whole", *CUT)
    data = birds(o) if o.data == "cub" else shoes(o)
    source, train, test, side, encoder, sigma, shown = data
    if known:
        prior = o.prior or f"data/{o.data}_prior.npz"
        source = node(rcl.data.WithPrior, source, prior)
    augment = node(rcl.augment.Views, simclr_view(side, jitter=STRONG))
    if o.data == "cub":
        source, augment = cropped(o, source, augment)
    sigma = o.sigma if "sigma" in o.given else sigma
    often = every(o.epochs)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=uniformity(
            encoder,
            sigma if known else None,
            layer=o.layer,
            ridge=o.ridge,
            **scope(o),
        ),
        optimizer=uniformity_sgd(),
        batch_size=o.batch,
        **length(o, measured(o)),
        init_from=released(o),
        evaluators={
            "knn": node(rcl.evaluate.Neighbours, train, test, when=often, **shown),
            "probe": node(rcl.evaluate.CrossValidated, train, test, **shown, **solver),
        },
    )
