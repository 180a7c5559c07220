"""Decoupled uniformity on Fashion-MNIST and emoji: with and without prior knowledge.

    jax-rcl table --table=configs/tables/uniformity.py \
        --workdir=runs/uniformity

The prior of Fashion-MNIST is what an autoencoder's encoder gives, that of emoji the
words of their names; a control has as many random bits. Three seeds of four encoders
on each data set, and of the autoencoder.
Options of the file: `fashion_epochs`, `emoji_epochs`, `width` of the ResNet-10.
"""

from jax_rcl.config import parse
from jax_rcl.results import Column, Row, Run, Table

ROWS = {
    "simclr": ("SimCLR", "method=simclr", "method=simclr"),
    "none": ("Decoupled uniformity, no prior", "prior=none", "prior=none"),
    "random": ("+ random bits (control)", "prior=random", "prior=random"),
    "prior": ("+ prior", "prior=features,first={auto}", "prior=words"),
}
COLUMNS = {
    "fashion_probe": ("Fashion, probe", "fashion", "probe/top1"),
    "fashion_knn": ("Fashion, kNN", "fashion", "knn/top1"),
    "emoji_probe": ("Emoji, probe", "emoji", "probe/top1"),
    "emoji_knn": ("Emoji, kNN", "emoji", "knn/top1"),
}


def get_table(arg=""):
    """The table; see the options above."""
    o = parse(arg, fashion_epochs=6, emoji_epochs=40, width=16)
    seed = {"seed": "{seed}"}
    fashion = f"epochs={o.fashion_epochs},width={o.width}"
    emoji = f"epochs={o.emoji_epochs},width={o.width}"
    auto = f"configs/fashion_uniformity.py:method=autoencoder,{fashion}"
    runs, rows = [Run("auto", auto, seed)], []
    for name, (title, of_fashion, of_emoji) in ROWS.items():
        runs += [
            Run(
                f"fashion_{name}",
                f"configs/fashion_uniformity.py:{of_fashion},{fashion}",
                seed,
            ),
            Run(
                f"emoji_{name}",
                f"configs/emoji_uniformity.py:{of_emoji},{emoji}",
                seed,
            ),
        ]
        cells = {
            column: (f"{data}_{name}", number)
            for column, (_, data, number) in COLUMNS.items()
        }
        rows.append(Row(name, cells, {}, title))
    cells = {
        column: ("auto", number)
        for column, (_, data, number) in COLUMNS.items()
        if data == "fashion"
    }
    rows.append(Row("auto", cells, {}, "The autoencoder itself"))
    return Table(
        "Decoupled uniformity with a prior",
        tuple(runs),
        tuple(rows),
        tuple(Column(name, title) for name, (title, *_) in COLUMNS.items()),
        note="Prior: an autoencoder's features (Fashion), words of names (emoji).",
    )
