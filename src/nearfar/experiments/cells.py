"""Cells of a table: their places, their results, and how a column shows them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nearfar.evaluation import BLANK
from nearfar.experiments.runner import Measurement
from nearfar.experiments.statistics import percent, spread

#: The paper's numbers of a row, by `Column.paper`.
Papers = Mapping[Any, float]
Part = int | str | None


class AnyRow(Protocol):
    """What rows of all tables have: the paper's numbers, by name of the column."""

    @property
    def paper(self) -> Papers: ...


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

    def paper_of(self, row: AnyRow) -> float | None:
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
