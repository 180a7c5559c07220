"""Decoupled uniformity on chest radiographs (CheXpert), GLoRIA's features as prior.

    jax-rcl prepare gloria --out=data/chexpert_prior.npz \
        --config=configs/chexpert_uniformity.py:prior=none
    python -m jax_rcl.main --config=configs/chexpert_uniformity.py \
        --workdir=runs/chexpert

A ResNet-18 trained with LARS for 400 epochs, a Gaussian kernel on 512 features, as by
the code of Dufumier et al. 2023, which cannot evaluate on CheXpert. Obtained: not yet
run. Every finding is a linear problem of its own, measured on the official validation
images. `weights=checkpoint_0399.pth.tar` measures a file of the authors' code.
"""

from common import COMPUTE, CUT, cropped, length, resnet
from uniformity_common import (
    LARS,
    LAYERS,
    SCOPES,
    TRAINED,
    measured,
    released,
    scope,
    uniformity,
    uniformity_lars,
)

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        folder="data/CheXpert-v1.0-small",
        prior="data/chexpert_prior.npz",  # none: trains without
        sigma=10.0,  # of the kernel
        ridge=0.01,
        uncertain=("missing", "zeros", "ones"),  # what uncertain labels become
        scope=SCOPES,
        lars=tuple(LARS),
        **CUT,  # square: of what is stretched to 224 pixels
        weights="",  # a file of the authors' code; trained on if epochs are given
        layer=LAYERS,  # pooled: the file is of before 23 May 2023
        batch=1024,
        epochs=400,
        compute=COMPUTE,
    )
    known = o.prior != "none" and not measured(o)
    trained = not measured(o)
    only_with(o, trained or o.prior == "none", TRAINED, "prior")
    only_with(o, trained, TRAINED, "sigma", "ridge")
    only_with(o, known, "prior=FILE", "sigma", "ridge")
    train, valid = (radiographs(o, split) for split in ("train", "valid"))
    source = node(rcl.data.WithPrior, train, o.prior) if known else train
    augment = node(rcl.augment.Views, view())
    source, augment = cropped(o, source, augment)
    encoder = resnet(18, ((0.5024,), (0.2898,)), compute=o.compute)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=uniformity(
            encoder,
            o.sigma if known else None,
            layer=o.layer,
            ridge=o.ridge,
            **scope(o),
        ),
        optimizer=uniformity_lars(0.5, o.lars, reference_batch=256),
        batch_size=o.batch,
        **length(o, measured(o)),
        init_from=released(o),
        evaluators={"findings": node(rcl.evaluate.PerTarget, train, valid)},
    )


def radiographs(o, split):
    """Radiographs of one split, in three equal channels."""
    images = node(rcl.data.CheXpert, o.folder, split, uncertain=o.uncertain)
    return node(rcl.data.Channels, images)


def view():
    """A crop, turned by up to 45 degrees, perhaps mirrored; without colours."""
    size, area = 224, (0.08, 1.0)
    crop = node(rcl.augment.RandomResizedCrop, size, area=area, interpolation="bicubic")
    turn = node(rcl.augment.RandomRotation, 45.0)
    return node(rcl.augment.Chain, (crop, turn, node(rcl.augment.Flip)))
