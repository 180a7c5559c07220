"""MoCo with non-semantic negatives on emoji: one drawing style, tested on another.

    python -m jax_rcl.main --config=configs/emoji_moco.py:negatives=patch \
        --workdir=runs/emoji_patch

A small copy of what Ge et al. 2021 do on ImageNet-100: the encoder learns without
labels from Google's drawings of 1,500 objects, a linear probe learns their nine groups;
both are tested on others: clean, in 15 corruptions, and as Twitter draws them. All
rows, three seeds: tables/nonsemantic_emoji.py. Obtained: README.
Options of the file: `negatives` (none, patch, texture: synthesised on the device) and
`alpha`, `queue`, `epochs`, `size` of the views, `width`, `labels` (group, subgroup).
"""

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.corruptions.table import STANDARD, Corruption
from jax_rcl.augment.filters import GaussianBlur
from jax_rcl.augment.geometry import Flip, RandomResizedCrop, Resize
from jax_rcl.augment.negatives import Negatives, PatchMosaic, TextureNegatives
from jax_rcl.augment.quilting import Quilting
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.published.emoji import Emoji
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.shifts.robustness import Corrupted, Robustness
from jax_rcl.evaluate.when import AtEnd, Every
from jax_rcl.networks.heads import Mlp
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.moco import MoCo
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import EpochCosine


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        negatives=("none", "patch", "texture"),
        alpha=2.0,
        queue=256,
        epochs=80,
        size=32,
        width=16,
        labels=("group", "subgroup"),
    )

    only_with(o, o.negatives != "none", "negatives=patch or texture", "alpha")

    def emoji(vendor, split):
        return node(Emoji, vendor, split, labels=o.labels)

    train, test = emoji("google", "train"), emoji("google", "test")
    views = node(Views, augmentation(o.size))
    augment = views
    if o.negatives == "patch":
        # The paper's 16 to 72 pixels are of 224.
        side = (max(1, round(16 / 224 * o.size)), round(72 / 224 * o.size))
        augment = node(Negatives, views, node(PatchMosaic, side))
    if o.negatives == "texture":
        texture = node(Quilting, o.size, patch=32, candidates=128)
        augment = node(TextureNegatives, views, texture)
    m, dim = int(o.negatives != "none"), 8 * o.width
    seen = node(Resize, o.size)
    strengths = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
    probe = node(LinearProbe, train, test, strengths=strengths, preprocess=seen)
    corruptions = tuple(node(Corruption, name, 32) for name in STANDARD)
    return node(
        Experiment,
        source=train,
        augment=augment,
        objective=node(
            MoCo,
            encoder=node(ResNet, depth=10, width=o.width),
            projector=node(Mlp, (dim, dim)),
            queue_size=o.queue,
            momentum=0.99,
            temperature=0.2,
            negatives=m,
            alpha=o.alpha if m else None,
        ),
        optimizer=node(
            Sgd, 0.06, schedule=node(EpochCosine), weight_decay=1e-4, decayed="all"
        ),
        batch_size=128,
        epochs=o.epochs,
        evaluators={
            "knn": node(
                Neighbours,
                train,
                test,
                k=20,
                preprocess=seen,
                when=node(Every, epochs=20),
            ),
            "probe": probe,
            "robust": node(
                Robustness,
                probe,
                {
                    "corrupted": node(Corrupted, test, corruptions),
                    "restyled": emoji("twitter", "test"),
                },
                when=node(AtEnd),
            ),
        },
    )


def augmentation(size):
    """A view as in MoCo v2 (Chen et al. 2020, arXiv 2003.04297), for small images."""
    return node(
        Chain,
        (
            node(RandomResizedCrop, size, area=(0.2, 1.0)),
            node(Maybe, node(ColorJitter, 0.4, 0.4, 0.4, 0.1), 0.8),
            node(Maybe, node(Grayscale), 0.2),
            node(Maybe, node(GaussianBlur, 5, sigma=(0.1, 1.0)), 0.5),
            node(Flip),
        ),
    )
