"""Thumbnails of images, used to find and verify duplicates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.data import Images, in_order, load, to_unit
from nearfar.progress import Track, silent

#: Sides of grayscale and color thumbnails, in pixels.
_SIDE, _COLOR_SIDE = 64, 8
_BATCH = 256
#: Luma weights of red, green and blue (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


class Thumbnails(NamedTuple):
    """Small versions of n images.

    Attributes
    ----------
    gray : uint8[n, 64, 64]
        Brightness.
    colors : float16[n, 2, 8, 8]
        Red minus green and blue minus green, −1…1; 0 for grayscale images.

    Examples
    --------
    >>> Thumbnails(torch.zeros(1, 64, 64), torch.zeros(1, 2, 8, 8)).colors.shape
    torch.Size([1, 2, 8, 8])
    """

    gray: Tensor
    colors: Tensor


def thumbnails(images: Images, *, track: Track = silent) -> Thumbnails:
    """Return thumbnails of images.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> thumbnails(images_from_array(np.full((2, 32, 32), 255, np.uint8))).gray[:, 0, 0]
    tensor([255, 255], dtype=torch.uint8)
    """
    gray = torch.empty(len(images), _SIDE, _SIDE, dtype=torch.uint8)
    colors = torch.zeros(len(images), 2, _COLOR_SIDE, _COLOR_SIDE, dtype=torch.float16)
    batches = in_order(range(len(images)), _BATCH)
    for rows, pixels in track(load(images, batches), "comparing pixels", len(batches)):
        unit = to_unit(pixels)
        small = interpolate(unit, size=(_SIDE, _SIDE), mode="area")
        weights = torch.tensor(_LUMA if unit.shape[1] == 3 else (1.0,))
        gray[rows] = (255 * torch.einsum("bchw,c->bhw", small, weights)).round().byte()
        if unit.shape[1] == 3:
            small = interpolate(unit, size=(_COLOR_SIDE, _COLOR_SIDE), mode="area")
            colors[rows] = (small[:, ::2] - small[:, 1:2]).half()
    return Thumbnails(gray, colors)
