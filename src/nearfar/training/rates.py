"""How the learning rate moves over a phase of training."""

from __future__ import annotations

import math
from typing import Literal

RateSchedule = Literal["constant", "one-cycle"]

#: The share of a cycle in which the rate rises, and the share of its peak that it begins at.
RISE = 0.2
START = 1 / 25


def rate_at(schedule: RateSchedule, done: float) -> float:
    """Return the learning rate as a share of its peak, after a share of the phase, 0…1.

    One cycle [1]_ rises from a 25th of the peak in the first fifth, then falls to zero, both by a
    cosine.

    References
    ----------
    .. [1] L. Smith, N. Topin, "Super-convergence: very fast training of neural networks using
       large learning rates", 2017.
    """
    if schedule == "constant":
        return 1.0
    if done < RISE:
        return START + (1 - START) * (1 - math.cos(math.pi * done / RISE)) / 2
    return (1 + math.cos(math.pi * (done - RISE) / (1 - RISE))) / 2
