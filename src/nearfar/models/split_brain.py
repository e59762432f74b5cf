"""Split-brain autoencoders [1]_: two networks that predict each other's half of the image.

An image is the sum of two halves: luminance and chrominance of a color image, or the two colors of
a checkerboard over a grayscale image. The halves are orthogonal, so the squared pixel error of the
merged prediction is the sum of the errors of both predictions.

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
    """Return the first of the two parts into which each image is split, float[b, c, h, w].

    For color images, it is the luminance (mean of the channels). For grayscale images, it is every
    second pixel, as on a checkerboard, with zeros in between.

    Examples
    --------
    >>> first_half(torch.ones(1, 1, 2, 2))
    tensor([[[[1., 0.],
              [0., 1.]]]])
    """
    channels, height, width = images.shape[-3:]
    if channels > 1:
        return images.mean(-3, keepdim=True).expand_as(images)
    row = torch.arange(height, device=images.device).unsqueeze(1)
    column = torch.arange(width, device=images.device)
    return images * ((row + column) % 2 == 0)


def second_half(images: Tensor) -> Tensor:
    """Return the second half of images: the image minus `first_half`.

    Examples
    --------
    >>> second_half(torch.ones(1, 1, 2, 2))
    tensor([[[[0., 1.],
              [1., 0.]]]])
    """
    return images - first_half(images)


class SplitEncoder(nn.Module):
    """Encoder that concatenates the embeddings of both halves."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        """From float[b, c, h, w] to float[b, d]."""
        embeddings = self.first(first_half(images)), self.second(second_half(images))
        return torch.cat(embeddings, dim=1)


class SplitDecoder(nn.Module):
    """Decoder that predicts each half from the embedding of the other.

    The sum of both halves of a color image may lie slightly outside 0…1.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, embeddings: Tensor) -> Tensor:
        """From float[b, d] to float[b, c, h, w]."""
        first, second = embeddings.chunk(2, dim=1)  # the first is longer by one if d is odd
        return first_half(self.second(second)) + second_half(self.first(first))


def join_halves(first: Autoencoder, second: Autoencoder) -> Autoencoder:
    """Join two autoencoders; the first embedding is as long as the second, or longer by one."""
    return Autoencoder(
        SplitEncoder(first.encoder, second.encoder), SplitDecoder(first.decoder, second.decoder)
    )
