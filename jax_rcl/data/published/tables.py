"""Lists and tables of published archives: reading them, and what is wrong with them."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

Meaning = TypeVar("Meaning")

AGAIN = "Correct it, or get the file again."


def check_exists(path: Path, hint: str) -> Path:
    """The path; raises FileNotFoundError with the hint if nothing is there."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; {hint}.")
    return path


def read_lines(path: Path, hint: str) -> Iterator[tuple[int, str]]:
    """The lines of a list with their numbers, from 1."""
    text = check_exists(path, hint).read_text("utf-8")
    return enumerate(text.splitlines(), start=1)


def bad_line(path: Path, number: int, line: str, expected: str) -> ValueError:
    """The error about a line that is not what it should be."""
    return ValueError(
        f"line {number} of {path} is {line[:80]!r}; expected {expected}. {AGAIN}"
    )


class Csv(NamedTuple):
    """A table of comma-separated values.

    Attributes:
      lines: number of the line that each row ends in.
      rows: as long as the header, all of them.
    """

    path: Path
    header: list[str]
    lines: list[int]
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        """The values of a column."""
        place = self.header.index(name)
        return [row[place].strip() for row in self.rows]

    def codes(self, name: str, meanings: Mapping[str, Meaning]) -> list[Meaning]:
        """What the values of a column mean.

        Raises:
          ValueError: naming the line of the first value that means nothing.
        """
        values = self.column(name)
        for line, value in zip(self.lines, values, strict=True):
            if value not in meanings:
                raise ValueError(
                    f"line {line} of {self.path} has {value!r} in column {name!r}; "
                    f"expected one of {', '.join(map(repr, meanings))}. {AGAIN}"
                )
        return [meanings[value] for value in values]


def read_csv(
    path: Path, columns: Sequence[str], hint: str, advice: str = "Get the file again"
) -> Csv:
    """A table that has these columns, among others.

    Raises:
      FileNotFoundError: there is no such file; the hint says what to do.
      ValueError: a column is missing, and `advice` says what to do, or a row is shorter
        or longer than the header.
    """
    check_exists(path, hint)
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        numbered = [(reader.line_num, row) for row in reader if row]
    if missing := [column for column in columns if column not in header]:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; it has "
            f"{', '.join(map(repr, header[:20])) or 'none'}. {advice}."
        )
    for line, row in numbered:
        if len(row) != len(header):
            raise ValueError(
                f"line {line} of {path} has {len(row)} values, expected "
                f"{len(header)}. {AGAIN}"
            )
    return Csv(path, header, [n for n, _ in numbered], [row for _, row in numbered])
