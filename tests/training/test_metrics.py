"""Metrics of embeddings."""

from __future__ import annotations

import pytest
import torch

from nearfar.training import Step
from nearfar.training.distributed import launch
from nearfar.training.metrics import EpochMetrics, effective_rank
from trainings import QUICK


def test_dead_units_are_those_that_never_change():
    metrics = EpochMetrics(launch(QUICK))
    embeddings = torch.tensor([[0.0, -1.0, 2.0, -3.0], [0.0, -2.0, 0.0, -3.0]])
    for some in embeddings.split(1):
        metrics.add(Step(torch.tensor(1.0), some, {}))
    assert metrics.dead_units() == 2, "the first and the last; negative ones may be alive"


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(4000, 6, generator=generator)
    assert effective_rank(wide) == pytest.approx(6, abs=0.05)
    assert effective_rank(wide[:, :1] * torch.ones(6)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.ones(10, 6)) == 0
