"""MoCo on ImageNet-100, with negatives that have lost their meaning (Ge et al. 2021).

    python -m jax_rcl.main --config=configs/imagenet100_moco.py:negatives=patch \
        --workdir=runs/patch

A ResNet-50, 200 epochs; imagenet100_probe.py measures it. The authors report, of what
norm=released is here, top-1 on ImageNet-100 and -Sketch: MoCo-v2 77.9, 28.2; with
textures 77.8, 29.1; with patches 79.4, 31.8. Obtained: not yet run. All of their rows:
docs/nonsemantic_negatives.md.
"""

import common
import moco_common
from common import COMPUTE, IMAGENET

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse

# Global batch, learning rate as it is, momentum of the key encoder.
RECIPES = {"paper": (128, 0.03, 0.999), "ifm": (512, 0.8, 0.99)}


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        # Textures come from files, or are made on the device by quilting.
        negatives=("none", "patch", "texture", "quilting"),
        alpha=2.0,
        queue=16384,
        recipe=tuple(RECIPES),
        version=("v2", "v1"),  # of MoCo
        low=16,  # side of patches in pixels
        high=72,
        norm=("sync", "released"),  # released: of an eighth of the batch, keys shuffled
        depth=50,
        epochs=200,
        compute=COMPUTE,
        **common.CUT,
        folder="data/imagenet100",  # has train/ and val/
        textures="data/imagenet100-textures",  # has train/
        packed="",  # instead of both; of jax-rcl prepare pack, has train/ and val/
    )
    only_with(o, o.negatives != "none", "negatives=patch, texture or quilting", "alpha")
    only_with(o, o.negatives == "patch", "negatives=patch", "low", "high")
    # On the device textures are made of whole images, which must be squares there.
    quilted = o.negatives == "quilting"
    only_with(o, not quilted, "negatives=none, patch or texture", "crops")
    only_with(
        o, not o.packed, "images in folders, without packed", "folder", "textures"
    )
    only_with(o, o.negatives == "texture", "negatives=texture", "textures")
    batch, rate, momentum = RECIPES[o.recipe]
    source, train, val = moco_common.imagenet_sources(o)
    view, projector, temperature, schedule = moco_common.version(o)
    augment = moco_common.with_negatives(
        view,
        o.negatives,
        side=(o.low, o.high),
        texture=node(rcl.augment.Quilting, 224) if quilted else None,
    )
    crops = "square" if quilted else o.crops
    source, augment = common.cropped(o, source, augment, crops)
    norm = common.local_norm(o.norm, batch // 8)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=moco_common.moco(
            o,
            common.resnet(o.depth, IMAGENET, compute=o.compute, **norm),
            projector,
            momentum=momentum,
            temperature=temperature,
            keys=moco_common.keys_of(o.norm),
        ),
        optimizer=common.sgd(rate, schedule=schedule),
        batch_size=batch,
        epochs=o.epochs,
        evaluators=common.imagenet_knn_and_probe(train, val, o.epochs),
    )
