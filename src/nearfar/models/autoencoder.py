"""An encoder and a decoder as one module."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """What an autoencoder makes of images: codes float[b, d], reconstruction float[b, c, h, w]."""

    codes: Tensor
    reconstruction: Tensor


class Autoencoder(nn.Module):
    """Any encoder from images to codes, with any decoder back.

    Parameters
    ----------
    encoder : nn.Module
        From float[b, c, h, w], where 0…1 is black…white, to codes float[b, d].
    decoder : nn.Module
        From codes back to float[b, c, h, w].
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, images: Tensor) -> Output:
        """Encode and decode images, float[b, c, h, w]."""
        codes = self.encoder(images)
        return Output(codes, self.decoder(codes))
