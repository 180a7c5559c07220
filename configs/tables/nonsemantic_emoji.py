"""Non-semantic negatives on emoji: four rows of Ge et al. 2021 on two CPU cores.

    jax-rcl table --table=configs/tables/nonsemantic_emoji.py \
        --workdir=runs/nonsemantic_emoji

The rows of the paper's table with a queue of 16384, on small drawings in place of
ImageNet-100. Three seeds of four encoders, each with a linear probe.
Options of the file: `epochs`, `size` of the views, `width` of the ResNet-10.
"""

from jax_rcl.config import parse
from jax_rcl.results import Column, Row, Run, Table

# What the README of the authors' code reports for ImageNet-100: clean, -C, -R.
ROWS = {
    "moco": ("MoCo", "negatives=none", (77.88, 43.08, 32.92)),
    "texture": ("+ texture, α = 2", "negatives=texture", (77.76, 43.58, 33.36)),
    "patch": ("+ patch, α = 2", "negatives=patch", (79.35, 45.13, 34.78)),
    "patch3": ("+ patch, α = 3", "negatives=patch,alpha=3", (75.58, 44.45, 36.89)),
}
# A control: what the linear probe makes of features that nothing has trained.
UNTRAINED = ("epochs=1", {"optimizer.learning_rate": 1e-9})
COLUMNS = {
    "clean": ("Clean", "probe/top1"),
    "corrupted": ("Corrupted", "robust/corrupted/top1"),
    "restyled": ("Other style", "robust/restyled/top1"),
}


def get_table(arg=""):
    """The table; see the options above."""
    o = parse(arg, epochs=80, size=32, width=16)
    network = f"epochs={o.epochs},size={o.size},width={o.width}"
    epochs, overrides = UNTRAINED
    start = f"configs/emoji_moco.py:{epochs},size={o.size},width={o.width}"
    runs = [Run("untrained", start, {"seed": "{seed}", **overrides})]
    cells = {column: ("untrained", number) for column, (_, number) in COLUMNS.items()}
    rows = [Row("untrained", cells, {}, "Untrained encoder")]
    for name, (title, options, paper) in ROWS.items():
        config = f"configs/emoji_moco.py:{options},{network}"
        runs.append(Run(name, config, {"seed": "{seed}"}))
        cells = {column: (name, number) for column, (_, number) in COLUMNS.items()}
        rows.append(Row(name, cells, dict(zip(COLUMNS, paper, strict=True)), title))
    return Table(
        "Non-semantic negatives on emoji",
        tuple(runs),
        tuple(rows),
        tuple(Column(name, title) for name, (title, _) in COLUMNS.items()),
        note="Paper: ResNet-50 on ImageNet-100, 200 epochs; -C, and -R as other style.",
    )
