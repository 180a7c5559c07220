"""Linear evaluation of a frozen encoder on ImageNet-100, and of its robustness.

    python -m jax_rcl.main --config=configs/imagenet100_probe.py:source=runs/patch \
        --workdir=runs/patch_probe
    python -m jax_rcl.main --workdir=runs/released_probe \
        --config=configs/imagenet100_probe.py:weights=checkpoint_0199.pth.tar

As the code of Ge et al. 2021 does it, which reports 77.9 for MoCo-v2 and 79.4 with
patch negatives. Obtained: not yet run. `--mode=evaluate` evaluates a run once more;
`probe=model_best.pth.tar` measures a probe of that code.

Of the `shifts`, `sets` are c (imagenet-c/ has <corruption>/<severity>/<class>/), sketch
(imagenet-sketch/ has <class>/), stylized (imagenet-stylized/val/), r (imagenet-r/), and
computed, the standard corruptions made of val/ on the device.
"""

import common
from common import FROZEN, IMAGENET
from moco_common import shifted_sets

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.config import Best
from jax_rcl.data.published import imagenet


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        source="runs/imagenet100_moco",  # a run of imagenet100_moco.py
        weights="",  # instead of it a file of the code of MoCo's authors
        # Or a file of their probe, with its head; trained on if epochs are given.
        probe="",
        depth=50,  # of the network in a file
        folder="data/imagenet100",  # for a file; has train/ and val/
        **common.CUT,
        epochs=60,
        keep=("last", "best"),  # best: also the highest on val/, as the release prints
        shifts="",  # a folder of shifted test sets; computed: these alone
        sets="c+sketch+stylized+r",  # which of them
    )
    only_with(o, o.shifts not in ("", "computed"), "shifts=FOLDER", "sets")
    only_with(o, not o.probe, "weights=FILE, without probe", "weights")
    file = o.weights or o.probe
    only_with(o, bool(file), "weights=FILE", "depth", "folder")
    only_with(o, not file, "a run, source=RUN without weights or probe", "source")
    measured = bool(o.probe) and "epochs" not in o.given
    only_with(o, not measured, "training, such as epochs=60", "keep", *common.CUT)
    encoder, start, train, val = of_file(o) if file else of_run(o)
    evaluators = {"val": common.head_accuracy(val, 224)}
    if o.shifts:
        shifted = evaluators["val"], shifted_sets(o, val)
        evaluators["shifts"] = node(rcl.evaluate.Robustness, *shifted)
    augment = node(rcl.augment.Views, common.crop_and_flip(224), count=1)
    source, augment = common.cropped(o, train, augment)
    stepwise = node(rcl.optim.MultiStep, epochs=(30, 40, 50))
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=common.frozen_classifier(encoder, 100, initial="small normal"),
        optimizer=node(rcl.optim.Sgd, 10.0, stepwise),
        # Deviation: the release trains on the smaller last batch of an epoch, too.
        batch_size=128,
        **common.length(o, bool(o.probe)),
        init_from=(start,),
        best=node(Best, "val/top1") if o.keep == "best" else None,
        evaluators=evaluators,
    )


def of_file(o):
    """Encoder, what fills it, training and test images, for a file of weights."""
    if o.probe:  # with 1000 outputs, of a hundred classes or of all of ImageNet
        head = {"head": "params/head", "rows": imagenet.places(imagenet.IMAGENET_100)}
        start = node(rcl.weights.ImportResNet, o.probe, **FROZEN, **head)
    else:
        start = node(rcl.weights.ImportMoCo, o.weights, **FROZEN)
    return common.resnet(o.depth, IMAGENET), start, *common.image_folders(o.folder)


def of_run(o):
    """The same for a run."""
    stored, *images = common.probed_run("imagenet100_moco.py", o.source, "MoCo")
    start = node(rcl.weights.Restore, o.source, rcl.objectives.FROZEN_ENCODER)
    return stored.encoder, start, *images
