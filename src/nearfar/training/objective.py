"""What a network is trained for: one interface for every training phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn
from torch.nn.functional import mse_loss

from nearfar.models import Output


class Step(NamedTuple):
    """One evaluation of an objective on a batch.

    Attributes
    ----------
    loss : Tensor
        What to minimize, a scalar: a mean over the batch.
    output : Output
        What the network made of the batch.
    terms : dict of Tensor
        Scalars to record, means over the batch; `pixel`, the squared pixel error, is one of them.
    """

    loss: Tensor
    output: Output
    terms: dict[str, Tensor]


class Objective(Protocol):
    """A loss with what it must know beyond the batch."""

    @property
    def name(self) -> str:
        """The phase of training, as the log calls it."""
        ...

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Prepare for epoch 0, 1, …, with the encoder as trained so far."""
        ...

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """Evaluate the objective.

        Parameters
        ----------
        model : nn.Module
            From images to `Output`.
        rows : Tensor
            Which images of the data set these are, int64[b].
        images : Tensor
            float[b, c, h, w], where 0…1 is black…white.
        epoch : float
            How many epochs of this phase are done, with the share of the present one.
        """
        ...

    def state(self) -> Mapping[str, Tensor]:
        """What must be kept to continue in the middle of an epoch."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` gave."""
        ...


class Reconstruction:
    """Plain autoencoding: the mean squared error of the pixels."""

    name = "pretrain"

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Nothing to prepare."""

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        output: Output = model(images)
        pixel = mse_loss(output.reconstruction.float(), images)
        return Step(pixel, output, {"pixel": pixel.detach()})

    def state(self) -> Mapping[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""
