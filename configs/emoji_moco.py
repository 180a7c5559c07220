"""MoCo with non-semantic negatives on emoji: one drawing style, tested on another.

    python -m jax_rcl.main --config=configs/emoji_moco.py:negatives=patch \
        --workdir=runs/emoji_patch

A small copy of what Ge et al. 2021 do on ImageNet-100: the encoder learns without
labels from Google's drawings of 1,500 objects, a linear probe learns their nine groups;
both are tested on others: clean, in 15 corruptions, and as Twitter draws them. All
rows, three seeds: tables/nonsemantic_emoji.py. Obtained: README.
"""

import common
from moco_common import moco, with_negatives

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        negatives=("none", "patch", "texture"),  # textures are made on the device
        alpha=2.0,
        queue=256,
        epochs=80,
        size=32,  # of the views
        width=16,  # of the ResNet-10
        labels=("group", "subgroup"),
    )
    only_with(o, o.negatives != "none", "negatives=patch or texture", "alpha")
    train, test = common.emoji(o.labels)
    # The paper's 16 to 72 pixels are of 224.
    side = (max(1, round(16 / 224 * o.size)), round(72 / 224 * o.size))
    view = common.moco_v2_view(o.size, blur=(5, (0.1, 1.0)))
    texture = node(rcl.augment.Quilting, o.size, patch=32, candidates=128)
    encoder = node(rcl.networks.ResNet, depth=10, width=o.width)
    mlp = node(rcl.networks.Mlp, (8 * o.width, 8 * o.width))
    seldom = node(rcl.evaluate.Every, epochs=20)
    evaluators = common.emoji_evaluators(train, test, o.size, seldom)
    return node(
        Experiment,
        source=train,
        augment=with_negatives(view, o.negatives, side=side, texture=texture),
        objective=moco(o, encoder, mlp, momentum=0.99, temperature=0.2),
        optimizer=common.sgd(0.06),
        batch_size=128,
        epochs=o.epochs,
        evaluators={**evaluators, "robust": robust(evaluators["probe"], test, o)},
    )


def robust(probe, test, o):
    """The probe on corrupted drawings, and on those of another vendor."""
    names = rcl.augment.corruptions.STANDARD
    corruptions = tuple(node(rcl.augment.Corruption, name, 32) for name in names)
    shifted = {
        "corrupted": node(rcl.evaluate.Corrupted, test, corruptions),
        "restyled": node(rcl.data.Emoji, "twitter", "test", labels=o.labels),
    }
    last = node(rcl.evaluate.AtEnd)
    return node(rcl.evaluate.Robustness, probe, shifted, when=last)
