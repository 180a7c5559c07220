"""What configs of several papers share; one imports it as `from common import …`."""

from pathlib import Path
from typing import Any

import jax_rcl as rcl
from jax_rcl import node, only_with
from jax_rcl.config import CLASS, ConfigError, from_json, stored_config, to_json
from jax_rcl.data.frames import EXTENT
from jax_rcl.data.packed import RECORDS
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.ranges import Within

# Mean and standard deviation of each channel, for `resnet`.
CIFAR = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FASHION = (0.286,), (0.353,)

# The range of an option that is a share of examples.
SHARE = Within(0, 1, "low")
COMPUTE = ("float32", "bfloat16")
# Where random crops of photographs are cut; whole: anywhere, as the releases do, by the
# host; square: in the square that evaluators see, on the device.
CROPS = ("whole", "square")
# Options of `cropped`; longest: pixels of photographs that are packed, or that are kept
# in frames on the device; 0: as they are, read when they are needed.
CUT = {"crops": CROPS, "longest": 0}
# Jitter of brightness, contrast, saturation and hue.
MILD = (0.4, 0.4, 0.4, 0.1)
STRONG = (0.8, 0.8, 0.8, 0.2)

# Views.


def simclr_view(side, *, smallest=0.08, jitter=MILD, rgb=True):
    """A view as in SimCLR without blur (Chen et al. 2020, arXiv 2002.05709).

    Grey images have no saturation and hue; with `rgb` off, these stay as they are.
    """
    colors = node(rcl.augment.ColorJitter, *(jitter if rgb else jitter[:2]))
    operations = [
        crop(side, smallest),
        node(rcl.augment.Flip),
        node(rcl.augment.Maybe, colors, 0.8),
    ]
    if rgb:
        operations.append(node(rcl.augment.Maybe, node(rcl.augment.Grayscale), 0.2))
    return node(rcl.augment.Chain, tuple(operations))


def moco_v2_view(side, *, blur=(23, (0.1, 2.0))):
    """A view as in MoCo v2 (Chen et al. 2020, arXiv 2003.04297); `blur` may be None.

    Deviation: the release blurs by PIL's three box filters in a row; this is a
    Gaussian.
    """
    operations = [
        crop(side, 0.2),
        node(rcl.augment.Maybe, node(rcl.augment.ColorJitter, *MILD), 0.8),
        node(rcl.augment.Maybe, node(rcl.augment.Grayscale), 0.2),
    ]
    if blur:
        operations.append(
            node(rcl.augment.Maybe, node(rcl.augment.GaussianBlur, *blur), 0.5)
        )
    return node(rcl.augment.Chain, (*operations, node(rcl.augment.Flip)))


def crop_and_flip(side, *then, smallest=0.08):
    """A random crop, as CLIP and supervised classifiers take it, then `then`."""
    operations = (crop(side, smallest), node(rcl.augment.Flip), *then)
    return node(rcl.augment.Chain, operations)


# Of an option `mix`: what is done to images beside the usual view.
MIXES = {"none": None, "mixup": rcl.augment.Mixup, "cutmix": rcl.augment.CutMix}
MIXES |= {"cutout": None}


def views(view, count, mix):
    """So many views, mixed with those of a partner, or with a square cut out of each.

    Labels are drawn: that of the partner with its share of the mixture.
    """
    if mix == "cutout":
        operations = (*view.operations, node(rcl.augment.Cutout, (0, 20)))
        view = node(rcl.augment.Chain, operations)
    made = node(rcl.augment.Views, view, count=count)
    if MIXES[mix] is None:
        return made
    return node(rcl.augment.Mixed, made, node(MIXES[mix]))


def crop(side, smallest):
    """A random crop of at least the share `smallest` of the area, resized."""
    return node(rcl.augment.RandomResizedCrop, side, area=(smallest, 1.0))


def cropped(o, source, augment, kind=""):
    """Source and augmentation for the options of `CUT`, or another `kind` of crops.

    They are those for squares, whose views begin with a random crop. For whole
    photographs it moves into the source, which has them in frames of `longest` pixels,
    to be laid out in device memory, or as they are.
    """
    whole = (kind or o.crops) == "whole"
    only_with(o, whole, "crops of whole photographs", "longest")
    if not whole:
        return source, augment
    source, augment = (from_json(to_json(each)) for each in (source, augment))
    if str(source[CLASS]).endswith(":Squares"):
        source = source.source
    inner: Any = source
    while "source" in inner:
        inner = inner.source
    if inner[CLASS].endswith(":Packed"):
        check_photographs(inner.folder)
        only_with(o, False, "photographs that are not packed", "longest")
    if "size" in inner:
        with inner.unlocked():
            inner.size = None
    made: Any = augment
    views = made.get("views") or made  # negatives are made of views
    chain = views.get("shared") or views.operation
    first, *then = chain.operations
    with chain.unlocked():
        chain.operations = tuple(then)
    crop = {key: first[key] for key in ("size", "area", "aspect", "interpolation")}
    # A pair is made of one crop.
    crop["count"] = views.get("count", 1)
    if o.longest:
        source = node(rcl.data.Framed, source, o.longest)
    return node(rcl.data.RandomCrops, source, **crop), augment


def check_photographs(folder):
    """Raises ConfigError for packed records that are squares, if they are there."""
    packed = rcl.data.Packed(folder)
    if not (Path(folder).expanduser() / RECORDS).exists():
        return  # which is said where records are needed
    if EXTENT not in packed.description["arrays"]:
        raise ConfigError(
            f"{folder} holds records of squares, of which crops of whole photographs "
            f"cannot be cut: write crops=square, or pack photographs in frames, "
            f"jax-rcl prepare pack --config=configs/imagenet100_moco.py:longest=400 "
            f"--part=source.source --out=… (docs/nonsemantic_negatives.md)."
        )


# Sources: what is trained on, and what is tested on.


def cifar(classes, archive="archive", folder=""):
    """CIFAR out of its archive, or with "tfds" as TensorFlow Datasets prepared it."""
    known = {"folder": folder} if folder else {}
    if archive == "tfds":
        name, known = f"cifar{classes}", {"data_dir": folder} if folder else {}
        parts = ("train", "test")
        return tuple(node(rcl.data.Tfds, name, split, **known) for split in parts)
    parts = ("train", "test")
    return tuple(node(rcl.data.Cifar, classes, split, **known) for split in parts)


def fashion(share=None):
    """Fashion-MNIST, of its training images all or a share."""
    train, test = (node(rcl.data.Idx, split=split) for split in ("train", "test"))
    return train if share is None else node(rcl.data.Subset, train, share), test


def emoji(labels):
    """Google's drawings."""
    return tuple(
        node(rcl.data.Emoji, "google", split, labels=labels)
        for split in ("train", "test")
    )


def image_folders(folder):
    """ImageNet-100 in folders of photographs, as the releases resize them to test."""
    return tuple(photographs(f"{folder}/{part}") for part in ("train", "val"))


def photographs(folder, side=256, classes=IMAGENET_100, **fields):
    """Photographs in folders of classes, their shorter sides resized, made square."""
    fields = {"classes": classes, "resize": "as torchvision", **fields}
    return node(rcl.data.ImageFolder, folder, side, **fields)


# Networks.


def resnet(depth, statistics, **fields):
    """A ResNet of images that are normalised by mean and standard deviation."""
    made = node(rcl.networks.ResNet, depth, **fields)
    return node(rcl.networks.Normalized, made, *statistics)


def local_norm(norm, ghost_batch):
    """Fields of a network for the option `norm`: released, of parts of a batch."""
    return {"norm": "local", "ghost_batch": ghost_batch} if norm == "released" else {}


def frozen_classifier(encoder, classes, **head):
    """A linear head, trained on an encoder that stays as it is."""
    linear = node(rcl.networks.Linear, classes, **head)
    return node(rcl.objectives.Classify, encoder, linear, encoder_is="frozen")


# Optimizers.


def sgd(rate, **fields):
    """SGD with momentum as most contrastive recipes have it: everything decays."""
    fields = {"schedule": node(rcl.optim.EpochCosine), "weight_decay": 1e-4, **fields}
    return node(rcl.optim.Sgd, rate, decayed="all", **fields)


def simclr_sgd(epochs):
    """The recipe for CIFAR of SimCLR and SupCon: ten epochs of warm-up.

    A run of fewer than twenty epochs warms up for half of them.
    """
    falling = node(rcl.optim.Cosine, warmup_epochs=min(10.0, epochs / 2), final=5e-4)
    return sgd(0.5, schedule=falling, reference_batch=1024)


# How long.


def length(o, measured):
    """Epochs of the option; what is `measured` as it is has none unless given."""
    if measured and "epochs" not in o.given:
        return {"steps": 0}
    return {"epochs": o.epochs}


# Evaluators.


def every(epochs, times=20):
    """So many times in a run of `epochs`."""
    return node(rcl.evaluate.Every, epochs=max(1, epochs // times))


def knn_and_probe(train, test, when, *, k=20, strengths=None, **both):
    """Nearest neighbours now and `when`, and at the end a linear probe."""
    chosen = {} if strengths is None else {"strengths": strengths}
    knn = node(rcl.evaluate.Neighbours, train, test, k=k, when=when, **both)
    probe = node(rcl.evaluate.LinearProbe, train, test, **chosen, **both)
    return {"knn": knn, "probe": probe}


def corrupted_cifar(classifier, test, folder):
    """The accuracy on CIFAR-10-C or CIFAR-100-C, if the option has its folder."""
    if not folder:
        return {}
    copy = node(rcl.evaluate.CorruptedArrays, folder, test)
    return {"corrupted": node(rcl.evaluate.Robustness, classifier, {"c": copy})}


def imagenet_knn_and_probe(train, val, epochs):
    """The same at 224 pixels, neighbours among a tenth of the training images."""
    centre = node(rcl.augment.CenterCrop, 224)
    few = node(rcl.data.Subset, train, 0.1)
    knn = node(rcl.evaluate.Neighbours, few, val, when=every(epochs), preprocess=centre)
    probe = node(rcl.evaluate.LinearProbe, train, val, preprocess=centre)
    return {"knn": knn, "probe": probe}


def emoji_evaluators(train, test, size, when):
    """The usual two on drawings resized to `size`."""
    strengths = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
    seen = node(rcl.augment.Resize, size)
    return knn_and_probe(train, test, when, strengths=strengths, preprocess=seen)


def head_accuracy(source, side, **fields):
    """The accuracy of a head on the central crops of photographs."""
    fields = {"preprocess": node(rcl.augment.CenterCrop, side), **fields}
    return node(rcl.evaluate.HeadAccuracy, source, mapped=0, **fields)


def val_and_test(val, test):
    """The accuracy of a head on images held out, and at the end on the test's."""
    last = node(rcl.evaluate.AtEnd)
    return {
        "val": node(rcl.evaluate.HeadAccuracy, val, mapped=0),
        "test": node(rcl.evaluate.HeadAccuracy, test, mapped=0, when=last),
    }


# Runs that a config starts from.

# Where a frozen encoder keeps its variables.
FROZEN = {
    "params": "frozen/encoder/params",
    "batch_stats": "frozen/encoder/batch_stats",
}


def run_of(file, workdir, *objectives, evaluator=""):
    """The config of a run, which must be one of the config `file`.

    Raises:
      ConfigError: its objective is none of `objectives`, or it has no `evaluator`.
    """
    stored = stored_config(Path(workdir))
    known = stored.objective[CLASS].rpartition(":")[2] in objectives
    if not known or (evaluator and evaluator not in stored.evaluators):
        raise ConfigError(f"{workdir} is not a run of {file}; give one.")
    return stored


def probed_run(file, workdir, objective):
    """The objective of a run, and the training and test images of its probe."""
    stored = run_of(file, workdir, objective, evaluator="probe")
    probe = stored.evaluators.probe
    return stored.objective, probe.train, probe.test
