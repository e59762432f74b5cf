"""Threshold of scores, from those of normal frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

#: Number of normal photographs above the threshold from which on they are counted.
_COUNTED = 10
#: Standard deviations of a normal distribution per median absolute deviation.
_DEVIATIONS = 1.4826
#: Efficiency of that estimate, relative to the standard deviation's.
_EFFICIENCY = 0.37


def find_threshold(
    scores: Sequence[float], share: float, *, independent: bool
) -> tuple[float, float]:
    """Return a threshold, and the expected share of new normal scores above it.

    Each of n normal scores is as likely as a new one to be the highest, so that a new one is above
    the k-th highest with a probability of k / (n + 1) [1]_. The threshold is the k-th highest with
    the largest k for which this is at most `share`, but at least 1: with few scores, the highest.

    For few photographs, it would hang on one or two of them. It is then the upper limit of the
    prediction interval of a log-normal distribution with the median and the median absolute
    deviation of the scores [2]_, with Student's t of as many degrees of freedom as the deviation is
    worth.

    Parameters
    ----------
    scores : sequence of float
        Normal scores, at least one.
    share : float
        Wanted share, in (0, 1).
    independent : bool
        Whether the scores are those of photographs. Frames of a video are like their neighbors: the
        expected share is then that of an average over many videos.

    Returns
    -------
    threshold, expected : float

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world", 2005:
       conformal prediction.
    .. [2] G. J. Hahn, W. Q. Meeker, "Statistical intervals", 1991.

    Examples
    --------
    >>> find_threshold(range(99), 0.02, independent=False)
    (97, 0.02)
    """
    ordered = sorted(scores)
    n = len(ordered)
    if independent and n > 1 and n * share < _COUNTED and ordered[0] > 0:
        logs = np.log(ordered)
        middle = np.median(logs)
        deviation = _DEVIATIONS * np.median(np.abs(logs - middle))
        if deviation > 0:
            quantile = stdtrit(_EFFICIENCY * (n - 1), 1 - share)
            return float(np.exp(middle + quantile * deviation * np.sqrt(1 + 1 / n))), share
    rank = max(1, int(share * (n + 1) + 1e-9))
    return ordered[-rank], rank / (n + 1)
