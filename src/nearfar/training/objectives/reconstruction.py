"""Reconstruction objective of the first training phase: the pixel error of an autoencoder."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from nearfar.models import Autoencoder, Output
from nearfar.pretext import make_corruption, pixel_errors
from nearfar.training.objectives.base import Objective, Step


class Reconstruction(Objective):
    """Reconstruction objective: the mean squared pixel error of the reconstructed images.

    With a pretext task, the network receives corrupted images and reconstructs the clean images.

    Parameters
    ----------
    context : Context
        Images, settings and hardware of the training run.

    Examples
    --------
    >>> import torch
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> config = recipe("paper", objective=Reconstruction, pretrain_epochs=0, epochs=1)
    >>> train(images, config).method
    'Reconstruction'
    """

    def setup(self, network: Autoencoder, state: Mapping[str, Tensor]) -> nn.Module:
        """See `Objective.setup`."""
        self.corruption = make_corruption(self.context.config.pretext, network)
        return network

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        corrupted = self.corruption(images)
        output: Output = model(corrupted.images)
        loss, pixel = pixel_errors(output.reconstruction, images, corrupted)
        return Step(loss, output.embeddings, {"pixel": pixel.detach()})
