"""A linear probe of a student, or of CLIP itself, on distorted ImageNet-100.

    python -m jax_rcl.main --config=configs/clip_probe.py:source=runs/student \
        --workdir=runs/probe

As the code of Ravula et al. 2021; its runs report for students of mask90 79.9 with 10 %
of the labels, 83.0 with all, and 12.3 for a probe of CLIP as it is, trained on the
masked images; others: docs/inverse_problems.md. Obtained: not yet run.
The run holds everything that it needs: it can be evaluated where `source` is not.
A head that is released, part=probe, is measured as it is unless epochs are given.
"""

import clip_common
from common import CUT, SHARE, crop_and_flip, cropped, frozen_classifier, length

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import CONDITIONS, sweeps_of
from jax_rcl.data.published.imagenet import IMAGENET_100


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        source="",  # a run of clip_student.py
        clip="",  # instead of it a file of weights of `tower`
        tower=("RN101", *(x for x in clip_common.TOWERS if x != "RN101")),
        released="",  # instead of both a file of the authors' code
        rounding=("none", "float16"),  # float16: of what `tower` sees, as released
        part=("student", "probe"),  # of it: the encoder, or its head, too
        distortion=("as the student", *CONDITIONS),  # without a student none
        **clip_common.LEVELS,  # other ones, percent_missing=0.8 or std=0.1-0.3
        labels=(1.0, SHARE),  # 0.1, 0.05 …: that share of every class
        epochs=10,
        schedule=clip_common.SCHEDULES,
        sweep=("on", "off"),  # on: 10 repeats at every level of the paper's
        **CUT,
        folder="data/imagenet100",  # has train/ and val/
    )
    files = "clip=FILE or released=FILE"
    only_with(o, not o.source, files, "clip", "released", "tower", "rounding")
    only_with(o, bool(o.released), "released=FILE", "part")
    only_with(o, not o.released, "clip=FILE, without released", "clip")
    if o.source:
        found = clip_common.source_run(o, "clip_student.py", "Distill")
    else:
        found = clip_common.file_of_weights(o)
    encoder, start, distortion = found
    size = clip_common.side_of(encoder)
    train, val = clip_common.folders(o.folder, size)
    if o.labels < 1:
        train = node(rcl.data.FewLabels, train, o.labels, seed=1234)
    kinds = sweeps_of(o.distortion) if o.sweep == "on" else ()
    batch = 512 if o.labels == 1 else 32
    # The released T_max: steps of an epoch, times the share of the labels.
    period = o.labels * clip_common.steps(batch)
    augment = node(rcl.augment.Views, crop_and_flip(size, distortion), count=1)
    source, augment = cropped(o, train, augment)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=frozen_classifier(encoder, len(IMAGENET_100)),
        optimizer=clip_common.adam(1e-3, o.schedule, period),
        batch_size=batch,
        **length(o, o.part == "probe"),
        init_from=(start,),
        evaluators=clip_common.accuracies(
            "val", val, size, distortion, clip_common.IN_CHAIN, kinds
        ),
    )
