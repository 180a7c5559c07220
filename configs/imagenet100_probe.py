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

from pathlib import Path

from jax_rcl import config
from jax_rcl.augment.compose import Chain, Views
from jax_rcl.augment.corruptions.table import STANDARD, Corruption
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config import CLASS, Best, ConfigError, Experiment, node, parse, unknown
from jax_rcl.config.workdir import stored_config
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.shifts.robustness import Corrupted, CorruptedFolders, Robustness
from jax_rcl.networks.heads import Linear, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import FROZEN_ENCODER, Classify
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import MultiStep
from jax_rcl.weights.imports import ImportMoCo
from jax_rcl.weights.restore import Restore

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILLED = ("frozen/encoder/params", "frozen/encoder/batch_stats")


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
    config.only_with(o, o.shifts not in ("", "computed"), "shifts=FOLDER", "sets")
    config.only_with(o, bool(o.weights), "weights=FILE", "depth", "folder")
    if o.weights:
        known = {"size": 256, "classes": IMAGENET_100}
        train = node(ImageFolder, f"{o.folder}/train", **known)
        val = node(ImageFolder, f"{o.folder}/val", **known)
        encoder = node(Normalized, node(ResNet, o.depth), *IMAGENET)
        start = node(ImportMoCo, o.weights, "encoder", *FILLED)
    else:
        stored = stored_config(Path(o.source))
        of_moco = stored.objective[CLASS].endswith(":MoCo")
        if not of_moco or "probe" not in stored.evaluators:
            raise ConfigError(f"{o.source} is no run of imagenet100_moco.py; give one.")
        encoder, probe = stored.objective.encoder, stored.evaluators["probe"]
        train, val = probe.train, probe.test
        start = node(Restore, o.source, FROZEN_ENCODER)
    accuracy = node(HeadAccuracy, val, mapped=0, preprocess=node(CenterCrop, 224))
    evaluators = {"val": accuracy}
    sets = shifted_sets(o.shifts, val)
    if o.shifts:
        wanted = "computed" if o.shifts == "computed" else o.sets
        for name in wanted.split("+"):
            if name not in sets:
                raise ConfigError(unknown("option 'sets' has no value", name, sets))
        chosen = dict(sets[name] for name in wanted.split("+"))
        evaluators["shifts"] = node(Robustness, accuracy, chosen)
    crop = node(RandomResizedCrop, 224, area=(0.08, 1.0))
    return node(
        Experiment,
        source=train,
        augment=node(Views, node(Chain, (crop, node(Flip))), count=1),
        objective=node(
            Classify,
            encoder,
            head=node(Linear, len(IMAGENET_100), initial="small normal"),
            encoder_is="frozen",
        ),
        optimizer=node(Sgd, 10.0, node(MultiStep, epochs=(30, 40, 50))),
        batch_size=128,
        epochs=o.epochs,
        init_from=(start,),
        best=node(Best, "val/top1") if o.keep == "best" else None,
        evaluators=evaluators,
    )


def shifted_sets(folder, val):
    """For each word of `sets`: what the set is called in the numbers, and the set."""
    known = {"size": 256, "classes": IMAGENET_100}
    sketch = node(ImageFolder, f"{folder}/imagenet-sketch", **known)
    stylized = node(ImageFolder, f"{folder}/imagenet-stylized/val", **known)
    rendition = node(ImageFolder, f"{folder}/imagenet-r", missing="skip", **known)
    computed = tuple(node(Corruption, name) for name in STANDARD)
    files = node(CorruptedFolders, f"{folder}/imagenet-c", classes=IMAGENET_100)
    return {
        "c": ("corruption", files),
        "sketch": ("sketch", sketch),
        "stylized": ("stylized", stylized),
        "r": ("rendition", rendition),
        "computed": ("computed", node(Corrupted, val, computed)),
    }
