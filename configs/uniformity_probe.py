"""Linear evaluation of a frozen encoder of decoupled uniformity on ImageNet-100.

    python -m jax_rcl.main --config=configs/uniformity_probe.py:source=runs/uniformity \
        --workdir=runs/uniformity_probe
    python -m jax_rcl.main --workdir=runs/released_uniformity_probe \
        --config=configs/uniformity_probe.py:weights=checkpoint_0399.pth.tar

As the code of Dufumier et al. 2023 does it: a linear layer on the 2048 features,
augmented images, the learning rate falls where the loss stops falling. Obtained: not
yet run.
"""

import common
from common import FROZEN, IMAGENET, STRONG

import jax_rcl as rcl
from jax_rcl import Experiment, node, only_with, parse
from jax_rcl.config import Best


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        source="runs/imagenet100_uniformity",  # a run of imagenet100_uniformity.py
        weights="",  # instead of it a file of the authors' code
        layer=("features", "pooled"),  # pooled: before the layer of 2048
        depth=50,  # of the network in `weights`
        folder="data/imagenet100",  # for `weights`; has train/ and val/
        **common.CUT,
        epochs=150,
        batch=512,
    )
    only_with(o, bool(o.weights), "weights=FILE", "depth", "folder")
    only_with(o, not o.weights, "a run, source=RUN without weights", "source")
    encoder, start, train, val = of_file(o) if o.weights else of_run(o)
    view = common.simclr_view(224, jitter=STRONG)
    augment = node(rcl.augment.Views, view, count=1)
    source, augment = common.cropped(o, train, augment)
    falling = node(rcl.optim.Plateau)
    return node(
        Experiment,
        source=source,
        augment=augment,
        objective=common.frozen_classifier(encoder, 100),
        optimizer=node(rcl.optim.Sgd, 0.1, reference_batch=256, plateau=falling),
        batch_size=o.batch,
        epochs=o.epochs,
        init_from=(start,),
        best=node(Best, "val/top1"),
        evaluators={"val": common.head_accuracy(val, 224)},
    )


def of_file(o):
    """Encoder, what fills it, training and test images, for a file of weights."""
    encoder, images = common.resnet(o.depth, IMAGENET), common.image_folders(o.folder)
    if o.layer == "pooled":
        start = node(rcl.weights.ImportUniformity, o.weights, "encoder", **FROZEN)
        return encoder, start, *images
    encoder = node(rcl.networks.Headed, encoder, node(rcl.networks.Linear, 2048))
    places = {name: f"{place}/encoder" for name, place in FROZEN.items()}
    places["fc"] = f"{FROZEN['params']}/head"
    start = node(rcl.weights.ImportUniformity, o.weights, "encoder and fc", **places)
    return encoder, start, *images


def of_run(o):
    """The same for a run."""
    file = "imagenet100_uniformity.py"
    stored, *images = common.probed_run(file, o.source, "Uniformity")
    encoder, places = stored.encoder, rcl.objectives.FROZEN_ENCODER
    if o.layer == "features":
        fc = stored.fc or node(rcl.networks.Linear, 2048)
        encoder = node(rcl.networks.Headed, encoder, fc)
        places = {f"{place}/encoder": theirs for place, theirs in places.items()}
        places[f"{FROZEN['params']}/head"] = "params/fc"
    return encoder, node(rcl.weights.Restore, o.source, places), *images
