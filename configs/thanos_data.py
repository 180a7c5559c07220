"""The data of Thanos, with fine and with coarse labels (Chen, Fu et al. 2022)."""

from common import FASHION, IMAGENET

import jax_rcl as rcl
from jax_rcl import node
from jax_rcl.data.published import coarse

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
    "fashion": (IDX, {}, 28, *FASHION, coarse.FASHION_MNIST),
}


def fine_sources(o):
    """Training and test images with their fine labels."""
    source, fields, *_, groups = DATA[o.data]
    fields = {"folder": o.folder} if o.data == "tiny" else fields
    train, test = (node(source, split=split, **fields) for split in ("train", "test"))
    if o.data == "cifar100u":
        train = node(rcl.data.Unbalanced, train, groups)
    return train, test


def labelled_parts(o, train, test):
    """Training, validation and test images of the option `labels`; how many classes."""
    parts = (*(node(rcl.data.Split, train, part) for part in ("train", "val")), test)
    groups = DATA[o.data][-1]
    if o.labels == "fine":
        return parts, len(groups.mapping)
    parts = tuple(node(rcl.data.Relabel, part, **vars(groups)) for part in parts)
    return parts, len(groups.class_names)
