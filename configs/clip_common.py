"""What configs of CLIP students and of their classifiers share (Ravula et al. 2021)."""

from common import FROZEN, head_accuracy

import jax_rcl as rcl
from jax_rcl import node
from jax_rcl.augment.distortions import CONDITIONS, SWEEPS, Fixed
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.networks import clip

# Towers by the words that options have for them.
TOWERS = {name.replace("/", "-"): name for name in clip.TOWERS}
# Distortions in training, the default first.
TRAINED_ON = ("mask90", *(x for x in CONDITIONS if x != "mask90"))


def folders(root, side, *, parts=("train", "val"), **fields):
    """Folders of photographs below `root`, of ImageNet-100 by default."""
    return tuple(folder(f"{root}/{part}", side, **fields) for part in parts)


def folder(path, side, classes=IMAGENET_100):
    """Photographs resized as the authors do: to 256 for 224 pixels.

    Deviation: they crop whole photographs; images are their central squares.
    """
    resized = {"size": side * 8 // 7, "resize": "as torchvision"}
    return node(rcl.data.ImageFolder, path, classes=classes, **resized)


def side_of(encoder):
    """The side of what a stored encoder sees, of a tower of CLIP or of a ResNet."""
    return encoder.encoder.get("image_size", 224)


def tower(fields, **own):
    """An image tower of CLIP, normalised, of the `fields` of its architecture."""
    kind = rcl.networks.ClipResNet if is_residual(fields) else rcl.networks.ClipViT
    made = node(kind, **fields, **own)
    return node(rcl.networks.Normalized, made, clip.MEAN, clip.STD)


def is_residual(fields):
    """Whether a tower of CLIP is a ResNet, with batch statistics."""
    return "depths" in fields


def tower_of(word):
    """A tower of `TOWERS`, its side, and where it keeps its variables if frozen."""
    fields = clip.fields(TOWERS[word])
    return tower(fields), fields["image_size"], frozen_places(fields)


def frozen_places(fields):
    """Where a frozen tower keeps its variables; only a ResNet has statistics."""
    return FROZEN if is_residual(fields) else {"params": FROZEN["params"]}


def adam(rate, schedule, period):
    """Adam as released, nearly constant by the T_max `period`, or falling to zero."""
    if schedule == "cosine":
        return node(rcl.optim.Adam, rate, node(rcl.optim.Cosine))
    return node(rcl.optim.Adam, rate, node(rcl.optim.EpochCosine, period=period))


def accuracies(name, val, side, distortion, kinds):
    """The accuracy `name` at a distortion, and at every level of `kinds` of them.

    A fixed distortion keeps its seed: the mask or noise is the same for all images.
    """
    accuracy = head_accuracy(val, side, distortion=distortion)
    seed = getattr(distortion, "seed", None)
    return {name: accuracy, **level_sweeps(accuracy, kinds, seed)}


def level_sweeps(accuracy, kinds, seed=None, **fields):
    """The accuracy at every level of distortion, for each of `kinds`.

    A `seed` keeps the mask or the noise the same for all images.
    """
    sweeps = {}
    for kind in kinds:
        distortion, levels = SWEEPS[kind]
        if seed is not None:
            distortion = Fixed(distortion, seed)
        sweep = node(rcl.evaluate.LevelSweep, accuracy, distortion, levels, **fields)
        sweeps[f"{kind}s"] = sweep
    return sweeps
