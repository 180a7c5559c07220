"""What configs of CLIP students and of their classifiers share (Ravula et al. 2021)."""

from pathlib import Path

from common import FROZEN, IMAGENET, head_accuracy, photographs, resnet, run_of

import jax_rcl as rcl
from jax_rcl import node
from jax_rcl.augment.distortions import CONDITIONS, SWEEPS, Fixed
from jax_rcl.config import ConfigError, stored_config, unknown
from jax_rcl.data.published import imagenet
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.networks import clip

# Towers by the words that options have for them.
TOWERS = {name.replace("/", "-"): name for name in clip.TOWERS}
# Distortions in training, the default first.
TRAINED_ON = ("mask90", *(x for x in CONDITIONS if x != "mask90"))
# Of the optimizer; released: cosine of the epoch, nearly constant; cosine: to zero.
SCHEDULES = ("released", "cosine")

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


def tower(fields, **own):
    """An image tower of CLIP, normalised, of the `fields` of its architecture."""
    kind = rcl.networks.ClipResNet if is_residual(fields) else rcl.networks.ClipViT
    made = node(kind, **fields, **own)
    return node(rcl.networks.Normalized, made, clip.MEAN, clip.STD)


def is_residual(fields):
    """Whether a tower of CLIP is a ResNet, with batch statistics."""
    return "depths" in fields


def tower_of(word):
    """A tower of `TOWERS`, and where it keeps its variables if frozen."""
    fields = clip.fields(TOWERS[word])
    # Only a ResNet has statistics.
    places = FROZEN if is_residual(fields) else {"params": FROZEN["params"]}
    return tower(fields), places


def source_run(o, files, *objectives):
    """Encoder, what fills it, and the distortion, for the run of the option `source`.

    The distortion is that of the option, else that of the run, which must then be one
    of `files`.
    """
    stored = stored_config(Path(o.source))
    paths = rcl.objectives.FROZEN_ENCODER
    if stored.objective.get("encoder_is") == "frozen":
        paths = {path: path for path in paths}
    start = node(rcl.weights.Restore, o.source, paths)
    if o.distortion in CONDITIONS:
        return stored.objective.encoder, start, CONDITIONS[o.distortion]
    run_of(files, o.source, *objectives)
    augment = stored.augment  # a pair, or views whose last operation distorts
    distortion = augment.get("distortion") or augment.operation.operations[-1]
    return stored.objective.encoder, start, distortion


def file_of_weights(o):
    """The same for a file of the options `clip` or `released`."""
    encoder, places = tower_of(o.tower)
    if o.released:
        head = {"head": "params/head"} if o.part == "probe" else {}
        start = node(rcl.weights.ImportDistill, o.released, o.part, **FROZEN, **head)
    else:
        start = node(rcl.weights.ImportClip, o.clip or "RN101.pt", **places)
    return encoder, start, CONDITIONS.get(o.distortion, CONDITIONS["none"])


def backbone(o):
    """The encoder of the option `backbone`, and what fills it."""
    if o.backbone in TOWERS:
        encoder, places = tower_of(o.backbone)
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


def accuracies(name, val, side, distortion, kinds):
    """The accuracy `name` at a distortion, and at every level of `kinds` of them.

    A fixed distortion keeps its seed: the mask or noise is the same for all images.
    """
    accuracy = head_accuracy(val, side, distortion=distortion)
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
