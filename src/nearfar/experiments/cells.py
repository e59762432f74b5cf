"""Cells of a table: keys, measurements and formatted texts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nearfar.evaluation import BLANK
from nearfar.experiments.runner import Measurement
from nearfar.experiments.statistics import percent, spread

#: The paper's numbers for a row, by `Column.paper`.
Papers = Mapping[Any, float]
Part = int | str | None


class AnyRow(Protocol):
    """Protocol of table rows."""

    @property
    def paper(self) -> Papers:
        """Numbers from the paper, by the key `Column.paper`."""
        ...


class Key(NamedTuple):
    """Key of a cell: the label of the row, the seed and, if needed, the part.

    A row may have several cells for the same seed, such as one for each number of epochs. The part
    distinguishes these cells; it is None if there is only one.
    """

    row: str
    seed: int
    part: Part = None

    @property
    def name(self) -> str:
        """Name of the cell, used in file names."""
        part = [] if self.part is None else [str(self.part)]
        return "-".join([self.row, *part, "seed", str(self.seed)])


@dataclass(frozen=True)
class Results:
    """Measurements of a table.

    Parameters
    ----------
    cells : mapping of Key to Measurement
        Measurement of each cell, ordered by seed and then by row.
    """

    cells: Mapping[Key, Measurement]

    def values(self, row: str, key: str, part: Part = None) -> list[Any]:
        """Return the result named `key` of a row for each seed.

        The list is empty if the result is missing for any seed.
        """
        found = [
            cell["result"].get(key)
            for place, cell in self.cells.items()
            if place.row == row and place.part in (part, None)
        ]
        return [] if None in found else found

    @property
    def seeds(self) -> int:
        """Largest number of seeds of any row."""
        return 1 + max(place.seed for place in self.cells)

    @property
    def machines(self) -> str:
        """Description of the machines on which the cells were measured."""
        kinds = {
            "{machine}, {cores} cores, {threads} threads, ".format(**cell["environment"])
            + (cell["environment"]["gpu"] or "no GPU")
            for cell in self.cells.values()
        }
        return " and ".join(sorted(kinds))


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Parameters
    ----------
    key : str
        Name of the result. A column without results shows only the numbers from the paper.
    title : str
        Heading of the column.
    show : callable
        Function that takes the values for all seeds and the number from the paper (or None), and
        returns the text of the cell.
    part : int or str, optional
        Part of the row to which the column belongs, see `Key`.
    paper : hashable, optional
        Key of the column in `Row.paper`, the numbers from the paper. Default: `key`.
    best : {min, max}, optional
        Function that selects the best mean. The best mean is written in bold, and so are all means
        that differ from it by at most one standard deviation.
    plot : bool
        Whether the figure has a panel for the column.
    last : bool
        If rows have several parts, whether the column applies only to the last part.

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
    last: bool = False

    @property
    def name(self) -> str:
        """Name of the column in JSON files."""
        return self.key if self.part is None else self.title

    def paper_of(self, row: AnyRow) -> float | None:
        """Return the number from the paper for a row, or None if there is none."""
        return row.paper.get(self.key if self.paper is None else self.paper)

    def texts(
        self,
        values: Mapping[str, Sequence[float]],
        papers: Mapping[str, float | None] | None = None,
    ) -> dict[str, str]:
        """Return the text of each cell by row, with the best cells in bold.

        Parameters
        ----------
        values : mapping of str to sequence of float
            Values for all seeds, by row.
        papers : mapping of str to (float or None), optional
            Number from the paper for each row, or None.
        """
        papers = papers or {}
        best = self._best({row: found for row, found in values.items() if found})
        texts = {}
        for row, found in values.items():
            paper = papers.get(row)
            text = self.show(found, paper) if found or paper is not None else BLANK
            texts[row] = f"**{text}**" if row in best else text
        return texts

    def _best(self, values: Mapping[str, Sequence[float]]) -> set[str]:
        """Return the labels of the best row and of all rows that are about as good.

        A row is about as good if it has the same text as the best row, or if the two means differ
        by at most the larger of the two standard deviations.
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
