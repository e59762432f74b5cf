"""What Adam keeps of each weight, as tensors for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def adam_tensors(adam: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments and the number of steps of each parameter, as "number.name"."""
    kept = adam.state_dict()["state"]
    return {f"{i}.{name}": value for i, values in kept.items() for name, value in values.items()}


def load_adam(adam: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Continue from what `adam_tensors` gave, with the learning rate and all else as it is."""
    kept: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        kept.setdefault(int(number), {})[name] = value
    adam.load_state_dict({"state": kept, "param_groups": adam.state_dict()["param_groups"]})
