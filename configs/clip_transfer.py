"""A linear head for other data on a frozen encoder of clip_student or clip_baseline.

    python -m jax_rcl.main --config=configs/clip_transfer.py:source=runs/student \
        --workdir=runs/cifar10

As the code of Ravula et al. 2021; its runs report for students of masks, 25 epochs,
tested with the same random masks: CIFAR-10 80.9, CIFAR-100 58.6, STL-10 89.4,
ImageNet-100B 80.1, COVID 84.0 with area under the curve 91.8; others are in
docs/inverse_problems.md. Obtained: not yet run.
Options of the file: `source`, the run whose encoder it is; `data` (cifar10, cifar100,
stl10, covid, imagenet100b) and `folder`, where that is (covid and imagenet100b: has
train/ and test/ or val/); `labels`, the share of them; `distortion` (a word of
`augment.conditions.CONDITIONS`; that of `source` by default); `epochs`; `draws` of the
distortion in testing, for the mean and its deviation.
"""

from pathlib import Path

from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.distortions.conditions import CONDITIONS
from jax_rcl.augment.distortions.mixtures import ByStrength
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop, ResizeShorter
from jax_rcl.config import Experiment, node, parse
from jax_rcl.config.workdir import stored_config
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.labelled import FewLabels
from jax_rcl.data.published.imagenet import IMAGENET_100B
from jax_rcl.data.published.stl10 import Stl10
from jax_rcl.data.sources import Cifar
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.networks.heads import Linear
from jax_rcl.objectives.classify import Classify, encoder_paths
from jax_rcl.optim.optimizers import Adam
from jax_rcl.optim.schedules import EpochCosine
from jax_rcl.weights.restore import Restore

CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "covid": 2, "imagenet100b": 100}
AS = {"resize": "as torchvision"}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        source="runs/student",
        data=("cifar10", "cifar100", "stl10", "covid", "imagenet100b"),
        folder="",
        labels=1.0,
        distortion=("as the source", *CONDITIONS),
        epochs=10,
        draws=10,
    )
    stored = stored_config(Path(o.source))
    frozen = stored.objective.get("encoder_is") == "frozen"
    encoder, distortion = stored.objective.encoder, CONDITIONS.get(o.distortion)
    if distortion is None:
        distortion = of_run(stored)
    size = encoder.encoder.get("image_size", 224)
    train, test = sources(o.data, o.folder, size * 8 // 7)
    if o.labels < 1:
        train = node(FewLabels, train, o.labels)
    centre = node(CenterCrop, size)
    if o.data in ("covid", "imagenet100b"):
        crop = node(RandomResizedCrop, size, area=(0.08, 1.0))
    else:  # small images are enlarged, and seen whole
        crop = centre = node(Chain, (node(ResizeShorter, size), centre))
    head = node(Linear, CLASSES[o.data])
    accuracy = node(
        HeadAccuracy, test, mapped=0, preprocess=centre, distortion=distortion
    )
    paths = encoder_paths("frozen")
    if frozen:
        paths = {own: own for own in paths}
    evaluators = {"test": accuracy}
    if o.draws > 1:
        full = node(ByStrength, distortion), (1.0,)
        evaluators["draws"] = node(LevelSweep, accuracy, *full, o.draws)
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Chain, (crop, node(Flip), distortion)), count=1),
        objective=node(Classify, encoder, head, encoder_is="frozen"),
        optimizer=node(Adam, 1e-3, node(EpochCosine)),
        batch_size=512,
        epochs=o.epochs,
        init_from=(node(Restore, o.source, paths),),
        evaluators=evaluators,
    )


def of_run(stored):
    """What a run was distorted by, the second of a pair or the last of a chain."""
    if "distortion" in stored.augment:
        return stored.augment.distortion
    return stored.augment.operation.operations[-1]


def sources(data, folder, size):
    """Training and test images."""
    if data.startswith("cifar"):
        known = {"classes": int(data.removeprefix("cifar")), "folder": folder or None}
        return node(Cifar, **known), node(Cifar, split="test", **known)
    if data == "stl10":
        known = {"folder": folder or None}
        return node(Stl10, **known), node(Stl10, split="test", **known)
    if data == "covid":
        folder = folder or "data/covid"
        return tuple(
            node(ImageFolder, f"{folder}/{part}", size=size, **AS)
            for part in ("train", "test")
        )
    folder, known = folder or "data/imagenet100b", {"classes": IMAGENET_100B, **AS}
    return tuple(
        node(ImageFolder, f"{folder}/{part}", size=size, **known)
        for part in ("train", "val")
    )
