"""Coarse to fine on Fashion-MNIST: the six rows of Thanos on two CPU cores.

    jax-rcl table --table=configs/tables/thanos_fashion.py \
        --workdir=runs/thanos_fashion

Encoders learn from two coarse classes (clothes; shoes and bags) and are frozen; a
linear head then learns the ten fine ones. Three seeds of five encoders and six heads.
Options of the file: `epochs` of stage 1, `fine_epochs` of stage 2, `width` of the
ResNet-10.
"""

from jax_rcl.config import parse
from jax_rcl.results import Column, Row, Run, Table

# What the README of the authors' code reports, for CIFAR-10 and a vision transformer.
PAPER = {"supcon": 51.8, "spread": 77.1, "auto": 71.7, "thanos": 79.1}
# Their order, and the options of thanos_coarse.py that make each.
ENCODERS = {
    "ce": ("Cross-entropy", "method=ce"),
    "supcon": ("SupCon", "method=supcon"),
    "released": ("SupCon as released", "method=supcon,form=released"),
    "spread": ("Class-conditional InfoNCE", "method=spread"),
    "auto": ("Class-conditional autoencoder", "method=ce,decoder=color"),
}


def get_table(arg=""):
    """The table; see the options above."""
    o = parse(arg, epochs=2, fine_epochs=1, width=16)
    data = f"data=fashion,network=resnet10,width={o.width},epochs={o.epochs}"
    # Of a run of two epochs the last state is the one to keep.
    short = {
        "best": None,
        "optimizer.schedule.period": None,
        "evaluators.fine.strengths": (1e-2,),
        "evaluators.fine.mapped": 500,
    }
    coarse = {
        "seed": "{seed}",
        "optimizer.learning_rate": 3e-3,
        "evaluators.fine.when.epochs": o.epochs,
        **short,
    }
    fine = {"optimizer.learning_rate": 0.02, **short}
    runs, rows = [], []
    for name, (_, options) in ENCODERS.items():
        file = f"configs/thanos_coarse.py:{data},{options}"
        # A decoder of the encoder's width would take ten times as long as all the rest.
        narrow = {"objective.reconstruction.decoder.width": 4} if name == "auto" else {}
        runs.append(Run(name, file, coarse | narrow))
    stage2 = {name: f"first={{{name}}}" for name in ENCODERS}
    stage2["thanos"] = "first={spread},second={auto}"
    for name, options in stage2.items():
        file = f"configs/thanos_transfer.py:{options},which=newest"
        runs.append(Run(f"{name}-fine", f"{file},epochs={o.fine_epochs}", fine))
        cells = {
            "fine": (f"{name}-fine", "test/top1"),
            "probe": (f"{name}-fine", "fine/top1"),
        }
        if name in ENCODERS:
            cells |= {
                "coarse": (name, "test/top1"),
                "q2": (name, "geometry/within_class_spread"),
                "share": (name, "geometry/subclass_share"),
            }
        title = ENCODERS[name][0] if name in ENCODERS else "Thanos, two encoders"
        rows.append(Row(name, cells, {"fine": PAPER.get(name)}, title))
    columns = (
        Column("fine", "Fine, head by SGD"),
        Column("probe", "Fine, logistic regression"),
        Column("coarse", "Coarse"),
        Column("q2", "Within-class spread", "", 3),
        Column("share", "Subclass share of it"),
    )
    return Table(
        "Coarse to fine on Fashion-MNIST",
        tuple(runs),
        tuple(rows),
        columns,
        note="Paper: CIFAR-10, a vision transformer, 600 and 100 epochs.",
    )
