"""The one command: which subcommands it has, and what it says of others."""

import importlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import jax_rcl
from jax_rcl import main as command
from jax_rcl.main import COMMANDS, PREPARE, main

CLI = Path(command.__file__).parent / "cli"


@pytest.fixture
def called(monkeypatch):
    """Commands that were run, with their arguments."""
    calls = []
    monkeypatch.setattr(command, "run", lambda *call: calls.append(call) or 0)
    return calls


def test_without_a_subcommand_it_trains(called):
    assert main(["--config=configs/quickstart.py"]) == 0
    assert main([]) == 0
    flags = [["--config=configs/quickstart.py"], []]
    assert called == [("train", each) for each in flags]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_subcommand_gets_the_rest_of_the_arguments(called, name):
    if name != "prepare":
        assert main([name, "--out=x"]) == 0
        assert called == [(name, ["--out=x"])]


@pytest.mark.parametrize("name", PREPARE)
def test_a_preparation_is_a_subcommand_of_prepare(called, name):
    assert main(["prepare", name, "--out=x"]) == 0
    assert called == [(f"prepare.{name}", ["--out=x"])]


@pytest.mark.parametrize(
    "name",
    [*(n for n in COMMANDS if n != "prepare"), *(f"prepare.{n}" for n in PREPARE)],
)
def test_every_command_shows_its_flags_in_one_style(name, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"jax_rcl.cli.{name}").main(["--help"])
    assert stop.value.code == 0
    program = " ".join(["jax-rcl", *([] if name == "train" else name.split("."))])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {program} [")
    assert "show this help message and exit" in text


def test_every_module_of_a_command_is_reached():
    files = {path.stem for path in CLI.glob("*.py")} - {"__init__", "shared"}
    assert files | {"prepare"} == set(COMMANDS)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["tabel"], "there is no command 'tabel'.*Did you mean table?"),
        (["prepare", "paks"], "jax-rcl prepare: there is no.*Did you mean pack?"),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest(capsys, argv, words):
    assert main(argv) == 2
    error = capsys.readouterr().err
    first, second = words.split(".*")
    assert first in error and second in error


@pytest.mark.parametrize(
    ("argv", "names"), [(["help"], COMMANDS), (["prepare", "--help"], PREPARE)]
)
def test_help_lists_the_commands(capsys, argv, names):
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text for name in names)


def test_importing_the_library_touches_neither_jax_nor_numpy():
    code = (
        "import sys, jax_rcl as rcl; assert not {'jax', 'numpy'} & set(sys.modules); "
        "assert 'supcon' in dir(rcl.losses); "
        "print(rcl.losses.supcon.__module__, rcl.objectives.MoCo.__module__)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [
        "jax_rcl.losses.contrastive",
        "jax_rcl.objectives.moco",
    ]


@pytest.mark.parametrize(
    "stub",
    sorted(Path(jax_rcl.__file__).parent.rglob("__init__.pyi")),
    ids=lambda p: p.parent.name,
)
def test_what_a_package_exports_is_there_and_hides_no_module(stub):
    """A function of the name of its module would take the module's place."""
    folder = stub.parent
    parts = folder.relative_to(Path(jax_rcl.__file__).parents[1]).parts
    package = importlib.import_module(".".join(parts))
    inside = {p.stem for p in folder.iterdir() if p.suffix == ".py" or p.is_dir()}
    names = re.findall(r"^from (\.\S*) import (\w+)", stub.read_text(), re.M)
    for place, name in names:
        assert getattr(package, name) is not None
        assert place == "." or name not in inside, f"{stub}: {name}"


def test_a_program_that_failed_ends_though_a_thread_still_waits(monkeypatch):
    ended, over = [], threading.Event()
    monkeypatch.setattr(os, "_exit", ended.append)
    thread = threading.Thread(target=over.wait, daemon=False)
    thread.start()
    for status, expected in ((0, []), (1, [1])):
        monkeypatch.setattr(command, "main", lambda status=status: status)
        with pytest.raises(SystemExit) as stop:
            command.script()
        assert stop.value.code == status and ended == expected
    over.set()
    thread.join()
