"""What configs of CLIP students and of their classifiers share (Ravula et al. 2021)."""

import re
from pathlib import Path

from common import FROZEN, IMAGENET, head_accuracy, photographs, resnet, run_of

import jax_rcl as rcl
from jax_rcl import node, only_with
from jax_rcl.augment import (
    GaussianBlur,
    GaussianNoise,
    Identity,
    RandomMask,
    SquareMask,
)
from jax_rcl.augment.distortions import CONDITIONS, SWEEPS, Fixed
from jax_rcl.augment.distortions.levels import Leveled
from jax_rcl.config import CLASS, ConfigError, build, same, stored_config, unknown
from jax_rcl.data.published import imagenet
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.networks import clip
from jax_rcl.ranges import AtLeast

# Towers by the words that options have for them.
TOWERS = {name.replace("/", "-"): name for name in clip.TOWERS}
# Distortions in training, the default first.
TRAINED_ON = ("mask90", *(x for x in CONDITIONS if x != "mask90"))
# Of the optimizer; released: cosine of the epoch, nearly constant; cosine: to zero.
SCHEDULES = ("released", "cosine")

# Where a config has its distortion: evaluators have the same.
IN_PAIR = "augment.distortion"
IN_CHAIN = "augment.operation.operations[-1]"  # of a view, or of what is cropped
# Levels of a distortion other than those that its word has, by the released names.
LEVELS = {
    "percent_missing": "",  # of masks: 0.8, or of each image its own: 0.5-0.95
    "std": "",  # of noise, the same
    "kernel_size": 0,  # of blur
    "sigma": "",
    "length": "",  # of squares, in pixels
    "offset": ("random", "center"),
    "fixed": (0, AtLeast(0)),  # a seed: one mask or noise for every image, ever
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
    only_with(o, drawn, "distortion=mask…, noise… or square…", "fixed")
    return node(Fixed, distortion, o.fixed) if "fixed" in o.given else distortion


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
    return encoder.get("encoder", encoder).get("image_size", 224)


def tower(fields, rounding="none", **own):
    """An image tower of CLIP, normalised, of the `fields` of its architecture."""
    kind = rcl.networks.ClipResNet if is_residual(fields) else rcl.networks.ClipViT
    made = node(kind, **fields, **own)
    return node(rcl.networks.Normalized, made, clip.MEAN, clip.STD, rounding)


def is_residual(fields):
    """Whether a tower of CLIP is a ResNet, with batch statistics."""
    return "depths" in fields


def tower_of(word, rounding="none", **norm):
    """A tower of `TOWERS`, and where it keeps its variables if frozen."""
    fields = clip.fields(TOWERS[word])
    # Only a ResNet has statistics.
    places = FROZEN if is_residual(fields) else {"params": FROZEN["params"]}
    if norm and not is_residual(fields):
        raise ConfigError(
            f"option 'norm' does nothing in {word}, which has no batch statistics."
        )
    return tower(fields, rounding, **norm), places


def source_run(o, files, *objectives):
    """Encoder, what fills it, and the distortion, for the run of the option `source`.

    The distortion is that of the option, else that of the run, which must then be one
    of `files`.
    """
    stored = stored_config(Path(o.source))
    own = o.distortion in CONDITIONS
    only_with(o, own, "distortion=WORD, other than the source's", *LEVELS)
    start = node(rcl.weights.Restore, o.source, rcl.objectives.FROZEN_ENCODER)
    if not own:
        run_of(files, o.source, *objectives)
    encoder = stored.objective.get("encoder", {})
    if not str(encoder.get(CLASS)).endswith(":Normalized"):
        raise ConfigError(
            f"{o.source} has no encoder of photographs; give a run of {files}."
        )
    if own:
        return encoder, start, distortion_of(o)
    return encoder, start, trained_on(stored, files, o.source)


def trained_on(stored, files, workdir):
    """The distortion of a run, which must be one of the config `files`.

    Raises:
      ConfigError: it was trained on images that nothing distorts.
    """
    found = last_operation(stored.augment)
    if found is None or not distorts(found):
        raise ConfigError(
            f"{workdir} was trained on images without a distortion; give a run of "
            f"{files}, or write distortion=WORD."
        )
    return found


def last_operation(augment):
    """The distortion of a pair, or what views are done with; None if there is none."""
    operation = augment.get("operation", {})
    return augment.get("distortion") or (operation.get("operations") or (None,))[-1]


def distorts(operation):
    """Whether an operation has a level, be it in a part, or is `Identity`."""
    if isinstance(build(operation), Leveled | Identity):
        return True
    parts = operation.get("operations", ()), (operation.get("operation"),)
    return any(distorts(part) for part in sum(parts, ()) if part is not None)


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


def backbone(o, **norm):
    """The encoder of the option `backbone`, or of the teacher, and what fills it.

    `norm` are fields of its batch statistics.
    """
    if o.method == "distilled":
        stored = run_of("clip_baseline.py or clip_probe.py", o.teacher, *CLASSIFIERS)
        if not tells_imagenet100(stored.source):
            raise ConfigError(f"{o.teacher} tells other classes apart; {TEACH}.")
        paths = rcl.objectives.FROM_CLASSIFIER
        start = node(rcl.weights.Restore, o.teacher, paths)
        return stored.objective.encoder, start
    if o.backbone in TOWERS:
        encoder, places = tower_of(o.backbone, o.rounding, **norm)
        kind = rcl.weights.ImportClip
    else:
        encoder = resnet(int(o.backbone.removeprefix("resnet")), IMAGENET, **norm)
        kind, places = rcl.weights.ImportResNet, FROZEN
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
    whole = o.released or o.clip  # a file of the authors has all of CLIP, too
    student = node(rcl.weights.ImportClip, o.clip)
    if o.released:
        student = node(rcl.weights.ImportDistill, o.released, "student")
    teacher = node(rcl.weights.ImportClip, whole, **into)
    if o.classes == "none":
        return student, teacher
    if o.classes == "text":
        settings = {"activation": o.activation, "heads": o.text_heads or None}
        text = node(rcl.evaluate.FromText, whole, **settings)
    else:
        text = node(rcl.evaluate.FromFile, o.classes)
    return student, teacher, node(rcl.evaluate.FillClasses, text, IMAGENET_100)


# Optimizer.


def steps(batch):
    """Steps of an epoch of ImageNet-100, of 126,689 images, as the released T_max."""
    return float(126_689 // batch)


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
    seed = same(f"{home}.seed") if hasattr(distortion, "seed") else None
    return {name: accuracy, **level_sweeps(accuracy, kinds, seed)}


def level_sweeps(accuracy, kinds, seed=None, levels=(), **fields):
    """The accuracy at every level of distortion, for each of `kinds`.

    A `seed` keeps the mask or the noise the same for all images; `levels` replace the
    usual ones of a single kind.
    """
    sweeps = {}
    for kind in kinds:
        distortion, usual = SWEEPS[kind]
        if seed is not None:
            distortion = node(Fixed, distortion, seed)
        given = distortion, levels or usual
        sweep = node(rcl.evaluate.LevelSweep, accuracy, *given, **fields)
        sweeps[f"{kind}s"] = sweep
    return sweeps


# Evaluations of a classifier that is trained: the option `what` of clip_evaluate.py.

CLASSIFIERS = "Classify", "KnowledgeDistillation"
CLASSIFIER_FILES = "clip_probe.py, clip_baseline.py or clip_transfer.py"
TEACH = "teach by a classifier of ImageNet-100"
# Sweeps as the authors' runs have them; restoring takes long, and they did it once.
USUAL = {
    "levels": ("mask+noise+blur", "", 10),
    "unseen": ("mask+noise", "", 10),
    "denoise": ("noise", "0.1", 1),
    "inpaint": ("mask", "0.5", 1),
}


def measured(o, stored):
    """Training images and the accuracy of a run, of clean images, in `folder`."""
    found = [stored.evaluators.get(name) for name in ("val", "test")]
    accuracy = next((x for x in found if x and "test" in x), None)
    if accuracy is None:
        raise ConfigError(f"{o.run} measures no images: it has no evaluator val, test.")
    train, test = stored.source, accuracy.test
    if o.folder:
        train, test = (moved(each, o.folder) for each in (train, test))
    clean = {"preprocess": accuracy.preprocess, "layer": accuracy.layer}
    return train, node(rcl.evaluate.HeadAccuracy, test, mapped=0, **clean)


def moved(source, folder):
    """The same source in another folder, be it inside of others."""
    made = source.copy_and_resolve_references()
    with made.unlocked():
        if "source" in made:
            made.source = moved(made.source, folder)
        elif made[CLASS].endswith(":ImageFolder"):  # has the split as its last part
            made.folder = f"{folder}/{Path(made.folder).name}"
        elif "folder" in made:
            made.folder = folder
    return made


def tells_imagenet100(source):
    """Whether a source has the classes of ImageNet-100."""
    while "source" in source:
        source = source.source
    return source.get("classes", None) == IMAGENET_100


def levels(o, accuracy, side, stored):
    """The accuracy at levels of distortion, of images that may be restored first.

    Of the kind that the run had, drawn once for all images, it is what it was there.
    """
    usual, chosen, repeats = USUAL[o.what]
    kinds = (o.kinds or usual).split("+")
    for kind in kinds:
        if kind not in SWEEPS:
            raise ConfigError(unknown("option 'kinds' has no value", kind, SWEEPS))
    if o.levels and len(kinds) > 1:
        raise ConfigError(f"option 'levels' is for one of {'+'.join(kinds)}: kinds=….")
    own = kinds == usual.split("+")
    # Restoring takes long: without a level there would be ten.
    if o.what in ("denoise", "inpaint") and not (own or o.levels):
        raise ConfigError(
            f"what={o.what} restores images at one level of one distortion: write "
            f"which of {'+'.join(kinds)}, such as kinds={kinds[0]},levels=…"
        )
    chosen = o.levels or (chosen if own else "")
    seen = None  # all of them
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
    fields = {"source": seen, "restorer": restorer, "repeats": o.repeats or repeats}
    if chosen:
        fields["levels"] = tuple(map(level_of, chosen.split("+")))
    trained, sweeps = last_operation(stored.augment), {}
    for kind in kinds:
        seed = None
        if trained is not None and "seed" in trained:  # fixed, of one kind
            same_kind = isinstance(build(trained.operation), type(SWEEPS[kind][0]))
            seed = trained.seed if same_kind else None
        sweeps |= level_sweeps(accuracy, [kind], seed, **fields)
    return sweeps


def level_of(text):
    """A level as it is written: 0.9, or 21x5.0 of several numbers."""
    try:
        numbers = [float(x) for x in text.split("x")]
    except ValueError as error:
        raise ConfigError(
            f"option 'levels': {text} is no level as 0.9, 21x5."
        ) from error
    return tuple(numbers) if len(numbers) > 1 else numbers[0]


def draws(o, accuracy, stored):
    """The accuracy at the distortion of the run, or a named one, several times."""
    if o.distortion in CONDITIONS:
        distortion = CONDITIONS[o.distortion]
    else:
        distortion = trained_on(stored, CLASSIFIER_FILES, o.run)
    full = node(rcl.augment.ByStrength, distortion), (1.0,)
    return {"draws": node(rcl.evaluate.LevelSweep, accuracy, *full, o.repeats or 10)}


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
