"""Features of another run as a prior: computed once, those of its encoder, refused."""

import logging
import shutil

import jax
import numpy as np
import pytest

from jax_rcl import config as configs
from jax_rcl import parallel
from jax_rcl.augment.geometry import CenterCrop
from jax_rcl.checkpoint import STATES
from jax_rcl.config.nodes import build, node
from jax_rcl.config.types import ConfigError
from jax_rcl.data.sources import Npz, Synthetic
from jax_rcl.data.stream import load
from jax_rcl.data.wrappers import Channels, Subset
from jax_rcl.evaluate.features import features
from jax_rcl.evaluate.recovery import Clustering, inferred_groups
from jax_rcl.networks.heads import Mlp
from jax_rcl.objectives.supcon import SimCLR
from jax_rcl.train import features as run_features
from jax_rcl.train.evaluation import trained
from jax_rcl.train.features import WithFeatures, WithFoundGroups, encoder_of
from jax_rcl.train.state import restore_variables
from tests import runs
from tests.train.shared import tiny

CLUSTERS = node(Clustering)
SOURCE = Synthetic(classes=4, size=8, count=21, seed=5)


@pytest.fixture(autouse=True, scope="module")
def alone():
    """One device."""
    real, absl = parallel.make_mesh, logging.getLogger("absl").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "make_mesh", lambda: real(jax.devices()[:1]))
        yield
    logging.getLogger("absl").setLevel(absl)


def begun(workdir, *, step=2, **fields):
    return runs.begun(tiny("count=32,epochs=1", **fields), workdir, step=step)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return begun(tmp_path_factory.mktemp("runs") / "done")


@pytest.fixture
def count(monkeypatch):
    """How often an encoder was made."""
    made = []
    real = run_features.encoder_of

    def counted(workdir, *which):
        made.append(workdir)
        return real(workdir, *which)

    monkeypatch.setattr(run_features, "encoder_of", counted)
    return lambda: len(made)


def test_priors_are_what_evaluators_see(workdir):
    source = WithFeatures(SOURCE, str(workdir), batch_size=8)
    _, encode = trained(workdir)
    expected, _ = features(encode, SOURCE, batch_size=8)
    np.testing.assert_array_equal(source.priors, expected)
    assert np.ptp(expected, axis=0).max() > 0.1
    assert source.priors.dtype == np.float32 and not source.priors.flags.writeable
    rows = load(source)
    assert rows.keys() == {"image", "label", "prior"}
    np.testing.assert_array_equal(rows["prior"], expected)
    share = Subset(source, 0.5)
    np.testing.assert_array_equal(load(share)["prior"], expected[share.indices])
    embedding = WithFeatures(SOURCE, str(workdir), "embedding", batch_size=8).priors
    np.testing.assert_array_equal(
        embedding, features(encode, SOURCE, layer="embedding", batch_size=8)[0]
    )


def test_batches_of_another_size_give_the_same_priors(workdir):
    one, other = (
        WithFeatures(SOURCE, str(workdir), batch_size=n).priors for n in (8, 256)
    )
    np.testing.assert_allclose(one, other, atol=3e-5)


def test_equal_sources_share_one_computation_until_the_run_goes_on(
    workdir, tmp_path, count
):
    run = shutil.copytree(workdir, tmp_path / "run")
    first = WithFeatures(SOURCE, str(run))
    assert count() == 0  # until it is used
    first[0]
    equal = WithFeatures(Synthetic(classes=4, size=8, count=21, seed=5), str(run))
    assert equal == first and hash(equal) == hash(first)
    assert equal.priors is first.priors and count() == 1
    assert WithFeatures(SOURCE, str(run), "embedding") != first
    (run / STATES / "2").rename(run / STATES / "3")
    again = WithFeatures(SOURCE, str(run)).priors
    assert count() == 2 and again is not first.priors


def test_sources_without_labels_are_encoded_too(workdir, tmp_path):
    images = load(SOURCE)["image"]
    np.savez(tmp_path / "images.npz", image=images)
    source = Npz(str(tmp_path / "images.npz"), label=None)
    found = WithFeatures(source, str(workdir))
    assert found[3].keys() == {"image", "prior"}
    np.testing.assert_array_equal(
        found.priors, WithFeatures(SOURCE, str(workdir)).priors
    )


def test_images_are_prepared_by_preprocess(workdir):
    large = Synthetic(classes=4, size=12, count=6)
    with pytest.raises(
        ValueError, match=r"the run of .* cannot take images \[12, 12, 3\]: .*Set"
    ):
        WithFeatures(large, str(workdir))[0]
    found = WithFeatures(large, str(workdir), preprocess=CenterCrop(8)).priors
    _, encode = trained(workdir)
    crops = load(large)["image"][:, 2:10, 2:10].astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(found, encode(crops)["features"], atol=3e-5)


def test_it_can_be_configured(workdir):
    config = node(WithFeatures, node(Synthetic), str(workdir), "embedding")
    assert build(config) == WithFeatures(Synthetic(), str(workdir), "embedding")


def test_groups_are_clusters_of_another_runs_features_within_classes(workdir):
    settings = {"counts": (2, 1, 3, 1), "clustering": Clustering(), "batch_size": 8}
    source = WithFoundGroups(SOURCE, str(workdir), **settings)
    _, encode = trained(workdir)
    expected = inferred_groups(encode, SOURCE, clusters=(2, 1, 3, 1), batch_size=8)
    np.testing.assert_array_equal(source.all_groups, expected)
    assert [source[i]["group"] for i in range(21)] == expected.tolist()
    assert len(set(expected.tolist())) == 7 == len(source.group_names)
    assert source.group_names[3] == "grating 2, cluster 1"
    made = build(node(WithFoundGroups, node(Synthetic), "runs/x", (2,) * 10, CLUSTERS))
    assert made.clustering == Clustering()
    # Of photographs as another source gives them.
    gray = Channels(Synthetic(4, channels=1, count=21), 3)
    whole = WithFoundGroups(gray, str(workdir), images=SOURCE, **settings)
    np.testing.assert_array_equal(whole.all_groups, expected)
    assert whole[3]["image"].shape == (32, 32, 3)
    other = WithFoundGroups(Synthetic(4), str(workdir), images=SOURCE, **settings)
    with pytest.raises(ValueError, match="images has 21 records and its source 1000"):
        _ = other.all_groups
    few = WithFoundGroups(SOURCE, str(workdir), (2, 2), Clustering())
    with pytest.raises(ValueError, match=r"counts \(2, 2\) must be one number for"):
        _ = few.all_groups
    none = WithFoundGroups(SOURCE, "nowhere", (1, 1, 1, 2), Clustering())
    with pytest.raises(ConfigError, match=r"WithFoundGroups\.workdir: "):
        _ = none.all_groups


def test_evaluators_of_the_run_are_not_needed(workdir, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    text = (run / "config.json").read_text()
    config = configs.from_json(text)
    with config.unlocked():
        config.evaluators = {"knn": node(Npz, "gone.npz")}
    (run / "config.json").write_text(configs.to_json(config))
    found, expected = (WithFeatures(SOURCE, str(x)).priors for x in (run, workdir))
    np.testing.assert_array_equal(found, expected)


def test_a_run_that_is_not_there_is_an_error(workdir, tmp_path):
    with pytest.raises(
        ValueError, match=r"WithFeatures\.workdir: \S+gone holds no run"
    ):
        WithFeatures(SOURCE, str(tmp_path / "gone"))[0]
    run = tmp_path / "begun"
    run.mkdir()
    shutil.copy(workdir / "config.json", run)
    with pytest.raises(ValueError, match="no newest checkpoint: train it first"):
        WithFeatures(SOURCE, str(run))[0]
    with pytest.raises(
        ValueError, match="no best checkpoint: its config has no `best`"
    ):
        WithFeatures(SOURCE, str(workdir), which="best")[0]


def test_layers_that_are_not_there_are_listed(workdir):
    with pytest.raises(ValueError, match=r"no layer 'feature'; there are: .*features"):
        WithFeatures(SOURCE, str(workdir), "feature")[0]


def test_a_run_that_diverged_says_so(workdir, tmp_path):
    run = shutil.copytree(workdir, tmp_path / "run")
    _, variables = restore_variables(trained(run)[0])
    runs.save(run, 3, jax.tree.map(lambda x: x * np.float32(np.nan), variables))
    with pytest.raises(
        ValueError,
        match=r"'features' .* not finite for 21 of 21 images .*first record 0",
    ):
        WithFeatures(SOURCE, str(run))[0]


def test_a_run_that_is_unfinished_or_saw_labels_is_a_warning(workdir, tmp_path, caplog):
    encoder = encoder_of(workdir)[0].config.objective.encoder
    assert "unfinished" not in caplog.text
    assert "was trained with labels: its features contain them" in caplog.text
    caplog.clear()
    own = node(SimCLR, encoder, node(Mlp, (8, 8)))
    encoder_of(begun(tmp_path / "half", step=1, objective=own))
    assert "half, whose features are a prior here, is unfinished" in caplog.text
    assert "it was saved at step 1 of 2" in caplog.text
    assert "labels" not in caplog.text
