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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lazy_loader

FOLDERS = {
    "augment.corruptions": "augment: blurs digital frost jpeg noises spatter weather",
    "augment.distortions": "augment: conditions levels mixtures subsets",
    "data.published": "data: celeba chexpert coarse cub emoji grouped imagenet stl10 "
    "tiny_imagenet zappos",
    "evaluate.linear": "evaluate: cross_validated grid logistic per_target plain_sgd",
    "evaluate.shifts": "evaluate: corrupted corrupted_folders distorted robustness",
    "report.figures": "report: callouts curves drawing plots sheets",
    "cli.prepare": "prepare: class_embeddings cub features imagenet100 join pack "
    "synthesis textures trees work zappos",
}
"""Folders, each with the folder that some of its modules were in, and their names."""

MODULES = {
    "augment.corruptions": "augment.corruptions.table",
    "augment.distortions": "augment.distortions.pixelwise",
    "augment.mixing": "augment.mixup",
    "augment.padding": "augment.geometry",
    "bench": "cli.bench",
    "check": "train.plan",
    "class_embeddings": "evaluate.class_embeddings",
    "compared": "results.runs results.robustness",
    "comparison": "results.table",
    "cost": "train.cost",
    "data.decoded": "data.folders",
    "data.published": "data.published.files",
    "denoising": "restoration.non_local_means",
    "evaluate.folds": "evaluate.linear.choice",
    "evaluate.linear_probe": "evaluate.linear.probe",
    "evaluate.logistic_grid": "evaluate.linear.logistic",
    "evaluate.neighbours": "evaluate.knn",
    "evaluate.strata": "evaluate.geometry_numbers",
    "evaluate.sweep": "evaluate.shifts.level_sweep",
    "evaluate.sweep_numbers": "evaluate.shifts.level_numbers",
    "feed": "train.batches",
    "fields": "config.types",
    "imports": "weights.imports",
    "inpainting": "restoration.deep_decoder",
    "interrupt": "train.signals",
    "optim": "optim.optimizers",
    "report.comparison": "report.tables report.figures.comparison",
    "report.geometry_plots": "report.figures.geometry",
    "report.levels": "report.figures.comparison",
    "report.results": "report.tables",
    "report.robustness": "results.robustness report.figures.comparison",
    "results": "train.evaluation",
    "run": "train.run train.claim train.state config.workdir checkpoint",
    "run_features": "train.features",
    "schedules": "optim.schedules",
    "swept": "results.sweeps",
    "table": "results.table cli.table",
    "train_step": "train.step",
    "transfer": "weights.restore weights.imports",
    "trials": "results.trials",
    "weights.clip_files": "weights.clip",
    "weights.export": "cli.export",
} | {
    f"{old}.{name}": f"{folder}.{name}"
    for folder, (old, names) in ((k, v.split(": ")) for k, v in FOLDERS.items())
    for name in names.split()
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
    "robustness": "compare --only=robustness",
    "sweep": "compare --only=sweeps",
    "table": "table",
    "weights.export": "export",
} | {
    f"prepare.{name}": f"prepare {name}"
    for name in FOLDERS["cli.prepare"].split()[1:]
    if name not in ("synthesis", "trees", "work")
}
"""Modules that were run by `python -m`, and the commands that they are now."""

BENCHMARKS = (
    "bench_corruptions",
    "bench_distortions",
    "bench_losses",
    "bench_negatives",
    "bench_uniformity",
    "reference_corruptions",
)
"""Modules that left the package for `benchmarks/` of the repository."""


OTHERS = {
    "compared.RESULTS",
    "compared.evaluators_of",
    "evaluate.grid.warn_if_slow",
    "prepare.pack.write",
    "report.robustness.grid",
    "table.provenance",
}
"""Names that something else has today in the new place."""


def new_places(module: str) -> list[str]:
    """The modules in which the names of an old one are; none if it has not moved."""
    name = module.removeprefix("jax_rcl.")
    places = MODULES.get(name) or PACKAGES.get(name, "")
    return [f"jax_rcl.{place}" for place in places.split()]


def find(module: str, name: str) -> Any:
    """What an old module had under this name, with a warning that says where it is.

    Raises:
      AttributeError: it had no such name, or there is nothing like it today.
    """
    old = module.removeprefix("jax_rcl.")
    command, places = COMMANDS.get(old), new_places(module)
    # Tools ask every module for `__file__` and the like.
    hidden = name.startswith("__") or f"{old}.{name}" in OTHERS
    holders = (importlib.import_module(place) for place in places if not hidden)
    holder = next((each for each in holders if hasattr(each, name)), None)
    if command and name == "main":
        place, found = f"`jax-rcl {command}`", functools.partial(run, command)
    elif holder is not None:
        place, found = holder.__name__, getattr(holder, name)
    else:
        where = " and ".join(places) or f"`jax-rcl {command}`"
        if old in BENCHMARKS:
            where = "benchmarks/ of the repository, outside the package,"
        raise AttributeError(
            f"module {module!r} has no attribute {name!r}; what it had is in {where} "
            "now, if there is such a thing."
        )
    warnings.warn(
        f"{module}.{name} is in {place} now; the old name goes in 0.3.",
        DeprecationWarning,
        stacklevel=3,
    )
    return found


def run(command: str, argv: Sequence[str] | None = None) -> int:
    """Runs a command with more arguments, those of this process by default."""
    main = importlib.import_module("jax_rcl.main").main
    return main([*command.split(), *(sys.argv[1:] if argv is None else argv)])


def attach(package: str, file: str) -> tuple[Any, Any, Any]:
    """As `lazy_loader.attach_stub`, of a package that an old module has the name of."""
    get, names, every = lazy_loader.attach_stub(package, file)

    def get_or_find(name: str) -> Any:
        try:
            return get(name)
        except AttributeError:
            return find(package, name)

    return get_or_find, names, every


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
        self, fullname: str, path: Any, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A module whose names are looked up where they are now."""
        if not fullname.startswith("jax_rcl."):
            return None
        name = fullname.removeprefix("jax_rcl.")
        if not new_places(fullname) and name not in {*BENCHMARKS, *COMMANDS}:
            return None
        # `python -m` makes the origin argv[0], which JAX's cache takes for a text.
        return importlib.machinery.ModuleSpec(
            fullname, self, origin=__file__, is_package=fullname == "jax_rcl.prepare"
        )

    def exec_module(self, module: types.ModuleType) -> None:
        """Lets the module look its names up where they are now."""
        module.__getattr__ = functools.partial(find, module.__name__)  # pyright: ignore[reportAttributeAccessIssue] PEP 562

    def get_code(self, fullname: str) -> types.CodeType:
        """What `python -m` runs: the command that the module is now."""
        name = fullname.removeprefix("jax_rcl.")
        command = COMMANDS.get(name, "help")
        text = (
            "import sys\nfrom jax_rcl import moved\n"
            f"print('python -m {fullname} is `jax-rcl {command}` now.', "
            "file=sys.stderr)\n"
            f"sys.exit(moved.run({command!r}))\n"
        )
        if name in BENCHMARKS:
            module = f"benchmarks.{name.removeprefix('bench_')}"
            text = (
                "import runpy, sys\n"
                f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
                f"print('python -m {fullname} is python -m {module} now, in a "
                "checkout.', file=sys.stderr)\n"
                f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
            )
        return compile(text, fullname, "exec")


def install() -> None:
    """Makes the old names importable."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.append(Finder())
