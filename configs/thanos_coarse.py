"""Thanos, stage 1: an encoder trained on coarse labels (Chen, Fu et al. 2022).

    python -m jax_rcl.main --config=configs/thanos_coarse.py --workdir=runs/spread
    python -m jax_rcl.main --workdir=runs/auto \
        --config=configs/thanos_coarse.py:method=ce,decoder=color

Stage 2: thanos_transfer.py; every experiment: docs/thanos.md. Obtained: CIFAR not yet
run; Fashion-MNIST in tables/thanos_fashion.py. Options: `data` (and its `folder`),
`labels`, `method`, `decoder`, `encoders`, `network`, `form`, `width`, `epochs`.
"""

from jax_rcl.augment import color, compose, geometry
from jax_rcl.config import Best, Experiment, node, parse
from jax_rcl.data import sources
from jax_rcl.data.published import coarse, tiny_imagenet
from jax_rcl.data.wrappers import Relabel, Split, Unbalanced
from jax_rcl.evaluate import geometry as strata
from jax_rcl.evaluate import head, reconstructions
from jax_rcl.evaluate.linear import probe
from jax_rcl.evaluate.when import AtEnd, Every
from jax_rcl.networks import decoder, dropout, heads, resnet, vit
from jax_rcl.objectives import spread, terms
from jax_rcl.optim.optimizers import AdamW
from jax_rcl.optim.schedules import EpochCosine

# Source, side of its images, mean and standard deviation of each channel, coarse map.
C10 = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)
C100 = (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DATA = {
    "cifar10": (sources.Cifar, {"classes": 10}, 32, *C10, coarse.CIFAR10),
    "cifar100": (sources.Cifar, {"classes": 100}, 32, *C100, coarse.CIFAR100),
    "cifar100u": (sources.Cifar, {"classes": 100}, 32, *C100, coarse.CIFAR100),
    "tiny": (tiny_imagenet.TinyImageNet, {}, 64, *IMAGENET, coarse.TINY_IMAGENET),
    "mnist": (sources.Idx, {"name": "mnist"}, 28, (0.1307,), (0.3081,), coarse.MNIST),
    "fashion": (sources.Idx, {}, 28, (0.286,), (0.353,), coarse.FASHION_MNIST),
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
    source, fields, side, mean, std, groups = DATA[o.data]
    fields = {"folder": o.folder} if o.data == "tiny" else fields
    rgb, paper = len(mean) == 3, o.form == "paper"
    schedule = node(EpochCosine, period=None if paper else 100.0, beyond="rise")
    train, test = (node(source, split=split, **fields) for split in ("train", "test"))
    if o.data == "cifar100u":
        train = node(Unbalanced, train, groups)
    parts = [node(Split, train, "train"), node(Split, train, "val"), test]
    if o.labels == "coarse":
        parts = [node(Relabel, part, **vars(groups)) for part in parts]
    classes = len(groups.class_names if o.labels == "coarse" else groups.mapping)
    jitter = node(color.ColorJitter, *((0.4, 0.4, 0.4, 0.1) if rgb else (0.4, 0.4)))
    crop = node(geometry.RandomResizedCrop, side, area=(0.2, 1.0))
    view = [crop, node(geometry.Flip), node(compose.Maybe, jitter, 0.8)]
    view += [node(compose.Maybe, node(color.Grayscale), 0.2)] if rgb else []
    if o.network == "vit":
        rates = node(dropout.DropRates, 0.1, 0.05, 0.05, 0.05, 0.0 if paper else 0.1)
        body = node(vit.ViT, **vit.PERFECTLY_BALANCED, drop=rates)
    else:
        depth = int(o.network[len("resnet") :])
        body = node(resnet.ResNet, depth=depth, width=o.width, stem="imagenet")
    encoder = node(heads.Normalized, body, mean, std)
    form = {} if paper else RELEASED
    contrasts = tuple(node(terms.Contrast, **t, **form) for t in METHODS[o.method])
    made, gray = {"mean": mean, "std": std}, o.decoder == "gray"
    made |= {"target": "gray"} if gray else {}
    made |= {"reads": "features and label"} if o.decoder == "label" else {}
    made["decoder"] = node(
        decoder.ResNetDecoder, side, 1 if gray else len(mean), width=o.width
    )
    often, last = node(Every, epochs=max(1, o.epochs // 12)), node(AtEnd)
    view = node(compose.Chain, tuple(view))
    asked = {"coarse": groups.mapping, "coarse_names": groups.class_names}
    asked |= {"views": view, "terms": {each.name: each for each in contrasts}}
    asked |= {"layer": "features_of_encoder"} if o.encoders == "two" else {}
    asked |= {"reconstruction": "reconstruction"} if o.decoder != "none" else {}
    pictures = {"decoded": node(reconstructions.Reconstructions, test)}
    return node(
        Experiment,
        source=parts[0],
        augment=node(compose.Views, view, count=2),
        objective=node(
            spread.Spread,
            encoder,
            head=node(heads.Linear, classes),
            contrasts=contrasts,
            reconstruction=None
            if o.decoder == "none"
            else node(terms.Reconstruction, **made),
            encoder_auto=encoder if o.encoders == "two" else None,
        ),
        optimizer=node(AdamW, 3e-4, schedule, decayed="all"),
        batch_size=128,
        epochs=o.epochs,
        best=node(Best, "val/top1"),
        evaluators={
            "val": node(head.HeadAccuracy, parts[1], mapped=0),
            "test": node(head.HeadAccuracy, parts[2], mapped=0, when=last),
            "fine": node(probe.LinearProbe, train, test, when=often),
            "geometry": node(strata.Geometry, test, **asked),
            **(pictures if o.decoder != "none" else {}),
        },
    )
