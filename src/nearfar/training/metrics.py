"""Training metrics of an epoch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.training.distributed import all_max, all_sum
from nearfar.training.objectives import Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Number of most recent embeddings for the effective rank.
RANK_ROWS = 2048


class EpochMetrics:
    """Metrics of an epoch: means of the objective terms, duration, effective rank and dead units.

    If training resumes in the middle of an epoch, the metrics cover the whole epoch, see `state`.

    Parameters
    ----------
    fabric : Fabric
        Device and processes.
    seconds : float
        Time already spent on the epoch, in seconds.
    """

    def __init__(self, fabric: Fabric, seconds: float = 0.0) -> None:
        self.fabric = fabric
        self._continue(seconds)
        self.names: list[str] = []
        self.sums = torch.zeros((), device=fabric.device)
        self.largest = torch.tensor(-torch.inf, device=fabric.device)
        self.smallest = torch.tensor(torch.inf, device=fabric.device)
        self.latest: deque[Tensor] = deque()

    def add(self, step: Step) -> None:
        """Add the result of a training step in this process."""
        embeddings = step.embeddings.detach().flatten(1).float()
        terms = {"loss": step.loss.detach(), **step.terms}
        self.names = list(terms)
        one = embeddings.new_ones(())
        self.sums = self.sums + torch.stack([*terms.values(), one]) * len(embeddings)
        self.largest = torch.maximum(self.largest, embeddings.amax(0))
        self.smallest = torch.minimum(self.smallest, embeddings.amin(0))
        self.latest.append(embeddings)
        if len(self.latest) > 1 + RANK_ROWS // len(embeddings):
            self.latest.popleft()

    def seconds(self) -> float:
        """Return the duration of the epoch so far, in seconds, excluding interruptions."""
        return time.perf_counter() - self.began

    def _continue(self, seconds: float) -> None:
        self.began = time.perf_counter() - seconds

    def means(self) -> dict[str, float]:
        """Return the mean of each term over all images of the epoch so far, in all processes."""
        *totals, images = all_sum(self.fabric, self.sums).tolist()
        return {name: total / images for name, total in zip(self.names, totals, strict=True)}

    def dead_units(self) -> int:
        """Return the number of embedding units with the same value for all images of the epoch."""
        smallest, largest = self._range()
        return int((largest <= smallest).sum())

    def _range(self) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest value of each embedding unit, in all processes."""
        return -all_max(self.fabric, -self.smallest), all_max(self.fabric, self.largest)

    def effective_rank(self) -> float:
        """Return the effective rank of the most recent embeddings of this process."""
        return effective_rank(torch.cat(list(self.latest)))

    def state(self) -> dict[str, Tensor]:
        """Return the state to save in a checkpoint.

        The state consists of the duration, the sums of the terms over all processes, and the range
        of each embedding unit.
        """
        smallest, largest = self._range()
        return {
            "seconds": torch.tensor(self.seconds()),
            "sums": all_sum(self.fabric, self.sums),
            "largest": largest,
            "smallest": smallest,
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load a state returned by `state`. The sums are assigned to the first process."""
        self._continue(float(state.get("seconds", 0.0)))
        self.sums = state["sums"] * self.fabric.is_global_zero
        self.largest, self.smallest = state["largest"], state["smallest"]


def effective_rank(embeddings: Tensor) -> float:
    """Return the effective rank of embeddings [1]_.

    The effective rank is the exponential of the entropy of the normalized singular values of the
    centered embeddings.

    Parameters
    ----------
    embeddings : Tensor
        Embeddings (float[n, d]).

    Returns
    -------
    float
        Effective rank, from 1 (all embeddings on a line) to d (equal variance in all directions).
        It is 0 if all embeddings are equal.

    References
    ----------
    .. [1] O. Roy and M. Vetterli, "The effective rank: a measure of effective dimensionality",
       EUSIPCO 2007.

    Examples
    --------
    >>> round(effective_rank(torch.eye(5)[:, :4]), 2)
    3.83
    """
    values = torch.linalg.svdvals(embeddings - embeddings.mean(0))
    if not values.sum() > 0:
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())
