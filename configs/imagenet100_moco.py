"""MoCo on ImageNet-100, with negatives that have lost their meaning (Ge et al. 2021).

    python -m jax_rcl.main --config=configs/imagenet100_moco.py:negatives=patch \
        --workdir=runs/patch

A ResNet-50, 200 epochs; imagenet100_probe.py measures it. The authors report, top-1 on
ImageNet-100 and -Sketch: MoCo-v2 77.9, 28.2; with textures 77.8, 29.1; with patches
79.4, 31.8. Obtained: not yet run. All of their rows: docs/nonsemantic_negatives.md.
Options of the file: `negatives` (none, patch, texture from files, quilting: textures
made on the device), `alpha`, `queue`, `recipe` (paper; ifm: batch 512, lr 0.8),
`version` (of MoCo), `low` and `high` (sides of patches in pixels), `norm` (released:
statistics of an eighth of the batch, keys shuffled), `depth`, `epochs`, `compute`,
`folder` (has train/ and val/), `textures` (has train/), `packed` (in the place of both,
made by jax-rcl prepare pack: has train/ and val/).
"""

from jax_rcl.augment import color, filters, geometry
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.negatives import Negatives, PatchMosaic, TextureNegatives
from jax_rcl.augment.quilting import Quilting
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.packed import Packed
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.data.textures import WithTexture
from jax_rcl.data.wrappers import Subset
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import Every
from jax_rcl.networks.heads import Linear, Mlp, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.moco import MoCo
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import EpochCosine, MultiStep

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Global batch, learning rate as it is, momentum of the key encoder.
RECIPES = {"paper": (128, 0.03, 0.999), "ifm": (512, 0.8, 0.99)}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        negatives=("none", "patch", "texture", "quilting"),
        alpha=2.0,
        queue=16384,
        recipe=tuple(RECIPES),
        version=("v2", "v1"),
        low=16,
        high=72,
        norm=("sync", "released"),
        depth=50,
        epochs=200,
        compute=("float32", "bfloat16"),
        folder="data/imagenet100",
        textures="data/imagenet100-textures",
        packed="",
    )
    only_with(o, o.negatives != "none", "negatives=patch or a texture", "alpha")
    only_with(o, o.negatives == "patch", "negatives=patch", "low", "high")
    batch, rate, momentum = RECIPES[o.recipe]
    parts = ("train", "val")
    train, val = (
        node(Packed, f"{o.packed}/{part}")
        if o.packed
        else node(ImageFolder, f"{o.folder}/{part}", size=256, classes=IMAGENET_100)
        for part in parts
    )
    paired = o.negatives == "texture" and not o.packed
    source = node(WithTexture, train, f"{o.textures}/train", 224) if paired else train
    # Deviation: the release crops whole photographs; here they are central squares of
    # 256 pixels. Its blur is PIL's, three box filters in a row; here it is a Gaussian.
    crop = node(geometry.RandomResizedCrop, 224, area=(0.2, 1.0))
    flip, gray = node(geometry.Flip), node(Maybe, node(color.Grayscale), 0.2)
    if o.version == "v2":
        jitter = node(Maybe, node(color.ColorJitter, 0.4, 0.4, 0.4, 0.1), 0.8)
        blur = node(Maybe, node(filters.GaussianBlur, 23, sigma=(0.1, 2.0)), 0.5)
        operations, temperature = (crop, jitter, gray, blur, flip), 0.2
        width = 512 if o.depth < 50 else 2048  # as wide as the features
        head, schedule = node(Mlp, (width, 128)), node(EpochCosine)
    else:
        jitter = node(color.ColorJitter, 0.4, 0.4, 0.4, 0.4)
        operations, temperature = (crop, gray, jitter, flip), 0.07
        head, schedule = node(Linear, 128), node(MultiStep, epochs=(120, 160))
    augment = node(Views, node(Chain, operations))
    if o.negatives == "patch":
        augment = node(Negatives, augment, node(PatchMosaic, (o.low, o.high)))
    elif o.negatives != "none":
        made = node(Quilting, 224) if o.negatives == "quilting" else None
        augment = node(TextureNegatives, augment, made)
    released, plain = o.norm == "released", o.negatives == "none"
    norm = {"norm": "local", "ghost_batch": batch // 8} if released else {}
    body = node(ResNet, o.depth, compute=o.compute, **norm)
    shown = {"preprocess": node(geometry.CenterCrop, 224)}
    often = node(Every, epochs=max(1, o.epochs // 20))
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=node(
            MoCo,
            encoder=node(Normalized, body, *IMAGENET),
            projector=head,
            queue_size=o.queue,
            momentum=momentum,
            temperature=temperature,
            negatives=0 if plain else 1,
            alpha=None if plain else o.alpha,
            keys="shuffled" if released else "in order",
        ),
        optimizer=node(Sgd, rate, schedule, weight_decay=1e-4, decayed="all"),
        batch_size=batch,
        epochs=o.epochs,
        evaluators={
            "knn": node(Neighbours, node(Subset, train, 0.1), val, when=often, **shown),
            "probe": node(LinearProbe, train, val, **shown),
        },
    )
