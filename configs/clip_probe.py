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
`augment.distortions.CONDITIONS`; the student's by default, else none); `labels`, their
share (0.1, 0.05, 0.01 …), the same number of every class; `epochs`; `schedule`
(released: cosine of the epoch, nearly constant; cosine: to zero); `sweep` (on: 10
repeats at every level of the paper's); `folder` (has train/ and val/).
"""

from pathlib import Path

import clip_common
from common import FROZEN, crop_and_flip, frozen_classifier, run_of

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import CONDITIONS, sweeps_of
from jax_rcl.config import stored_config
from jax_rcl.data.published.imagenet import IMAGENET_100


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        source="",
        clip="",
        tower=("RN101", *(x for x in clip_common.TOWERS if x != "RN101")),
        released="",
        part=("student", "probe"),
        distortion=("as the student", *CONDITIONS),
        labels=1.0,
        epochs=10,
        schedule=("released", "cosine"),
        sweep=("on", "off"),
        folder="data/imagenet100",
    )
    files = "clip=FILE or released=FILE"
    only_with(o, not o.source, files, "clip", "released", "tower")
    only_with(o, bool(o.released), "released=FILE", "part")
    only_with(o, not o.released, "clip=FILE, without released", "clip")
    encoder, start, distortion = of_run(o) if o.source else of_file(o)
    size = encoder.encoder.image_size
    train, val = clip_common.folders(o.folder, size)
    if o.labels < 1:
        train = node(rcl.data.FewLabels, train, o.labels, seed=1234)
    kinds = ()
    if o.sweep == "on":
        kinds = sweeps_of(o.distortion if o.distortion in CONDITIONS else "all")
    batch = 512 if o.labels == 1 else 32
    # The released T_max: 126,689 // batch, times the share of the labels.
    period = o.labels * (126_689 // batch)
    view = crop_and_flip(size, distortion)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, view, count=1),
        objective=frozen_classifier(encoder, len(IMAGENET_100)),
        optimizer=clip_common.adam(1e-3, o.schedule, period),
        batch_size=batch,
        epochs=o.epochs,
        init_from=(start,),
        evaluators=clip_common.accuracies("val", val, size, distortion, kinds),
    )


def of_run(o):
    """Encoder, what fills it, and the distortion, for a run of clip_student.py."""
    if o.distortion in CONDITIONS:
        stored = stored_config(Path(o.source))
        distortion = CONDITIONS[o.distortion]
    else:
        stored = run_of("clip_student.py", o.source, "Distill")
        distortion = stored.augment.distortion
    start = node(rcl.weights.Restore, o.source, rcl.objectives.FROZEN_ENCODER)
    return stored.objective.encoder, start, distortion


def of_file(o):
    """The same for a file of weights."""
    encoder, _, places = clip_common.tower_of(o.tower)
    if o.released:
        head = {"head": "params/head"} if o.part == "probe" else {}
        start = node(rcl.weights.ImportDistill, o.released, o.part, **FROZEN, **head)
    else:
        start = node(rcl.weights.ImportClip, o.clip or "RN101.pt", **places)
    return encoder, start, CONDITIONS.get(o.distortion, CONDITIONS["none"])
