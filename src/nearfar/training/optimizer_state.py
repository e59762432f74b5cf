"""State of an optimizer as named tensors, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimizer as tensors by name, such as "0.exp_avg".

    The number is the index of the parameter in the optimizer.

    Examples
    --------
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> model(torch.ones(1, 1)).sum().backward()
    >>> optimizer.step()
    >>> sorted(optimizer_tensors(optimizer))
    ['0.exp_avg', '0.exp_avg_sq', '0.step']
    """
    kept = optimizer.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in kept.items() for name, value in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load the state returned by `optimizer_tensors` into an optimizer.

    Settings of the optimizer, such as learning rates, are not changed.

    Examples
    --------
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> one, other = (torch.optim.Adam(model.parameters()) for _ in range(2))
    >>> model(torch.ones(1, 1)).sum().backward()
    >>> one.step()
    >>> load_optimizer(other, optimizer_tensors(one))
    >>> optimizer_tensors(other)["0.step"]
    tensor(1.)
    """
    kept: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        kept.setdefault(int(number), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": kept, "param_groups": groups})
