"""Fine-tuning loop and its options."""

from __future__ import annotations

import pytest
import torch

from nearfar.errors import NearfarError
from nearfar.training import shuffled_batches
from nearfar.transfer import (
    FinetuneConfig,
)
from nearfar.transfer.finetuning import finetune_network


def test_shuffled_batches_use_every_row_per_round():
    rows = [row for batch in shuffled_batches(7, 3, steps=7) for row in batch.tolist()]
    assert len(rows) == 21
    for start in (0, 7, 14):
        assert sorted(rows[start : start + 7]) == list(range(7))
    assert rows[:7] != rows[7:14]


def test_shuffled_batches_fill_batches_of_small_sets():
    assert all(len(batch) == 5 for batch in shuffled_batches(2, 5, steps=3))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"seed": -1}])
def test_finetune_config_raises_for_bad_numbers(wrong):
    with pytest.raises(NearfarError, match=next(iter(wrong))):
        FinetuneConfig(**wrong)


def test_finetune_network_raises_for_infinite_loss():
    network = torch.nn.Linear(1, 1)
    with pytest.raises(NearfarError, match="smaller learning rate"):
        finetune_network(
            network, lambda rows: network.weight.sum() / 0, 2, FinetuneConfig(steps=2, batch_size=1)
        )
