"""Split-brain autoencoders [1]_: two networks, each of which predicts the input of the other.

An image is the sum of two halves. For a color image, these are the luminance and the chrominance.
For a grayscale image, they are the black and the white squares of a checkerboard of pixels. The
halves are orthogonal, so the squared pixel error of the merged prediction is the sum of the errors
of both predictions.

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
    """Return the first half of images (float[b, c, h, w]).

    For color images, the first half is the luminance: the mean of the channels, repeated for each
    channel. For grayscale images, every second pixel is set to zero, as on a checkerboard.

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
    """Return the second half of images (float[b, c, h, w]): the images minus `first_half`.

    Examples
    --------
    >>> second_half(torch.ones(1, 1, 2, 2))
    tensor([[[[0., 1.],
              [1., 0.]]]])
    """
    return images - first_half(images)


class SplitEncoder(nn.Module):
    """Encoder that concatenates the embeddings of both halves of an image."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (float[b, d]) of images (float[b, c, h, w])."""
        embeddings = self.first(first_half(images)), self.second(second_half(images))
        return torch.cat(embeddings, dim=1)


class SplitDecoder(nn.Module):
    """Decoder that predicts each half of an image from the embedding of the other half.

    The predicted halves are added. In color images, the sum may be slightly outside [0, 1].
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the images (float[b, c, h, w]) decoded from embeddings (float[b, d])."""
        first, second = embeddings.chunk(2, dim=1)  # the first is longer by one if d is odd
        return first_half(self.second(second)) + second_half(self.first(first))


def join_halves(first: Autoencoder, second: Autoencoder) -> Autoencoder:
    """Return a split-brain autoencoder that consists of two autoencoders.

    The embedding of the first autoencoder may be one unit longer than the other embedding.
    """
    return Autoencoder(
        SplitEncoder(first.encoder, second.encoder), SplitDecoder(first.decoder, second.decoder)
    )
