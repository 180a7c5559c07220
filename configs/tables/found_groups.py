"""Finds groups that nobody labelled, then trains group DRO on them: one command.

    jax-rcl table --table=configs/tables/found_groups.py:folder=data/waterbirds \
        --workdir=runs/found_groups --seeds=0

For every seed groups.py is run by cross-entropy, and by DRO on the clusters, two a
class, of that run's features; with `known=yes` also by DRO on the true groups. Numbers
are those of the best state by the worst group of the validation images, whose groups
are known. Obtained: not yet run; the images must be there.
"""

from jax_rcl.config import parse
from jax_rcl.results import Column, Row, Run, Table

COLUMNS = {
    "worst": ("Worst group", "best/test/worst_group_top1"),
    "top1": ("All images", "best/test/top1"),
}


def get_table(arg=""):
    """The table."""
    o = parse(
        arg,
        first=("ce", "supcon", "spread"),  # by which features are learned
        draw=("as they come", "equally"),  # of groups by DRO
        known=("no", "yes"),
        # As in groups.py, of all runs.
        data=("waterbirds", "celeba", "isic"),
        folder="",
        depth=50,
        weights="",
        size=224,
        epochs=100,
        batch_size=128,
    )
    own = {"first", "draw", "known"}
    shared = "".join(f",{n}={getattr(o, n)}" for n in sorted(o.given - own))
    dro = f"method=dro,draw={o.draw}"
    methods = {
        "first": ("Groups unknown", f"method={o.first}"),
        "found": ("DRO on groups found in its features", f"{dro},groups={{first}}"),
    }
    if o.known == "yes":
        methods["known"] = ("DRO on the true groups", dro)
    seed = {"seed": "{seed}"}
    runs = tuple(
        Run(name, f"configs/groups.py:{options}{shared}", seed)
        for name, (_, options) in methods.items()
    )
    rows = tuple(
        Row(
            name,
            {column: (name, number) for column, (_, number) in COLUMNS.items()},
            title=title,
        )
        for name, (title, _) in methods.items()
    )
    columns = tuple(Column(name, title) for name, (title, _) in COLUMNS.items())
    return Table("Group DRO on groups that are found", runs, rows, columns)
