"""The notebooks: in step with their sources, without outputs, and they run."""

import os
from pathlib import Path

import jax
import jupytext
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from jax_rcl.data.sources import Idx

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
PICTURES = {
    "inverse_problems": 5,
    "kernel_uniformity": 8,
    "nonsemantic_negatives": 6,
    "supcon": 6,
    "thanos": 9,
}
RUNS = {
    "inverse_problems": {"teacher", "mask-0.9", "all"},
    "kernel_uniformity": {"without", "words"},
    "nonsemantic_negatives": {"MoCo", "mosaics"},
    "supcon": {"supcon", "simclr"},
    "thanos": {
        *("SupCon", "InfoNCE", "autoencoder"),
        *("SupCon-fine", "InfoNCE-fine", "autoencoder-fine", "Thanos-fine"),
    },
}

EPOCHS = {"supcon": "3", "thanos": "2"}
"""Those whose learning rate rises at first need more than one."""

FASHION = {"inverse_problems"}
"""Notebooks that read Fashion-MNIST: Debian's package, or a download."""

OPTIMIZED = "--xla_backend_optimization_level=1"

NARROWER = {
    "inverse_problems": ("depth=10, width=16", "depth=10, width=2"),
    "nonsemantic_negatives": ("depth=10, width=16", "depth=10, width=2"),
    "supcon": ("depth=10, width=16", "depth=10, width=2"),
    "thanos": ("depth=10, width=16", "depth=10, width=2"),
}
"""What is written there, and what takes its place: the same with less to add up."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def contents(notebook):
    """What a reader sees before anything runs, and the kernel that would run it."""
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return cells, notebook.metadata.kernelspec


def test_every_source_has_a_notebook():
    sources = sorted((ROOT / "colabs").glob("*.py"))
    assert [path.stem for path in sources] == [path.stem for path in NOTEBOOKS]
    assert {path.stem for path in NOTEBOOKS} == set(PICTURES)


@every_notebook
def test_a_notebook_is_what_jupytext_makes_of_its_source(path):
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    made = jupytext.read(path.with_suffix(".py"))
    assert contents(stored) == contents(made), (
        f"run: jupytext --update --to ipynb {path.with_suffix('.py').relative_to(ROOT)}"
    )


@every_notebook
def test_a_notebook_is_stored_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    assert path.stat().st_size < 100_000


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_and_shows_its_pictures(path, tmp_path, monkeypatch):
    if path.stem in FASHION:
        try:
            Idx("fashion-mnist", "train")[0]
        except OSError as error:
            pytest.skip(str(error))
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    settings = {
        "EPOCHS": EPOCHS.get(path.stem, "1"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "JAX_PLATFORMS": os.environ["JAX_PLATFORMS"],
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        # Who shares a folder of programs has to lock it, as the others do.
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        # Programs compile faster, and narrow networks run almost as fast.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {OPTIMIZED}",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "jupyter"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "work"
    folder.mkdir()
    # Without folders to search, the kernel is that of the interpreter of this test.
    kernels = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    notebook = nbformat.read(path, as_version=4)
    written, narrow = NARROWER.get(path.stem, ("", ""))
    for cell in notebook.cells:
        cell.source = cell.source.replace(written, narrow) if written else cell.source
    assert any(narrow in cell.source for cell in notebook.cells)
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=300, resources=where)
    client.km = manager  # Not given to the client above, it is closed by it.
    client.execute()

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    data = [output.get("data", {}) for cell in code for output in cell.outputs]
    assert sum("image/png" in each for each in data) == PICTURES[path.stem]
    assert {run.name for run in (folder / "runs").iterdir()} == RUNS[path.stem]
