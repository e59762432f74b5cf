"""Patch features: concatenated feature maps of an encoder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from nearfar import runs
from nearfar.anomaly.tiles import CELL, TILE
from nearfar.config import DEFAULT_ENCODER, TIMM
from nearfar.encoders import NetworkEncoder, open_encoder
from nearfar.errors import NearfarError
from nearfar.models import BackboneEncoder, pretrained_encoder

#: Strides of the feature maps in pixels, see §3.1 of Roth et al.
STRIDES = (8, 16)
_RUN, _WEIGHTS = "network", "encoder.safetensors"


class PatchEncoder(nn.Module):
    """Encoder of patch features: concatenated feature maps of strides 8 and 16 [1]_.

    Each map is averaged over 3×3 cells. Coarser maps are upsampled bilinearly to stride 8.

    Parameters
    ----------
    network : BackboneEncoder
        Encoder that returns these feature maps.
    source : str
        "timm:NAME", or the run folder of the encoder.

    References
    ----------
    .. [1] K. Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022.

    Examples
    --------
    >>> encoder = PatchEncoder(pretrained_encoder("timm:resnet18", "random"), "timm:resnet18")
    >>> encoder(torch.rand(2, 3, 224, 224)).shape
    torch.Size([2, 28, 28, 384])
    """

    def __init__(self, network: BackboneEncoder, source: str) -> None:
        super().__init__()
        self.network, self.source = network.eval(), source

    @classmethod
    def open(cls, source: str) -> Self:
        """Open an encoder.

        Parameters
        ----------
        source : str
            "timm:NAME" for a pretrained model, or the folder of a run with a backbone.

        Raises
        ------
        NearfarError
            If there is no such encoder, or it has no feature maps.
        """
        encoder = open_encoder(source)
        network = encoder.network if isinstance(encoder, NetworkEncoder) else None
        if not isinstance(network, BackboneEncoder):
            raise NearfarError(
                f"encoder={source!r} has no feature maps: expected {TIMM}NAME, or a run with "
                f"--backbone {TIMM}NAME"
            )
        return cls(network, source)

    @torch.no_grad()
    def forward(self, tiles: Tensor) -> Tensor:
        """Return the features (float32[b, 28, 28, d]) of tiles (float32[b, 3, 224, 224]).

        Tiles have values in [0, 1].

        Raises
        ------
        NearfarError
            If the encoder has no feature map of stride 8 or 16.
        """
        side = TILE // CELL
        maps = [
            interpolate(
                avg_pool2d(values, 3, stride=1, padding=1),
                size=(side, side),
                mode="bilinear",
                align_corners=False,
            )
            for values in self.maps(tiles, STRIDES).values()
        ]
        return torch.cat(maps, dim=1).permute(0, 2, 3, 1)

    def maps(self, images: Tensor, strides: Sequence[int]) -> dict[int, Tensor]:
        """Return feature maps (float32[b, k, h', w']) of images (float32[b, 3, h, w]), by stride.

        Raises
        ------
        NearfarError
            If the encoder has no feature map of these strides.
        """
        every = self.network.feature_maps(images).items()
        maps = {grid.stride: values for grid, values in every if grid.stride in strides}
        if not maps:
            expected = " or ".join(map(str, strides))
            raise NearfarError(
                f"encoder={self.source!r} has no feature map of stride {expected}: use another"
            )
        return maps

    def write(self, folder: Path) -> None:
        """Write the encoder and its weights, to be read by `read`."""
        if self.source.startswith(TIMM):
            runs.write_tensors(folder / _WEIGHTS, runs.to_cpu(self.network.state_dict()))
        else:
            ignored = shutil.ignore_patterns(runs.EMBEDDINGS)
            shutil.copytree(self.source, folder / _RUN, ignore=ignored)

    @classmethod
    def read(cls, folder: Path, source: str) -> Self:
        """Read an encoder written by `write`.

        Raises
        ------
        NearfarError
            If a file is missing or damaged.
        """
        if not source.startswith(TIMM):
            return cls.open(str(folder / _RUN))
        network = pretrained_encoder(source, "random")
        tensors, _ = runs.read_tensors(folder / _WEIGHTS)
        runs.load_weights(network, tensors, folder)
        return cls(network.eval(), source)


@cache
def has_default_encoder() -> bool:
    """Return whether the weights of the default encoder are available or can be downloaded.

    Examples
    --------
    >>> isinstance(has_default_encoder(), bool)
    True
    """
    try:
        PatchEncoder.open(DEFAULT_ENCODER)
    except (NearfarError, ImportError):
        return False
    return True
