"""Autoencoding: the first phase, and the second one without near and far samples."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from nearfar.models import Autoencoder, Output
from nearfar.pretext import make_corruption, pixel_errors
from nearfar.training.objectives.base import Objective, Step


class Reconstruction(Objective):
    """Mean squared pixel error of the reconstruction, with the pretext task of the context.

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
        """See `Objective`."""
        self.corruption = make_corruption(self.context.config.pretext, network)
        return network

    def __call__(self, model: nn.Module, rows: Tensor, images: Tensor, epoch: float) -> Step:
        """See `Objective`."""
        corrupted = self.corruption(images)
        output: Output = model(corrupted.images)
        loss, pixel = pixel_errors(output.reconstruction, images, corrupted)
        return Step(loss, output.embeddings, {"pixel": pixel.detach()})
