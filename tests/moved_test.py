"""What was elsewhere in 0.1: old imports, commands and stored configs go on working."""

import importlib.util
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from jax_rcl import config as configs
from jax_rcl import moved
from jax_rcl.config.nodes import rename_class

STORED = sorted((Path(__file__).parent / "golden" / "stored").glob("*.json"))


PACKAGES = {
    "augment.corruptions",
    "augment.distortions",
    "data.published",
    "optim",
    "results",
}
"""Modules that are packages of the same name now."""


@pytest.mark.parametrize("name", sorted(moved.MODULES))
def test_the_names_of_an_old_module_are_found_with_a_warning(name):
    old = importlib.import_module(f"jax_rcl.{name}")
    place = moved.new_places(f"jax_rcl.{name}")[0]
    new = importlib.import_module(place)
    public = [n for n, x in vars(new).items() if getattr(x, "__module__", "") == place]
    public = [n for n in public if f"{name}.{n}" not in moved.OTHERS]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for each in public:
            if name not in PACKAGES:
                assert getattr(old, each) is getattr(new, each)
    if name not in PACKAGES:
        assert len(caught) == len(public)
        assert all(f"is in {place} now" in str(each.message) for each in caught)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("augment.corruptions", "Corruption"),
        ("augment.distortions", "RandomMask"),
        ("config", "node"),
        ("config", "Experiment"),
        ("optim", "Sgd"),
        ("train", "train"),
    ],
)
def test_a_module_that_became_a_package_still_has_its_names(module, name):
    assert getattr(importlib.import_module(f"jax_rcl.{module}"), name) is not None


def test_tools_that_look_at_every_module_get_no_warning():
    assert not hasattr(importlib.import_module("jax_rcl.schedules"), "__file__")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("core", "Pictures"),
        ("results", "trained"),
        ("table", "Row"),
        *(("data.published", name) for name in ("CIFAR", "EMOJI", "IDX", "STL10")),
        # README, CONTRIBUTING and notebooks of 0.1 name these.
        ("evaluate.corrupted", "Corrupted"),
        ("evaluate.linear_probe", "LinearProbe"),
        ("evaluate.neighbours", "Neighbours"),
        ("evaluate.robustness", "Robustness"),
        ("evaluate.sweep", "LevelSweep"),
        ("data.coarse", "MNIST"),
        ("data.emoji", "Emoji"),
        ("data.grouped", "Grouped"),
        ("imports", "ImportMoCo"),
        ("results", "make_encoder"),
        ("run", "fresh_state"),
        ("schedules", "EpochCosine"),
        ("transfer", "Restore"),
    ],
)
def test_names_that_left_a_module_are_found_with_a_warning(module, name):
    with pytest.warns(DeprecationWarning, match=f"jax_rcl.{module}.{name} is in"):
        getattr(importlib.import_module(f"jax_rcl.{module}"), name)
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = importlib.import_module(f"jax_rcl.{module}").nothing


@pytest.mark.parametrize("name", ["curves", "drawing", "plots"])
def test_pictures_are_modules_of_the_report_as_in_notebooks(name):
    old = getattr(importlib.import_module(f"jax_rcl.report.{name}"), "__name__", "")
    assert old == f"jax_rcl.report.{name}"


@pytest.mark.parametrize("name", sorted(moved.OTHERS))
def test_what_another_thing_is_called_today_is_not_given(name):
    module, _, name = name.rpartition(".")
    with pytest.raises(AttributeError, match=f"'{name}'; what it had is in jax_rcl"):
        getattr(importlib.import_module(f"jax_rcl.{module}"), name)


@pytest.mark.parametrize(
    ("module", "name", "where"),
    [
        ("report.robustness", "draw", "jax_rcl.report.figures.comparison"),
        ("robustness", "write", "`jax-rcl compare --only=robustness`"),
        ("sweep", "curves", "`jax-rcl compare --only=sweeps`"),
        ("evaluate.logistic", "logistic_regression", "jax_rcl.evaluate.linear.logis"),
        ("bench_losses", "measure", "benchmarks/ of the repository"),
        ("reference_corruptions", "results", "benchmarks/ of the repository"),
    ],
)
def test_where_to_look_for_what_is_gone_is_said(module, name, where):
    with pytest.raises(AttributeError) as error:
        getattr(importlib.import_module(f"jax_rcl.{module}"), name)
    assert f"'{name}'; what it had is in " in str(error.value)
    assert where in str(error.value)


@pytest.mark.parametrize(("module", "command"), moved.COMMANDS.items())
def test_main_of_an_old_command_runs_that_of_today(module, command, monkeypatch):
    calls = []
    monkeypatch.setattr("jax_rcl.main.main", lambda argv: calls.append(argv) or 0)
    with pytest.warns(DeprecationWarning, match=f"is in `jax-rcl {command}` now"):
        main = importlib.import_module(f"jax_rcl.{module}").main
    monkeypatch.setattr("sys.argv", ["program", "--flag"])
    assert main() == 0 and main(["--other"]) == 0
    assert calls == [[*command.split(), flag] for flag in ("--flag", "--other")]


# What configs measure otherwise, or more of, today.
CHANGED = {
    "clip_evaluate": r"evaluators\.(noises|masks)\.(levels|repeats)",
    "clip_student": r".*\.heads: None -> 1$",  # which weights do not tell
    "clip_probe+released": r"(epochs: 10 -> None|steps: None -> 0)$",
    "groups": r".*\.folder: 'waterbirds' -> '(celeba|isic)'$",
    "thanos_coarse": (
        r"evaluators\.(losses|geometry\.terms): |.*\.drop\.queries: 0\.0 -> 0\.1$"
    ),
}
# Configs that today cut whole photographs, and resize them otherwise to test.
RECUT = (
    "attributes_",
    "chexpert_",
    "clip_",
    "groups",
    "imagenet100_",
    "uniformity_probe",
)
CUT = r"source|augment|evaluators\..*\.(resize|train|test)\b"


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_config_that_was_stored_before_the_move_is_read(path):
    """It is the config that the same file gives today, but for how images are cut."""
    old = configs.completed(configs.from_json(path.read_text()))
    today = (path.parents[1] / "configs" / path.name).read_text()
    today = configs.resolved(configs.from_json(today))
    differences = configs.differences(old, today)
    known = [change for start, change in CHANGED.items() if path.stem.startswith(start)]
    if path.stem.startswith(RECUT):
        known.append(CUT)
    assert not [x for x in differences if not any(re.match(k, x) for k in known)]
    # What was cut on the device from squares still is.
    assert "RandomCrops" not in configs.to_json(old)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("jax_rcl.config:Best", "jax_rcl.config.experiment:Best"),
        ("jax_rcl.transfer:ImportResNet", "jax_rcl.weights.imports:ImportResNet"),
        ("jax_rcl.optim:Sgd", "jax_rcl.optim.optimizers:Sgd"),
        ("jax_rcl.objectives.moco:MoCo", "jax_rcl.objectives.moco:MoCo"),
        ("elsewhere.module:Class", "elsewhere.module:Class"),
    ],
)
def test_a_class_has_one_path_however_old_the_config(old, new):
    assert moved.class_path(old) == new


def test_what_other_files_store_of_configs_is_renamed_as_well():
    """As records of packed sources and of evaluations do."""
    old = '{"a": [{"class": "jax_rcl.data.decoded:ImageFolder", "size": 8}], "b": 1}'
    found = json.loads(old, object_hook=rename_class)
    assert found["a"][0] == {"class": "jax_rcl.data.folders:ImageFolder", "size": 8}
    assert found["b"] == 1


def test_what_an_old_command_compiles_is_kept_as_for_that_of_today():
    spec = importlib.util.find_spec("jax_rcl.bench")
    assert isinstance(spec.origin, str)  # JAX's cache asks every argument


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "command"), [("sweep", "compare"), ("prepare.cub", "prepare cub")]
)
def test_an_old_command_is_forwarded(module, command):
    found = subprocess.run(
        [sys.executable, "-m", f"jax_rcl.{module}", "--help"],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0
    assert f"jax-rcl {command}" in found.stderr
    assert found.stdout.startswith(f"usage: jax-rcl {command}")
