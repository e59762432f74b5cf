"""Score threshold, estimated from the scores of normal frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

#: Minimum expected number of normal photographs above a threshold that is set by rank.
_COUNTED = 10
#: Standard deviations of a normal distribution per median absolute deviation.
_DEVIATIONS = 1.4826
#: Statistical efficiency of this estimate, relative to the standard deviation.
_EFFICIENCY = 0.37


def find_threshold(
    scores: Sequence[float], false_alarms: float, *, independent: bool
) -> tuple[float, float]:
    """Return a threshold, and the expected fraction of new normal scores above it.

    A new normal score exceeds the k-th highest of n normal scores with probability k / (n + 1),
    since all orders are equally likely [1]_. The threshold is the k-th highest score for the
    largest k at which this probability is at most `false_alarms`. If there is no such k, it is the
    highest score.

    With few photographs, this threshold would depend on only a few of them. The threshold is then
    the upper prediction limit of a log-normal distribution, which is fitted to the median and the
    median absolute deviation of the scores [2]_. The limit is computed from Student's
    t-distribution, with degrees of freedom that account for the efficiency of the median absolute
    deviation.

    Parameters
    ----------
    scores : sequence of float
        Scores of normal frames. There must be at least one.
    false_alarms : float
        Desired fraction of new normal scores above the threshold, in (0, 1).
    independent : bool
        Whether the scores are those of photographs. Since consecutive frames of a video are
        similar, the expected fraction for videos is an average over many videos.

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
    if independent and n > 1 and n * false_alarms < _COUNTED and ordered[0] > 0:
        logs = np.log(ordered)
        middle = np.median(logs)
        deviation = _DEVIATIONS * np.median(np.abs(logs - middle))
        if deviation > 0:
            quantile = stdtrit(_EFFICIENCY * (n - 1), 1 - false_alarms)
            return float(np.exp(middle + quantile * deviation * np.sqrt(1 + 1 / n))), false_alarms
    rank = max(1, int(false_alarms * (n + 1) + 1e-9))
    return ordered[-rank], rank / (n + 1)
