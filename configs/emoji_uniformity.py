"""Decoupled uniformity on emoji, with the words of their names as prior knowledge.

    python -m jax_rcl.main --config=configs/emoji_uniformity.py:prior=words \
        --workdir=runs/emoji_words

A small copy of the weakly supervised experiments of Dufumier et al. 2023: an encoder
learns from drawings of 1,500 objects, each with a bit for every word of its name, and
a linear probe tells the groups of other drawings apart. All rows, three seeds:
tables/uniformity.py. Obtained: README.
"""

import common
from uniformity_common import small_uniformity

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        method=("uniformity", "simclr"),
        prior=("none", "words", "random"),  # random: as many bits that mean nothing
        sigma=4.0,  # of the Gaussian kernel, in median distances
        ridge=0.01,
        labels=("group", "subgroup"),
        epochs=40,
        size=32,  # of the views
        width=16,  # of the ResNet-10
    )
    only_with(o, o.method == "uniformity", "method=uniformity", "prior")
    only_with(o, o.prior != "none", "prior=words or random", "sigma", "ridge")
    train, test = common.emoji(o.labels)
    view = common.moco_v2_view(o.size, blur=None)
    resnet = node(rcl.networks.ResNet, depth=10, width=o.width)
    last = node(rcl.evaluate.Every, epochs=o.epochs)
    return node(
        Experiment,
        source=with_prior(train, o.prior),
        augment=node(rcl.augment.Views, view),
        objective=small_uniformity(o, resnet),
        optimizer=common.sgd(0.1),
        batch_size=256,
        epochs=o.epochs,
        evaluators=common.emoji_evaluators(train, test, o.size, last),
    )


def with_prior(train, prior):
    """The drawings, and bits of prior knowledge for each."""
    if prior == "words":
        # Words of a single object count, too: some names have no others, and drawings
        # without any word would all be equal.
        return node(rcl.data.WithKeywords, train, least=1)
    if prior == "random":
        return node(rcl.data.WithRandomBits, train, bits=1866, share=0.0015)
    return train
