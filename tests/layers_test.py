"""Who may import whom: the layers of the library, as CONTRIBUTING.md draws them."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

import jax_rcl

PACKAGE = Path(jax_rcl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Each part may import the parts named here, and itself.
MAY_IMPORT = {
    "core": "",
    "artifacts": "",
    "parallel": "",
    "moved": "",
    "ranges": "",
    "losses": "ranges",
    "networks": "ranges parallel",
    "optim": "ranges core",
    "augment": "ranges core parallel",
    "data": "ranges core",
    "config": "ranges core moved",
    "checkpoint": "ranges core parallel",
    "objectives": "ranges core parallel losses",
    "report": "ranges core artifacts",
    "weights": "ranges core checkpoint networks",
    "evaluate": "ranges core artifacts parallel augment data networks weights "
    "checkpoint",
    "restoration": "ranges networks parallel",
    "train": "ranges core artifacts parallel config augment data checkpoint report",
    "results": "ranges augment config evaluate report train checkpoint",
    "cli": "core artifacts parallel config augment data checkpoint report evaluate "
    "weights train results",
    "main": "cli",
}
# What a part may not use although it is no part of jax_rcl.
MAY_NOT_USE = {
    "losses": {"flax"},
    "data": {"jax"},
    "report": {"tensorflow"},
}
COLLECTIVES = {
    "shard_map",
    "pmap",
    "pmean",
    "psum",
    "all_gather",
    "psum_scatter",
    "axis_index",
    "devices",
    "local_devices",
    "device_count",
}


def part_of(path: Path) -> str:
    """The part of the library that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def name_of(path: Path) -> str:
    """The module of a file, in full."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, in full."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_part_imports_only_what_lies_below_it(path):
    part = part_of(path)
    if part == "__init__":
        return
    assert part in MAY_IMPORT, f"{part} is not in the table of layers"
    # Whatever has moved may say so.
    allowed = {part, "moved", *MAY_IMPORT[part].split()}
    for module in imports_of(path):
        if module.startswith("jax_rcl."):
            other = module.split(".")[1]
            assert other in allowed, f"{part} imports {module}, which lies above it"
        assert module.split(".")[0] not in MAY_NOT_USE.get(part, set())


def test_there_is_no_cycle_in_the_table_of_layers():
    below = {part: set(text.split()) for part, text in MAY_IMPORT.items()}
    order = list(graphlib.TopologicalSorter(below).static_order())  # or CycleError
    assert set(order) >= set(below)


def test_no_module_imports_itself_by_way_of_others():
    """Also in functions, where a cycle is found only when they are called."""
    names = {name_of(path): path for path in FILES}
    below = {}
    for name, path in names.items():
        imported = imports_of(path)
        # `from a.b import c`: c is a module, or a name of a.b.
        wanted = {x if x in names else x.rpartition(".")[0] for x in imported}
        below[name] = wanted & names.keys() - {"jax_rcl"}
    order = list(graphlib.TopologicalSorter(below).static_order())  # or CycleError
    assert set(order) >= set(below)


def test_contributing_has_the_same_table():
    lines = (PACKAGE.parent / "CONTRIBUTING.md").read_text().splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| `")]
    table = {}
    for parts, _, may in (row for row in rows if len(row) == 3):
        for part in re.findall("`([a-z]+)`", parts):
            table[part] = set(re.findall("`([a-z]+)`", may))
    # `ranges` is open to all, and `moved` is no part of the design.
    open_to_all = {"ranges", "moved"}
    stated = {k: set(v.split()) - open_to_all for k, v in MAY_IMPORT.items()}
    assert table == {k: v for k, v in stated.items() if k != "moved"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_parallel_knows_that_there_are_devices(path):
    if path.name == "parallel.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = f"{node.value.id}.{node.attr}"
            bad = node.value.id in ("jax", "lax") and node.attr in COLLECTIVES
            assert not bad, f"{path.name}:{node.lineno} says {used}"


def test_the_loop_names_no_method():
    methods = [p.stem for p in (PACKAGE / "objectives").glob("*.py")]
    for path in (PACKAGE / "train").glob("*.py"):
        text = path.read_text().lower().replace("parallel.spread", "")
        for method in [*methods, "moco", "simclr", "thanos"]:
            if method not in ("__init__", "applying", "terms"):
                assert method not in text, f"{path.name} names {method}"


def test_torch_and_tensorflow_are_not_needed():
    for path in FILES:
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names}
                names.add(getattr(node, "module", None) or "")
                tops = {name.split(".")[0] for name in names}
                assert not tops & {"torch", "tensorflow"}, path
