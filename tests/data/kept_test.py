"""What is read is kept until a file that it was read from changes."""

from pathlib import Path

from jax_rcl.data.kept import read_once


def counting(*names):
    calls = []

    @read_once(*names)
    def read(folder: Path, word: str = "") -> tuple[str, int]:
        calls.append(folder)
        return word, len(calls)

    return read


def test_a_file_is_read_once_for_equal_arguments_and_again_when_it_changes(tmp_path):
    read, path = counting(), tmp_path / "a.txt"
    path.write_text("one")
    assert read(path) == read(path) == ("", 1)
    assert read(path, word="x") == ("x", 2)
    path.write_text("longer")
    assert read(path) == ("", 3) and read(path, word="x") == ("x", 4)
    assert read(path) == ("", 3)


def test_of_a_folder_the_files_in_it_count_or_those_that_are_named(tmp_path):
    every, named = counting(), counting("lists/a.txt")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert every(tmp_path) == named(tmp_path) == ("", 1)
    (tmp_path / "b.txt").write_text("bb")
    assert every(tmp_path) == ("", 2) and named(tmp_path) == ("", 1)
    (tmp_path / "lists" / "a.txt").write_text("aa")
    assert named(tmp_path) == ("", 2)


def test_a_file_that_reading_downloads_is_not_read_twice(tmp_path):
    made = []

    @read_once()
    def fetch(path: Path) -> int:
        if not path.exists():
            path.write_text("archive")
        made.append(path)
        return len(made)

    assert fetch(tmp_path / "x") == fetch(tmp_path / "x") == 1
