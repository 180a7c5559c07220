"""Linear evaluation of a frozen encoder on ImageNet-100, and of its robustness.

    python -m jax_rcl.main --config=configs/imagenet100_probe.py:source=runs/patch \
        --workdir=runs/patch_probe
    python -m jax_rcl.main --workdir=runs/released_probe \
        --config=configs/imagenet100_probe.py:weights=checkpoint_0199.pth.tar

As the code of Ge et al. 2021 does it, which reports 77.9 for MoCo-v2 and 79.4 with
patch negatives. Obtained: not yet run. `--mode=evaluate` evaluates a run once more.
Options of the file: `source` (a run of imagenet100_moco.py) or `weights` (a file of
MoCo's authors' code) with `depth` and `folder` (has train/ and val/); `epochs`; `keep`
(best: also the state of the highest top-1 on val/, which the release prints); `shifts`,
a folder of shifted test sets, and `sets`, which of them: c (imagenet-c/ has
<corruption>/<severity>/<class>/), sketch (imagenet-sketch/ has <class>/), stylized
(imagenet-stylized/val/ has <class>/), r (imagenet-r/ has <class>/), and computed, the
standard corruptions made of val/ on the device; shifts=computed is these alone.
"""

import common
from common import FROZEN, IMAGENET

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.config import Best, ConfigError, unknown
from jax_rcl.data.published.imagenet import IMAGENET_100


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        source="runs/imagenet100_moco",
        weights="",
        depth=50,
        folder="data/imagenet100",
        epochs=60,
        keep=("last", "best"),
        shifts="",
        sets="c+sketch+stylized+r",
    )
    only_with(o, o.shifts not in ("", "computed"), "shifts=FOLDER", "sets")
    only_with(o, bool(o.weights), "weights=FILE", "depth", "folder")
    encoder, start, train, val = of_file(o) if o.weights else of_run(o)
    accuracy, others = common.head_accuracy(val, 224), {}
    if o.shifts:
        sets = shifted_sets(o, val)
        others = {"shifts": node(rcl.evaluate.Robustness, accuracy, sets)}
    stepwise = node(rcl.optim.MultiStep, epochs=(30, 40, 50))
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, common.crop_and_flip(224), count=1),
        objective=common.frozen_classifier(encoder, 100, initial="small normal"),
        optimizer=node(rcl.optim.Sgd, 10.0, stepwise),
        batch_size=128,
        epochs=o.epochs,
        init_from=(start,),
        best=node(Best, "val/top1") if o.keep == "best" else None,
        evaluators={"val": accuracy, **others},
    )


def of_file(o):
    """Encoder, what fills it, training and test images, for a file of weights."""
    resnet = node(rcl.networks.ResNet, o.depth)
    encoder = node(rcl.networks.Normalized, resnet, *IMAGENET)
    start = node(rcl.weights.ImportMoCo, o.weights, **FROZEN)
    return encoder, start, *common.image_folders(o.folder)


def of_run(o):
    """The same for a run."""
    stored = common.run_of("imagenet100_moco.py", o.source, "MoCo", evaluator="probe")
    start = node(rcl.weights.Restore, o.source, rcl.objectives.FROZEN_ENCODER)
    probe = stored.evaluators.probe
    return stored.objective.encoder, start, probe.train, probe.test


def shifted_sets(o, val):
    """The test sets of the options `shifts` and `sets`, by the names of their numbers.

    Raises:
      ConfigError: there is no such set.
    """
    known = {"classes": IMAGENET_100}

    def folder(name, **fields):
        place = f"{o.shifts}/{name}"
        return node(rcl.data.ImageFolder, place, size=256, **known, **fields)

    files = node(rcl.evaluate.CorruptedFolders, f"{o.shifts}/imagenet-c", **known)
    names = rcl.augment.corruptions.STANDARD
    corruptions = tuple(node(rcl.augment.Corruption, name) for name in names)
    sets = {
        "c": ("corruption", files),
        "sketch": ("sketch", folder("imagenet-sketch")),
        "stylized": ("stylized", folder("imagenet-stylized/val")),
        "r": ("rendition", folder("imagenet-r", missing="skip")),
        "computed": ("computed", node(rcl.evaluate.Corrupted, val, corruptions)),
    }
    words = ["computed"] if o.shifts == "computed" else o.sets.split("+")
    for word in words:
        if word not in sets:
            raise ConfigError(unknown("option 'sets' has no value", word, sets))
    return dict(sets[word] for word in words)
