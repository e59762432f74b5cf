"""Tables as values: rows, columns, data, and how a cell is measured."""

from __future__ import annotations

import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

from nearfar.config import TrainConfig, configure
from nearfar.errors import NearfarError, reason
from nearfar.evaluation import BLANK
from nearfar.experiments.runner import Job, Measurement, Runner
from nearfar.experiments.statistics import percent, spread, summarize
from nearfar.progress import Track, silent
from nearfar.report import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Number of seeds of the quick form.
QUICK_SEEDS = 2

#: The paper's numbers of a row, by `Column.paper`.
Papers = Mapping[Any, float]
Part = int | str | None


class _AnyRow(Protocol):
    """What rows of all tables have: the paper's numbers, by name of the column."""

    @property
    def paper(self) -> Papers: ...


class _AnyData(Protocol):
    """What data of all tables have: settings that identify them; JSON only."""

    @property
    def settings(self) -> Mapping[str, Any]: ...


R = TypeVar("R", bound=_AnyRow)
D = TypeVar("D", bound=_AnyData)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table of trained networks.

    Parameters
    ----------
    config : TrainConfig, optional
        How the network is trained. The table decides seed and number of epochs, which are divided
        between the two phases in the same proportion. Default: no network, raw pixels.
    paper : mapping
        The paper's numbers, by `Column.paper`.
    decoder : bool
        Whether a decoder is trained, so that there is a pixel error.
    quick : mapping
        Options of training that the quick form changes, see `nearfar.config.configure`.

    Examples
    --------
    >>> from nearfar.config import recipe
    >>> Row(config=recipe("nearfar", temperature=0.1)).config.objective.temperature
    0.1
    """

    config: TrainConfig | None = None
    paper: Papers = field(default_factory=dict)
    decoder: bool = True
    quick: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return what decides a result beside the configuration; JSON only."""
        return {}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    key : str
        Name of a result; a column without results shows the paper's number alone.
    title : str
        Heading.
    show : callable
        From the values over seeds, and the paper's number or None, to the text of a cell.
    part : int or str, optional
        The part of a row that it belongs to, see `Table.part`.
    paper : hashable, optional
        The paper's name of the column. Default: its key.
    best : {min, max}, optional
        Which mean is the best. It is set in bold, with those within a standard deviation of it.
    plot : bool
        Whether it is a panel of the figure.

    Examples
    --------
    >>> column = Column("auc", "AUC", best=max)
    >>> column.texts({"a": [0.9, 0.92], "b": [0.7]})
    {'a': '**91.00 ± 1.41**', 'b': '70.00'}
    """

    key: str
    title: str
    show: Callable[[Sequence[float], float | None], str] = percent
    part: Part = None
    paper: Hashable = None
    best: Callable[..., str] | None = None
    plot: bool = True

    @property
    def name(self) -> str:
        """Name in JSON."""
        return self.key if self.part is None else self.title

    def paper_of(self, row: _AnyRow) -> float | None:
        """Return the paper's number of a row."""
        return row.paper.get(self.key if self.paper is None else self.paper)

    def texts(
        self,
        values: Mapping[str, Sequence[float]],
        papers: Mapping[str, float | None] | None = None,
    ) -> dict[str, str]:
        """Return the cells of the column by row, the best of them in bold."""
        papers = papers or {}
        best = self._best({row: found for row, found in values.items() if found})
        texts = {}
        for row, found in values.items():
            paper = papers.get(row)
            text = self.show(found, paper) if found or paper is not None else BLANK
            texts[row] = f"**{text}**" if row in best else text
        return texts

    def _best(self, values: Mapping[str, Sequence[float]]) -> set[str]:
        """Return the rows that are best, or look like it, or are within the noise of it.

        The noise is the standard deviation, the larger one of the two rows.
        """
        if self.best is None or not values:
            return set()
        spreads = {row: spread(found) for row, found in values.items()}
        looks = {row: self.show([found.mean], None) for row, found in spreads.items()}
        first = self.best(spreads, key=lambda row: spreads[row].mean)
        best = spreads[first]
        return {
            row
            for row, found in spreads.items()
            if looks[row] == looks[first]
            or abs(found.mean - best.mean) <= max(found.std or 0.0, best.std or 0.0)
        }


class Key(NamedTuple):
    """Place of a measurement: its row, seed, and the part of the row if there are several."""

    row: str
    seed: int
    part: Part = None

    @property
    def name(self) -> str:
        """Name of the cell."""
        part = [] if self.part is None else [str(self.part)]
        return "-".join([self.row, *part, "seed", str(self.seed)])


@dataclass(frozen=True)
class Results:
    """Measurements of a table.

    Parameters
    ----------
    cells : mapping of Key to Measurement
        In the order of rows, seed after seed.
    """

    cells: Mapping[Key, Measurement]

    def values(self, row: str, key: str, part: Part = None) -> list[Any]:
        """Return a result of a row for each seed; empty if it was not measured, or is undefined."""
        found = [
            cell["result"].get(key)
            for place, cell in self.cells.items()
            if place.row == row and place.part in (part, None)
        ]
        return [] if None in found else found

    @property
    def seeds(self) -> int:
        """Number of seeds, at most, that a row was measured with."""
        return 1 + max(place.seed for place in self.cells)

    @property
    def machines(self) -> str:
        """Kinds of machine that the cells were measured on."""
        kinds = {
            "{machine}, {cores} cores, {threads} threads, ".format(**cell["environment"])
            + (cell["environment"]["gpu"] or "no GPU")
            for cell in self.cells.values()
        }
        return " and ".join(sorted(kinds))


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
        extra: Mapping[str, _AnyRow] | None = None,
    ) -> list[list[str]]:
        """Return the cells of all rows, and of further ones that only the paper measured."""
        rows: dict[str, _AnyRow] = {**self.rows, **(extra or {})}
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


def train_for(config: TrainConfig, epochs: int, **options: Any) -> TrainConfig:
    """Return a configuration of so many epochs in all, divided between the phases as before.

    Parameters
    ----------
    **options
        Further changes, see `nearfar.config.configure`.

    Raises
    ------
    NearfarError
        If the epochs do not suffice for the phases, or an option does not fit.

    Examples
    --------
    >>> from nearfar.config import recipe
    >>> optim = train_for(recipe("paper", pretrain_epochs=20, epochs=20), 5).optim
    >>> optim.pretrain_epochs, optim.epochs
    (3, 2)
    """
    optim = config.optim
    second = epochs * optim.epochs // (optim.pretrain_epochs + optim.epochs)
    if optim.pretrain_epochs and optim.epochs and not (0 < second < epochs):
        raise NearfarError(f"epochs={epochs}: expected at least 2, some of them for each phase")
    changes = {"pretrain_epochs": epochs - second, "epochs": second, **options}
    return configure(changes, base=config)


@dataclass(frozen=True)
class Network:
    """A network that rows share: trained once for all of them.

    Parameters
    ----------
    name : str
        Name of its run.
    config : TrainConfig
        How it is trained. The table decides seed and number of epochs, see `train_for`.
    """

    name: str
    config: TrainConfig

    def run(self, seed: int) -> str:
        """Return the name of its run with a seed."""
        return Key(self.name, seed).name

    def train_for(self, epochs: int, **options: Any) -> TrainConfig:
        """Return the configuration that it is trained with."""
        return train_for(self.config, epochs, **options)


def read_rows(path: Path) -> Mapping[str, Any]:
    """Import a Python file, and return its ``ROWS``, a mapping of labels to rows.

    Raises
    ------
    NearfarError
        If it cannot be imported, or has none.
    """
    found = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or found is None or found.loader is None:
        raise NearfarError(f"{str(path)!r}: expected a Python file with ROWS")
    module = importlib.util.module_from_spec(found)
    known = sys.modules.setdefault(path.stem, module)
    if known is not module and getattr(known, "__file__", None) != module.__file__:
        raise NearfarError(f"{str(path)!r}: a module {path.stem} exists already: rename the file")
    try:
        found.loader.exec_module(module)
    except Exception as error:
        raise NearfarError(f"{str(path)!r} cannot be imported ({reason(error)})") from error
    rows = getattr(module, "ROWS", None)
    if not isinstance(rows, Mapping) or not all(isinstance(name, str) for name in rows):
        raise NearfarError(f"{str(path)!r}: expected ROWS, a mapping of labels to rows")
    return rows
