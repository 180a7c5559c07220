"""What a trained classifier of clip_probe or clip_baseline does with other images.

    python -m jax_rcl.main --config=configs/clip_evaluate.py:run=runs/probe \
        --workdir=runs/levels

Nothing is trained: a run of no steps, which keeps the classifier with its numbers. The
numbers of Ravula et al. 2021: docs/inverse_problems.md. Obtained: not yet run.
Of `what`, levels tries distortions of `kinds`, mask, noise, blur or square; unseen does
so on five other classes, relabelled; corruptions is ImageNet-100-C; denoise puts
non-local means before the classifier, inpaint Deep Decoder.
"""

import clip_common
from common import head_accuracy, run_of

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.config import CLASS


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        run="runs/probe",  # whose classifier it is
        encoder="",  # a run of clip_student.py, whose encoder replaces that of `run`
        what=("levels", "unseen", "corruptions", "denoise", "inpaint"),
        kinds="",  # of distortions, such as mask+noise
        repeats=10,  # of every level
        images=1.0,  # the share of val/ that is seen
        steps=5000,  # of the Deep Decoder
        folder="data/imagenet100",  # has val/
        unseen="data/unseen",  # has <class>/
        shifts="data/imagenet100-c",
        geometry=("released", "plain"),  # released: 224 to 256 and cropped again
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
    others = clip_common.levels if swept else clip_common.corruptions
    return node(
        Experiment,
        source=stored.source,
        augment=node(rcl.augment.Views, accuracy.preprocess, count=1),
        objective=objective,
        optimizer=stored.optimizer,
        batch_size=stored.batch_size,
        steps=0,
        init_from=start(o, objective),
        evaluators={"val": accuracy, **others(o, accuracy, size)},
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
