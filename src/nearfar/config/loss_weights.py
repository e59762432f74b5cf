"""Weights λ₁, λ₂, λ₃ of the objective, and schedules that change the weights during training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from nearfar.errors import NearfarError

ScheduleName = Literal["constant", "linear", "cosine"]


class Weights(NamedTuple):
    """Weights λ₁, λ₂, λ₃ of the image itself, of near samples and of far samples (Eq. 1).

    Examples
    --------
    >>> Weights(own=0.6, near=0.4, far=0.0).relational
    True
    """

    own: float
    near: float
    far: float

    @property
    def relational(self) -> bool:
        """Whether near or far samples have a nonzero weight."""
        return self.near > 0 or self.far > 0


def check_weights(values: tuple[float, ...]) -> Weights:
    """Check the weights of the image, near samples and far samples, and return them as `Weights`.

    Raises
    ------
    NearfarError
        If there are not three weights, if a weight is negative or not finite, or if the sum is not
        1.

    Examples
    --------
    >>> check_weights((0.6, 0.4, 0.0))
    Weights(own=0.6, near=0.4, far=0.0)
    >>> check_weights((1, 1, 1))
    Traceback (most recent call last):
    nearfar.errors.NearfarError: loss_weights=1,1,1: they sum to 3, expected 1
    """
    shown = "loss_weights=" + ",".join(f"{value:g}" for value in values)
    if len(values) != 3:
        raise NearfarError(f"{shown}: expected three weights: own, near and far")
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise NearfarError(f"{shown}: expected nonnegative numbers")
    if not math.isclose(sum(values), 1, abs_tol=1e-6):
        raise NearfarError(f"{shown}: they sum to {sum(values):g}, expected 1")
    return Weights(*values)


@dataclass(frozen=True)
class WeightSchedule:
    """Weights that change from `start` to `end` over training (the paper's "dynamic λ", §5).

    At each step, the weights are a convex combination of `start` and `end`, so that they are
    nonnegative and sum to 1.

    Parameters
    ----------
    start, end : Weights
        Weights at the start and at the end of training.
    shape : {"constant", "linear", "cosine"}
        How the weights change. "constant": they stay at `start`. "cosine": they change slowly at
        both ends.

    Examples
    --------
    >>> schedule = WeightSchedule(Weights(1, 0, 0), Weights(0.5, 0.5, 0), "linear")
    >>> schedule.at(0.5)
    Weights(own=0.75, near=0.25, far=0.0)
    """

    start: Weights
    end: Weights
    shape: ScheduleName = "constant"

    @property
    def relational(self) -> bool:
        """Whether near or far samples have a nonzero weight at any time."""
        return self.start.relational or self.end.relational

    def at(self, progress: float) -> Weights:
        """Return the weights when a fraction `progress` of training, in [0, 1], is completed."""
        mix = {
            "constant": 0.0,
            "linear": progress,
            "cosine": (1 - math.cos(math.pi * progress)) / 2,
        }[self.shape]
        return Weights(
            *((1 - mix) * a + mix * b for a, b in zip(self.start, self.end, strict=True))
        )
