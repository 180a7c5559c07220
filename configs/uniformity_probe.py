"""Linear evaluation of a frozen encoder of decoupled uniformity on ImageNet-100.

    python -m jax_rcl.main --config=configs/uniformity_probe.py:source=runs/uniformity \
        --workdir=runs/uniformity_probe
    python -m jax_rcl.main --workdir=runs/released_uniformity_probe \
        --config=configs/uniformity_probe.py:weights=checkpoint_0399.pth.tar

As the code of Dufumier et al. 2023 does it: a linear layer on the 2048 features,
augmented images, the learning rate falls where the loss stops falling. Obtained: not
yet run.
Options of the file: `source` (a run of imagenet100_uniformity.py) or `weights` (a file
of the authors' code) with `depth` and `folder` (has train/ and val/); `layer`
(features; pooled: the encoder's own, before the layer of 2048), `epochs`, `batch`.
"""

from common import (
    IMAGENET,
    STRONG,
    frozen_classifier,
    head_accuracy,
    image_folders,
    run_of,
    simclr_view,
)

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.config import Best

PARAMS, STATS = "frozen/encoder/params", "frozen/encoder/batch_stats"


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        source="runs/imagenet100_uniformity",
        weights="",
        layer=("features", "pooled"),
        depth=50,
        folder="data/imagenet100",
        epochs=150,
        batch=512,
    )
    only_with(o, bool(o.weights), "weights=FILE", "depth", "folder")
    encoder, start, train, val = of_file(o) if o.weights else of_run(o)
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, simclr_view(224, jitter=STRONG), count=1),
        objective=frozen_classifier(encoder, 100),
        optimizer=node(
            rcl.optim.Sgd, 0.1, reference_batch=256, plateau=node(rcl.optim.Plateau)
        ),
        batch_size=o.batch,
        epochs=o.epochs,
        init_from=(start,),
        best=node(Best, "val/top1"),
        evaluators={"val": head_accuracy(val, 224)},
    )


def of_file(o):
    """Encoder, what fills it, training and test images, for a file of weights."""
    resnet = node(rcl.networks.ResNet, o.depth)
    encoder = node(rcl.networks.Normalized, resnet, *IMAGENET)
    parts, places = "encoder", {"params": PARAMS, "batch_stats": STATS}
    if o.layer == "features":
        fc = node(rcl.networks.Linear, 2048)
        encoder = node(rcl.networks.Headed, encoder, fc)
        parts = "encoder and fc"
        places = {name: f"{place}/encoder" for name, place in places.items()}
        places["fc"] = f"{PARAMS}/head"
    start = node(rcl.weights.ImportUniformity, o.weights, parts, **places)
    return encoder, start, *image_folders(o.folder)


def of_run(o):
    """The same for a run."""
    file = "imagenet100_uniformity.py"
    stored = run_of(file, o.source, "Uniformity", evaluator="probe")
    encoder, probe = stored.objective.encoder, stored.evaluators.probe
    places = {PARAMS: "params/encoder", STATS: "memory/encoder"}
    if o.layer == "features":
        fc = stored.objective.fc or node(rcl.networks.Linear, 2048)
        encoder = node(rcl.networks.Headed, encoder, fc)
        places = {f"{place}/encoder": theirs for place, theirs in places.items()}
        places[f"{PARAMS}/head"] = "params/fc"
    start = node(rcl.weights.Restore, o.source, places)
    return encoder, start, probe.train, probe.test
