"""Thanos, stage 2: fine labels for one or two frozen encoders of thanos_coarse.py.

    python -m jax_rcl.main --config=configs/thanos_transfer.py:first=runs/spread
    python -m jax_rcl.main --workdir=runs/thanos \
        --config=configs/thanos_transfer.py:first=runs/spread,second=runs/auto

A linear head learns from augmented views (one of each image) while the encoders stay as
they are; with two, their features are concatenated, which is Thanos. Data, networks and
augmentation are those of the first run, whose labels were coarse. A run of two encoders
that were trained jointly brings both. The authors report, on CIFAR-10, 51.8 for
SupCon, 77.1 for class-conditional InfoNCE, 71.7 for the autoencoder, 79.1 for Thanos;
obtained: not yet run; Fashion-MNIST in tables/thanos_fashion.py.
Options of the file: `first`, `second`, `which` checkpoint, `encoder` (released: frozen
parameters, but dropout and batch statistics as in training), `epochs`.
"""

from pathlib import Path

from jax_rcl.augment.compose import Views
from jax_rcl.config import CLASS, Best, ConfigError, Experiment, node, parse
from jax_rcl.config.workdir import stored_config
from jax_rcl.data.wrappers import Split
from jax_rcl.evaluate.head import HeadAccuracy
from jax_rcl.evaluate.linear.probe import LinearProbe
from jax_rcl.evaluate.when import AtEnd
from jax_rcl.networks.heads import Concatenated, Linear
from jax_rcl.objectives.classify import Classify, encoder_paths
from jax_rcl.optim.optimizers import AdamW
from jax_rcl.optim.schedules import EpochCosine
from jax_rcl.weights.restore import Restore


def get_config(arg=""):
    """The experiment; see the options above."""
    o = parse(
        arg,
        first="runs/spread",
        second="",
        which=("best", "newest"),
        encoder=("frozen", "released"),
        epochs=100,
    )
    encoder_is = "frozen" if o.encoder == "frozen" else "frozen in training mode"
    workdirs = tuple(filter(None, (o.first, o.second)))
    stored = [stored_config(Path(workdir)) for workdir in workdirs]
    first, encoders, rules = stored[0], [], []
    for workdir, other in zip(workdirs, stored, strict=True):
        if not other.objective[CLASS].endswith(":Spread"):
            raise ConfigError(f"{workdir} is no run of thanos_coarse.py; give one.")
        if other.evaluators["fine"].test != first.evaluators["fine"].test:
            raise ConfigError(f"{workdir} learned from other images than {o.first}.")
        for name in ("encoder", "encoder_auto"):
            objective = other.objective
            if objective.get(name):
                place = f"part{len(encoders) + 1}"
                paths = encoder_paths(encoder_is, source=name, place=place)
                encoders.append(objective[name])
                rules.append(node(Restore, workdir, paths, which=o.which))
    names = tuple(f"part{number + 1}" for number in range(len(encoders)))
    fine, classes = first.evaluators["fine"], len(first.evaluators["geometry"].coarse)
    train = fine.train
    view = node(Views, first.augment.operation, count=1)
    return node(
        Experiment,
        source=node(Split, train, "train"),
        augment=view,
        objective=node(
            Classify,
            node(Concatenated, tuple(encoders), names),
            head=node(Linear, classes),
            encoder_is=encoder_is,
        ),
        optimizer=node(AdamW, 1e-3, node(EpochCosine), decayed="all"),
        batch_size=first.batch_size,
        epochs=o.epochs,
        seed=first.seed,
        init_from=tuple(rules),
        best=node(Best, "val/top1"),
        evaluators={
            "val": node(HeadAccuracy, node(Split, train, "val"), mapped=0),
            "test": node(HeadAccuracy, fine.test, mapped=0, when=node(AtEnd)),
            "fine": node(LinearProbe, train, fine.test),
        },
    )
