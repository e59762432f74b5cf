"""Split-brain autoencoders [1]_: two networks that predict each other's half of the image.

An image is the sum of two halves, the ones of color images its luminance and its chrominance, those
of gray images the two colors of a checkerboard. The halves are orthogonal, so the squared pixel
error of the merged prediction is the sum of the errors of both predictions.

References
----------
.. [1] R. Zhang, P. Isola, A. A. Efros, "Split-brain autoencoders: unsupervised learning by
   cross-channel prediction", CVPR 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.models.autoencoder import Autoencoder


def first_half(images: Tensor) -> Tensor:
    """Keep one of two halves of images, float[b, c, h, w]; the rest of them is the other.

    Of color images this is the luminance, the mean of the channels; of gray images every second
    pixel, as on a checkerboard, with zeros between.
    """
    channels, height, width = images.shape[-3:]
    if channels > 1:
        return images.mean(-3, keepdim=True).expand_as(images)
    row = torch.arange(height, device=images.device).unsqueeze(1)
    column = torch.arange(width, device=images.device)
    return images * ((row + column) % 2 == 0)


def second_half(images: Tensor) -> Tensor:
    """Keep what `first_half` leaves out."""
    return images - first_half(images)


class SplitEncoder(nn.Module):
    """The embedding of the first half of the image beside that of the second."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        """From float[b, c, h, w] to float[b, d]."""
        embeddings = self.first(first_half(images)), self.second(second_half(images))
        return torch.cat(embeddings, dim=1)


class SplitDecoder(nn.Module):
    """The second half of the image as the first embedding predicts it, and the other way round.

    The parts of a color image may add up to values a little outside of 0…1.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, embeddings: Tensor) -> Tensor:
        """From float[b, d] to float[b, c, h, w]."""
        first, second = embeddings.chunk(2, dim=1)  # of an odd number, the first gets one more
        return first_half(self.second(second)) + second_half(self.first(first))


def join_halves(first: Autoencoder, second: Autoencoder) -> Autoencoder:
    """Make one autoencoder of two; the first one's embedding is as long, or one longer."""
    return Autoencoder(
        SplitEncoder(first.encoder, second.encoder), SplitDecoder(first.decoder, second.decoder)
    )
