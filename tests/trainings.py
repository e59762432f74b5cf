"""Short trainings, and their weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nearfar.config import TrainConfig, configure, recipe
from nearfar.models import Autoencoder
from nearfar.runs import MODEL

#: On a free port: tests run beside each other.
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
    *("--nproc-per-node", "2"),
]

#: With 300 images, five steps per epoch: ten of pre-training, fifteen of relations.
QUICK = recipe(
    "paper",
    pretrain_epochs=2,
    epochs=3,
    batch_size=64,
    embedding_size=12,
    clusters=5,
    device="cpu",
    lr=1e-3,
)


def changed(config: TrainConfig, **options: Any) -> TrainConfig:
    """Return a configuration with other options."""
    return configure(options, base=config)


def quick(**options: Any) -> TrainConfig:
    """Return `QUICK` with other options; five clusters for each objective that has them."""
    clusters = {} if callable(options.get("objective")) else {"clusters": 5}
    return changed(QUICK, **(clusters | options))


def linear_network(size: int = 5, *layers: nn.Module) -> Autoencoder:
    """Return a linear autoencoder of 8×8 pixels, with further layers in its encoder."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, size), *layers)
    return Autoencoder(encoder, nn.Sequential(nn.Linear(size, 64), nn.Unflatten(1, (1, 8, 8))))


def weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a finished run."""
    return load_file(folder / MODEL)


def assert_same_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """Check that tensors are bit for bit the same."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
