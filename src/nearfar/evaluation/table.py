"""The table of an evaluation: representations by scores, and how they were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nearfar.errors import NearfarError
from nearfar.evaluation.scores import Score

if TYPE_CHECKING:
    from rich.table import Table

BLANK = "\N{EN DASH}"
UNMEASURED = float("-inf")


class Cell(NamedTuple):
    """One score as it is shown, and whether no other row shows a higher one."""

    text: str
    best: bool


@dataclass(frozen=True)
class Evaluation:
    """Scores of several representations of the same images.

    Attributes
    ----------
    columns : mapping of str to str
        The title of each score, by its key.
    rows : mapping of str to mapping of str to (Score or None)
        The scores of each representation, by key; None where one could not be measured.
    settings : mapping
        The seed, the numbers of images, and every hyperparameter: only what JSON holds.
    notes : sequence of str
        What a reader of the table has to know.
    """

    columns: Mapping[str, str]
    rows: Mapping[str, Mapping[str, Score | None]]
    settings: Mapping[str, Any]
    notes: Sequence[str]

    def cells(self) -> Iterator[tuple[str, list[Cell]]]:
        """Yield the name of each row with its cells, one for each column."""
        best = {
            key: max((_rounded(row[key]) for row in self.rows.values()), default=UNMEASURED)
            for key in self.columns
        }
        for name, row in self.rows.items():
            yield name, [_cell(row[key], best[key]) for key in self.columns]

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads, as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Evaluation:
        """Read back what `to_dict` gave.

        Raises
        ------
        NearfarError
            If something else is given.
        """
        try:
            columns = {str(key): str(title) for key, title in saved["columns"].items()}
            rows = {
                str(name): {
                    key: None if scores[key] is None else Score(**scores[key]) for key in columns
                }
                for name, scores in saved["rows"].items()
            }
            return cls(columns, rows, dict(saved["settings"]), [str(n) for n in saved["notes"]])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NearfarError(
                f"not an evaluation that nearfar wrote ({error!r}): evaluate the run again"
            ) from error

    def to_rich(self) -> Table:
        """Return a table for a terminal, the best score of each column in bold, and the notes."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        def _narrow(cell: Cell) -> Text:
            """Leave out spaces, so that the table fits into 80 columns."""
            return Text(cell.text.replace(" ", ""), style="bold" if cell.best else "")

        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 0, 0, 1),
            pad_edge=False,
            caption=Text("\n".join(["", *self.notes])),
            caption_justify="left",
            caption_style="dim",
        )
        table.add_column("", min_width=min(max(map(len, self.rows), default=0), 16))
        for title in self.columns.values():
            table.add_column(Text(title.replace(" ", "\n")), justify="right", vertical="bottom")
        for name, cells in self.cells():
            table.add_row(Text(name), *map(_narrow, cells))
        return table


def _rounded(score: Score | None) -> float:
    """Return the mean to the digits that are shown: rows that look alike are equally good."""
    return UNMEASURED if score is None else round(score.mean, 3)


def _cell(score: Score | None, best: float) -> Cell:
    """Return a score as it is shown."""
    return Cell(BLANK, False) if score is None else Cell(str(score), _rounded(score) == best)
