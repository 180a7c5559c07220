"""What configs of decoupled uniformity share (Dufumier et al. 2023)."""

from common import resnet

import jax_rcl as rcl
from jax_rcl import node, only_with
from jax_rcl.config import ConfigError

# The stem of a ResNet for images of 32 pixels.
SMALL_STEM = {"stem": "small", "stem_padding": 2, "stem_initial": "uniform"}
# Of the option `scope`; released: within each quarter of a batch, as on four GPUs.
SCOPES = ("global", "released")
# Of the option `lars`; simclr: normalisation and biases neither adapt nor decay.
LARS = {
    "released": {"decayed": "all", "at_zero": "stay"},
    "simclr": {"decayed": "weights", "at_zero": "step"},
}


def uniformity(encoder, sigma=None, *, layer="features", **fields):
    """Decoupled uniformity as released: features are those of a layer of 2048.

    `sigma` is that of a Gaussian kernel on the prior; None without prior. With `layer`
    pooled there is no such layer, as in the code of before 23 May 2023.
    """
    return node(
        rcl.objectives.Uniformity,
        encoder,
        fc=node(rcl.networks.Linear, 2048) if layer == "features" else None,
        projector=node(rcl.networks.Mlp, (2048, 256), first="relu"),
        kernel=None if sigma is None else node(rcl.losses.Rbf, sigma),
        **fields,
    )


def scope(o, devices=4):
    """Fields of the option `scope`: released, within the shares of so many devices."""
    if o.scope == "global":
        return {}
    if o.batch % devices:
        raise ConfigError(
            f"option 'scope' released has {devices} shares of a batch; {o.batch} is no "
            f"multiple of {devices}: batch={o.batch // devices * devices or devices}."
        )
    return {"scope": "device", "group": o.batch // devices}


def small_uniformity(o, encoder):
    """Decoupled uniformity or SimCLR on small images, for the options of a config."""
    projector = node(rcl.networks.Mlp, (8 * o.width, 8 * o.width))
    if o.method == "simclr":
        return node(rcl.objectives.SimCLR, encoder, projector, temperature=0.2)
    kernel = None if o.prior == "none" else node(rcl.losses.Rbf, o.sigma, unit="median")
    fields = {"kernel": kernel, "ridge": o.ridge}
    return node(rcl.objectives.Uniformity, encoder, projector, **fields)


# The option `layer` of `weights`, a file of the authors' code that is measured as it is
# unless epochs are given; pooled: of before 23 May 2023.
LAYERS = "features", "pooled"


TRAINED = "epochs=N, a file that is trained on"


def measured(o):
    """Whether nothing is trained; a prior is then not read."""
    only_with(o, bool(o.weights), "weights=FILE", "layer")
    return bool(o.weights) and "epochs" not in o.given


def released(o):
    """The rules that fill a run from the option `weights`."""
    if not o.weights:
        return ()
    parts = "everything" if o.layer == "features" else "encoder and projector"
    return (node(rcl.weights.ImportUniformity, o.weights, parts),)


def uniformity_sgd():
    """The recipe for small data: without momentum."""
    falling = node(rcl.optim.EpochCosine, final=1e-3)
    return node(rcl.optim.Sgd, 0.3, falling, momentum=0.0, reference_batch=256)


def uniformity_lars(rate, form, **fields):
    """The recipe for large data; `form` is a key of `LARS`."""
    falling = node(rcl.optim.EpochCosine, final=1e-3)
    fields |= LARS[form]
    return node(rcl.optim.Lars, rate, falling, weight_decay=1e-6, **fields)


# Photographs with attributes.

BIRDS = (0.4863, 0.4999, 0.4312), (0.2070, 0.2018, 0.2428)
SHOES = (0.8342, 0.8142, 0.8081), (0.2804, 0.3014, 0.3072)


def birds(o):
    """Images, side of a view, encoder, sigma, and what evaluators see of an image."""
    folder = o.folder or "data/CUB_200_2011"
    train, test = (
        node(rcl.data.Cub200, folder, split, 256, "as torchvision")
        for split in ("train", "test")
    )
    shown = {"preprocess": node(rcl.augment.CenterCrop, 224)}
    encoder = resnet(18, BIRDS, compute=o.compute)
    return train, train, test, 224, encoder, 20.0, shown


def shoes(o):
    """The same; photographs, a third wider than high, are evaluated whole."""
    folder = o.folder or "data/zappos"
    source = node(rcl.data.Zappos, folder, "train", 102)
    train, test = (
        node(rcl.data.Zappos, folder, split, 32, resize="as torchvision")
        for split in ("train", "test")
    )
    encoder = resnet(18, SHOES, compute=o.compute, **SMALL_STEM)
    return source, train, test, 32, encoder, 100.0, {}
