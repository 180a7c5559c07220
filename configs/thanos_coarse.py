"""Thanos, stage 1: an encoder trained on coarse labels (Chen, Fu et al. 2022).

    python -m jax_rcl.main --config=configs/thanos_coarse.py --workdir=runs/spread
    python -m jax_rcl.main --workdir=runs/auto \
        --config=configs/thanos_coarse.py:method=ce,decoder=color

Stage 2: thanos_transfer.py; every experiment: docs/thanos.md. Obtained: CIFAR not yet
run; Fashion-MNIST in tables/thanos_fashion.py. Options: `data` (and its `folder`),
`labels`, `method`, `decoder`, `encoders`, `network`, `form`, `width`, `epochs`.
"""

from common import IMAGENET, MILD, every, simclr_view

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse
from jax_rcl.config import Best
from jax_rcl.data.published import coarse
from jax_rcl.networks.vit import PERFECTLY_BALANCED

# Source, side of its images, mean and standard deviation of each channel, coarse map.
C10 = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)
C100 = (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
CIFAR, IDX = rcl.data.Cifar, rcl.data.Idx
DATA = {
    "cifar10": (CIFAR, {"classes": 10}, 32, *C10, coarse.CIFAR10),
    "cifar100": (CIFAR, {"classes": 100}, 32, *C100, coarse.CIFAR100),
    "cifar100u": (CIFAR, {"classes": 100}, 32, *C100, coarse.CIFAR100),
    "tiny": (rcl.data.TinyImageNet, {}, 64, *IMAGENET, coarse.TINY_IMAGENET),
    "mnist": (IDX, {"name": "mnist"}, 28, (0.1307,), (0.3081,), coarse.MNIST),
    "fashion": (IDX, {}, 28, (0.286,), (0.353,), coarse.FASHION_MNIST),
}
SUPCON = {"name": "supcon", "spread": 0.0}
RELEASED = {"logit_clip": 1.0, "similarity": "released", "direction": "one-way"}
INFONCE = {"name": "infonce", "spread": 0.0, "classes": "examples"}
METHODS = {"spread": ({},), "supcon": (SUPCON,), "ce": ()}
METHODS |= {"supcon_infonce": (SUPCON, INFONCE)}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        data=tuple(DATA),
        labels=("coarse", "fine"),
        method=tuple(METHODS),
        decoder=("none", "color", "gray", "label"),
        encoders=("one", "two"),
        network=("vit", "resnet18", "resnet50", "resnet10"),
        form=("paper", "released"),
        width=64,
        epochs=600,
        folder="tiny-imagenet-200",
    )
    _, _, side, mean, std, groups = DATA[o.data]
    paper, rgb = o.form == "paper", len(mean) == 3
    train, test = fine_sources(o)
    parts = [node(rcl.data.Split, train, part) for part in ("train", "val")]
    parts.append(test)
    classes = len(groups.mapping)
    if o.labels == "coarse":
        parts = [node(rcl.data.Relabel, part, **vars(groups)) for part in parts]
        classes = len(groups.class_names)
    # Grey images have no saturation and hue.
    colors = {"jitter": MILD, "gray": 0.2} if rgb else {"jitter": MILD[:2], "gray": 0}
    view = simclr_view(side, smallest=0.2, **colors)
    encoder = node(rcl.networks.Normalized, network(o), mean, std)
    form = {} if paper else RELEASED
    contrasts = tuple(
        node(rcl.objectives.Contrast, **term, **form) for term in METHODS[o.method]
    )
    period = None if paper else 100.0
    schedule = node(rcl.optim.EpochCosine, period=period, beyond="rise")
    return node(
        Experiment,
        source=parts[0],
        augment=node(rcl.augment.Views, view, count=2),
        objective=node(
            rcl.objectives.Spread,
            encoder,
            head=node(rcl.networks.Linear, classes),
            contrasts=contrasts,
            reconstruction=reconstruction(o),
            encoder_auto=encoder if o.encoders == "two" else None,
        ),
        optimizer=node(rcl.optim.AdamW, 3e-4, schedule, decayed="all"),
        batch_size=128,
        epochs=o.epochs,
        best=node(Best, "val/top1"),
        evaluators={
            **accuracies(*parts[1:]),
            "fine": node(
                rcl.evaluate.LinearProbe, train, test, when=every(o.epochs, 12)
            ),
            **looks(o, test, view, contrasts),
        },
    )


def fine_sources(o):
    """Training and test images with their fine labels."""
    source, fields, *_, groups = DATA[o.data]
    fields = {"folder": o.folder} if o.data == "tiny" else fields
    train, test = (node(source, split=split, **fields) for split in ("train", "test"))
    if o.data == "cifar100u":
        train = node(rcl.data.Unbalanced, train, groups)
    return train, test


def network(o):
    """The encoder that the option `network` names."""
    if o.network == "vit":
        rates = (0.1, 0.05, 0.05, 0.05, 0.0 if o.form == "paper" else 0.1)
        drop = node(rcl.networks.DropRates, *rates)
        return node(rcl.networks.ViT, **PERFECTLY_BALANCED, drop=drop)
    depth = int(o.network.removeprefix("resnet"))
    return node(rcl.networks.ResNet, depth=depth, width=o.width, stem="imagenet")


def reconstruction(o):
    """The term of the option `decoder`, if there is one."""
    if o.decoder == "none":
        return None
    _, _, side, mean, std, _ = DATA[o.data]
    fields = {"mean": mean, "std": std}
    channels = len(mean)
    if o.decoder == "gray":
        fields["target"], channels = "gray", 1
    if o.decoder == "label":
        fields["reads"] = "features and label"
    decoder = node(rcl.networks.ResNetDecoder, side, channels, width=o.width)
    return node(rcl.objectives.Reconstruction, decoder, **fields)


def accuracies(val, test):
    """Accuracies of the head."""
    last = node(rcl.evaluate.AtEnd)
    return {
        "val": node(rcl.evaluate.HeadAccuracy, val, mapped=0),
        "test": node(rcl.evaluate.HeadAccuracy, test, mapped=0, when=last),
    }


def looks(o, test, view, contrasts):
    """How classes lie in the features, and pictures that the decoder makes of them."""
    groups = DATA[o.data][-1]
    asked = {"coarse": groups.mapping, "coarse_names": groups.class_names}
    asked |= {"views": view, "terms": {each.name: each for each in contrasts}}
    if o.encoders == "two":
        asked["layer"] = "features_of_encoder"
    if o.decoder == "none":
        return {"geometry": node(rcl.evaluate.Geometry, test, **asked)}
    asked["reconstruction"] = "reconstruction"
    geometry = node(rcl.evaluate.Geometry, test, **asked)
    decoded = node(rcl.evaluate.Reconstructions, test)
    return {"geometry": geometry, "decoded": decoded}
