"""The command that writes features of a run: what `WithFeatures` gives, for a file."""

import logging
from pathlib import Path

import jax
import numpy as np
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.compose import Views
from jax_rcl.augment.geometry import CenterCrop
from jax_rcl.cli.prepare.features import main, preprocess_of
from jax_rcl.config.nodes import node
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.records import labels_of
from jax_rcl.data.sources import Digits, Npz, Synthetic
from jax_rcl.data.stream import load
from jax_rcl.data.wrappers import Channels, Subset
from jax_rcl.evaluate.knn import Neighbours
from jax_rcl.train.features import WithFeatures
from tests import runs

TINY = Path(__file__).parents[2] / "tiny.py"
SOURCE = Synthetic(classes=4, size=8, count=32)
CONFIG = """
from jax_rcl.config import node, parse
from jax_rcl.data.prior import WithPrior
from jax_rcl.data.sources import Digits, Npz, Synthetic
from jax_rcl.data.wrappers import Channels, Subset
from jax_rcl.evaluate.knn import Neighbours

def get_config(arg=""):
    options = parse(arg, size=8, file="")
    synthetic = node(Synthetic, classes=3, size=options.size, count=6)
    config = node(Neighbours, node(Channels, node(Digits)), synthetic)
    with config.unlocked():
        if options.file:
            config.train = node(Npz, options.file, label=None)
        config.test = node(Subset, node(WithPrior, synthetic, "later.npz"), 0.5)
    return config
"""


@pytest.fixture(autouse=True, scope="module")
def alone():
    """One device."""
    real, absl = parallel.make_mesh, logging.getLogger("absl").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
        yield
    logging.getLogger("absl").setLevel(absl)


def begun(workdir, **fields):
    return runs.begun(configs.load(f"{TINY}:count=32,epochs=1"), workdir, **fields)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return begun(tmp_path_factory.mktemp("runs") / "done")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "deep" / "prior.npz"


def run(workdir, out, *flags):
    return main([f"--run={workdir}", f"--out={out}", *flags])


def test_the_file_holds_what_the_source_wrapper_gives(workdir, out, capsys):
    assert run(workdir, out) == 0
    output = capsys.readouterr().out
    assert f"{out}: prior [32, 8], labels [32]; 1.66kB." in output
    assert "layer 'features'" in output and "newest checkpoint, step 2" in output
    assert "preprocess: None, as the evaluators of the run." in output
    from_file, from_run = (
        WithPrior(SOURCE, str(out)),
        WithFeatures(SOURCE, str(workdir)),
    )
    np.testing.assert_array_equal(from_file.priors, from_run.priors)
    np.testing.assert_array_equal(load(from_file)["prior"], load(from_run)["prior"])
    with np.load(out) as file:
        np.testing.assert_array_equal(file["labels"], labels_of(SOURCE))
    assert [path.name for path in out.parent.iterdir()] == ["prior.npz"]


def test_other_layers_of_other_sources(workdir, config, out, capsys):
    flags = (f"--config={config}", "--part=train", "--layer=embedding")
    assert run(workdir, out, *flags, "--split=test", "--batch_size=512") == 0
    assert "prior [359, 8], labels [359]" in capsys.readouterr().out
    source = Channels(Digits("test"))
    expected = WithFeatures(source, str(workdir), "embedding", batch_size=512)
    np.testing.assert_array_equal(WithPrior(source, str(out)).priors, expected.priors)


def test_a_prior_is_for_what_is_inside_of_a_source_with_one(workdir, config, out):
    flags = (f"--config={config}", "--part=test", "--config.test.source.file=gone")
    assert run(workdir, out, *flags) == 0
    inside = Synthetic(classes=3, size=8, count=6)
    source = WithPrior(inside, str(out))
    np.testing.assert_array_equal(
        source.priors, WithFeatures(inside, str(workdir)).priors
    )
    assert len(Subset(source, 0.5)) == 3


def test_a_source_without_labels_or_names_gives_the_prior_alone(
    workdir, config, tmp_path, out
):
    np.savez(tmp_path / "images.npz", image=load(SOURCE)["image"])
    named = f"--config={config}:file={tmp_path / 'images.npz'}"
    assert run(workdir, out, named, "--part=train") == 0
    with np.load(out) as file:
        assert file.files == ["prior"]
    source = Npz(str(tmp_path / "images.npz"), label=None)
    np.testing.assert_array_equal(
        WithPrior(source, str(out)).priors, WithFeatures(SOURCE, str(workdir)).priors
    )


def test_images_are_prepared_as_the_evaluators_do(tmp_path, out, capsys):
    train, test = (node(Synthetic, 4, 12, count=32, seed=seed) for seed in (0, 1))
    knn = node(Neighbours, train, test, k=5, preprocess=node(CenterCrop, 8))
    parts = {"augment": node(Views, node(CenterCrop, 8)), "evaluators": {"knn": knn}}
    workdir = begun(tmp_path / "run", source=train, **parts)
    assert run(workdir, out) == 0
    assert "CenterCrop(size=8" in capsys.readouterr().out
    source = Synthetic(4, 12, count=32)
    np.testing.assert_array_equal(
        WithPrior(source, str(out)).priors,
        WithFeatures(source, str(workdir), preprocess=CenterCrop(8)).priors,
    )
    assert run(workdir, out, "--overwrite", "--preprocess=none") == 2
    assert "cannot take images [12, 12, 3]" in capsys.readouterr().err


def test_evaluators_that_disagree_are_not_followed():
    train, test = (node(Synthetic, 4, 8, count=32, seed=seed) for seed in (0, 1))
    crop, config = node(CenterCrop, 8), configs.load(f"{TINY}:count=32,epochs=1")
    knn = {
        "a": node(Neighbours, train, test, k=5, preprocess=crop),
        "b": node(Neighbours, train, test, k=5),
    }
    found = []
    for evaluators in (knn, {"a": knn["a"]}, {}):
        with config.unlocked():
            config.evaluators = evaluators
        found.append(preprocess_of(config))
    assert found == [
        (None, ", as the evaluators of the run have 2 different ones"),
        (CenterCrop(8), ", as the evaluators of the run"),
        (None, ", as no evaluator of the run looks at its training source"),
    ]


def test_a_file_is_not_written_over_unless_it_is_asked_for(workdir, out, capsys):
    out.parent.mkdir()
    out.write_text("mine")
    assert run(workdir, out) == 2
    assert "exists already; write --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run(workdir, out, "--overwrite") == 0
    WithPrior(SOURCE, str(out))[0]


@pytest.mark.parametrize(
    ("flags", "output"),
    [
        (["--layer=feature"], "gives no layer 'feature'; there are: "),
        (["--which=best"], "no best checkpoint: its config has no `best`"),
        (["--split=test"], "the source at source has no field `split`"),
        (["--part=sources"], "--part=sources: there is no 'sources'"),
        (["--part=optimizer"], "is Sgd, not a source"),
        (["--config.source.size=8"], "needs --config"),
    ],
)
def test_what_cannot_be_done_is_said(workdir, out, capsys, flags, output):
    assert run(workdir, out, *flags) == 2
    assert output in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("count", ["0", "-1", "some"])
def test_a_count_that_is_none_is_blamed_on_its_flag(workdir, out, capsys, count):
    assert run(workdir, out, f"--batch_size={count}") == 2
    message = capsys.readouterr().err
    assert f"argument --batch_size: {count} must be a whole number from 1" in message


def test_a_folder_without_a_run_and_other_files_are_refused(tmp_path, out, capsys):
    assert run(tmp_path, out) == 2
    assert "holds no run" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "prior.npy") == 2
    assert "prior.npy must be a file, FILE.npz" in capsys.readouterr().err
