"""Metrics of embeddings."""

from __future__ import annotations

import subprocess

import pytest
import torch

from nearfar.training import Step
from nearfar.training.distributed import launch
from nearfar.training.metrics import EpochMetrics, effective_rank
from trainings import QUICK, TORCHRUN


def test_dead_units_are_those_that_never_change():
    metrics = EpochMetrics(launch(QUICK))
    embeddings = torch.tensor([[0.0, -1.0, 2.0, -3.0], [0.0, -2.0, 0.0, -3.0]])
    for some in embeddings.split(1):
        metrics.add(Step(torch.tensor(1.0), some, {}))
    assert metrics.dead_units() == 2, "the first and the last; negative ones may be alive"


#: Each of two processes sees one image; the first unit differs between them.
IN_TWO = r"""
import os
import torch
from nearfar.config import TrainConfig
from nearfar.training import Step
from nearfar.training.distributed import launch
from nearfar.training.metrics import EpochMetrics

fabric = launch(TrainConfig(device="cpu"))
metrics = EpochMetrics(fabric)
metrics.add(Step(torch.tensor(1.0), torch.tensor([[float(fabric.global_rank), 5.0]]), {}))
resumed = EpochMetrics(fabric)
resumed.load_state(metrics.state())
kept = metrics.state()
found = kept["smallest"].tolist(), kept["largest"].tolist(), metrics.dead_units()
os.write(1, f"{found} {resumed.dead_units()}\n".encode())  # in one piece
"""


def test_units_alive_in_another_process_are_not_dead(tmp_path):
    (tmp_path / "two.py").write_text(IN_TWO)
    done = subprocess.run([*TORCHRUN, tmp_path / "two.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["([0.0, 5.0], [1.0, 5.0], 1) 1"] * 2


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(4000, 6, generator=generator)
    assert effective_rank(wide) == pytest.approx(6, abs=0.05)
    assert effective_rank(wide[:, :1] * torch.ones(6)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.ones(10, 6)) == 0
