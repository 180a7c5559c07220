"""What a trained classifier does with other images: clip_probe, _baseline, _transfer.

    python -m jax_rcl.main --config=configs/clip_evaluate.py:run=runs/probe \
        --workdir=runs/levels

Nothing is trained: a run of no steps, which keeps the classifier with its numbers. The
numbers of Ravula et al. 2021: docs/inverse_problems.md. Obtained: not yet run.
Of `what`, levels tries distortions of `kinds`, mask, noise, blur or square, on the test
images of the run; draws its own distortion, or another, several times; unseen five
other classes, relabelled; corruptions is ImageNet-100-C; denoise puts non-local means
before the classifier, inpaint Deep Decoder. These two restore each image once, at one
level, as the authors: Deep Decoder takes a CPU more than an hour for an image.
"""

import clip_common
from common import SHARE, run_of

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.augment.distortions import CONDITIONS
from jax_rcl.config import CLASS, ConfigError
from jax_rcl.ranges import AtLeast


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        run="runs/probe",  # whose classifier it is
        encoder="",  # a run of clip_student.py, whose encoder replaces that of `run`
        what=("levels", "draws", "unseen", "corruptions", "denoise", "inpaint"),
        kinds="",  # of distortions, such as mask+noise
        levels="",  # of the one kind, such as 0.5+0.9, or 21x5+37x9
        distortion=("as the run", *CONDITIONS),
        repeats=(0, AtLeast(0)),  # of every level: 10, but 1 where images are restored
        images=(1.0, SHARE),  # the share of the test images that is seen
        steps=5000,  # of the Deep Decoder
        folder="",  # where the images of the run are now, if elsewhere
        unseen="data/unseen",  # has <class>/
        shifts="data/imagenet100-c",
        geometry=("released", "plain"),  # released: 224 to 256 and cropped again
    )
    swept = o.what not in ("corruptions", "draws")
    only_with(o, swept, "what=levels, unseen, denoise or inpaint", "kinds", "levels")
    only_with(
        o, swept and o.what != "unseen", "what=levels, denoise or inpaint", "images"
    )
    only_with(o, o.what == "draws", "what=draws", "distortion")
    only_with(
        o, o.what != "corruptions", "every other `what`, as what=levels", "repeats"
    )
    only_with(o, o.what == "unseen", "what=unseen", "unseen")
    only_with(o, o.what == "inpaint", "what=inpaint", "steps")
    only_with(o, o.what == "corruptions", "what=corruptions", "shifts", "geometry")
    stored = run_of(clip_common.CLASSIFIER_FILES, o.run, *clip_common.CLASSIFIERS)
    objective = stored.objective
    if objective[CLASS].endswith(":KnowledgeDistillation"):
        objective = node(rcl.objectives.Classify, objective.encoder, objective.head)
    source, accuracy = clip_common.measured(o, stored)
    size = clip_common.side_of(objective.encoder)
    if o.what in ("unseen", "corruptions"):
        if not clip_common.tells_imagenet100(source):
            raise ConfigError(
                f"what={o.what} is of ImageNet-100, and {o.run} tells other classes "
                "apart; what=levels or what=draws are of its own images."
            )
    if o.what == "draws":
        evaluators = clip_common.draws(o, accuracy, stored)
    elif swept:
        evaluators = clip_common.levels(o, accuracy, size, stored)
    else:
        evaluators = clip_common.corruptions(o, accuracy, size)
    seen = accuracy.preprocess or node(rcl.augment.Identity)
    return node(
        Experiment,
        source=source,
        augment=node(rcl.augment.Views, seen, count=1),
        objective=objective,
        optimizer=stored.optimizer,
        batch_size=stored.batch_size,
        steps=0,
        init_from=start(o, objective),
        evaluators={"val": accuracy, **evaluators},
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
