"""What a trained classifier of clip_probe or clip_baseline does with other images.

    python -m jax_rcl.main --config=configs/clip_evaluate.py:run=runs/probe \
        --workdir=runs/levels

Nothing is trained: a run of no steps, which keeps the classifier with its numbers. The
numbers of Ravula et al. 2021: docs/inverse_problems.md. Obtained: not yet run.
Options of the file: `run`, whose classifier it is; `encoder`, a run of clip_student.py
that replaces its encoder (the clean head on a student); `what` (levels, at which
`kinds` (mask, noise, blur, square) are tried `repeats` times; unseen: the same on five
other classes, relabelled; corruptions: ImageNet-100-C in `shifts`; denoise: non-local
means, then the classifier, at levels of noise; inpaint: Deep Decoder, then the
classifier, at levels of masks); `images`, the share of val/ that is seen; `steps` of
the Deep Decoder; `folder` (has val/), `unseen` (has <class>/), `geometry` of
ImageNet-C (released: 224 to 256 and cropped again; plain: 224).
"""

import clip_common
from common import head_accuracy, run_of

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import SWEEPS
from jax_rcl.config import CLASS, ConfigError, unknown
from jax_rcl.data.published import imagenet

KINDS = {"levels": "mask+noise+blur", "unseen": "mask+noise", "denoise": "noise"}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        run="runs/probe",
        encoder="",
        what=("levels", "unseen", "corruptions", "denoise", "inpaint"),
        kinds="",
        repeats=10,
        images=1.0,
        steps=5000,
        folder="data/imagenet100",
        unseen="data/unseen",
        shifts="data/imagenet100-c",
        geometry=("released", "plain"),
    )
    swept = o.what != "corruptions"
    only_with(o, swept, "another `what`", "kinds", "repeats")
    only_with(o, swept and o.what != "unseen", "images of val/", "images")
    only_with(o, o.what == "unseen", "what=unseen", "unseen")
    only_with(o, o.what == "inpaint", "what=inpaint", "steps")
    only_with(o, not swept, "what=corruptions", "shifts", "geometry")
    kinds = "Classify", "KnowledgeDistillation"
    stored = run_of("clip_probe.py or clip_baseline.py", o.run, *kinds)
    objective = stored.objective
    if objective[CLASS].endswith(":KnowledgeDistillation"):
        objective = node(rcl.objectives.Classify, objective.encoder, objective.head)
    size = clip_common.side_of(objective.encoder)
    (val,) = clip_common.folders(o.folder, size, parts=("val",))
    accuracy = head_accuracy(val, size)
    others = sweeps(o, accuracy, size) if swept else corruptions(o, accuracy, size)
    return node(
        Experiment,
        source=stored.source,
        augment=node(rcl.augment.Views, accuracy.preprocess, count=1),
        objective=objective,
        optimizer=stored.optimizer,
        batch_size=stored.batch_size,
        steps=0,
        init_from=start(o, objective),
        evaluators={"val": accuracy, **others},
    )


def start(o, objective):
    """The rules that bring the classifier, and another encoder to replace its own."""
    own = rcl.objectives.encoder_paths(
        "frozen" if objective.encoder_is == "frozen" else "trained"
    )
    places = {place: place for place in (*own, "params/head")}
    classifier = node(rcl.weights.Restore, o.run, places)
    if not o.encoder:
        return (classifier,)
    return classifier, node(rcl.weights.Restore, o.encoder, own)


def sweeps(o, accuracy, size):
    """The accuracy at levels of distortion, of images that may be restored first."""
    kinds = (o.kinds or KINDS.get(o.what, "mask")).split("+")
    for kind in kinds:
        if kind not in SWEEPS:
            raise ConfigError(unknown("option 'kinds' has no value", kind, SWEEPS))
    seen = None  # all of val/
    if o.what == "unseen":
        five = clip_common.folder(o.unseen, size, classes=tuple(imagenet.RELABELLED))
        seen = node(rcl.data.Relabel, five, **vars(imagenet.AS_RELABELLED))
    elif o.images != 1:
        seen = node(rcl.data.Subset, accuracy.test, o.images)
    restorer = None
    if o.what == "denoise":
        restorer = node(rcl.restoration.NonLocalMeans)
    elif o.what == "inpaint":
        restorer = node(rcl.restoration.DeepDecoder, steps=o.steps)
    fields = {"source": seen, "restorer": restorer}
    return clip_common.level_sweeps(accuracy, kinds, repeats=o.repeats, **fields)


def corruptions(o, accuracy, size):
    """The accuracy on ImageNet-100-C."""
    if o.geometry == "plain" and size != 224:
        raise ConfigError(f"ImageNet-C has 224 pixels, {o.run} takes {size}.")
    preprocess = None
    if o.geometry == "released":
        enlarge = node(rcl.augment.ResizeShorter, size * 8 // 7)
        preprocess = node(rcl.augment.Chain, (enlarge, accuracy.preprocess))
    fields = {"classes": imagenet.IMAGENET_100, "preprocess": preprocess}
    folders = node(rcl.evaluate.CorruptedFolders, o.shifts, **fields)
    return {"shifts": node(rcl.evaluate.Robustness, accuracy, {"corruption": folders})}
