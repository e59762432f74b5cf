"""Small gray thumbnails of images, by which duplicates are found and verified."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.data import Images, in_order, load, to_unit
from nearfar.progress import Track, silent

#: Side of a thumbnail, in pixels.
SIDE = 64
_BATCH = 256


def thumbnails(images: Images, *, track: Track = silent) -> Tensor:
    """Return gray thumbnails, uint8[n, 64, 64].

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> thumbnails(images_from_array(np.full((2, 32, 32), 255, np.uint8)))[:, 0, 0]
    tensor([255, 255], dtype=torch.uint8)
    """
    small = torch.empty(len(images), SIDE, SIDE, dtype=torch.uint8)
    batches = in_order(range(len(images)), _BATCH)
    for rows, pixels in track(load(images, batches), "comparing pixels", len(batches)):
        gray = to_unit(pixels).mean(1, keepdim=True)
        scaled = interpolate(gray, size=(SIDE, SIDE), mode="area").squeeze(1)
        small[rows] = (255 * scaled).round().byte()
    return small
