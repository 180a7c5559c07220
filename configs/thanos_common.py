"""What configs of Thanos share (Chen, Fu et al. 2022)."""

from typing import Any, NamedTuple

from common import FASHION, IMAGENET, run_of

import jax_rcl as rcl
from jax_rcl import node, only_with
from jax_rcl.config import ConfigError, same
from jax_rcl.data.published import coarse
from jax_rcl.networks.vit import PERFECTLY_BALANCED


class Data(NamedTuple):
    """A data set: its source, the side of an image, statistics, and coarse labels."""

    source: type
    fields: dict[str, Any]
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    groups: Any


C10 = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)
C100 = (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
CIFAR, IDX = rcl.data.Cifar, rcl.data.Idx
DATA = {
    "cifar10": Data(CIFAR, {"classes": 10}, 32, *C10, coarse.CIFAR10),
    "cifar100": Data(CIFAR, {"classes": 100}, 32, *C100, coarse.CIFAR100),
    "cifar100u": Data(CIFAR, {"classes": 100}, 32, *C100, coarse.CIFAR100),
    "tiny": Data(rcl.data.TinyImageNet, {}, 64, *IMAGENET, coarse.TINY_IMAGENET),
    "mnist": Data(IDX, {"name": "mnist"}, 28, (0.1307,), (0.3081,), coarse.MNIST),
    "fashion": Data(IDX, {}, 28, *FASHION, coarse.FASHION_MNIST),
}
SUPCON = {"name": "supcon", "spread": 0.0}
INFONCE = {"name": "infonce", "spread": 0.0, "classes": "examples"}
METHODS = {"spread": ({},), "supcon": (SUPCON,), "ce": ()}
METHODS |= {"supcon_infonce": (SUPCON, INFONCE)}
AS_FORM = "as form"
# Options in which the paper and the released code differ, each with its two words; the
# option `form` chooses the first or the second of all that are not given.
FORMS = {
    "clip": ("none", "released"),  # of positives: logits above 1.0 count as 1.0
    "lengths": ("cosine", "released"),  # released: those of the column, twice
    "direction": ("symmetric", "one-way"),  # of views, each against the other
    "schedule": ("cosine", "released"),  # released: of period 100, rises again
}


def data_of(o):
    """The data set, with the statistics of three channels if the option asks for it."""
    data = DATA[o.data]
    only_with(o, len(data.mean) == 1, "gray images, data=mnist or fashion", "channels")
    if o.channels == "own":
        return data
    return data._replace(mean=3 * data.mean, std=3 * data.std)


def fine_sources(o):
    """Training and test images with their fine labels."""
    source, fields, *_, groups = DATA[o.data]
    folder = o.folder or ("tiny-imagenet-200" if o.data == "tiny" else None)
    fields = fields | {"folder": folder}
    train, test = (node(source, split=split, **fields) for split in ("train", "test"))
    if o.data == "cifar100u":
        train = node(rcl.data.Unbalanced, train, groups)
    if o.subset < 1:
        train = node(rcl.data.Subset, train, o.subset)
    if o.channels == "three":
        train, test = (node(rcl.data.Channels, part) for part in (train, test))
    return train, test


def labelled_parts(o, train, test):
    """Training, validation and test images of the option `labels`; how many classes."""
    parts = (*(node(rcl.data.Split, train, part) for part in ("train", "val")), test)
    groups = DATA[o.data].groups
    if o.labels == "fine":
        return parts, len(groups.mapping)
    parts = tuple(node(rcl.data.Relabel, part, **vars(groups)) for part in parts)
    return parts, len(groups.class_names)


def form_of(o, name):
    """The word of an option of `FORMS`."""
    word = getattr(o, name)
    return FORMS[name][o.form == "released"] if word == AS_FORM else word


def forms():
    """The options of `FORMS` for `parse`."""
    return {name: (AS_FORM, *words) for name, words in FORMS.items()}


def network(o):
    """The encoder that the option `network` names, of normalised images."""
    only_with(o, o.network == "vit", "network=vit", "queries")
    wide = o.network.startswith("resnet") or o.decoder != "none"
    only_with(o, wide, "network=resnet18, 50 or 10, or a decoder", "width")
    if o.network == "vit":
        drop = node(rcl.networks.DropRates, 0.1, 0.05, 0.05, 0.05, o.queries)
        made = node(rcl.networks.ViT, **PERFECTLY_BALANCED, drop=drop)
    elif o.network == "mixer":  # of 64 patches of CIFAR
        made = node(rcl.networks.Mixer, max(4, DATA[o.data].side // 8), dropout=0.1)
    else:
        depth = int(o.network.removeprefix("resnet"))
        made = node(rcl.networks.ResNet, depth=depth, width=o.width, stem="imagenet")
    data = data_of(o)
    return node(rcl.networks.Normalized, made, data.mean, data.std)


def contrasts(o):
    """The contrastive terms of the option `method`."""
    terms = METHODS[o.method]
    only_with(
        o,
        bool(terms),
        "method=spread, supcon or supcon_infonce",
        "clip",
        "lengths",
        "direction",
    )
    form = {
        "logit_clip": 1.0 if form_of(o, "clip") == "released" else None,
        "similarity": form_of(o, "lengths"),
        "direction": form_of(o, "direction"),
    }
    return tuple(node(rcl.objectives.Contrast, **term, **form) for term in terms)


def reconstruction(o):
    """The term of the option `decoder`, if there is one."""
    if o.decoder == "none":
        return None
    data, gray = data_of(o), o.decoder == "gray"
    channels = 1 if gray else len(data.mean)
    return node(
        rcl.objectives.Reconstruction,
        node(rcl.networks.ResNetDecoder, data.side, channels, width=o.width),
        mean=data.mean,
        std=data.std,
        target="gray" if gray else "color",
        reads="features and label" if o.decoder == "label" else "features",
    )


def losses(o, val, view):
    """The loss of each task on images held out, every epoch."""
    fields: dict[str, Any] = {"terms": same("objective.contrasts")}
    if o.encoders == "two":
        fields["layer"] = "features_of_encoder"
    if o.decoder != "none":
        fields["reconstruction"] = "reconstruction"
    return node(rcl.evaluate.TaskLosses, val, view, **fields)


def looks(o, test, view):
    """How classes lie in the features, and pictures that the decoder makes of them."""
    groups = DATA[o.data].groups
    asked = {"coarse": groups.mapping, "coarse_names": groups.class_names}
    asked |= {"views": view, "terms": same("objective.contrasts")}
    if o.encoders == "two":
        asked["layer"] = "features_of_encoder"
    if o.decoder == "none":
        return {"geometry": node(rcl.evaluate.Geometry, test, **asked)}
    asked["reconstruction"] = "reconstruction"
    return {
        "geometry": node(rcl.evaluate.Geometry, test, **asked),
        "decoded": node(rcl.evaluate.Reconstructions, test),
    }


def read_runs(o, encoder_is):
    """The config of the first run, the encoders of all, and the rules to fill them."""
    workdirs = tuple(filter(None, (o.first, o.second)))
    file, kind = "thanos_coarse.py", "Spread"
    stored = [run_of(file, each, kind, evaluator="fine") for each in workdirs]
    encoders, rules = [], []
    for workdir, run in zip(workdirs, stored, strict=True):
        if run.evaluators["fine"].test != stored[0].evaluators["fine"].test:
            raise ConfigError(f"{workdir} learned from other images than {o.first}.")
        for name in ("encoder", "encoder_auto"):
            if run.objective.get(name):
                own = {"source": name, "place": f"part{len(encoders) + 1}"}
                paths = rcl.objectives.encoder_paths(encoder_is, **own)
                encoders.append(run.objective[name])
                rules.append(node(rcl.weights.Restore, workdir, paths, which=o.which))
    return stored[0], tuple(encoders), tuple(rules)
