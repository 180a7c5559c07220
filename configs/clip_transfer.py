"""A linear head for other data on a frozen encoder of clip_student or clip_baseline.

    python -m jax_rcl.main --config=configs/clip_transfer.py:source=runs/student \
        --workdir=runs/cifar10

As the code of Ravula et al. 2021; its runs report for students of masks, 25 epochs,
tested with the same random masks: CIFAR-10 80.9, CIFAR-100 58.6, STL-10 89.4,
ImageNet-100B 80.1, COVID 84.0 with area under the curve 91.8; others are in
docs/inverse_problems.md. Obtained: not yet run.
Options of the file: `source`, the run whose encoder it is; `data` (cifar10, cifar100,
stl10, covid, imagenet100b) and `folder`, where that is (covid and imagenet100b: has
train/ and test/ or val/); `labels`, the share of them; `distortion` (a word of
`augment.distortions.CONDITIONS`; that of `source` by default); `epochs`; `draws` of the
distortion in testing, for the mean and its deviation.
"""

from pathlib import Path

import clip_common
from common import crop_and_flip, frozen_classifier, head_accuracy, run_of

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse
from jax_rcl.augment.distortions import CONDITIONS
from jax_rcl.config import stored_config
from jax_rcl.data.published.imagenet import IMAGENET_100B

CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "covid": 2, "imagenet100b": 100}


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        source="runs/student",
        data=tuple(CLASSES),
        folder="",
        labels=1.0,
        distortion=("as the source", *CONDITIONS),
        epochs=10,
        draws=10,
    )
    encoder, start, distortion = source_run(o)
    size = clip_common.side_of(encoder)
    train, test = sources(o, size)
    if o.labels < 1:
        train = node(rcl.data.FewLabels, train, o.labels)
    view, seen = geometry(o.data, size, distortion)
    fields = {"preprocess": seen, "distortion": distortion}
    accuracy = head_accuracy(test, size, **fields)
    evaluators = {"test": accuracy}
    if o.draws > 1:
        full = node(rcl.augment.ByStrength, distortion), (1.0,)
        evaluators["draws"] = node(rcl.evaluate.LevelSweep, accuracy, *full, o.draws)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, view, count=1),
        objective=frozen_classifier(encoder, CLASSES[o.data]),
        optimizer=node(rcl.optim.Adam, 1e-3, node(rcl.optim.EpochCosine)),
        batch_size=512,
        epochs=o.epochs,
        init_from=(start,),
        evaluators=evaluators,
    )


def source_run(o):
    """Encoder, what fills it, and the distortion, for the run `source`."""
    stored = stored_config(Path(o.source))
    paths = rcl.objectives.encoder_paths("frozen")
    if stored.objective.get("encoder_is") == "frozen":
        paths = {path: path for path in paths}
    if o.distortion in CONDITIONS:
        distortion = CONDITIONS[o.distortion]
    else:
        files = "clip_student.py, clip_probe.py or clip_baseline.py"
        run_of(files, o.source, "Distill", "Classify", "KnowledgeDistillation")
        augment = stored.augment  # a pair, or views whose last operation distorts
        distortion = augment.get("distortion") or augment.operation.operations[-1]
    start = node(rcl.weights.Restore, o.source, paths)
    return stored.objective.encoder, start, distortion


def geometry(data, size, distortion):
    """A view in training, and what is seen of an image in testing."""
    centre = node(rcl.augment.CenterCrop, size)
    if data in ("covid", "imagenet100b"):
        return crop_and_flip(size, distortion), centre
    # Small images are enlarged, and seen whole.
    enlarge = node(rcl.augment.ResizeShorter, size)
    whole = node(rcl.augment.Chain, (enlarge, centre))
    operations = (whole, node(rcl.augment.Flip), distortion)
    return node(rcl.augment.Chain, operations), whole


def sources(o, size):
    """Training and test images."""
    if o.data == "covid":
        folder, parts = o.folder or "data/covid", ("train", "test")
        return clip_common.folders(folder, size, parts=parts, classes=())
    if o.data == "imagenet100b":
        folder = o.folder or "data/imagenet100b"
        return clip_common.folders(folder, size, classes=IMAGENET_100B)
    kind, known = rcl.data.Stl10, {"folder": o.folder or None}
    if o.data != "stl10":
        kind, known["classes"] = rcl.data.Cifar, CLASSES[o.data]
    return tuple(node(kind, split=split, **known) for split in ("train", "test"))
