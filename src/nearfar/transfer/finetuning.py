"""Fine-tuning, with the same optimizer and learning rate schedule for all tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearfar.fields import check_fields, check_ranges
from nearfar.progress import Track, silent
from nearfar.training import fit_supervised, shuffled_batches

_MAX_GRAD_NORM = 10.0


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Fine-tuning options: AdamW with a one-cycle learning rate schedule.

    Parameters
    ----------
    steps : int
        Number of training steps, with one batch each.
    batch_size : int
        Number of images per batch.
    lr : float
        Peak learning rate.
    weight_decay : float
        Weight decay of AdamW.
    seed : int
        Seed of the image order and of all random draws.

    Raises
    ------
    NearfarError
        If a number is out of range.

    Examples
    --------
    >>> FinetuneConfig(steps=100).batch_size
    32
    """

    steps: int = 2000
    batch_size: int = 32
    lr: float = 3e-4
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self, steps=">= 1", batch_size=">= 1", lr="> 0", weight_decay=">= 0", seed=">= 0"
        )


def finetune_network(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    n: int,
    config: FinetuneConfig,
    track: Track = silent,
) -> None:
    """Train the parameters of a network that require gradients, in place.

    Parameters
    ----------
    network : nn.Module
        Network to train. It is in evaluation mode afterward.
    loss : callable
        Function that takes the row numbers of a batch (int64[b]) and returns a scalar loss.
    n : int
        Number of training images.
    config : FinetuneConfig
        Training options.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the loss becomes NaN or infinite.

    Examples
    --------
    >>> x, y = torch.randn(64, 2), torch.randn(64, 1)
    >>> network = nn.Linear(2, 1)
    >>> finetune_network(
    ...     network,
    ...     lambda rows: (network(x[rows]) - y[rows]).square().mean(),
    ...     64,
    ...     FinetuneConfig(steps=4, batch_size=8),
    ... )
    """
    parameters = [each for each in network.parameters() if each.requires_grad]
    order = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        fit_supervised(
            network,
            loss,
            shuffled_batches(n, config.batch_size, steps=config.steps, generator=order),
            optimizer=torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay),
            steps=config.steps,
            lr_schedule="one-cycle",
            max_grad_norm=_MAX_GRAD_NORM,
            track=track,
        )
