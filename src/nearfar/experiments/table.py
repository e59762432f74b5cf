"""Tables as values, and `run`, which measures them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

from nearfar.errors import NearfarError
from nearfar.experiments.cells import AnyRow, Column, Key, Part, Results
from nearfar.experiments.runner import Job, Runner
from nearfar.experiments.statistics import summarize
from nearfar.progress import Track, silent
from nearfar.report import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Number of seeds of the quick form.
QUICK_SEEDS = 2


class _AnyData(Protocol):
    """What data of all tables have: settings that identify them; JSON only."""

    @property
    def settings(self) -> Mapping[str, Any]: ...


R = TypeVar("R", bound=AnyRow)
D = TypeVar("D", bound=_AnyData)


@dataclass(frozen=True)
class Report:
    """What a table says: Markdown, a summary for JSON, and figures by name of their file."""

    text: str
    summary: dict[str, Any]
    figures: dict[str, Figure]


@dataclass(frozen=True, kw_only=True)
class Table(ABC, Generic[R, D]):
    """A table to measure; `run` measures it.

    ``table | rows`` is a table with further rows.

    Parameters
    ----------
    name : str
        Name of its files.
    rows : mapping of str to row
        Rows by label.
    always : str, optional
        A row that is measured even if it is not chosen.
    seeds : int
        Number of trainings of each row, at least 1.
    quick : mapping, optional
        Fields with other values in the quick form; None if there is no such form.
    part : str
        What the parts of a row are, if each row has several cells for each seed.
    """

    row_type: ClassVar[type]

    name: str
    rows: Mapping[str, R]
    always: str | None = None
    seeds: int = 3
    quick: Mapping[str, Any] | None = field(default_factory=dict)
    part: str = ""

    def __or__(self, rows: Mapping[str, R]) -> Self:
        for name, row in rows.items():
            if not isinstance(row, self.row_type):
                raise NearfarError(
                    f"row {name!r} of {self.name}: expected a {self.row_type.__name__}, not "
                    f"{type(row).__name__}"
                )
            if not name.isprintable() or not name.strip(".") or "/" in name:
                raise NearfarError(f"row {name!r}: expected a label that can name a file")
        return replace(self, rows={**self.rows, **rows})

    def choose(self, rows: Sequence[str]) -> Self:
        """Return the table with some of its rows, in their order; all if none are given.

        Raises
        ------
        NearfarError
            If a row is unknown.
        """
        for row in rows:
            if row not in self.rows:
                raise NearfarError(
                    f"row {row!r} is unknown: expected some of {', '.join(self.rows)}"
                )
        chosen = {*rows, self.always} if rows else self.rows.keys()
        return replace(self, rows={name: row for name, row in self.rows.items() if name in chosen})

    @abstractmethod
    def open(self, runner: Runner) -> D:
        """Open the data."""

    @abstractmethod
    def columns(self, data: D) -> Sequence[Column]:
        """Return the columns."""

    @abstractmethod
    def describe(self, runner: Runner, data: D, key: Key) -> dict[str, Any]:
        """Return the settings of a cell beyond its place; JSON only."""

    @abstractmethod
    def measure(self, runner: Runner, data: D, key: Key) -> Mapping[str, Any]:
        """Return the results of a cell by key; JSON only."""

    @abstractmethod
    def notes(self, runner: Runner, data: D, results: Results) -> Sequence[str]:
        """Return notes to stand below the table."""

    def training(self, key: Key) -> str | None:
        """Return the name of a cell's training; cells of the same one are not measured at once."""
        return None

    def seeds_of(self, data: D, row: str) -> range:
        """Return the seeds of a row."""
        return range(self.seeds)

    def parts_of(self, data: D, row: str) -> Sequence[Part]:
        """Return the parts of a row: all that columns are of."""
        return list(dict.fromkeys(column.part for column in self.columns(data)))

    def lines(
        self,
        columns: Sequence[Column],
        results: Results,
        extra: Mapping[str, AnyRow] | None = None,
    ) -> list[list[str]]:
        """Return the cells of all rows, and of further ones that only the paper measured."""
        rows: dict[str, AnyRow] = {**self.rows, **(extra or {})}
        texts = [
            column.texts(
                {row: results.values(row, column.key, column.part) for row in rows},
                {name: column.paper_of(row) for name, row in rows.items()},
            )
            for column in columns
        ]
        return [[row, *(column[row] for column in texts)] for row in rows]

    def summary(self, columns: Sequence[Column], results: Results) -> dict[str, Any]:
        """Return means, deviations and values of all rows for JSON."""
        return {
            name: {
                column.name: summarize(values, column.paper_of(row))
                for column in columns
                if (values := results.values(name, column.key, column.part))
            }
            for name, row in self.rows.items()
        }

    def figures(self, runner: Runner, data: D, results: Results) -> dict[str, Figure]:
        """Draw a panel for each column, with a dot for each row and the paper's number."""
        from nearfar.report.figures import Dot, dot_plot

        panels = {
            column.title: [
                Dot(name, values, column.paper_of(row))
                for name, row in self.rows.items()
                if (values := results.values(name, column.key, column.part))
            ]
            for column in self.columns(data)
            if column.plot
        }
        return {self.name: dot_plot(panels, percent=True)}

    def report(self, runner: Runner, data: D, results: Results) -> Report:
        """Return the table as Markdown, JSON and figures."""
        columns = self.columns(data)
        text = markdown_table(
            ["", *(column.title for column in columns)],
            self.lines(columns, results),
            self.notes(runner, data, results),
        )
        figures = self.figures(runner, data, results)
        return Report(text, self.summary(columns, results), figures)


def run(
    table: Table[Any, Any],
    out: Path | str,
    *,
    data_root: Path | None = None,
    seeds: int | None = None,
    rows: Sequence[str] = (),
    quick: bool = False,
    track: Track = silent,
    **fields: Any,
) -> str:
    """Measure a table, and write it as Markdown, JSON and figures.

    Parameters
    ----------
    table : Table
        The table.
    out : path
        Folder to write to, or to continue in.
    data_root : Path, optional
        Folder of the data sets. Default: the variable NEARFAR_DATA, or ``~/.cache/nearfar``.
    seeds : int, optional
        Number of trainings of each row. Default: that of the table, 2 in the quick form.
    rows : sequence of str
        Labels of some rows. Default: all.
    quick : bool
        Train few epochs on few images, which shows that it runs and nothing else.
    track : callable
        Shows progress.
    **fields
        Other values for fields of the table.

    Returns
    -------
    str
        The table as Markdown.

    Raises
    ------
    NearfarError
        If a row is unknown, data are missing, or the folder was begun with other settings.

    Examples
    --------
    >>> from nearfar.config import recipe
    >>> from nearfar.experiments import Row, run
    >>> from nearfar.experiments.table1 import TABLE1
    >>> table = TABLE1 | {"mine": Row(config=recipe("nearfar", temperature=0.1))}
    >>> print(run(table, "out", rows=["mine"], seeds=1))  # doctest: +SKIP
    """
    count = (QUICK_SEEDS if quick else table.seeds) if seeds is None else seeds
    if count < 1:
        raise NearfarError(f"seeds={count}: expected at least 1")
    if quick and table.quick is None:
        raise NearfarError(f"{table.name} in its full form has no quick form: choose one of them")
    changes = {**(table.quick if quick and table.quick else {}), **fields}
    table = replace(table.choose(rows), seeds=count, **changes)
    with TemporaryDirectory() as scratch:
        runner = Runner(
            Path(out),
            table.name,
            data_root=data_root,
            quick=quick,
            track=track,
            scratch=Path(scratch),
        )
        data = table.open(runner)
        runner.begin({"quick": quick, **data.settings})
        jobs = {key: _job(table, runner, data, key) for key in _keys(table, data)}
        measured = runner.measure(list(jobs.values()))
        results = Results({key: measured[job.name] for key, job in jobs.items()})
        report = table.report(runner, data, results)
        runner.write(measured, report.summary, report.text, report.figures)
    return report.text


def _keys(table: Table[Any, D], data: D) -> list[Key]:
    """Return all places, seed after seed: a table of fewer seeds is complete when interrupted."""
    return [
        Key(row, seed, part)
        for seed in range(table.seeds)
        for row in table.rows
        if seed in table.seeds_of(data, row)
        for part in table.parts_of(data, row)
    ]


def _job(table: Table[Any, D], runner: Runner, data: D, key: Key) -> Job:
    part = {} if key.part is None else {table.part: key.part}
    settings = {"row": key.row, "seed": key.seed, **part, **table.describe(runner, data, key)}
    measure = partial(table.measure, runner, data, key)
    return Job(key.name, settings, measure, table.training(key))
