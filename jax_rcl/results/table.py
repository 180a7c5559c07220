"""What a results table is made of: runs, rows and columns.

A table file is to several runs what a config file is to one:

    from jax_rcl.results import Column, Row, Run, Table

    def get_table(arg=""):
        return Table(
            "Coarse to fine",
            runs=(
                Run("coarse", "configs/coarse.py:seed={seed}"),
                Run("fine", "configs/fine.py:seed={seed},start={coarse}"),
            ),
            rows=(Row("SupCon", {"top1": ("fine", "test/top1")}, {"top1": 51.8}),),
            columns=(Column("top1", "Fine accuracy"),),
        )
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from jax_rcl.config.files import run_file
from jax_rcl.config.types import ConfigError, fitted, unknown
from jax_rcl.report.tables import Column

SEED = "seed"
"""What `{seed}` stands for is the seed; other names in braces are those of runs."""

_NAME = re.compile(r"\w[\w+.-]*")

BRACES = re.compile(rf"\{{({_NAME.pattern})\}}")
"""A name in braces, in a config or an override of a run."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One of the runs of a table, for every seed.

    Attributes:
      name: of its folder, and by which rows and other runs refer to it.
      config: `file.py` or `file.py:options`. The path is relative to the current
        directory or, where there is no such file, to the nearest folder above the
        table file in which there is one.
      overrides: values of fields by path, as `--config.<path>=<value>` sets them.

    In `config` and in texts of `overrides`, `{seed}` stands for the seed and `{<name>}`
    for the workdir of another run of the same seed, which comes earlier in the table.
    """

    name: str
    config: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the name, which becomes that of a folder."""
        if not _NAME.fullmatch(self.name) or self.name == SEED:
            raise ConfigError(
                f"a run cannot be called {self.name!r}: the name is one of a folder, "
                "of letters, digits and _ + . -, and not 'seed'."
            )

    def mentions(self) -> list[str]:
        """Names in braces, those of `{seed}` among them."""
        values = self.overrides.values()
        texts = [self.config, *(value for value in values if isinstance(value, str))]
        return [name for text in texts for name in BRACES.findall(text)]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
      name: by which `--rows` refers to it.
      cells: for each column the name of a run and that of a number,
        `<evaluator>/<number>`; a column that is missing stays empty.
      paper: what the paper reports, by column and in the column's unit.
      title: what is printed; the name by default.
    """

    name: str
    cells: Mapping[str, tuple[str, str]]
    paper: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        """Checks that every cell is a pair."""
        fitted(self.cells, Mapping[str, tuple[str, str]], f"the cells of {self.name!r}")


@dataclasses.dataclass(frozen=True)
class Table:
    """Runs, in the order in which they are trained, and which numbers stand where.

    Every run is trained with every seed; the note is printed below.
    """

    title: str
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    note: str = ""

    def __post_init__(self) -> None:
        """Checks that every name is there, once, and in time."""
        for kind in ("runs", "rows", "columns"):
            names = [each.name for each in getattr(self, kind)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice or not names:
                problem = f"two are called {twice[0]!r}" if twice else "there are none"
                raise ConfigError(
                    f"the {kind} of a table have different names: {problem}."
                )
        if min(self.seeds, default=-1) < 0 or len({*self.seeds}) < len(self.seeds):
            raise ConfigError(
                f"seeds must be different and at least 0; got {self.seeds}."
            )
        self._check_order()
        for row in self.rows:
            asked = {
                "column": ((*row.cells, *row.paper), self.columns),
                "run": ([run for run, _ in row.cells.values()], self.runs),
            }
            for kind, (names, every) in asked.items():
                known = [each.name for each in every]
                for name in names:
                    if name not in known:
                        start = f"row {row.name!r}: there is no {kind}"
                        raise ConfigError(unknown(start, name, known))

    def _check_order(self) -> None:
        """Raises ConfigError for a run that needs one that is not trained before it."""
        names = [run.name for run in self.runs]
        for place, run in enumerate(self.runs):
            for other in sorted({*run.mentions()} - {SEED, *names[:place]}):
                if other not in names:
                    start = f"run {run.name!r}: {{seed}} is the seed, there is no run"
                    raise ConfigError(unknown(start, other, names))
                raise ConfigError(
                    f"run {run.name!r} mentions {{{other}}}, which does not come "
                    "before it; runs are trained in the order of the table, and none "
                    "can need itself or one that needs it."
                )

    def restrict(
        self, rows: Iterable[str] | None, seeds: tuple[int, ...] | None
    ) -> "Table":
        """The table of these rows and seeds, with only the runs that they need."""
        known = [row.name for row in self.rows]
        wanted = known if rows is None else list(rows)
        for name in wanted:
            if name not in known:
                raise ConfigError(unknown("the table has no row", name, known))
        kept = tuple(row for row in self.rows if row.name in wanted)
        needed = {name for row in kept for name, _ in row.cells.values()}
        for run in reversed(self.runs):
            needed |= {*run.mentions()} if run.name in needed else set()
        runs = tuple(run for run in self.runs if run.name in needed)
        return dataclasses.replace(
            self, runs=runs, rows=kept, seeds=self.seeds if seeds is None else seeds
        )


def load(argument: str) -> Table:
    """The table of `file.py` or `file.py:options`."""
    table = run_file(argument, "table")
    if not isinstance(table, Table):
        raise ConfigError(f"get_table of {argument} must return a Table; got {table}.")
    return table
