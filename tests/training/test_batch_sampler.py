"""Order of the images."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nearfar.training.batch_sampler import EpochSampler, PairSampler


@given(
    n=st.integers(4, 200),
    batch_size=st.integers(4, 70),
    processes=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_image_is_seen_once_per_epoch_by_any_number_of_processes(
    n, batch_size, processes, epoch
):
    alone = EpochSampler(n, batch_size, (0, 1))
    alone.epoch = epoch
    together = [EpochSampler(n, batch_size, (0, 1), rank, processes) for rank in range(processes)]
    for sampler in together:
        sampler.epoch = epoch
    whole = list(alone)
    assert sorted(np.concatenate(whole)) == list(range(n))
    assert [len(batch) for batch in whole] == [alone.batch_size(i) for i in range(len(whole))]
    assert max(map(len, whole)) <= batch_size
    for batch, *parts in zip(whole, *together, strict=True):
        assert list(batch) == [row for part in parts for row in part]


def test_order_depends_on_seed_and_epoch():
    sampler = EpochSampler(50, 10, (0, 1))
    first = np.concatenate(list(sampler))
    sampler.epoch = 1
    assert not np.array_equal(first, np.concatenate(list(sampler)))
    assert not np.array_equal(first, np.concatenate(list(EpochSampler(50, 10, (1, 1)))))


def test_epoch_continues_from_its_first_step():
    sampler = EpochSampler(50, 10, (0, 1))
    whole = list(sampler)
    sampler.first_step = 3
    assert len(sampler) == 2
    for batch, again in zip(whole[3:], sampler, strict=True):
        assert torch.equal(batch, again)


def test_pairs_hold_each_row_beside_its_partner():
    sampler = EpochSampler(50, 10, (0, 1))
    sampler.first_step = 2
    steps = []

    def partners(rows, step):
        steps.append(step)
        return rows + 100

    pairs = list(PairSampler(sampler, partners))
    assert steps == [2, 3, 4]
    for rows, pair in zip(sampler, pairs, strict=True):
        assert torch.equal(pair, torch.stack([rows, rows + 100], 1))
