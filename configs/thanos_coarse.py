"""Thanos, stage 1: an encoder trained on coarse labels (Chen, Fu et al. 2022).

    python -m jax_rcl.main --config=configs/thanos_coarse.py --workdir=runs/spread
    python -m jax_rcl.main --workdir=runs/auto \
        --config=configs/thanos_coarse.py:method=ce,decoder=color

Stage 2: thanos_transfer.py; every experiment: docs/thanos.md. Obtained: CIFAR not yet
run; Fashion-MNIST in tables/thanos_fashion.py.
"""

import common
import thanos_common as thanos

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse
from jax_rcl.config import Best


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        data=tuple(thanos.DATA),
        labels=("coarse", "fine"),
        method=tuple(thanos.METHODS),
        decoder=("none", "color", "gray", "label"),
        encoders=("one", "two"),
        network=("vit", "resnet18", "resnet50", "resnet10", "mixer"),
        form=("paper", "released"),  # of all of these that are not given
        **thanos.forms(),
        queries=0.1,  # of a ViT, dropped before the softmax; 0.0: none
        width=64,  # of a ResNet, and of the decoder
        subset=(1.0, common.SHARE),  # of the training images, drawn once of each class
        channels=("own", "three"),  # three: of gray images
        mix=tuple(common.MIXES),  # of examples; cutout: squares of up to 20 pixels
        epochs=600,
        folder="",  # where the data lie; tiny-imagenet-200, $JAX_RCL_DATA of others
    )
    data = thanos.data_of(o)
    train, test = thanos.fine_sources(o)
    (source, val, known), classes = thanos.labelled_parts(o, train, test)
    rgb = len(data.mean) == 3 or o.channels == "three"
    view = common.simclr_view(data.side, smallest=0.2, rgb=rgb)
    encoder = thanos.network(o)
    period = 100.0 if thanos.form_of(o, "schedule") == "released" else None
    schedule = node(rcl.optim.EpochCosine, period=period, beyond="rise")
    seldom = common.every(o.epochs, 12)
    return node(
        Experiment,
        source=source,
        augment=common.views(view, 2, o.mix),
        objective=node(
            rcl.objectives.Spread,
            encoder,
            head=node(rcl.networks.Linear, classes),
            contrasts=thanos.contrasts(o),
            reconstruction=thanos.reconstruction(o),
            encoder_auto=encoder if o.encoders == "two" else None,
        ),
        optimizer=node(rcl.optim.AdamW, 3e-4, schedule, decayed="all"),
        batch_size=128,
        epochs=o.epochs,
        best=node(Best, "val/top1"),
        evaluators={
            **common.val_and_test(val, known),
            "losses": thanos.losses(o, val, view),
            "fine": node(rcl.evaluate.LinearProbe, train, test, when=seldom),
            **thanos.looks(o, test, view),
        },
    )
