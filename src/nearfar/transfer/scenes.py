"""Whole images of a devkit, scaled so that the shorter side is as asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from nearfar.data import to_unit
from nearfar.data.decoding import UnreadableError, read_header, read_image
from nearfar.errors import NearfarError
from nearfar.transfer.devkit import Devkit

#: The longer side is at most so many times the shorter one asked for, as in Fast R-CNN.
LONGEST = 5 / 3


def read_scaled(devkit: Devkit, name: str, shorter: int) -> tuple[Tensor, float]:
    """Read an image, float32[3, h, w] in 0…1, and how many times its true size that is.

    Raises
    ------
    NearfarError
        If the file cannot be read.
    """
    path = devkit.image(name)
    try:
        height, width = read_header(path).size
        scale = min(shorter / min(height, width), LONGEST * shorter / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        return to_unit(read_image(path, (3, *size))), scale
    except UnreadableError as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({error})") from error


def stack(images: list[Tensor], fill: float) -> Tensor:
    """Put images, [c, h, w] of any sizes, into one batch, [b, c, h, w], each at the upper left."""
    height, width = (max(image.shape[side] for image in images) for side in (-2, -1))
    return torch.stack(
        [
            pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), value=fill)
            for image in images
        ]
    )
