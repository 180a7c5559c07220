"""Thanos, stage 2: fine labels for one or two frozen encoders of thanos_coarse.py.

    python -m jax_rcl.main --config=configs/thanos_transfer.py:first=runs/spread
    python -m jax_rcl.main --workdir=runs/thanos \
        --config=configs/thanos_transfer.py:first=runs/spread,second=runs/auto

A linear head learns from augmented views (one of each image) while the encoders stay as
they are; with two, their features are concatenated, which is Thanos. Data, networks and
augmentation are those of the first run, whose labels were coarse. A run of two encoders
that were trained jointly brings both. The authors report, on CIFAR-10 and by what
form=released in stage 1 and encoder=released here stand for, 51.8 for SupCon, 77.1 for
class-conditional InfoNCE, 71.7 for the autoencoder, 79.1 for Thanos; obtained: not yet
run; Fashion-MNIST in tables/thanos_fashion.py.
"""

from common import val_and_test
from thanos_common import read_runs

import jax_rcl as rcl
from jax_rcl import Experiment, node, parse
from jax_rcl.config import Best


def get_config(arg=""):
    """The experiment."""
    o = parse(
        arg,
        first="runs/spread",
        second="",
        which=("best", "newest"),  # checkpoint
        encoder=("frozen", "released"),  # released: batch statistics and dropout act
        epochs=100,
    )
    encoder_is = "frozen" if o.encoder == "frozen" else "frozen in training mode"
    first, encoders, rules = read_runs(o, encoder_is)
    names = tuple(f"part{number + 1}" for number in range(len(encoders)))
    fine, classes = first.evaluators["fine"], len(first.evaluators["geometry"].coarse)
    train, val = (node(rcl.data.Split, fine.train, part) for part in ("train", "val"))
    falling = node(rcl.optim.EpochCosine)
    views = first.augment.get("inner") or first.augment  # of what was mixed
    return node(
        Experiment,
        source=train,
        augment=node(rcl.augment.Views, views.operation, count=1),
        objective=node(
            rcl.objectives.Classify,
            node(rcl.networks.Concatenated, encoders, names),
            head=node(rcl.networks.Linear, classes),
            encoder_is=encoder_is,
        ),
        optimizer=node(rcl.optim.AdamW, 1e-3, falling, decayed="all"),
        batch_size=first.batch_size,
        epochs=o.epochs,
        seed=first.seed,
        init_from=rules,
        best=node(Best, "val/top1"),
        evaluators={
            **val_and_test(val, fine.test),
            "fine": node(rcl.evaluate.LinearProbe, fine.train, fine.test),
        },
    )
