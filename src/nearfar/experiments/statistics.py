"""Statistics over seeds, and functions that format them for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import ttest_rel

from nearfar.evaluation import BLANK
from nearfar.report import markdown_table

#: Significance level of the tests.
LEVEL = 0.05
#: Differences count as equal if their range is below this value.
SAME = 1e-12


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of values over seeds; `std` is None if there is only one seed."""

    mean: float
    std: float | None


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and the standard deviation of values over seeds."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), deviation)


def p_greater(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the p-value of a one-sided paired t-test: whether `a` is greater than `b`.

    Return None if the test is undefined, because there is only one seed or all differences are
    equal.
    """
    if np.ptp(np.subtract(a, b)) < SAME:
        return None
    return float(ttest_rel(a, b, alternative="greater").pvalue)


def answer(p: float | None) -> str:
    """Return "yes" if a p-value is significant, "no" if it is not, and "undecided" for None."""
    if p is None:
        return "undecided"
    return "yes" if p < LEVEL else "no"


def p_value(p: float | None) -> str:
    """Return the text of a p-value in a table."""
    return BLANK if p is None else f"{p:.2g}"


def summarize(values: Sequence[float], paper: float | None = None) -> dict[str, Any]:
    """Return mean, standard deviation, values and the number from the paper, as JSON types."""
    return {**asdict(spread(values)), "seeds": list(values), "paper": paper}


def percent(values: Sequence[float], paper: float | None = None) -> str:
    """Return mean ± standard deviation in percent as text, with the number from the paper.

    Examples
    --------
    >>> percent([0.97, 0.98], 0.977)
    '97.50 ± 0.71 (97.7)'
    """
    ours = number([100 * value for value in values], decimals=2) if values else ""
    return f"{ours} ({100 * paper:.1f})".strip() if paper is not None else ours


def number(values: Sequence[float], paper: float | None = None, *, decimals: int = 4) -> str:
    """Return mean ± standard deviation as text; `paper` is not used.

    Examples
    --------
    >>> number([0.0025, 0.0026])
    '0.0026 ± 0.0001'
    """
    over = spread(values)
    deviation = "" if over.std is None else f" ± {over.std:.{decimals}f}"
    return f"{over.mean:.{decimals}f}{deviation}"


def minutes(seconds: Sequence[float], paper: float | None = None) -> str:
    """Return the mean duration in minutes as text; `paper` is not used."""
    return f"{spread(seconds).mean / 60:.1f}"


def seeds_note(count: int) -> str:
    """Return a note that states the number of seeds of a table."""
    if count == 1:
        return "one seed, so without a standard deviation"
    return f"mean ± standard deviation of {count} seeds"


def compare(
    pair: tuple[str, str], columns: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> tuple[dict[str, Any], str]:
    """Test whether the values of one row are significantly higher than those of another row.

    Parameters
    ----------
    pair : tuple of str
        Label of the row that is expected to be higher, and label of the other row.
    columns : mapping of str to pair of sequence of float
        For each column by title, the values of both rows for all seeds.

    Returns
    -------
    summary : dict
        Differences and p-values by column title, as JSON types.
    table : str
        The same values as a Markdown table.
    """
    summary: dict[str, Any] = {}
    lines = []
    for title, (above, below) in columns.items():
        p = p_greater(above, below)
        found = [a - b for a, b in zip(above, below, strict=True)]
        summary[title] = {**summarize(found), "p": p, "above_noise": answer(p)}
        lines.append([title, percent(found), p_value(p), answer(p)])
    rule = (
        "Differences of the same seed, in points. A difference is above the noise of seeds if p < "
        f"{LEVEL:g} in a one-sided paired t-test over seeds; one seed is undecided."
    )
    header = [" − ".join(pair), "difference", "p", "above the noise"]
    return summary, markdown_table(header, lines, [rule])
