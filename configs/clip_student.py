"""A CLIP that sees through masks, noise and blur (Ravula et al. 2021).

    python -m jax_rcl.main --config=configs/clip_student.py:clip=RN101.pt \
        --workdir=runs/student

ImageNet-100 without labels; clip_probe.py measures the student with labels. The
authors' runs report for mask90, top-1, zero-shot 62.3, by a probe on 10 % of the labels
79.9 and on all 83.0; others: docs/inverse_problems.md. Obtained: not yet run.
Options of the file: `clip`, a file of CLIP's weights (RN50 to RN50x16, ViT);
`distortion`, a word of `augment.distortions.CONDITIONS` (all: every distortion at every
level, the clean image among them); `fixed`, a seed: one mask or noise for every image,
ever; `curriculum` (on: strength grows over the `epochs`); `loss` and `teacher_norm`, as
in `Distill` (batch: as released); `schedule` (released: cosine of the epoch over T_max
123, nearly constant; cosine: to zero); `norm` (released: statistics of a quarter of the
batch); `activation` (gelu: of many transformers that are not OpenAI's); `epochs`,
`batch_size`, `compute`; `classes` (text: by CLIP's own text tower, extra `zeroshot`; a
file of jax-rcl prepare class_embeddings; none); `folder` (has train/ and val/).
"""

import clip_common
from clip_common import TRAINED_ON
from common import COMPUTE, crop_and_flip, local_norm

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import CONDITIONS, sweeps_of
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.weights import clip

LOSSES = ("simclr_st", "simclr", "simclr_ss", "simclr_both", "clip", "mse")


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        clip="RN101.pt",
        distortion=TRAINED_ON,
        fixed=-1,
        curriculum=("off", "on"),
        loss=LOSSES,
        teacher_norm=("inference", "batch"),
        schedule=("released", "cosine"),
        norm=("sync", "released"),
        activation=("quick gelu", "gelu"),
        epochs=25,
        batch_size=256,
        compute=COMPUTE,
        classes="text",
        folder="data/imagenet100",
    )
    fields = clip.architecture(clip.read(o.clip)).visual
    residual, size = clip_common.is_residual(fields), fields["image_size"]
    only_with(o, residual, "a tower with batch statistics", "teacher_norm", "norm")
    drawn = o.distortion.startswith(("mask", "noise", "square"))
    only_with(o, drawn, "masks, noise and squares", "fixed")
    own = local_norm(o.norm, o.batch_size // 4)
    if not residual:
        own["activation"] = o.activation
    train, val = clip_common.folders(o.folder, size)
    distortion = CONDITIONS[o.distortion]
    if o.fixed >= 0:
        distortion = rcl.augment.Fixed(distortion, o.fixed)
    rising = node(rcl.augment.Curriculum, o.epochs) if o.curriculum == "on" else None
    evaluators = {}
    if o.classes != "none":
        kinds = sweeps_of(o.distortion)
        evaluators = clip_common.accuracies("zero_shot", val, size, distortion, kinds)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Pair, crop_and_flip(size), distortion, rising),
        objective=node(
            rcl.objectives.Distill,
            encoder=clip_common.tower(fields, compute=o.compute, **own),
            loss_type=o.loss,
            teacher_norm=o.teacher_norm,
            classes=None if o.classes == "none" else len(IMAGENET_100),
        ),
        # The released T_max: steps of an epoch, 126,689 // (256 · 4 GPUs).
        optimizer=clip_common.adam(3e-4, o.schedule, 123.0),
        batch_size=o.batch_size,
        epochs=o.epochs,
        init_from=start(o, residual),
        evaluators=evaluators,
    )


def start(o, residual):
    """The rules that fill the student, its teacher, and the embeddings of classes."""
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
