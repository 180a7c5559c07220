"""Who may import whom: the layers of the library, as CONTRIBUTING.md draws them."""

import ast
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
    "checkpoint": "core parallel",
    "objectives": "ranges core parallel losses",
    "report": "ranges core artifacts",
    "weights": "ranges core checkpoint",
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
    while below:
        ground = {part for part, parts in below.items() if not parts}
        assert ground, f"a cycle among {sorted(below)}"
        below = {p: ps - ground for p, ps in below.items() if p not in ground}


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
