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
`folder` (has train/ and val/), `textures` (has train/), `packed` (instead of both,
made by jax-rcl prepare pack: has train/ and val/).
"""

import common
from common import COMPUTE, IMAGENET

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse

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
        compute=COMPUTE,
        folder="data/imagenet100",
        textures="data/imagenet100-textures",
        packed="",
    )
    only_with(o, o.negatives != "none", "negatives=patch or a texture", "alpha")
    only_with(o, o.negatives == "patch", "negatives=patch", "low", "high")
    batch, rate, momentum = RECIPES[o.recipe]
    source, train, val = sources(o)
    view, projector, temperature, schedule = version(o)
    texture = node(rcl.augment.Quilting, 224) if o.negatives == "quilting" else None
    norm = common.local_norm(o.norm, batch // 8)
    resnet = node(rcl.networks.ResNet, o.depth, compute=o.compute, **norm)
    return node(
        Experiment,
        source=source,
        augment=common.with_negatives(
            node(rcl.augment.Views, view),
            o.negatives,
            side=(o.low, o.high),
            texture=texture,
        ),
        objective=common.moco(
            o,
            node(rcl.networks.Normalized, resnet, *IMAGENET),
            projector,
            momentum=momentum,
            temperature=temperature,
            keys=common.keys_of(o.norm),
        ),
        optimizer=common.sgd(rate, schedule=schedule),
        batch_size=batch,
        epochs=o.epochs,
        evaluators=common.imagenet_knn_and_probe(train, val, o.epochs),
    )


def sources(o):
    """What MoCo learns from, with textures if asked; training and test images."""
    if o.packed:
        parts = (f"{o.packed}/{part}" for part in ("train", "val"))
        train, val = (node(rcl.data.Packed, part) for part in parts)
        return train, train, val
    train, val = common.image_folders(o.folder)
    if o.negatives == "texture":
        paired = node(rcl.data.WithTexture, train, f"{o.textures}/train", 224)
        return paired, train, val
    return train, train, val


def version(o):
    """What the versions of MoCo differ in: view, projector, temperature, schedule."""
    if o.version == "v1":
        stepwise = node(rcl.optim.MultiStep, epochs=(120, 160))
        linear = node(rcl.networks.Linear, 128)
        return common.moco_v1_view(224), linear, 0.07, stepwise
    width = 512 if o.depth < 50 else 2048  # as wide as the features
    mlp = node(rcl.networks.Mlp, (width, 128))
    return common.moco_v2_view(224), mlp, 0.2, node(rcl.optim.EpochCosine)
