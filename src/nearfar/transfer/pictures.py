"""Images of any size, read without cropping and scaled to a given shorter side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import pad

from nearfar.data import UnreadableError, map_in_threads, read_header, read_image, to_unit
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.transfer.devkit import Devkit

#: Image file, or pixels uint8[h, w, 3].
Picture = str | os.PathLike[str] | npt.NDArray[np.uint8]

#: Value of the padding around smaller images in a batch, about the mean of ImageNet.
PADDING = 0.45
#: Smaller images are padded, because the last feature map of a backbone would be empty.
MIN_PADDED_SIDE = 64

#: Maximum ratio of the longer side to the requested shorter side, as in Fast R-CNN.
_MAX_RATIO = 5 / 3

R = TypeVar("R")


def read_scaled(picture: Picture, shorter_side: int) -> tuple[Tensor, float]:
    """Return an image, scaled to a given shorter side.

    Parameters
    ----------
    picture : path or uint8[h, w, 3]
        Image file or pixels.
    shorter_side : int
        Length of the shorter side, in pixels. Elongated images are scaled to a smaller size, so
        that the longer side is at most 5/3 of this length.

    Returns
    -------
    image : float32[3, h', w']
        Scaled image, with values in [0, 1].
    scale : float
        Ratio of the new size to the original size.

    Raises
    ------
    NearfarError
        If the file cannot be read, or the array is not an image.

    Examples
    --------
    >>> image, scale = read_scaled(np.zeros((40, 60, 3), np.uint8), 20)
    >>> tuple(image.shape), scale
    ((3, 20, 30), 0.5)
    """
    height, width = picture_size(picture)
    scale = min(shorter_side / min(height, width), _MAX_RATIO * shorter_side / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if isinstance(picture, np.ndarray):
        resized = ImageOps.fit(Image.fromarray(picture), size[::-1], Image.Resampling.BILINEAR)
        return to_unit(torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()), scale
    with _readable(picture) as path:
        return to_unit(read_image(path, (3, *size))), scale


def picture_size(picture: Picture) -> tuple[int, int]:
    """Return the height and width of an image, in pixels.

    Raises
    ------
    NearfarError
        If the file cannot be read, or the array is not an image.

    Examples
    --------
    >>> picture_size(np.zeros((40, 60, 3), np.uint8))
    (40, 60)
    """
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise NearfarError(
                f"an image is {picture.dtype}{list(picture.shape)}: expected uint8[h, w, 3]"
            )
        return picture.shape[0], picture.shape[1]
    with _readable(picture) as path:
        return read_header(path).size


def read_full_size(picture: Picture) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image at the original size (uint8[h, w, 3]).

    Raises
    ------
    NearfarError
        If the file cannot be read, or the array is not an image.

    Examples
    --------
    >>> read_full_size(np.zeros((40, 60, 3), np.uint8)).shape
    (40, 60, 3)
    """
    height, width = picture_size(picture)
    if isinstance(picture, np.ndarray):
        return picture
    with _readable(picture) as path:
        return read_image(path, (3, height, width)).permute(1, 2, 0).contiguous().numpy()


def read_each(
    devkit: Devkit, names: Sequence[str], read: Callable[[Devkit, str], R], track: Track = silent
) -> Iterator[R]:
    """Yield `read(devkit, name)` for each image name, after checking that the image can be decoded.

    Raises
    ------
    NearfarError
        If a file cannot be read, or `read` raises an error.
    """

    def check_and_read(name: str) -> R:
        read_scaled(devkit.image(name), MIN_PADDED_SIDE)
        return read(devkit, name)

    yield from track(map_in_threads(check_and_read, names), "checking", len(names))


def pad_and_stack(images: Sequence[Tensor], value: float) -> Tensor:
    """Return images of any size ([c, h, w]) as one batch ([b, c, h', w']).

    Each image is padded with `value` at the bottom and at the right, to the largest height and the
    largest width of all images, but at least to 64×64.

    Examples
    --------
    >>> pad_and_stack([torch.zeros(3, 80, 40), torch.zeros(3, 30, 90)], 0.45).shape
    torch.Size([2, 3, 80, 90])
    """
    height, width = (
        max(MIN_PADDED_SIDE, *(each.shape[side] for each in images)) for side in (-2, -1)
    )
    return torch.stack(
        [
            pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), value=value)
            for image in images
        ]
    )


@contextmanager
def _readable(picture: str | os.PathLike[str]) -> Iterator[Path]:
    path = Path(picture)
    try:
        yield path
    except UnreadableError as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({error})") from error
