"""What a network is trained for: one interface for every training phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from nearfar.models import Autoencoder, Output
from nearfar.pretext import (
    AdversarialNoise,
    CentralHole,
    CorruptedImages,
    Corruption,
    GaussianNoise,
    Identity,
    MaskingNoise,
    RandomHoles,
)
from nearfar.training.config import TrainConfig


class Step(NamedTuple):
    """One evaluation of an objective on a batch.

    Attributes
    ----------
    loss : Tensor
        What to minimize, a scalar: a mean over the batch.
    embeddings : Tensor
        What the encoder made of the batch, float[b, d].
    terms : dict of Tensor
        Scalars to record, means over the batch; `pixel`, the squared pixel error, is one of them
        where a decoder is trained.
    """

    loss: Tensor
    embeddings: Tensor
    terms: dict[str, Tensor]


class Objective(Protocol):
    """A loss with what it must know beyond the batch."""

    @property
    def name(self) -> str:
        """The phase of training, as the log calls it."""
        ...

    def extend(self, network: Autoencoder) -> nn.Module:
        """Return what is trained: the network, or a module that has it with parts beside it."""
        ...

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Prepare for epoch 0, 1, …, with the encoder as trained so far."""
        ...

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """Evaluate the objective.

        Parameters
        ----------
        model : nn.Module
            What `extend` returned, as Fabric wraps it.
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


@runtime_checkable
class Paired(Protocol):
    """An `Objective` that sees each image beside another one of the data set.

    It is called with rows int64[b, 2] and images float[b, 2, c, h, w], read ahead together.
    """

    def partners(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the other one of each image, int64[b]; it may be the image itself."""
        ...


class Reconstruction:
    """Autoencoding: the mean squared error of the pixels, of images seen clean or corrupted.

    Parameters
    ----------
    corruption : Corruption
        What is done to the images before the network sees them.
    """

    name = "pretrain"

    def __init__(self, corruption: Corruption) -> None:
        self.corruption = corruption

    def extend(self, network: Autoencoder) -> nn.Module:
        """See `Objective`."""
        return network

    def start_epoch(self, epoch: int, encoder: nn.Module) -> None:
        """Nothing to prepare."""

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        corrupted = self.corruption(images)
        output: Output = model(corrupted.images)
        loss, pixel = pixel_errors(output.reconstruction, images, corrupted)
        return Step(loss, output.embeddings, {"pixel": pixel.detach()})

    def state(self) -> Mapping[str, Tensor]:
        """Nothing to keep."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""


def pixel_errors(
    reconstruction: Tensor, images: Tensor, corrupted: CorruptedImages
) -> tuple[Tensor, Tensor]:
    """Return the squared pixel error as the corruption weights it, to minimize, and as it is."""
    reconstruction = reconstruction.float()
    plain = mse_loss(reconstruction, images)
    if corrupted.weights is None:
        return plain, plain
    return (corrupted.weights * (reconstruction - images).square()).mean(), plain


def make_corruption(config: TrainConfig, network: Autoencoder) -> Corruption:
    """Return what a configuration asks to be done to images before `network` sees them."""
    if config.pretext == "context":
        return CentralHole() if config.holes == "center" else RandomHoles()
    if config.pretext != "denoising":
        return Identity()
    if config.noise == "adversarial":
        return AdversarialNoise(config.noise_level, network)
    if config.noise == "masking":
        return MaskingNoise(config.noise_level)
    return GaussianNoise(config.noise_level)
