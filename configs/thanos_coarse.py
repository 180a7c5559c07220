"""Thanos, stage 1: an encoder trained on coarse labels (Chen, Fu et al. 2022).

    python -m jax_rcl.main --config=configs/thanos_coarse.py --workdir=runs/spread
    python -m jax_rcl.main --workdir=runs/auto \
        --config=configs/thanos_coarse.py:method=ce,decoder=color

Stage 2: thanos_transfer.py; every experiment: docs/thanos.md. Obtained: CIFAR not yet
run; Fashion-MNIST in tables/thanos_fashion.py. Options: `data` (and its `folder`),
`labels`, `method`, `decoder`, `encoders`, `network`, `form`, `width`, `epochs`.
"""

from common import MILD, every, simclr_view
from thanos_data import DATA, fine_sources, labelled_parts

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse
from jax_rcl.config import Best
from jax_rcl.networks.vit import PERFECTLY_BALANCED

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
    _, _, side, mean, std, _ = DATA[o.data]
    paper, rgb = o.form == "paper", len(mean) == 3
    train, test = fine_sources(o)
    (source, val, known), classes = labelled_parts(o, train, test)
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
    last = node(rcl.evaluate.AtEnd)
    return node(
        Experiment,
        source=source,
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
            "val": node(rcl.evaluate.HeadAccuracy, val, mapped=0),
            "test": node(rcl.evaluate.HeadAccuracy, known, mapped=0, when=last),
            "fine": node(
                rcl.evaluate.LinearProbe, train, test, when=every(o.epochs, 12)
            ),
            **looks(o, test, view, contrasts),
        },
    )


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


def looks(o, test, view, contrasts):
    """How classes lie in the features, and pictures that the decoder makes of them."""
    groups = DATA[o.data][-1]
    asked = {"coarse": groups.mapping, "coarse_names": groups.class_names}
    asked |= {"views": view, "terms": {each.name: each for each in contrasts}}
    if o.encoders == "two":
        asked["layer"] = "features_of_encoder"
    decoded = {}
    if o.decoder != "none":
        asked["reconstruction"] = "reconstruction"
        decoded = {"decoded": node(rcl.evaluate.Reconstructions, test)}
    return {"geometry": node(rcl.evaluate.Geometry, test, **asked), **decoded}
