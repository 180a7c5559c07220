"""Files are whole or not there, errors end a command."""

import errno

import pytest

from jax_rcl.cli.prepare.work import folders_in, whole
from jax_rcl.cli.shared import exit_status
from jax_rcl.config.types import ConfigError


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "image.png"
    with whole(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    with pytest.raises(ValueError), whole(path) as partial:
        partial.write_text("half")
        raise ValueError
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_call_left_is_overwritten(tmp_path):
    path = tmp_path / "image.png"
    with whole(path) as partial:
        partial.write_text("whole")
        left = partial
    left.write_text("left")
    with whole(path) as partial:
        assert partial == left and not partial.name.endswith(".png")
        partial.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "status", "output"),
    [
        (ConfigError("write this"), 2, "ConfigError: write this"),
        (OSError(errno.ENOSPC, "full"), 1, "OSError: [Errno 28] full (in exit_status"),
        (PermissionError("not yours"), 1, "PermissionError: not yours (in exit_status"),
        (FileExistsError(17, "there", "x"), 1, "[Errno 17] there: 'x' (in exit_status"),
        (KeyboardInterrupt(), 130, "the same command continues"),
    ],
)
def test_what_stops_a_command_is_said_in_a_line(error, status, output, capsys):
    def work() -> int:
        raise error

    assert exit_status(work) == status
    assert output in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [KeyError("forgotten"), FileNotFoundError(2, "none", "x"), OSError("odd")]
)
def test_mistakes_in_the_program_are_not_hidden(error):
    def work() -> int:
        raise error

    with pytest.raises(type(error)):
        exit_status(work)


def test_hidden_folders_and_files_are_no_classes(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat").mkdir()
    (tmp_path / "notes.txt").write_text("none")
    assert folders_in(tmp_path) == {"cat"}
