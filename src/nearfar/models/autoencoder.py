"""An encoder and a decoder as one module."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """Output of an autoencoder: embeddings float[b, d], reconstruction float[b, c, h, w]."""

    embeddings: Tensor
    reconstruction: Tensor


class Autoencoder(nn.Module):
    """Any encoder from images to embeddings, with any decoder back.

    Parameters
    ----------
    encoder : nn.Module
        From float[b, c, h, w], where 0…1 is black…white, to embeddings float[b, d].
    decoder : nn.Module
        From embeddings back to float[b, c, h, w].
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Output:
        """Encode and decode images, float[b, c, h, w]."""
        embeddings = self.encoder(images)
        return Output(embeddings, self.decoder(embeddings))
