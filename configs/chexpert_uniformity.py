"""Decoupled uniformity on chest radiographs (CheXpert), GLoRIA's features as prior.

    jax-rcl prepare join --features=gloria.npz --out=data/chexpert_prior.npz \
        --config=configs/chexpert_uniformity.py:prior=none
    python -m jax_rcl.main --config=configs/chexpert_uniformity.py \
        --workdir=runs/chexpert

A ResNet-18 trained with LARS for 400 epochs, a Gaussian kernel on 512 features, as by
the code of Dufumier et al. 2023, which cannot evaluate on CheXpert. Obtained: not yet
run. Every finding is an own linear problem, measured on the official validation images.
Options of the file: `folder`, `prior` (none for training without), `sigma` of the
kernel and `ridge`, `uncertain` (labels: missing, zeros, ones), `lars` (released,
simclr), `batch`, `epochs`, `compute`.
"""

from jax_rcl.augment.affine import RandomRotation
from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.published.chexpert import CheXpert
from jax_rcl.data.wrappers import Channels
from jax_rcl.evaluate.linear.per_target import PerTarget
from jax_rcl.losses.kernels import Rbf
from jax_rcl.networks.heads import Linear, Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim.optimizers import Lars
from jax_rcl.optim.schedules import EpochCosine

LARS = {
    "released": {"decayed": "all", "at_zero": "stay"},
    "simclr": {"decayed": "weights", "at_zero": "step"},
}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        folder="data/CheXpert-v1.0-small",
        prior="data/chexpert_prior.npz",
        sigma=10.0,
        ridge=0.01,
        uncertain=("missing", "zeros", "ones"),
        lars=tuple(LARS),
        batch=1024,
        epochs=400,
        compute=("float32", "bfloat16"),
    )
    known = o.prior != "none"
    only_with(o, known, "a prior", "sigma", "ridge")
    train, valid = (
        node(Channels, node(CheXpert, o.folder, split, uncertain=o.uncertain))
        for split in ("train", "valid")
    )
    # Deviation: the release crops whole radiographs; here they are resized to squares
    # of 224 pixels before, as it does at evaluation.
    view = node(
        Chain,
        (
            node(RandomResizedCrop, 224, area=(0.08, 1.0), interpolation="bicubic"),
            node(RandomRotation, 45.0),
            node(Flip),
        ),
    )
    body = node(ResNet, 18, compute=o.compute)
    return node(
        Experiment,
        source=node(WithPrior, train, o.prior) if known else train,
        augment=node(Views, view),
        objective=node(
            Uniformity,
            node(Normalized, body, mean=(0.5024,), std=(0.2898,)),
            fc=node(Linear, 2048),
            projector=node(Mlp, (2048, 256), first="relu"),
            kernel=node(Rbf, o.sigma) if known else None,
            ridge=o.ridge,
        ),
        optimizer=node(
            Lars,
            0.5,
            schedule=node(EpochCosine, final=1e-3),
            weight_decay=1e-6,
            reference_batch=256,
            **LARS[o.lars],
        ),
        batch_size=o.batch,
        epochs=o.epochs,
        evaluators={"findings": node(PerTarget, train, valid)},
    )
