"""The small supervised loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nearfar.errors import NearfarError
from nearfar.training import (
    fit_supervised,
    load_optimizer,
    lr_factor,
    optimizer_tensors,
    shuffled_batches,
)


def regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=generator)
    return x, x @ torch.tensor([[1.0], [2.0], [3.0]])


def fit(model, optimizer, steps, first_step=0, upto=None, **options):
    x, y = regression()
    batches = list(
        shuffled_batches(64, 16, steps=steps, generator=torch.Generator().manual_seed(1))
    )
    fit_supervised(
        model,
        lambda rows: (model(x[rows]) - y[rows]).square().mean(),
        batches[first_step:upto],
        optimizer=optimizer,
        steps=steps,
        first_step=first_step,
        **options,
    )


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_fit_supervised_lowers_the_loss_and_leaves_the_network_in_evaluation_mode():
    model = linear().train()
    fit(model, torch.optim.Adam(model.parameters(), lr=0.3), 200, lr_schedule="one-cycle")
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[1.0, 2, 3]]), atol=0.1, rtol=0)
    assert not model.training


def test_learning_rates_follow_the_schedule_of_the_whole_training():
    model = linear()
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}]
    )
    rates = []
    optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append([group["lr"] for group in optimizer.param_groups])
    )
    fit(model, optimizer, 10, first_step=4, lr_schedule="one-cycle")
    expected = [
        [peak * lr_factor("one-cycle", step / 10) for peak in (0.1, 0.2)] for step in range(4, 10)
    ]
    assert rates == expected
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2], "peaks again"


def test_training_in_two_parts_is_training_at_once():
    whole, parts = linear(), linear()
    fit(whole, torch.optim.Adam(whole.parameters(), lr=0.1), 8)
    first = torch.optim.Adam(parts.parameters(), lr=0.1)
    fit(parts, first, 8, upto=3)
    second = torch.optim.Adam(parts.parameters(), lr=0.1)
    load_optimizer(second, optimizer_tensors(first))
    fit(parts, second, 8, first_step=3)
    assert torch.equal(whole.weight, parts.weight)


def test_gradients_are_clipped():
    model = linear()
    norms = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(
        lambda *_: norms.append(
            float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
        )
    )
    fit(model, optimizer, 3, max_grad_norm=0.5)
    assert norms == pytest.approx([0.5] * 3, rel=1e-3)


def test_nonfinite_loss_is_refused_before_its_step():
    model = linear()
    before = model.weight.clone()
    with pytest.raises(NearfarError, match="the loss is nan after 0 steps: .* lr=0.1"):
        fit_supervised(
            model,
            lambda rows: model(torch.full((1, 3), torch.nan)).sum(),
            [torch.arange(1)],
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            steps=1,
        )
    assert torch.equal(model.weight, before)


def test_shuffled_batches_hold_every_row_once_per_round():
    batches = torch.cat(list(shuffled_batches(10, 4, steps=5)))
    for part in batches.split(10):
        assert sorted(part.tolist()) == list(range(10))
    assert not torch.equal(*batches.split(10))
