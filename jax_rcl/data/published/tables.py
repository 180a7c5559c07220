"""Lists and tables of published archives: reading them, or saying what to do."""

import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

Meaning = TypeVar("Meaning")


def check_exists(path: Path, hint: str) -> Path:
    """The path; raises FileNotFoundError with the hint if nothing is there."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {hint}.")
    return path


@contextlib.contextmanager
def reading(path: Path, hint: str) -> Iterator[None]:
    """Names the list that is missing or, whatever fails in the block, damaged."""
    check_exists(path, hint)
    try:
        yield
    except (ValueError, LookupError) as error:
        problem = f"unknown {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{path} does not read as it is published ({problem}); get it again: "
            f"{hint}."
        ) from error


class Csv(NamedTuple):
    """A table of comma-separated values: its columns by name, all of one length."""

    path: Path
    columns: dict[str, list[str]]

    def codes(self, name: str, meanings: Mapping[str, Meaning]) -> list[Meaning]:
        """What the values of a column mean; ValueError for one that means nothing."""
        values = self.columns[name]
        for row, value in enumerate(values, start=1):
            if value not in meanings:
                raise ValueError(
                    f"row {row} of {self.path} has {value!r} in column {name!r}; "
                    f"expected one of {', '.join(map(repr, meanings))}. Correct it, or "
                    f"get the file again."
                )
        return [meanings[value] for value in values]


def read_csv(
    path: Path, columns: Sequence[str], hint: str, advice: str = "Get the file again"
) -> Csv:
    """A table that has these columns, among others; `advice` is for when it has not."""
    check_exists(path, hint)
    with path.open("rb") as file:
        start = file.read(2)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        # What no column of interest holds need not be UTF-8.
        with path.open(newline="", encoding=encoding, errors="surrogateescape") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (csv.Error, ValueError) as error:
        raise ValueError(
            f"{path} does not read as comma-separated values ({error}). {advice}."
        ) from error
    if missing := [column for column in columns if column not in header]:
        raise ValueError(
            f"{path} has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, header[:20])) or 'none'}. {advice}."
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"row {number} of {path} has {len(row)} values, expected "
                f"{len(header)}. Correct it, or get the file again."
            )
    for name in columns:
        values = [row[header.index(name)] for row in rows]
        for number, value in enumerate(values, start=1):
            if not value.isascii() and not _is_utf8(value):
                raise ValueError(
                    f"row {number} of {path} has {value!r} in column {name!r}, which "
                    f"is not UTF-8. Save the table as UTF-8: iconv -f latin1 -t utf-8."
                )
    places = enumerate(header)
    return Csv(path, {name: [row[i].strip() for row in rows] for i, name in places})


def _is_utf8(value: str) -> bool:
    """Whether a text was read from UTF-8: the rest became halves of surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
