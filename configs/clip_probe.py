"""A linear probe of a student, or of CLIP itself, on distorted ImageNet-100.

    python -m jax_rcl.main --config=configs/clip_probe.py:source=runs/student \
        --workdir=runs/probe

As the code of Ravula et al. 2021; its runs report for students of mask90 79.9 with 10 %
of the labels, 83.0 with all, and 12.3 for a probe of CLIP as it is, trained on the
masked images; all of their numbers: docs/inverse_problems.md. Obtained: not yet run.
The run holds everything that it needs: it can be evaluated where `source` is not.
Options of the file: `source` (a run of clip_student.py), or `clip`, a file of weights
of `tower`, or `released`, a file of the authors' code (`part` student or probe: with
its head; steps=0 then only measures it); `distortion` (a word of
`augment.conditions.CONDITIONS`; the student's by default, else none); `labels`, the
share of labels (1, 0.1, 0.05, 0.01, 0.005, 0.001), the same number of every class;
`epochs`; `schedule` (released: cosine of the epoch, nearly constant; cosine: to zero);
`sweep` (on: 10 repeats at every level of the paper's); `folder` (has train/ and val/).
"""

from pathlib import Path

from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.conditions import CONDITIONS, SWEEPS, sweeps_of
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config import Experiment, node, only_with, parse
from jax_rcl.data.decoded import ImageFolder
from jax_rcl.data.imagenet import IMAGENET_100
from jax_rcl.data.labelled import FewLabels
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.sweep import LevelSweep
from jax_rcl.imports import ImportClip, ImportDistill
from jax_rcl.networks import clip
from jax_rcl.networks.heads import Linear, Normalized
from jax_rcl.objectives.classify import FROZEN_ENCODER, Classify
from jax_rcl.optim import Adam
from jax_rcl.run import stored_config
from jax_rcl.schedules import Cosine, EpochCosine
from jax_rcl.transfer import Restore

TOWERS = {name.replace("/", "-"): name for name in ("RN101", *clip.TOWERS)}
FROZEN = {
    "params": "frozen/encoder/params",
    "batch_stats": "frozen/encoder/batch_stats",
}
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
        start = node(ImportDistill, o.released, o.part, **FROZEN, **head)
    else:
        into = FROZEN if residual else {"params": FROZEN["params"]}
        start = node(ImportClip, o.clip or "RN101.pt", **into)
    distortion = distortion or CONDITIONS["none"]
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
            evaluators[f"{kind}s"] = node(LevelSweep, accuracy, *SWEEPS[kind])
    batch = 512 if o.labels == 1 else 32
    # The released T_max: 126,689 // batch, times the share of the labels.
    period = o.labels * (126_689 // batch)
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Chain, (crop, flip, distortion)), count=1),
        objective=node(
            Classify, encoder, node(Linear, len(IMAGENET_100)), encoder_is="frozen"
        ),
        optimizer=node(
            Adam,
            1e-3,
            node(EpochCosine, period=period)
            if o.schedule == "released"
            else node(Cosine),
        ),
        batch_size=batch,
        epochs=o.epochs,
        init_from=(start,),
        evaluators=evaluators,
    )
