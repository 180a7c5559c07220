"""A linear probe of a student, or of CLIP itself, on distorted ImageNet-100.

    python -m jax_rcl.main --config=configs/clip_probe.py:source=runs/student \
        --workdir=runs/probe

As the code of Ravula et al. 2021; its runs report for students of mask90 79.9 with 10 %
of the labels, 83.0 with all, and 12.3 for a probe of CLIP as it is, trained on the
masked images; others: docs/inverse_problems.md. Obtained: not yet run.
The run holds everything that it needs: it can be evaluated where `source` is not.
Options of the file: `source` (a run of clip_student.py), or `clip`, a file of weights
of `tower`, or `released`, a file of the authors' code (`part`: student; probe, which
--config.epochs=None --config.steps=0 only measures); `distortion` (a word of
`augment.conditions.CONDITIONS`; the student's by default, else none); `labels`, their
share (0.1, 0.05, 0.01 …), the same number of every class; `epochs`; `schedule`
(released: cosine of the epoch, nearly constant; cosine: to zero); `sweep` (on: 10
repeats at every level of the paper's); `folder` (has train/ and val/).
"""

from pathlib import Path

from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.distortions.conditions import CONDITIONS, SWEEPS, sweeps_of
from jax_rcl.augment.distortions.mixtures import Fixed
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.config.workdir import stored_config
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.labelled import FewLabels
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.shifts.level_sweep import LevelSweep
from jax_rcl.networks import clip
from jax_rcl.networks.heads import Linear, Normalized
from jax_rcl.objectives.classify import FROZEN_ENCODER, Classify
from jax_rcl.optim.optimizers import Adam
from jax_rcl.optim.schedules import Cosine, EpochCosine
from jax_rcl.weights.imports import ImportClip, ImportDistill
from jax_rcl.weights.restore import Restore

TOWERS = {name.replace("/", "-"): name for name in ("RN101", *clip.TOWERS)}
FILLED = "frozen/encoder/params", "frozen/encoder/batch_stats"
AS = {"resize": "as torchvision"}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        source="",
        clip="",
        tower=tuple(TOWERS),
        released="",
        part=("student", "probe"),
        distortion=("as the student", *CONDITIONS),
        labels=1.0,
        epochs=10,
        schedule=("released", "cosine"),
        sweep=("on", "off"),
        folder="data/imagenet100",
    )
    only_with(
        o, not o.source, "clip=FILE or released=FILE", "clip", "released", "tower"
    )
    only_with(o, bool(o.released), "released=FILE", "part")
    only_with(o, not o.released, "clip=FILE, without released", "clip")
    fields = clip.fields(TOWERS[o.tower])
    residual, distortion = "depths" in fields, CONDITIONS.get(o.distortion)
    body = node(clip.ClipResNet if residual else clip.ClipViT, **fields)
    encoder = node(Normalized, body, clip.MEAN, clip.STD)
    if o.source:
        stored = stored_config(Path(o.source))
        encoder = stored.objective.encoder
        distortion = distortion or stored.augment.distortion
        start = node(Restore, o.source, FROZEN_ENCODER)
    elif o.released:
        head = {"head": "params/head"} if o.part == "probe" else {}
        start = node(ImportDistill, o.released, o.part, *FILLED, **head)
    else:
        into = FILLED if residual else FILLED[:1]
        start = node(ImportClip, o.clip or "RN101.pt", *into)
    distortion = distortion or CONDITIONS["none"]
    seed = getattr(distortion, "seed", None)
    size = encoder.encoder.image_size
    stored = {"size": size * 8 // 7, "classes": IMAGENET_100, **AS}
    train, val = (
        node(ImageFolder, f"{o.folder}/{part}", **stored) for part in ("train", "val")
    )
    if o.labels < 1:
        train = node(FewLabels, train, o.labels, seed=1234)
    crop, flip = node(RandomResizedCrop, size, area=(0.08, 1.0)), node(Flip)
    shown = {"mapped": 0, "preprocess": node(CenterCrop, size)}
    accuracy = node(HeadAccuracy, val, distortion=distortion, **shown)
    evaluators = {"val": accuracy}
    if o.sweep == "on":
        kinds = sweeps_of(o.distortion if o.distortion in CONDITIONS else "all")
        for kind in kinds:
            swept, levels = SWEEPS[kind]
            if seed is not None:  # of a student of one mask or noise
                swept = Fixed(swept, seed)
            evaluators[f"{kind}s"] = node(LevelSweep, accuracy, swept, levels)
    batch = 512 if o.labels == 1 else 32
    # The released T_max: 126,689 // batch, times the share of the labels.
    period = o.labels * (126_689 // batch)
    released = o.schedule == "released"
    rate = node(EpochCosine, period=period) if released else node(Cosine)
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Chain, (crop, flip, distortion)), count=1),
        objective=node(
            Classify, encoder, node(Linear, len(IMAGENET_100)), encoder_is="frozen"
        ),
        optimizer=node(Adam, 1e-3, rate),
        batch_size=batch,
        epochs=o.epochs,
        init_from=(start,),
        evaluators=evaluators,
    )
