"""Configs made small: stand-ins for networks, data and files of weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from jax_rcl.augment.geometry import Resize
from jax_rcl.config.nodes import CLASS, node
from jax_rcl.core import Source
from jax_rcl.data.prior import WithRandomBits
from jax_rcl.data.published.chexpert import PATHOLOGIES, CheXpert
from jax_rcl.data.published.grouped import Grouped
from jax_rcl.data.sources import Synthetic
from jax_rcl.data.wrappers import AllOf
from jax_rcl.networks.clip import ClipResNet, ClipViT
from jax_rcl.networks.clip_text import ClipText
from jax_rcl.networks.heads import Linear, Mlp
from jax_rcl.networks.resnet import BLOCKS, ResNet
from jax_rcl.train.step import TrainState
from jax_rcl.weights import clip, moco, torchvision, uniformity
from jax_rcl.weights.clip_names import STUDENTS, TAUGHT_BY
from tests.stand_ins import Blank, Flat, FlatDecoder

# Stand-ins for data that the tests do not have: classes, size, channels.
SHAPES = {
    "Digits": (10, 8, 1),
    "Idx": (10, 28, 1),
    "Cifar": (10, 32, 3),
    "TinyImageNet": (200, 64, 3),
    "Emoji": (9, 64, 3),
    "Cub200": (20, 40, 3),
    "Zappos": (21, 32, 3),
    "Stl10": (10, 96, 3),
}
CLIP = {"output": 8, "image_size": 32}
STAGES = (1,)
"""Blocks of a ResNet-10 while configs are tried: it is one stage deep, not four."""


@dataclasses.dataclass(frozen=True)
class Textured(AllOf):
    """Records with a texture, which is the image upside down."""

    source: Source

    def __getitem__(self, index):
        record = self.source[index]
        return {**record, "texture": record["image"][::-1].copy()}


def shrunk(value):
    """The same experiment on a handful of synthetic images, with narrow networks."""
    if isinstance(value, tuple):
        return tuple(shrunk(item) for item in value)
    if not isinstance(value, ConfigDict):
        return value
    kind = kind_of(value)
    held = {key: value[key] for key in value}  # a `ConfigDict` is slow to say no
    if kind in SHAPES or kind == "Tfds":
        classes, size, channels = SHAPES.get(kind, (100, 32, 3))
        classes, test = held.get("classes", classes), value.split == "test"
        count = 24 if test else 80
        return node(Synthetic, classes, size, channels, count, seed=int(test))
    if kind in ("Grouped", "CelebA"):
        return node(Grouped, "birds", value.split, 16)
    if kind in ("ImageFolder", "Packed", "CorruptedFolders"):
        test = not value.folder.endswith("train")
        seed = len(value.folder) * test
        classes = 2 if "covid" in value.folder else len(held.get("classes", ())) or 100
        return node(Synthetic, classes, 40, 3, 24 if test else 80, seed=seed)
    if kind == "CheXpert":
        return node(CheXpert, "chest", value.split, value.size and 16)
    if kind == "WithTexture":
        return node(Textured, shrunk(value.source))
    if kind in ("FewLabels", "Unbalanced"):
        return shrunk(value.source)
    if kind in ("WithPrior", "WithKeywords"):
        return node(WithRandomBits, shrunk(value.source), bits=8)
    small = {
        "ResNet": {"depth": 10, "width": 4}
        | ({"ghost_batch": 2} if held.get("ghost_batch") else {}),
        "ResNetDecoder": {"width": 4},
        "Mixer": {"width": 8, "depth": 1},
        "ViT": {"width": 8, "depth": 1, "heads": 2, "mlp_width": 8},
        "Mlp": {"widths": (8, 8)},
        "RandomResizedCrop": {
            "size": 32 if held.get("size") == 224 else held.get("size")
        },
        "RandomCrops": {"size": 32},
        "Framed": {"longest": 44},
        "Curriculum": {"epochs": 2},
        "Squares": {"size": 40},
        "CenterCrop": {"size": 32},
        "ResizeShorter": {"size": 32},
        "ClipResNet": {**CLIP, "depths": (1, 1, 1, 1), "width": 8}
        | ({"ghost_batch": 2} if held.get("ghost_batch") else {}),
        "ClipViT": {**CLIP, "patch": 8, "width": 64, "layers": 1},
        "SquareMask": {"length": (4, 8)},
        "Relabel": {"class_names": tuple(f"grating {i}" for i in range(100))}
        if held.get("name") == "RELABELLED"
        else {},
        "LevelSweep": {"repeats": 1, "levels": few_levels(held)},
        "DeepDecoder": {"width": 4},
        "PatchMosaic": {"side": (2, 10)},
        "Quilting": {"size": 32, "patch": 12},
        "MoCo": {"queue_size": 16},
        "Uniformity": {"group": 2} if held.get("group") else {},
        "Linear": {"features": min(held.get("features", 0), 100)},
        "Corrupted": {"corruptions": held.get("corruptions", ())[:2]},
        "Neighbours": {"k": 5},
        "LinearProbe": {"strengths": (0.1,), "max_iterations": 20},
        "CrossValidated": {"strengths": (0.1, 1.0), "folds": 2, "max_iterations": 20},
        "PerTarget": {"strengths": (0.1,), "folds": 2, "max_iterations": 20},
        "Cosine": {"warmup_epochs": 0.0},
        "Experiment": {
            "batch_size": 8,
            "epochs": None,
            "steps": 0 if held.get("steps") == 0 else 2,
            "save_every": 1,
        },
    }.get(kind, {})
    fields = {key: shrunk(item) for key, item in held.items()} | small
    if kind in ("Experiment", "RandomCrops") and kind_of(value.source) == "Packed":
        fields["source"] = node(Textured, fields["source"])
    return ConfigDict(fields, type_safe=False).lock()


def few_levels(sweep):
    """Two levels of a sweep, or what squares of a small image can have."""
    if sweep.get("levels") and kind_of(sweep["distortion"]) == "SquareMask":
        return (4, 8)
    return sweep.get("levels", ())[:2]


def one_evaluator(made):
    """The evaluator that says which state is best, or the first, of a config."""
    name = next(iter(made.evaluators), None)
    if made.best:
        name = made.best.monitor.partition("/")[0]
    with made.unlocked():
        made.evaluators = {name: made.evaluators[name]} if name else {}
    return made


PLAIN = ("Maybe", "GaussianBlur", "RandomRotation")


def plain(value):
    """The same without random crops and colours, which take long to compile."""
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value if kind_of(item) not in PLAIN)
    if not isinstance(value, ConfigDict):
        return value
    if kind_of(value) == "RandomResizedCrop":
        return node(Resize, value.size)
    return ConfigDict({key: plain(value[key]) for key in value}, type_safe=False).lock()


OF_FILES = ("ImportClip", "ImportMoCo", "ImportResNet", "ImportDistill")
OF_FILES += ("ImportUniformity", "FillClasses")


def flat(value):
    """The same with networks and views of which little is to be traced.

    No file of weights fits such an encoder, and no other run has its features.
    """
    if isinstance(value, tuple):
        return tuple(flat(item) for item in value if kind_of(item) not in OF_FILES)
    if not isinstance(value, ConfigDict):
        return value
    if kind_of(value) == "WithFoundGroups":
        return flat(value.source)
    if kind_of(value) in ("ResNet", "ViT", "Mixer", "ClipResNet", "ClipViT"):
        return node(Flat)
    if kind_of(value) == "ResNetDecoder":
        return node(FlatDecoder, value.size, value.channels)
    if kind_of(value) == "Mlp":
        return node(Linear, value.widths[-1])
    if kind_of(value) in ("RandomResizedCrop", "Resize"):
        return node(Blank, value.size)
    if kind_of(value) == "WithFeatures":
        return node(WithRandomBits, flat(value.source), bits=8)
    return ConfigDict({key: flat(value[key]) for key in value}, type_safe=False).lock()


def kind_of(value):
    """The name of the class of a node; "" for other values."""
    known = isinstance(value, ConfigDict) and CLASS in value
    return value[CLASS].rpartition(":")[2] if known else ""


def birds(folder):
    """Group-labelled images in the layout of Waterbirds: 16 of each split."""
    (folder / "birds").mkdir()
    lines, rng = ["img_filename,y,split,place"], np.random.default_rng(0)
    for number in range(48):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "birds" / f"{number}.png")
        lines.append(f"{number}.png,{number % 2},{number // 16},{number // 2 % 2}")
    (folder / "birds" / "metadata.csv").write_text("\n".join(lines) + "\n")


def chest(folder):
    """Radiographs in the layout of CheXpert: 24 of each split, all findings known."""
    rng = np.random.default_rng(0)
    columns = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
    header = [*columns, "No Finding", *PATHOLOGIES]
    for split in ("train", "valid"):
        lines = [",".join(header)]
        for number in range(24):
            place = f"{split}/patient{number:05}/study1"
            (folder / "chest" / place).mkdir(parents=True)
            pixels = rng.integers(0, 256, (20, 16), np.uint8)
            Image.fromarray(pixels).save(folder / "chest" / place / "view1.jpg")
            known = ",".join(str(x) for x in rng.permutation(13) % 2)
            path = f"CheXpert-v1.0-small/{place}/view1.jpg"
            lines.append(f"{path},Male,50,Frontal,AP,0,{known}")
        (folder / "chest" / f"{split}.csv").write_text("\n".join(lines) + "\n")


def published(folder):
    """Files of weights as others publish them, of the towers that `shrunk` makes."""
    words = filled(ClipText(width=64, layers=1, output=8), jnp.zeros((1, 4), jnp.int32))
    images = jnp.zeros((1, 32, 32, 3))
    resnet = filled(ResNet(10, width=4), images)
    tower = filled(ClipResNet((1, 1, 1, 1), width=8, **CLIP), images)
    vit = filled(ClipViT(patch=8, width=64, layers=1, **CLIP), images)
    whole = {"text": words, "logit_scale": np.float32(0.0)}
    student = clip.from_variables({"visual": tower})
    whole_clip = clip.from_variables({"visual": tower, **whole})
    states = {
        "clip": whole_clip,
        "vit": clip.from_variables({"visual": vit, **whole}),
        "resnet101": torchvision.from_variables(resnet),
        "moco": moco.from_variables({"encoder": resnet}),
        "du": uniformity.from_variables({"encoder": resnet}),
        "student": {
            **{name.replace("visual.", STUDENTS): x for name, x in student.items()},
            **{TAUGHT_BY + name: x for name, x in whole_clip.items()},
        },
        "probe": {
            **{name.replace("visual.", "backbone."): x for name, x in student.items()},
            "output.weight": np.ones((100, 8), np.float32),
            "output.bias": np.zeros(100, np.float32),
        },
    }
    features = jnp.zeros((1, resnet["params"]["stem"]["kernel"].shape[-1] * width()))
    head = filled(Linear(1000), features)["params"]
    states["moco_probe"] = {
        f"module.{name}": x
        for name, x in torchvision.from_variables({**resnet, "head": head}).items()
    }
    for name, stem in (("small", {"stem": "small", "stem_padding": 2}), ("large", {})):
        parts = {
            "encoder": filled(ResNet(10, width=4, **stem), images),
            "fc": filled(Linear(100), features),
            "projector": filled(Mlp((8, 8), first="relu"), jnp.zeros((1, 100))),
        }
        states[f"du_{name}"] = uniformity.from_variables(parts)
    for name, state in states.items():
        np.savez(folder / f"{name}.npz", **state)


def width():
    """By how much the features of a ResNet-10 are wider than its stem."""
    return 2 ** (len(BLOCKS[10]) - 1)


def filled(network, example):
    """A network's variables without initialising it, which would compile for long."""
    init = functools.partial(network.init, train=False)
    return jax.tree.map(random, jax.eval_shape(init, jax.random.key(0), example))


def random(x):
    """An array of that shape; ones for norms and biases, zeros for counters."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return np.zeros(x.shape, x.dtype)
    if x.ndim < 2:
        return np.ones(x.shape, x.dtype)
    scale = 1 / np.sqrt(np.prod(x.shape[:-1]))
    drawn = np.random.default_rng(x.shape).standard_normal(x.shape)
    return (scale * drawn).astype(x.dtype)


def fresh(objective, optimizer, seed, batch):
    """As `train.step.create`, but nothing is compiled for it."""
    key = jax.random.key(seed)
    shapes = jax.eval_shape(objective.init, key, batch)
    variables = jax.tree.map(lambda x: jnp.asarray(random(x)), shapes)
    moments = optimizer.init(variables.params)
    return TrainState(jnp.zeros((), jnp.int32), key, variables, moments)


def prepare(folder):
    """Birds, radiographs and weights, where configs look for them."""
    birds(folder)
    chest(folder)
    published(folder)
    return folder
