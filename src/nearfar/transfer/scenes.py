"""Whole images of a devkit, scaled so that the shorter side is as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from nearfar.data import to_unit
from nearfar.data.decoding import UnreadableError, read_header, read_image
from nearfar.data.folders import map_in_threads
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.transfer.devkit import Devkit

#: The longer side is at most so many times the shorter one asked for, as in Fast R-CNN.
LONGEST = 5 / 3
#: What lies around images in a batch of larger ones: about ImageNet's mean.
GROUND = 0.45
#: Smaller images are framed: the last feature map of a backbone would be of no size.
SMALLEST = 64

R = TypeVar("R")


def read_scaled(devkit: Devkit, name: str, shorter: int) -> tuple[Tensor, float]:
    """Read an image, float32[3, h, w] in 0…1, and how many times its true size that is.

    Raises
    ------
    NearfarError
        If the file cannot be read.
    """
    height, width = true_size(devkit, name)
    scale = min(shorter / min(height, width), LONGEST * shorter / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    with _readable(devkit, name) as path:
        return to_unit(read_image(path, (3, *size))), scale


def checked(
    devkit: Devkit, names: Sequence[str], read: Callable[[Devkit, str], R], track: Track = silent
) -> Iterator[R]:
    """Decode images once, and yield what is read beside each: all that is wrong is told early.

    Raises
    ------
    NearfarError
        If a file cannot be read, or as `read`.
    """

    def both(name: str) -> R:
        read_scaled(devkit, name, SMALLEST)
        return read(devkit, name)

    yield from track(map_in_threads(both, names), "checking", len(names))


def true_size(devkit: Devkit, name: str) -> tuple[int, int]:
    """Return the height and width of an image in pixels.

    Raises
    ------
    NearfarError
        If the file cannot be read.
    """
    with _readable(devkit, name) as path:
        return read_header(path).size


@contextmanager
def _readable(devkit: Devkit, name: str) -> Iterator[Path]:
    path = devkit.image(name)
    try:
        yield path
    except UnreadableError as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({error})") from error


def stack(images: Sequence[Tensor], fill: float) -> Tensor:
    """Put images, [c, h, w] of any sizes, into one batch, [b, c, h', w'], each at the upper left.

    Its sides are those of the largest, and at least 64.
    """
    height, width = (max(SMALLEST, *(each.shape[side] for each in images)) for side in (-2, -1))
    return torch.stack(
        [
            pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), value=fill)
            for image in images
        ]
    )
