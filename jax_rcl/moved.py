"""Where modules were before 0.2, so that old imports and stored configs go on working.

Kept for one version: an old import warns and names the new place, `config.json` files
of older runs are read under the new names without a word.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from typing import Any

MODULES = {
    "augment.blurs": "augment.corruptions.blurs",
    "augment.conditions": "augment.distortions.conditions",
    "augment.corruptions": "augment.corruptions.table",
    "augment.digital": "augment.corruptions.digital",
    "augment.distortions": "augment.distortions.pixelwise",
    "augment.frost": "augment.corruptions.frost",
    "augment.jpeg": "augment.corruptions.jpeg",
    "augment.levels": "augment.distortions.levels",
    "augment.mixing": "augment.mixup",
    "augment.mixtures": "augment.distortions.mixtures",
    "augment.padding": "augment.geometry",
    "augment.noises": "augment.corruptions.noises",
    "augment.spatter": "augment.corruptions.spatter",
    "augment.subsets": "augment.distortions.subsets",
    "augment.weather": "augment.corruptions.weather",
    "bench": "cli.bench",
    "check": "train.plan",
    "class_embeddings": "evaluate.class_embeddings",
    "compared": "results.runs results.robustness",
    "comparison": "results.table",
    "cost": "train.cost",
    "data.celeba": "data.published.celeba",
    "data.chexpert": "data.published.chexpert",
    "data.coarse": "data.published.coarse",
    "data.cub": "data.published.cub",
    "data.decoded": "data.folders",
    "data.emoji": "data.published.emoji",
    "data.grouped": "data.published.grouped",
    "data.imagenet": "data.published.imagenet",
    "data.published": "data.published.files",
    "data.stl10": "data.published.stl10",
    "data.tiny_imagenet": "data.published.tiny_imagenet",
    "data.zappos": "data.published.zappos",
    "denoising": "restoration.non_local_means",
    "evaluate.corrupted": "evaluate.shifts.corrupted",
    "evaluate.corrupted_folders": "evaluate.shifts.corrupted_folders",
    "evaluate.cross_validated": "evaluate.linear.cross_validated",
    "evaluate.distorted": "evaluate.shifts.distorted",
    "evaluate.folds": "evaluate.linear.choice",
    "evaluate.grid": "evaluate.linear.grid",
    "evaluate.linear_probe": "evaluate.linear.probe",
    "evaluate.logistic": "evaluate.linear.logistic",
    "evaluate.logistic_grid": "evaluate.linear.logistic",
    "evaluate.neighbours": "evaluate.knn",
    "evaluate.per_target": "evaluate.linear.per_target",
    "evaluate.plain_sgd": "evaluate.linear.plain_sgd",
    "evaluate.robustness": "evaluate.shifts.robustness",
    "evaluate.strata": "evaluate.geometry_numbers",
    "evaluate.sweep": "evaluate.shifts.level_sweep",
    "evaluate.sweep_numbers": "evaluate.shifts.level_numbers",
    "feed": "train.batches",
    "fields": "config.types",
    "imports": "weights.imports",
    "inpainting": "restoration.deep_decoder",
    "interrupt": "train.signals",
    "optim": "optim.optimizers",
    "prepare.class_embeddings": "cli.prepare.class_embeddings",
    "prepare.cub": "cli.prepare.cub",
    "prepare.features": "cli.prepare.features",
    "prepare.imagenet100": "cli.prepare.imagenet100",
    "prepare.join": "cli.prepare.join",
    "prepare.pack": "cli.prepare.pack",
    "prepare.synthesis": "cli.prepare.synthesis",
    "prepare.textures": "cli.prepare.textures",
    "prepare.trees": "cli.prepare.trees",
    "prepare.work": "cli.prepare.work",
    "prepare.zappos": "cli.prepare.zappos",
    "report.callouts": "report.figures.callouts",
    "report.comparison": "report.tables report.figures.comparison",
    "report.curves": "report.figures.curves",
    "report.drawing": "report.figures.drawing",
    "report.geometry_plots": "report.figures.geometry",
    "report.levels": "report.figures.comparison",
    "report.plots": "report.figures.plots",
    "report.results": "report.tables",
    "report.robustness": "results.robustness report.figures.plots",
    "report.sheets": "report.figures.sheets",
    "results": "train.evaluation",
    "robustness": "cli.compare",
    "run": "train.run train.state config.workdir checkpoint",
    "run_features": "train.features",
    "schedules": "optim.schedules",
    "sweep": "cli.compare",
    "swept": "results.sweeps",
    "table": "cli.table",
    "train_step": "train.step",
    "transfer": "weights.restore weights.imports",
    "trials": "results.trials",
    "weights.clip_files": "weights.clip",
    "weights.export": "cli.export",
}
"""Old places of modules and new ones, below `jax_rcl`; some went to several."""

PACKAGES = {
    "config": "config.experiment",
    "core": "artifacts",
    "train": "train.loop",
    "prepare": "cli.prepare",
}
"""Modules that are packages now, or whose names went elsewhere in part."""

COMMANDS = {
    "bench": "bench",
    "robustness": "compare",
    "sweep": "compare",
    "table": "table",
    "weights.export": "export",
}
"""Modules that were run by `python -m`, and the commands that they are now."""

BENCHMARKS = (
    "bench_corruptions",
    "bench_distortions",
    "bench_losses",
    "bench_negatives",
    "bench_uniformity",
)
"""Modules that left the package for `benchmarks/` of the repository."""


def new_places(module: str) -> list[str]:
    """The modules in which the names of an old one are; none if it has not moved."""
    name = module.removeprefix("jax_rcl.")
    places = MODULES.get(name) or PACKAGES.get(name, "")
    return [f"jax_rcl.{place}" for place in places.split()]


def find(module: str, name: str) -> Any:
    """What an old module had under this name, with a warning that says where it is.

    Raises:
      AttributeError: it had no such name.
    """
    hidden = name.startswith("__")  # tools ask every module for `__file__` and the like
    for place in () if hidden else new_places(module):
        found = getattr(importlib.import_module(place), name, None)
        if found is not None:
            warnings.warn(
                f"{module}.{name} is in {place} now; the old name goes in 0.3.",
                DeprecationWarning,
                stacklevel=3,
            )
            return found
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def class_path(path: str) -> str:
    """`module:name` of a class, in its new place if it has moved."""
    module, _, name = path.partition(":")
    if not new_places(module):
        return path
    for place in new_places(module):
        if hasattr(importlib.import_module(place), name):
            return f"{place}:{name}"
    return path


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules by their old names, after everything else has failed."""

    def find_spec(
        self,
        fullname: str,
        path: Any,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """A module whose names are looked up where they are now."""
        if not fullname.startswith("jax_rcl."):
            return None
        if not new_places(fullname) and fullname[8:] not in BENCHMARKS:
            return None
        is_package = fullname == "jax_rcl.prepare"
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: types.ModuleType) -> None:
        """Lets the module look its names up where they are now."""
        module.__getattr__ = functools.partial(find, module.__name__)  # pyright: ignore[reportAttributeAccessIssue] PEP 562

    def get_code(self, fullname: str) -> types.CodeType:
        """What `python -m` runs: the command that the module is now."""
        name = fullname.removeprefix("jax_rcl.")
        if name in BENCHMARKS:
            module = name.replace("bench_", "benchmarks.")
            text = f"raise SystemExit('in a checkout: python -m {module}')"
            return compile(text, fullname, "exec")
        command = COMMANDS.get(name) or name.replace("prepare.", "prepare ")
        text = (
            "import sys\nfrom jax_rcl.main import main\n"
            f"print('python -m {fullname} is `jax-rcl {command}` now.', "
            "file=sys.stderr)\n"
            f"sys.exit(main({command.split()!r} + sys.argv[1:]))\n"
        )
        return compile(text, fullname, "exec")


def install() -> None:
    """Makes the old names importable."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
