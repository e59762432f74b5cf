"""Tables as Markdown text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nearfar.evaluation import Evaluation


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """Return a table with notes as Markdown text.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : iterable of sequence of str
        Cells of each row. The first column is left-aligned; the other columns are right-aligned.
    notes : iterable of str
        Notes, written as a list below the table.

    Examples
    --------
    >>> print(markdown_table(["", "5-NN"], [["pixels", "94.7"]], ["Accuracy in %."]), end="")
    |  | 5-NN |
    | --- | ---: |
    | pixels | 94.7 |
    <BLANKLINE>
    - Accuracy in %.
    """
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    table = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]
    return "\n".join([*table, "", *(f"- {note}" for note in notes)]) + "\n"


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Return a table of scores as Markdown text, with the best score of each column in bold.

    Examples
    --------
    >>> from nearfar.evaluation import Evaluation, Score
    >>> rows = {"pixels": {"knn": Score(0.95)}, "NRE": {"knn": Score(0.96)}}
    >>> print(evaluation_markdown(Evaluation({"knn": "5-NN"}, rows, {}, [])), end="")
    |  | 5-NN |
    | --- | ---: |
    | pixels | 95.0 |
    | NRE | **96.0** |
    <BLANKLINE>
    """
    rows = [
        [name, *(f"**{score.text}**" if score.best else score.text for score in scores)]
        for name, scores in evaluation.formatted()
    ]
    return markdown_table(["", *evaluation.columns.values()], rows, evaluation.notes)
