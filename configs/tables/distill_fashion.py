"""Students of distorted Fashion-MNIST beside what labels can buy, on two CPU cores.

    jax-rcl table --table=configs/tables/distill_fashion.py \
        --workdir=runs/distill_fashion

Three seeds of a teacher of clean clothes, and of a student and a supervised classifier
for each of five distortions and for all of them at once, which start from that teacher
and get as many updates. Options of the file: `epochs` of every run, `width` of the
ResNet-10.
"""

from jax_rcl.config import parse
from jax_rcl.results import Column, Row, Run, Table

DISTORTIONS = {
    "mask50": ("Half masked", "masks/0.5"),
    "mask75": ("75 % masked", "masks/0.75"),
    "mask90": ("90 % masked", "masks/0.9"),
    "noise": ("Noise 0.5", "noises/0.5"),
    "blur": ("Blur 4 px", "blurs/4"),
}
# Numbers of a run, formats of a distortion's name and level: distorted, and clean.
EACH, OWN = ("{0}/top1", "{0}/clean/top1"), ("test/top1", "test/clean/top1")
LEVEL = ("{1}/top1", "masks/clean/top1")
ROWS = {
    "clean": ("Teacher, probe of clean images", "teacher", ("{1}/top1", "test/top1")),
    "probe": ("Teacher, probe of distorted images", "teacher", EACH),
    "supervised": ("Supervised on distorted images", "supervised-{0}", OWN),
    "student": ("Student, probe", "student-{0}", OWN),
    "supervised-all": ("One supervised for all", "supervised-all", LEVEL),
    "student-all": ("One student for all, probe", "student-all", LEVEL),
}


def get_table(arg=""):
    """The table; see the options above."""
    o = parse(arg, epochs=8, width=16)
    file = f"configs/fashion_distill.py:epochs={o.epochs},width={o.width}"
    seed = {"seed": "{seed}"}
    runs = [Run("teacher", f"{file},method=teacher", seed)]
    for method in ("supervised", "student"):
        start = f"{file},teacher={{teacher}},method={method}"
        for name in (*DISTORTIONS, "all"):
            runs.append(Run(f"{method}-{name}", f"{start},distortion={name}", seed))
    rows, columns = [], []
    for name, (title, run, (distorted, clean)) in ROWS.items():
        cells = {}
        for own, (_, level) in DISTORTIONS.items():
            cells[own] = (run.format(own), distorted.format(own, level))
            cells[f"{own}-clean"] = (run.format(own), clean.format(own))
        rows.append(Row(name, cells, {}, title))
    for name, (title, _) in DISTORTIONS.items():
        columns += [Column(name, title), Column(f"{name}-clean", "clean")]
    return Table(
        "Distorted Fashion-MNIST, and the same images clean",
        tuple(runs),
        tuple(rows),
        tuple(columns),
        note="Beside each distortion the same classifier on clean images.",
    )
