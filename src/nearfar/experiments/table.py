"""Base class of tables, and `run`, which measures a table."""

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
    """Protocol of the data of a table. `settings` identifies the data, as JSON types."""

    @property
    def settings(self) -> Mapping[str, Any]: ...


R = TypeVar("R", bound=AnyRow)
D = TypeVar("D", bound=_AnyData)


@dataclass(frozen=True)
class Report:
    """Report of a table: Markdown text, a summary as JSON types, and figures by file name."""

    text: str
    summary: dict[str, Any]
    figures: dict[str, Figure]


@dataclass(frozen=True, kw_only=True)
class Table(ABC, Generic[R, D]):
    """Table of an experiment, which `run` measures.

    ``table | rows`` returns the table with additional rows.

    Parameters
    ----------
    name : str
        Name of the table and of the result files.
    rows : mapping of str to row
        Rows by label.
    always : str, optional
        Label of a row that is measured even if it is not chosen.
    seeds : int
        Number of seeds per row, ≥ 1.
    quick : mapping, optional
        Fields to override with `--quick`; None if the table does not support it.
    part : str
        Quantity that differs between the cells of one row and seed, such as "epochs"; empty if
        there is only one cell.

    Examples
    --------
    >>> from nearfar.experiments import Row
    >>> from nearfar.experiments.table1 import TABLE1
    >>> list((TABLE1 | {"mine": Row()}).choose(["mine"]).rows)
    ['pixels', 'mine']
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
        """Return the table with only the given rows, or with all rows if `rows` is empty.

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
        """Return the data on which the table is measured, such as the images."""

    @abstractmethod
    def columns(self, data: D) -> Sequence[Column]:
        """Return the columns of the table."""

    @abstractmethod
    def describe(self, runner: Runner, data: D, key: Key) -> dict[str, Any]:
        """Return the settings that affect a cell, except for its key, as JSON types."""

    @abstractmethod
    def measure(self, runner: Runner, data: D, key: Key) -> Mapping[str, Any]:
        """Measure a cell, and return the results by `Column.key`, as JSON types."""

    @abstractmethod
    def notes(self, runner: Runner, data: D, results: Results) -> Sequence[str]:
        """Return the notes below the table."""

    def training(self, key: Key) -> str | None:
        """Return the name of the training run that a cell needs, see `Job`. Default: None."""
        return None

    def seeds_of(self, data: D, row: str) -> range:
        """Return the seeds for which a row is measured."""
        return range(self.seeds)

    def parts_of(self, data: D, row: str) -> Sequence[Part]:
        """Return the parts of a row, see `Key`. Default: the parts of all columns."""
        return list(dict.fromkeys(column.part for column in self.columns(data)))

    def lines(
        self,
        columns: Sequence[Column],
        results: Results,
        extra: Mapping[str, AnyRow] | None = None,
    ) -> list[list[str]]:
        """Return one list per row: the label, and the text of the cell in each column.

        Parameters
        ----------
        columns : sequence of Column
            Columns of the table.
        results : Results
            Measurements of the table.
        extra : mapping of str to row, optional
            Additional rows by label, which contain only numbers from the paper.
        """
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
        """Return the means, standard deviations and values of all rows, as JSON types."""
        return {
            name: {
                column.name: summarize(values, column.paper_of(row))
                for column in columns
                if (values := results.values(name, column.key, column.part))
            }
            for name, row in self.rows.items()
        }

    def figures(self, runner: Runner, data: D, results: Results) -> dict[str, Figure]:
        """Return the figures by file name. Default: a dot plot with one panel per column."""
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
        """Return the report of the table."""
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
        Table to measure.
    out : str or path
        Output folder. Existing results in this folder are reused.
    data_root : Path, optional
        Folder of the data sets. Default: the environment variable NEARFAR_DATA, or
        ``~/.cache/nearfar``.
    seeds : int, optional
        Number of seeds per row. Default: `table.seeds`, or 2 if `quick`.
    rows : sequence of str
        Labels of the rows to measure. Default: all.
    quick : bool
        Whether to use only few epochs and few images, as a smoke test.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    **fields
        Fields of the table to override.

    Returns
    -------
    str
        Table as Markdown.

    Raises
    ------
    NearfarError
        If a row is unknown, data is missing, or the folder has different settings.

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
    """Return the keys of all cells, ordered by seed.

    If an experiment is interrupted, the first seeds are therefore complete.
    """
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
