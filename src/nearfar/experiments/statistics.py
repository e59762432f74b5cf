"""Statistics over seeds, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import ttest_rel

from nearfar.evaluation import BLANK, Score
from nearfar.report import markdown_table

#: Significance level of the tests.
LEVEL = 0.05
#: Differences of shares that lie closer together than this are equal.
SAME = 1e-12


def spread(values: Sequence[float]) -> Score:
    """Return the mean, and the standard deviation of several values."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(float(np.mean(values)), deviation)


def p_greater(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the p-value of a one-sided paired t-test that a is greater than b.

    None where the test is undefined: for one seed, and for constant differences.
    """
    if np.ptp(np.subtract(a, b)) < SAME:
        return None
    return float(ttest_rel(a, b, alternative="greater").pvalue)


def answer(p: float | None) -> str:
    """Return yes or no by the significance level; undecided without a p-value."""
    if p is None:
        return "undecided"
    return "yes" if p < LEVEL else "no"


def p_value(p: float | None) -> str:
    """Return a p-value as text."""
    return BLANK if p is None else f"{p:.2g}"


def summarize(values: Sequence[float], paper: float | None = None) -> dict[str, Any]:
    """Return mean, deviation, values and the paper's number for JSON."""
    return {**asdict(spread(values)), "seeds": list(values), "paper": paper}


def percent(values: Sequence[float], paper: float | None = None) -> str:
    """Return the mean ± standard deviation of shares in percent, then the paper's number.

    Examples
    --------
    >>> percent([0.97, 0.98], 0.977)
    '97.50 ± 0.71 (97.7)'
    """
    ours = number([100 * value for value in values], decimals=2) if values else ""
    return f"{ours} ({100 * paper:.1f})".strip() if paper is not None else ours


def number(values: Sequence[float], paper: float | None = None, *, decimals: int = 4) -> str:
    """Return the mean ± standard deviation.

    Examples
    --------
    >>> number([0.0025, 0.0026])
    '0.0026 ± 0.0001'
    """
    score = spread(values)
    deviation = "" if score.std is None else f" ± {score.std:.{decimals}f}"
    return f"{score.mean:.{decimals}f}{deviation}"


def minutes(seconds: Sequence[float], paper: float | None = None) -> str:
    """Return the mean of durations, in minutes."""
    return f"{spread(seconds).mean / 60:.1f}"


def seeds_note(count: int) -> str:
    """Return what the numbers of a table are means of."""
    if count == 1:
        return "one seed, so without a standard deviation"
    return f"mean ± standard deviation of {count} seeds"


def compare(
    pair: tuple[str, str], columns: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> tuple[dict[str, Any], str]:
    """Test whether one row exceeds another by more than the noise of seeds.

    Parameters
    ----------
    pair : tuple of str
        The row that is expected to be higher, and the other one.
    columns : mapping of str to pair of sequence of float
        Values of both rows by seed, by column.

    Returns
    -------
    tuple
        The differences for JSON, and a Markdown table.
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
