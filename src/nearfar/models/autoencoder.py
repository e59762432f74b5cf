"""Autoencoder: a module with an encoder and a decoder."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """Output of an autoencoder.

    Attributes
    ----------
    embeddings : Tensor
        Embeddings (float[b, d]).
    reconstruction : Tensor
        Reconstructed images (float[b, c, h, w]), with values in [0, 1].

    Examples
    --------
    >>> import torch
    >>> output = Output(embeddings=torch.zeros(2, 4), reconstruction=torch.zeros(2, 1, 8, 8))
    >>> output.embeddings.shape
    torch.Size([2, 4])
    """

    embeddings: Tensor
    reconstruction: Tensor


class Autoencoder(nn.Module):
    """Autoencoder that consists of an encoder and a decoder.

    Parameters
    ----------
    encoder : nn.Module
        Module that takes images (float[b, c, h, w], with values in [0, 1]) and returns embeddings
        (float[b, d]).
    decoder : nn.Module
        Module that takes embeddings (float[b, d]) and returns images (float[b, c, h, w]).

    Examples
    --------
    >>> import torch
    >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    >>> decoder = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
    >>> Autoencoder(encoder, decoder)(torch.rand(2, 1, 8, 8)).reconstruction.shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Output:
        """Return the embeddings and reconstructions of images (float[b, c, h, w])."""
        embeddings = self.encoder(images)
        return Output(embeddings, self.decoder(embeddings))
