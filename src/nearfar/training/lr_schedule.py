"""Learning rate schedules."""

from __future__ import annotations

import math

from nearfar.config import LRSchedule

#: Fraction of a cycle in which the rate rises, and initial rate as a fraction of the peak.
RISE = 0.2
START = 1 / 25


def lr_factor(schedule: LRSchedule, progress: float) -> float:
    """Return the learning rate as a fraction of the peak learning rate.

    In the one-cycle schedule [1]_, the learning rate increases from 1/25 of the peak to the peak in
    the first fifth of the phase, and then decreases to zero. Both parts follow a cosine.

    Parameters
    ----------
    schedule : {"constant", "one-cycle"}
        Name of the schedule.
    progress : float
        Completed fraction of the training phase, in [0, 1].

    References
    ----------
    .. [1] L. Smith, N. Topin, "Super-convergence: very fast training of neural networks using
       large learning rates", 2017.

    Examples
    --------
    >>> lr_factor("one-cycle", 0.2), lr_factor("one-cycle", 1.0)
    (1.0, 0.0)
    """
    if schedule == "constant":
        return 1.0
    if progress < RISE:
        return START + (1 - START) * (1 - math.cos(math.pi * progress / RISE)) / 2
    return (1 + math.cos(math.pi * (progress - RISE) / (1 - RISE))) / 2
