"""Decoupled uniformity on emoji, with the words of their names as prior knowledge.

    python -m jax_rcl.main --config=configs/emoji_uniformity.py:prior=words \
        --workdir=runs/emoji_words

A small copy of the weakly supervised experiments of Dufumier et al. 2023: an encoder
learns from drawings of 1,500 objects, each with a bit for every word of its name, and
a linear probe tells the groups of other drawings apart. All rows, three seeds:
tables/uniformity.py. Obtained: README.
Options of the file: `method` (uniformity, simclr), `prior` (none, words, random: a
control of as many bits that mean nothing) with `sigma` of the Gaussian kernel, in
median distances, and `ridge`; `labels` (group, subgroup), `epochs`, `size` of the
views, `width` of the ResNet-10.
"""

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import Flip, RandomResizedCrop, Resize
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.prior import WithKeywords, WithRandomBits
from jax_rcl.data.published.emoji import Emoji
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import Every
from jax_rcl.losses.kernels import Rbf
from jax_rcl.networks.heads import Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.supcon import SimCLR
from jax_rcl.objectives.uniformity import Uniformity
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import EpochCosine


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        method=("uniformity", "simclr"),
        prior=("none", "words", "random"),
        sigma=4.0,
        ridge=0.01,
        labels=("group", "subgroup"),
        epochs=40,
        size=32,
        width=16,
    )
    only_with(o, o.method == "uniformity", "method=uniformity", "prior")
    only_with(o, o.prior != "none", "prior=words or random", "sigma", "ridge")
    train, test = (
        node(Emoji, "google", split, labels=o.labels) for split in ("train", "test")
    )
    source = train
    if o.prior == "words":
        # With words of single objects, too: without any, all would be equal.
        source = node(WithKeywords, train, least=1)
    if o.prior == "random":
        source = node(WithRandomBits, train, bits=1866, share=0.0015)
    jitter = node(ColorJitter, 0.4, 0.4, 0.4, 0.1)
    view = node(
        Chain,
        (
            node(RandomResizedCrop, o.size, area=(0.2, 1.0)),
            node(Maybe, jitter, 0.8),
            node(Maybe, node(Grayscale), 0.2),
            node(Flip),
        ),
    )
    encoder = node(ResNet, depth=10, width=o.width)
    projector = node(Mlp, (8 * o.width, 8 * o.width))
    if o.method == "simclr":
        objective = node(SimCLR, encoder, projector, temperature=0.2)
    else:
        kernel = None if o.prior == "none" else node(Rbf, o.sigma, unit="median")
        objective = node(Uniformity, encoder, projector, kernel=kernel, ridge=o.ridge)
    seen = node(Resize, o.size)
    strengths = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
    return node(
        Experiment,
        source=source,
        augment=node(Views, view),
        objective=objective,
        optimizer=node(
            Sgd, 0.1, schedule=node(EpochCosine), weight_decay=1e-4, decayed="all"
        ),
        batch_size=256,
        epochs=o.epochs,
        evaluators={
            "knn": node(
                Neighbours,
                train,
                test,
                k=20,
                preprocess=seen,
                when=node(Every, epochs=o.epochs),
            ),
            "probe": node(
                LinearProbe, train, test, strengths=strengths, preprocess=seen
            ),
        },
    )
