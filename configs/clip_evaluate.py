"""What a trained classifier of clip_probe or clip_baseline does with other images.

    python -m jax_rcl.main --config=configs/clip_evaluate.py:run=runs/probe \
        --workdir=runs/levels

Nothing is trained: a run of no steps, which keeps the classifier with its numbers. The
numbers of Ravula et al. 2021: docs/inverse_problems.md. Obtained: not yet run.
Options of the file: `run`, whose classifier it is; `encoder`, a run of clip_student.py
that takes the place of its encoder (the clean head on a student); `what` (levels, at
which `kinds` (mask, noise, blur, square) are tried `repeats` times; unseen: the same on
five other classes, relabelled; corruptions: ImageNet-100-C in `shifts`; denoise:
non-local means, then the classifier, at levels of noise; inpaint: Deep Decoder, then
the classifier, at levels of masks); `images`, the share of val/ that is seen; `steps`
of the Deep Decoder; `folder` (has val/), `unseen` (has <class>/), `geometry` of
ImageNet-C (released: 224 to 256 and cropped again; plain: 224).
"""

from pathlib import Path

from jax_rcl import config
from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.distortions.conditions import SWEEPS
from jax_rcl.augment.geometry import CenterCrop, ResizeShorter
from jax_rcl.config import CLASS, ConfigError, Experiment, node, parse, unknown
from jax_rcl.config.workdir import stored_config
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.imagenet import AS_RELABELLED, IMAGENET_100, RELABELLED
from jax_rcl.data.wrappers import Relabel, Subset
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.evaluate.shifts.robustness import CorruptedFolders, Robustness
from jax_rcl.objectives.classify import Classify, encoder_paths
from jax_rcl.restoration.deep_decoder import DeepDecoder
from jax_rcl.restoration.non_local_means import NonLocalMeans
from jax_rcl.weights.restore import Restore

KINDS = {"levels": "mask+noise+blur", "unseen": "mask+noise", "denoise": "noise"}
AS = {"resize": "as torchvision"}


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
    config.only_with(o, swept, "another `what`", "kinds", "repeats")
    config.only_with(o, swept and o.what != "unseen", "images of val/", "images")
    config.only_with(o, o.what == "unseen", "what=unseen", "unseen")
    config.only_with(o, o.what == "inpaint", "what=inpaint", "steps")
    config.only_with(o, not swept, "what=corruptions", "shifts", "geometry")
    stored = stored_config(Path(o.run))
    objective, kind = stored.objective, stored.objective[CLASS].rpartition(":")[2]
    if kind not in ("Classify", "KnowledgeDistillation"):
        raise ConfigError(f"{o.run} is no run of clip_probe.py or clip_baseline.py.")
    if kind == "KnowledgeDistillation":
        objective = node(Classify, objective.encoder, objective.head)
    size = objective.encoder.encoder.get("image_size", 224)
    known = {"size": size * 8 // 7, "classes": IMAGENET_100, **AS}
    val = node(ImageFolder, f"{o.folder}/val", **known)
    shown = {"mapped": 0, "preprocess": node(CenterCrop, size)}
    accuracy = node(HeadAccuracy, val, **shown)
    evaluators = {"val": accuracy}
    if swept:
        source = None if o.images == 1 else node(Subset, val, o.images)
        if o.what == "unseen":
            own = {"size": size * 8 // 7, "classes": tuple(RELABELLED), **AS}
            source = node(ImageFolder, o.unseen, **own)
            source = node(Relabel, source, **vars(AS_RELABELLED))
        restorers = {
            "denoise": node(NonLocalMeans),
            "inpaint": node(DeepDecoder, steps=o.steps),
        }
        for kind in (o.kinds or KINDS.get(o.what, "mask")).split("+"):
            if kind not in SWEEPS:
                raise ConfigError(unknown("option 'kinds' has no value", kind, SWEEPS))
            known = {"source": source, "restorer": restorers.get(o.what)}
            sweep = node(LevelSweep, accuracy, *SWEEPS[kind], o.repeats, **known)
            evaluators[f"{kind}s"] = sweep
    else:
        if o.geometry == "plain" and size != 224:
            raise ConfigError(f"ImageNet-C has 224 pixels, {o.run} takes {size}.")
        resized = node(Chain, (node(ResizeShorter, size * 8 // 7), shown["preprocess"]))
        folders = node(
            CorruptedFolders,
            o.shifts,
            classes=IMAGENET_100,
            preprocess=resized if o.geometry == "released" else None,
        )
        evaluators["shifts"] = node(Robustness, accuracy, {"corruption": folders})
    return node(
        Experiment,
        source=stored.source,
        augment=node(Views, shown["preprocess"], count=1),
        objective=objective,
        optimizer=stored.optimizer,
        batch_size=stored.batch_size,
        steps=0,
        init_from=starts(o, objective),
        evaluators=evaluators,
    )


def starts(o, objective):
    """The rules that bring the classifier, and in its place another encoder."""
    own = encoder_paths("frozen" if objective.encoder_is == "frozen" else "trained")
    places = {place: place for place in (*own, "params/head")}
    rules = (node(Restore, o.run, places),)
    return rules + ((node(Restore, o.encoder, own),) if o.encoder else ())
