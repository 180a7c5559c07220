"""What configs of CLIP students and of their classifiers share (Ravula et al. 2021)."""

import re
from pathlib import Path

from common import FROZEN, IMAGENET, head_accuracy, photographs, resnet, run_of

import jax_rcl as rcl
from jax_rcl import node, only_with
from jax_rcl.augment import GaussianBlur, GaussianNoise, RandomMask, SquareMask
from jax_rcl.augment.distortions import CONDITIONS, SWEEPS, Fixed
from jax_rcl.config import ConfigError, same, stored_config, unknown
from jax_rcl.data.published import imagenet
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.networks import clip

# Towers by the words that options have for them.
TOWERS = {name.replace("/", "-"): name for name in clip.TOWERS}
# Distortions in training, the default first.
TRAINED_ON = ("mask90", *(x for x in CONDITIONS if x != "mask90"))
# Of the optimizer; released: cosine of the epoch, nearly constant; cosine: to zero.
SCHEDULES = ("released", "cosine")

# Where a config has its distortion: evaluators have the same.
IN_PAIR = "augment.distortion"
IN_CHAIN = "augment.operation.operations[2]"  # of `crop_and_flip`
# Levels of a distortion other than those that its word has, by the released names.
LEVELS = {
    "percent_missing": "",  # of masks: 0.8, or of each image its own: 0.5-0.95
    "std": "",  # of noise, the same
    "kernel_size": 0,  # of blur
    "sigma": "",
    "length": "",  # of squares, in pixels
    "offset": ("random", "center"),
    "fixed": -1,  # a seed: one mask or noise for every image, ever
}

# Distortions.


def distortion_of(o):
    """The distortion of the option `distortion`, with the levels of `LEVELS`."""
    distortion = CONDITIONS[o.distortion]
    for kind, words, fields in (
        (RandomMask, "masks", {"percent_missing": "rate"}),
        (GaussianNoise, "noise", {"std": "std"}),
        (GaussianBlur, "blur", {"kernel_size": "kernel_size", "sigma": "sigma"}),
        (SquareMask, "squares", {"length": "length", "offset": "offset"}),
    ):
        fits = isinstance(distortion, kind)
        only_with(o, fits, f"distortion={words}…", *fields)
        given = {own: pair(o, n) for n, own in fields.items() if n in o.given}
        if fits and given:
            distortion = node(kind, **{**vars(distortion), **given})
    drawn = o.distortion.startswith(("mask", "noise", "square"))
    only_with(o, drawn, "masks, noise and squares", "fixed")
    return node(Fixed, distortion, o.fixed) if o.fixed >= 0 else distortion


def pair(o, name):
    """The value of an option of `LEVELS`: bounds, of numbers that are written 0.5-0.9.

    Raises:
      ConfigError: it is neither one number nor two.
    """
    text = getattr(o, name)
    if name in ("kernel_size", "offset"):
        return text
    number = r"(\d*\.?\d+(?:e-?\d+)?)"
    found = re.fullmatch(f"{number}(?:-{number})?", text)
    if not found:
        raise ConfigError(
            f"option '{name}' takes a number or two, {name}=0.5 or {name}=0.5-0.9; "
            f"got {text!r}."
        )
    kind = int if name == "length" and "." not in text else float
    low, high = found[1], found[2] or found[1]
    return kind(low), kind(high)


# Sources.


def folders(root, side, *, parts=("train", "val"), **fields):
    """Folders of photographs below `root`, of ImageNet-100 by default."""
    return tuple(folder(f"{root}/{part}", side, **fields) for part in parts)


def folder(path, side, classes=IMAGENET_100):
    """Photographs as the authors test on them: for 224 pixels resized to 256."""
    return photographs(path, side * 8 // 7, classes)


# Encoders, and what fills them.


def side_of(encoder):
    """The side of what a stored encoder sees, of a tower of CLIP or of a ResNet."""
    return encoder.encoder.get("image_size", 224)


def tower(fields, rounding="none", **own):
    """An image tower of CLIP, normalised, of the `fields` of its architecture."""
    kind = rcl.networks.ClipResNet if is_residual(fields) else rcl.networks.ClipViT
    made = node(kind, **fields, **own)
    return node(rcl.networks.Normalized, made, clip.MEAN, clip.STD, rounding)


def is_residual(fields):
    """Whether a tower of CLIP is a ResNet, with batch statistics."""
    return "depths" in fields


def tower_of(word, rounding="none"):
    """A tower of `TOWERS`, and where it keeps its variables if frozen."""
    fields = clip.fields(TOWERS[word])
    # Only a ResNet has statistics.
    places = FROZEN if is_residual(fields) else {"params": FROZEN["params"]}
    return tower(fields, rounding), places


def source_run(o, files, *objectives):
    """Encoder, what fills it, and the distortion, for the run of the option `source`.

    The distortion is that of the option, else that of the run, which must then be one
    of `files`.
    """
    stored = stored_config(Path(o.source))
    own = o.distortion in CONDITIONS
    only_with(o, own, "a distortion other than the source's", *LEVELS)
    paths = rcl.objectives.FROZEN_ENCODER
    if stored.objective.get("encoder_is") == "frozen":
        paths = {path: path for path in paths}
    start = node(rcl.weights.Restore, o.source, paths)
    if own:
        return stored.objective.encoder, start, distortion_of(o)
    run_of(files, o.source, *objectives)
    augment = stored.augment  # a pair, or views whose last operation distorts
    distortion = augment.get("distortion") or augment.operation.operations[-1]
    return stored.objective.encoder, start, distortion


def file_of_weights(o):
    """The same for a file of the options `clip` or `released`."""
    encoder, places = tower_of(o.tower, o.rounding)
    if o.released:
        head = {"head": "params/head"} if o.part == "probe" else {}
        start = node(rcl.weights.ImportDistill, o.released, o.part, **FROZEN, **head)
    else:
        start = node(rcl.weights.ImportClip, o.clip or "RN101.pt", **places)
    known = o.distortion in CONDITIONS
    only_with(o, known, "distortion=WORD", *LEVELS)
    return encoder, start, distortion_of(o) if known else CONDITIONS["none"]


def backbone(o):
    """The encoder of the option `backbone`, and what fills it."""
    if o.backbone in TOWERS:
        encoder, places = tower_of(o.backbone, o.rounding)
        kind = rcl.weights.ImportClip
    else:
        encoder = resnet(int(o.backbone.removeprefix("resnet")), IMAGENET)
        kind, places = rcl.weights.ImportResNet, FROZEN
    if o.method == "distilled":
        paths = rcl.objectives.FROM_CLASSIFIER
        return encoder, node(rcl.weights.Restore, o.teacher, paths)
    into = places if o.encoder == "frozen" else {}
    if not o.released:
        return encoder, node(kind, o.weights, **into)
    into = {**into, "head": "params/head"}
    return encoder, node(rcl.weights.ImportDistill, o.released, "baseline", **into)


def teach(o, residual):
    """The rules that fill a student, its teacher, and the embeddings of classes."""
    into = {"params": "frozen/teacher/params"}
    if residual:
        into["batch_stats"] = "frozen/teacher/batch_stats"
    student = node(rcl.weights.ImportClip, o.clip)
    teacher = node(rcl.weights.ImportClip, o.clip, **into)
    if o.classes == "none":
        return student, teacher
    if o.classes == "text":
        text = node(rcl.evaluate.FromText, o.clip, activation=o.activation)
    else:
        text = node(rcl.evaluate.FromFile, o.classes)
    return student, teacher, node(rcl.evaluate.FillClasses, text, IMAGENET_100)


# Optimizer.


def adam(rate, schedule, period):
    """Adam as released, nearly constant by the T_max `period`, or falling to zero."""
    if schedule == "cosine":
        return node(rcl.optim.Adam, rate, node(rcl.optim.Cosine))
    return node(rcl.optim.Adam, rate, node(rcl.optim.EpochCosine, period=period))


# Evaluators.


def accuracies(name, val, side, distortion, home, kinds):
    """The accuracy `name` at a distortion, and at every level of `kinds` of them.

    The distortion is that of training, at the place `home` of the config. A fixed one
    keeps its seed: the mask or noise is the same for all images.
    """
    accuracy = head_accuracy(val, side, distortion=same(home))
    seed = getattr(distortion, "seed", None)
    return {name: accuracy, **level_sweeps(accuracy, kinds, seed)}


def level_sweeps(accuracy, kinds, seed=None, **fields):
    """The accuracy at every level of distortion, for each of `kinds`.

    A `seed` keeps the mask or the noise the same for all images.
    """
    sweeps = {}
    for kind in kinds:
        distortion, levels = SWEEPS[kind]
        if seed is not None:
            distortion = Fixed(distortion, seed)
        sweep = node(rcl.evaluate.LevelSweep, accuracy, distortion, levels, **fields)
        sweeps[f"{kind}s"] = sweep
    return sweeps


# Evaluations of a classifier that is trained: the option `what` of clip_evaluate.py.


def levels(o, accuracy, side):
    """The accuracy at levels of distortion, of images that may be restored first."""
    usual = {"levels": "mask+noise+blur", "unseen": "mask+noise", "denoise": "noise"}
    kinds = (o.kinds or usual.get(o.what, "mask")).split("+")
    for kind in kinds:
        if kind not in SWEEPS:
            raise ConfigError(unknown("option 'kinds' has no value", kind, SWEEPS))
    seen = None  # all of val/
    if o.what == "unseen":
        five = folder(o.unseen, side, classes=tuple(imagenet.RELABELLED))
        seen = node(rcl.data.Relabel, five, **vars(imagenet.AS_RELABELLED))
    elif o.images != 1:
        seen = node(rcl.data.Subset, accuracy.test, o.images)
    restorer = None
    if o.what == "denoise":
        restorer = node(rcl.restoration.NonLocalMeans)
    elif o.what == "inpaint":
        restorer = node(rcl.restoration.DeepDecoder, steps=o.steps)
    fields = {"source": seen, "restorer": restorer}
    return level_sweeps(accuracy, kinds, repeats=o.repeats, **fields)


def corruptions(o, accuracy, side):
    """The accuracy on ImageNet-100-C."""
    if o.geometry == "plain" and side != 224:
        raise ConfigError(f"ImageNet-C has 224 pixels, {o.run} takes {side}.")
    preprocess = None
    if o.geometry == "released":
        enlarge = node(rcl.augment.ResizeShorter, side * 8 // 7)
        preprocess = node(rcl.augment.Chain, (enlarge, accuracy.preprocess))
    fields = {"classes": IMAGENET_100, "preprocess": preprocess}
    stored = node(rcl.evaluate.CorruptedFolders, o.shifts, **fields)
    return {"shifts": node(rcl.evaluate.Robustness, accuracy, {"corruption": stored})}
