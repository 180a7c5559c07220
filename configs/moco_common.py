"""What configs of MoCo and its non-semantic negatives share (Ge et al. 2021)."""

import common

import jax_rcl as rcl
from jax_rcl import node
from jax_rcl.config import ConfigError, unknown
from jax_rcl.data.published.imagenet import IMAGENET_100


def moco(o, encoder, projector, **fields):
    """MoCo for the options `negatives`, `alpha` and `queue`."""
    if o.negatives != "none":
        fields |= {"negatives": 1, "alpha": o.alpha}
    return node(rcl.objectives.MoCo, encoder, projector, o.queue, **fields)


def keys_of(norm):
    """In which order MoCo normalises keys, for the option `norm`."""
    return "shuffled" if norm == "released" else "in order"


def with_negatives(view, kind, *, side, texture=None):
    """Two views, and negatives of a `kind`.

    Args:
      view: of an image.
      kind: "none", "patch", or a word for textures.
      side: smallest and largest side of patches in pixels.
      texture: what makes textures on the device; None where the source brings them.
    """
    views = node(rcl.augment.Views, view)
    if kind == "none":
        return views
    if kind == "patch":
        mosaic = node(rcl.augment.PatchMosaic, side)
        return node(rcl.augment.Negatives, views, mosaic)
    return node(rcl.augment.TextureNegatives, views, texture)


# ImageNet-100.


def version(o):
    """What the versions of MoCo differ in: view, projector, temperature, schedule."""
    if o.version == "v1":
        stepwise = node(rcl.optim.MultiStep, epochs=(120, 160))
        return v1_view(224), node(rcl.networks.Linear, 128), 0.07, stepwise
    width = 512 if o.depth < 50 else 2048  # as wide as the features
    mlp = node(rcl.networks.Mlp, (width, 128))
    return common.moco_v2_view(224), mlp, 0.2, node(rcl.optim.EpochCosine)


def v1_view(side):
    """A view as in MoCo (He et al. 2020, arXiv 1911.05722)."""
    operations = (
        common.crop(side, 0.2),
        node(rcl.augment.Maybe, node(rcl.augment.Grayscale), 0.2),
        node(rcl.augment.ColorJitter, 0.4, 0.4, 0.4, 0.4),
        node(rcl.augment.Flip),
    )
    return node(rcl.augment.Chain, operations)


def imagenet_sources(o):
    """What MoCo learns from, with textures if asked; training and test images."""
    if o.packed:
        parts = (f"{o.packed}/{part}" for part in ("train", "val"))
        train, val = (node(rcl.data.Packed, part) for part in parts)
        train = node(rcl.data.Squares, train, 256)
        return train, train, val
    train, val = common.image_folders(o.folder)
    if o.negatives == "texture":
        paired = node(rcl.data.WithTexture, train, f"{o.textures}/train", 224)
        return paired, train, val
    return train, train, val


def shifted_sets(o, val):
    """The test sets of the options `shifts` and `sets`, by the names of their numbers.

    Raises:
      ConfigError: there is no such set.
    """
    known = {"classes": IMAGENET_100}

    def folder(name, **fields):
        return common.photographs(f"{o.shifts}/{name}", **fields)

    files = node(rcl.evaluate.CorruptedFolders, f"{o.shifts}/imagenet-c", **known)
    names = rcl.augment.corruptions.STANDARD
    corruptions = tuple(node(rcl.augment.Corruption, name) for name in names)
    sets = {
        "c": ("corruption", files),
        "sketch": ("sketch", folder("imagenet-sketch")),
        "stylized": ("stylized", folder("imagenet-stylized/val")),
        "r": ("rendition", folder("imagenet-r", missing="skip")),
        "computed": ("computed", node(rcl.evaluate.Corrupted, val, corruptions)),
    }
    words = ["computed"] if o.shifts == "computed" else o.sets.split("+")
    for word in words:
        if word not in sets:
            raise ConfigError(unknown("option 'sets' has no value", word, sets))
    return dict(sets[word] for word in words)
