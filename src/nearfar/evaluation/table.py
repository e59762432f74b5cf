"""Evaluation table, with one row per representation and one column per score.

The columns are defined in `nearfar.evaluation.protocol`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nearfar.errors import NearfarError
from nearfar.evaluation.scores import Score

if TYPE_CHECKING:
    from rich.table import Table

#: Placeholder for a missing score in tables.
BLANK = "\N{EN DASH}"
_UNMEASURED = float("-inf")


class ScoreText(NamedTuple):
    """Text of a score, and whether the score is the best in its column."""

    text: str
    best: bool


@dataclass(frozen=True)
class Evaluation:
    """Scores of several representations of the same images.

    Attributes
    ----------
    columns : mapping of str to str
        Title of each column, by the key of the score, such as "linear SVM" by "linear_svm".
    rows : mapping of str to mapping of str to (Score or None)
        For each representation, the scores by key. None if a score could not be measured.
    settings : mapping
        Seed, numbers of images and all hyperparameters, as JSON types.
    notes : sequence of str
        Notes below the table.

    Examples
    --------
    >>> from nearfar.evaluation import Score
    >>> rows = {"pixels": {"knn": Score(0.95)}, "NRE": {"knn": Score(0.96)}}
    >>> table = Evaluation({"knn": "5-NN"}, rows, settings={}, notes=[])
    >>> Evaluation.from_dict(table.to_dict()) == table
    True
    """

    columns: Mapping[str, str]
    rows: Mapping[str, Mapping[str, Score | None]]
    settings: Mapping[str, Any]
    notes: Sequence[str]

    def formatted(self) -> Iterator[tuple[str, list[ScoreText]]]:
        """Yield the name and the score texts of each row, in the order of the columns."""
        best = {
            key: max((_rounded(row[key]) for row in self.rows.values()), default=_UNMEASURED)
            for key in self.columns
        }
        for name, row in self.rows.items():
            yield name, [_format(row[key], best[key]) for key in self.columns]

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON types; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Evaluation:
        """Return the table that is stored in `saved`, a result of `to_dict`.

        Raises
        ------
        NearfarError
            If `saved` is not a result of `to_dict`.
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
                f"not an evaluation written by nearfar ({error!r}): evaluate the run again"
            ) from error

    def to_rich(self) -> Table:
        """Return the table for a terminal, with the best score of each column in bold."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        def narrow(score: ScoreText) -> Text:
            """Return the text of a score without spaces, so that the table fits in 80 columns."""
            return Text(score.text.replace(" ", ""), style="bold" if score.best else "")

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
        for name, scores in self.formatted():
            table.add_row(Text(name), *map(narrow, scores))
        return table


def _rounded(score: Score | None) -> float:
    """Return the mean, rounded as in the text, so that scores with the same text are equal."""
    return _UNMEASURED if score is None else round(score.mean, 3)


def _format(score: Score | None, best: float) -> ScoreText:
    """Return the text of a score; `best` is the best rounded mean in the column."""
    if score is None:
        return ScoreText(BLANK, False)
    return ScoreText(str(score), _rounded(score) == best)
