"""Optimizer settings: epochs, batches and learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nearfar.errors import NearfarError
from nearfar.fields import check_fields, check_ranges

LRSchedule = Literal["constant", "one-cycle"]


@dataclass(frozen=True, kw_only=True)
class Optim:
    """Settings of the AdamW optimizer in both phases. Without weight decay, AdamW is Adam.

    Parameters
    ----------
    pretrain_epochs : int
        Epochs of plain autoencoder training.
    epochs : int
        Epochs of training with the objective.
    batch_size : int
        Number of images per step, over all processes.
    accumulate : int
        Number of parts into which each process splits a batch to save memory
        (gradient accumulation). Batch normalization statistics and contrastive negatives come from
        one part at a time.
    pretrain_lr : float
        Learning rate in the first phase.
    lr : float
        Learning rate in the second phase. The paper uses 0.0001.
    head_lr_scale : float
        Learning rate of the projection head and decoder, as a multiple of `lr`.
    lr_schedule : {"constant", "one-cycle"}
        "constant", or "one-cycle": a rise in the first fifth of each phase, followed by a cosine
        decay to zero.
    weight_decay : float
        Decoupled weight decay of AdamW.

    Examples
    --------
    >>> Optim(epochs=5).batch_size
    256
    """

    pretrain_epochs: int = 20
    epochs: int = 20
    batch_size: int = 256
    accumulate: int = 1
    pretrain_lr: float = 1e-3
    lr: float = 1e-4
    head_lr_scale: float = 1.0
    lr_schedule: LRSchedule = "constant"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            pretrain_epochs=">= 0",
            epochs=">= 0",
            batch_size=">= 1",
            accumulate=">= 1",
            pretrain_lr="> 0",
            lr="> 0",
            head_lr_scale="> 0",
            weight_decay=">= 0",
        )
        if self.pretrain_epochs + self.epochs == 0:
            raise NearfarError("pretrain_epochs=0 and epochs=0: nothing to train")
