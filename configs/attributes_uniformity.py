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

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.published.cub import Cub200
from jax_rcl.data.published.zappos import Zappos
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.cross_validated import CrossValidated
from jax_rcl.evaluate.when import Every
from jax_rcl.losses.kernels import Rbf
from jax_rcl.networks.heads import Linear, Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import EpochCosine

SMALL = {"stem": "small", "stem_padding": 2, "stem_initial": "uniform"}
# Source, its folder, sides of images in training, of views and of images at
# evaluation, stem, mean and deviation, σ.
DATA = {
    "cub": (
        *(Cub200, "data/CUB_200_2011", 256, 224, 256, {}),
        *((0.4863, 0.4999, 0.4312), (0.2070, 0.2018, 0.2428), 20.0),
    ),
    "zappos": (
        *(Zappos, "data/zappos", 102, 32, 32, SMALL),
        *((0.8342, 0.8142, 0.8081), (0.2804, 0.3014, 0.3072), 100.0),
    ),
}


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
        compute=("float32", "bfloat16"),
    )
    only_with(o, o.prior != "none", "a prior", "sigma", "ridge")
    kind, folder, size, side, shown_size, stem, mean, std, sigma = DATA[o.data]
    folder = o.folder or folder
    source = node(kind, folder, "train", size)
    train, test = (node(kind, folder, split, shown_size) for split in ("train", "test"))
    prior = o.prior or f"data/{o.data}_prior.npz"
    known = prior != "none"
    # Deviation: the release crops whole photographs of birds; here they are central
    # squares of 256 pixels.
    view = node(
        Chain,
        (
            node(RandomResizedCrop, side, area=(0.08, 1.0)),
            node(Flip),
            node(Maybe, node(ColorJitter, 0.8, 0.8, 0.8, 0.2), 0.8),
            node(Maybe, node(Grayscale), 0.2),
        ),
    )
    body = node(ResNet, 18, compute=o.compute, **stem)
    # Photographs of shoes are seen whole, a third wider than high.
    shown = {"preprocess": node(CenterCrop, side)} if shown_size > side else {}
    often = node(Every, epochs=max(1, o.epochs // 20))
    return node(
        Experiment,
        source=node(WithPrior, source, prior) if known else source,
        augment=node(Views, view),
        objective=node(
            Uniformity,
            node(Normalized, body, mean, std),
            fc=node(Linear, 2048),
            projector=node(Mlp, (2048, 256), first="relu"),
            kernel=node(Rbf, o.sigma if "sigma" in o.given else sigma)
            if known
            else None,
            ridge=o.ridge,
        ),
        optimizer=node(
            Sgd,
            0.3,
            schedule=node(EpochCosine, final=1e-3),
            momentum=0.0,
            reference_batch=256,
        ),
        batch_size=o.batch,
        epochs=o.epochs,
        evaluators={
            "knn": node(Neighbours, train, test, k=20, when=often, **shown),
            "probe": node(CrossValidated, train, test, **shown),
        },
    )
