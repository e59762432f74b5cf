"""What many cells say together: means over seeds, and where they were measured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import ttest_rel

from nearfar.errors import NearfarError
from nearfar.evaluation import Score
from nearfar.experiments.runner import Measured

SEEDS, QUICK_SEEDS = 3, 2
#: The row of images as they are.
PIXELS = "pixels"
#: A difference is more than the noise of seeds if the p-value of its test is below.
LEVEL = 0.05
#: Differences of shares that are nearer to each other than this are the same.
SAME = 1e-12


def choose_seeds(count: int | None, *, quick: bool) -> range:
    """Return the seeds 0, 1, …: 3 of them if not given, 2 if quick.

    Raises
    ------
    NearfarError
        If there are none.
    """
    if count is None:
        count = QUICK_SEEDS if quick else SEEDS
    if count < 1:
        raise NearfarError(f"seeds={count}: expected at least 1")
    return range(count)


def choose_rows(rows: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the known rows that are asked for, in their order; all if none are.

    Raises
    ------
    NearfarError
        If a row is unknown.
    """
    for row in rows:
        if row not in known:
            raise NearfarError(f"row {row!r} is unknown: expected some of {', '.join(known)}")
    return [name for name in known if name in rows or not rows]


def cell_name(row: str, seed: int) -> str:
    """Return what the cell of a row and a seed is called."""
    return f"{row}-seed-{seed}"


def over_seeds(
    measured: Mapping[str, Measured], row: str, key: str, seeds: Iterable[int]
) -> list[float]:
    """Return one result of a row for each seed."""
    return [measured[cell_name(row, seed)]["result"][key] for seed in seeds]


def spread(values: Sequence[float]) -> Score:
    """Mean, and standard deviation over seeds if there are several."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Score(float(np.mean(values)), deviation)


def p_greater(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return the p-value of a not being greater than b, seed by seed.

    None where the test is undefined: of one seed, and of differences that are all the same.
    """
    if np.ptp(np.subtract(a, b)) < SAME:
        return None
    return float(ttest_rel(a, b, alternative="greater").pvalue)


def answer(p: float | None) -> str:
    """Return yes or no; undecided of one seed."""
    if p is None:
        return "undecided"
    return "yes" if p < LEVEL else "no"


def summarize(values: Sequence[float], paper: float | None = None) -> dict[str, Any]:
    """Return mean, deviation and values as JSON holds them, with what the paper has."""
    return {**asdict(spread(values)), "seeds": list(values), "paper": paper}


def percent(values: Sequence[float], paper: float | None = None) -> str:
    """Accuracies in percent with two decimals, as seeds differ in the second, and the paper's."""
    return number([100 * value for value in values], 2) + (
        "" if paper is None else f" ({100 * paper:.1f})"
    )


def number(values: Sequence[float], decimals: int) -> str:
    """Mean ± standard deviation."""
    score = spread(values)
    deviation = "" if score.std is None else f" ± {score.std:.{decimals}f}"
    return f"{score.mean:.{decimals}f}{deviation}"


def minutes(seconds: Sequence[float]) -> str:
    """Mean of times, in minutes."""
    return f"{spread(seconds).mean / 60:.1f}"


def seeds_note(seeds: Sequence[int]) -> str:
    """Say what the numbers are means of."""
    if len(seeds) == 1:
        return "one seed, so without a standard deviation"
    return f"mean ± standard deviation of {len(seeds)} seeds"


def machines(measured: Mapping[str, Measured]) -> str:
    """Say on what kinds of machine the cells were measured."""
    kinds = {
        "{machine}, {cores} cores, {threads} threads, ".format(**cell["environment"])
        + (cell["environment"]["gpu"] or "no GPU")
        for cell in measured.values()
    }
    return " and ".join(sorted(kinds))
