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

from pathlib import Path

from jax_rcl.augment.color import ColorJitter, Grayscale
from jax_rcl.augment.compose import Chain, Maybe, Views
from jax_rcl.augment.geometry import CenterCrop, Flip, RandomResizedCrop
from jax_rcl.config import CLASS, Best, ConfigError, Experiment, node, only_with, parse
from jax_rcl.config.workdir import stored_config
from jax_rcl.data.folders import ImageFolder
from jax_rcl.data.published.imagenet import IMAGENET_100
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.networks.heads import Headed, Linear, Normalized
from jax_rcl.networks.resnet import ResNet
from jax_rcl.objectives.classify import Classify
from jax_rcl.optim.optimizers import Sgd
from jax_rcl.optim.schedules import Plateau
from jax_rcl.weights.imports import ImportUniformity
from jax_rcl.weights.restore import Restore

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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
    whole = o.layer == "features"
    if o.weights:
        known = {"size": 256, "classes": IMAGENET_100}
        train = node(ImageFolder, f"{o.folder}/train", **known)
        val = node(ImageFolder, f"{o.folder}/val", **known)
        encoder, fc = node(Normalized, node(ResNet, o.depth), *IMAGENET), None
    else:
        stored = stored_config(Path(o.source))
        of_uniformity = stored.objective[CLASS].endswith(":Uniformity")
        if not of_uniformity or "probe" not in stored.evaluators:
            raise ConfigError(
                f"{o.source} is no run of imagenet100_uniformity.py; give one."
            )
        encoder, fc = stored.objective.encoder, stored.objective.fc
        train, val = stored.evaluators.probe.train, stored.evaluators.probe.test
    # Where an encoder with a layer behind it keeps the variables of the two.
    of_encoder, of_fc = ("/encoder", "/head") if whole else ("", None)
    params, stats = "frozen/encoder/params", "frozen/encoder/batch_stats"
    places = {f"{params}{of_encoder}": "params/encoder"}
    places |= {f"{stats}{of_encoder}": "memory/encoder"}
    if whole:
        encoder = node(Headed, encoder, fc or node(Linear, 2048))
        places |= {f"{params}{of_fc}": "params/fc"}
    if o.weights:
        there = {ours: where for where, ours in places.items()}
        start = node(
            ImportUniformity,
            o.weights,
            "encoder and fc" if whole else "encoder",
            params=there["params/encoder"],
            batch_stats=there["memory/encoder"],
            **({"fc": there["params/fc"]} if whole else {}),
        )
    else:
        start = node(Restore, o.source, places)
    view = node(
        Chain,
        (
            node(RandomResizedCrop, 224, area=(0.08, 1.0)),
            node(Flip),
            node(Maybe, node(ColorJitter, 0.8, 0.8, 0.8, 0.2), 0.8),
            node(Maybe, node(Grayscale), 0.2),
        ),
    )
    accuracy = node(HeadAccuracy, val, mapped=0, preprocess=node(CenterCrop, 224))
    return node(
        Experiment,
        source=train,
        augment=node(Views, view, count=1),
        objective=node(
            Classify,
            encoder,
            head=node(Linear, len(IMAGENET_100)),
            encoder_is="frozen",
        ),
        optimizer=node(Sgd, 0.1, reference_batch=256, plateau=node(Plateau)),
        batch_size=o.batch,
        epochs=o.epochs,
        init_from=(start,),
        best=node(Best, "val/top1"),
        evaluators={"val": accuracy},
    )
