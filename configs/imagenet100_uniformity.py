"""Decoupled uniformity on ImageNet-100, with or without a generative model's features.

    python -m jax_rcl.main --config=configs/imagenet100_uniformity.py \
        --workdir=runs/uniformity
    python -m jax_rcl.main --workdir=runs/uniformity_bigbigan \
        --config=configs/imagenet100_uniformity.py:prior=data/bigbigan.npz

A ResNet-50 trained with LARS for 400 epochs as by the code of Dufumier et al. 2023,
whose README gives the commands and no number; uniformity_probe.py measures it.
Obtained: not yet run. How a prior is made: docs/decoupled_uniformity.md.
Options of the file: `prior` (a file of `jax-rcl prepare`) with `sigma` of the Gaussian
kernel and `ridge`; `scope` (global; released: within each quarter of a batch), `lars`
(released; simclr: normalisation and biases are neither adapted nor decayed), `batch`,
`depth`, `epochs`, `compute`, `folder` (has train/ and val/).
"""

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.data.wrappers import Subset
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import Every
from jax_rcl.losses.kernels import Rbf
from jax_rcl.networks.heads import Linear, Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim.optimizers import Lars
from jax_rcl.optim.schedules import EpochCosine

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARS = {
    "released": {"decayed": "all", "at_zero": "stay"},
    "simclr": {"decayed": "weights", "at_zero": "step"},
}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        prior="",
        sigma=100.0,
        ridge=0.01,
        scope=("global", "released"),
        lars=tuple(LARS),
        batch=256,
        depth=50,
        epochs=400,
        compute=("float32", "bfloat16"),
        folder="data/imagenet100",
    )
    only_with(o, bool(o.prior), "prior=FILE", "sigma", "ridge")
    train, val = (
        node(ImageFolder, f"{o.folder}/{part}", size=256, classes=IMAGENET_100)
        for part in ("train", "val")
    )
    # Deviation: the release crops whole photographs; here they are central squares of
    # 256 pixels.
    view = node(
        Chain,
        (
            node(RandomResizedCrop, 224, area=(0.08, 1.0)),
            node(Flip),
            node(Maybe, node(ColorJitter, 0.8, 0.8, 0.8, 0.2), 0.8),
            node(Maybe, node(Grayscale), 0.2),
        ),
    )
    body = node(ResNet, o.depth, compute=o.compute)
    scope = {"scope": "device", "group": o.batch // 4} if o.scope == "released" else {}
    shown = {"preprocess": node(CenterCrop, 224)}
    often = node(Every, epochs=max(1, o.epochs // 20))
    return node(
        Experiment,
        source=node(WithPrior, train, o.prior) if o.prior else train,
        augment=node(Views, view),
        objective=node(
            Uniformity,
            node(Normalized, body, *IMAGENET),
            fc=node(Linear, 2048),
            projector=node(Mlp, (2048, 256), first="relu"),
            kernel=node(Rbf, o.sigma) if o.prior else None,
            ridge=o.ridge,
            **scope,
        ),
        optimizer=node(
            Lars,
            0.3 * 0.075 * o.batch**0.5,
            schedule=node(EpochCosine, final=1e-3),
            weight_decay=1e-6,
            **LARS[o.lars],
        ),
        batch_size=o.batch,
        epochs=o.epochs,
        evaluators={
            "knn": node(Neighbours, node(Subset, train, 0.1), val, when=often, **shown),
            "probe": node(LinearProbe, train, val, **shown),
        },
    )
