"""Images in arrays and array files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.data.images import Images, Shape
from nearfar.data.sizes import MIN_SIDE, Channels, Size, check_channels, check_size
from nearfar.errors import NearfarError, printable, reason

#: Decoded or converted images are kept in memory up to this size, and made anew above it.
IN_MEMORY_BYTES = 2**30
#: How much of an array is checked, or converted, at a time.
CHUNK_BYTES = 2**26
#: What the arrays of an .npz file may take: they are unpacked in memory, those of .npy are not.
UNPACKED_BYTES = 2**33
#: How far outside 0…1 a float pixel may lie: about as far as float16 rounds.
PIXEL_TOLERANCE = 1e-3

IMAGE_KEYS = ("images", "x", "X", "data", "arr_0")
LABEL_KEYS = ("labels", "y", "Y")

Array = npt.NDArray[Any]


class ArrayImages(Images):
    """Images in a tensor, used as they are.

    Parameters
    ----------
    images : Tensor or ndarray
        uint8[n, c, h, w] in 0…255, or float32[n, c, h, w] where 0…1 is black…white; not copied.
        See `images_from_array` for arrays of other layouts and types.
    labels : array of n integers or strings, optional
        Strings are numbered in sorted order.
    classes : sequence of str, optional
        The name of each class number.
    name : str
        Where the images come from.

    Raises
    ------
    NearfarError
        The labels are of another number than the images, or neither integers nor strings.
    """

    def __init__(
        self,
        images: Tensor | Array,
        labels: npt.ArrayLike | None = None,
        classes: Sequence[str] | None = None,
        name: str = "array",
    ) -> None:
        with warnings.catch_warnings():
            # Torch warns of arrays that may not be written to, as memory-mapped ones: none is.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._pixels = torch.as_tensor(images)
        _, channels, height, width = self._pixels.shape
        self.shape = (channels, height, width)
        self.name = name
        self.labels, found = _number_labels(labels, len(self._pixels), name)
        self.classes = found if classes is None else list(classes)

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`; of the type of the tensor."""
        return self._pixels.index_select(0, as_index(indices))


class ConvertedImages(Images):
    """Images in an array whose conversion is too large to keep: each batch is converted anew."""

    def __init__(self, pixels: Array, shape: Shape, name: str) -> None:
        self._array = pixels
        self.shape = shape
        self.name = name

    def __len__(self) -> int:
        return len(self._array)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`; float32 if the array is of floats, else uint8."""
        batch = self._array[np.asarray(indices)]
        if batch.dtype == np.bool_:
            batch = batch * np.uint8(255)
        pixels = torch.from_numpy(np.ascontiguousarray(batch, dtype=_pixel_type(batch)))
        channels, height, width = self.shape
        return _cover(pixels, height, width).expand(-1, channels, -1, -1).contiguous()


def images_from_array(
    array: npt.ArrayLike,
    labels: npt.ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    *,
    name: str = "array",
    size: Size | None = None,
    channels: Channels | None = None,
) -> Images:
    """Check an array and see it as images.

    Parameters
    ----------
    array : array
        [n, h, w], [n, h, w, c] or [n, c, h, w] with c in {1, 3}; bool, integers in 0…255, or floats
        where 0…1 is black…white. Copied if that takes at most `IN_MEMORY_BYTES`; of a larger one,
        each batch is read and converted when it is asked for.
    labels : array of n integers or strings, optional
        Strings are numbered in sorted order.
    classes : sequence of str, optional
        The name of each class number.
    name : str
        What messages call the array.
    size : int or (height, width), optional
        Pixels, 8 or more: images are scaled to cover it and center cropped.
    channels : 1 or 3, optional
        3 repeats gray images as RGB.

    Raises
    ------
    NearfarError
        The array is not one of images, or the labels do not fit it.
    """
    asked = check_size(size)
    check_channels(channels)
    pixels = _channels_first(np.asarray(array), name)
    _, depth, height, width = pixels.shape
    height, width = asked or (height, width)
    if min(height, width) < MIN_SIDE:
        raise NearfarError(
            f"the images of {name!r} are {height}x{width} pixels: expected {MIN_SIDE} or more "
            "a side, or a larger size to scale them to"
        )
    if channels == 1 and depth == 3:
        raise NearfarError(
            f"{name!r} holds RGB images, and gray ones were asked for: convert the array first"
        )
    numbers, found = _number_labels(labels, len(pixels), name)
    _check_values(pixels, name)

    images: Images = ConvertedImages(pixels, (channels or depth, height, width), name)
    pixel_type = _pixel_type(pixels)
    if fits_in_memory(len(pixels), images.shape, pixel_type):
        kept = np.empty((len(pixels), *images.shape), pixel_type)
        for rows in _chunks(pixels):
            kept[rows.start : rows.stop] = images.batch(rows)
        images = ArrayImages(kept, name=name)
    images.labels = numbers
    images.classes = found if classes is None else list(classes)
    return images


def open_array_file(
    path: Path, *, name: str, size: Size | None = None, channels: Channels | None = None
) -> Images:
    """Images of an .npy file, which is memory-mapped, or of an .npz file with or without labels.

    See `images_from_array` for the parameters.
    """
    try:
        array, labels = _read_array_file(path)
    except NearfarError:
        raise
    except Exception as error:  # a damaged file makes numpy and zipfile raise nearly anything
        pickled = "pickle" in str(error) or "Python objects" in str(error)
        why = "pickled objects, or no array at all" if pickled else reason(error)
        raise NearfarError(
            f"{name!r} cannot be read ({why}): expected numbers saved by numpy.save or numpy.savez"
        ) from error
    return images_from_array(array, labels, name=name, size=size, channels=channels)


def as_index(indices: Sequence[int] | Tensor) -> Tensor:
    """Image numbers as int64[b], by the fastest way for lists, ranges, arrays and tensors."""
    if isinstance(indices, Tensor):
        return indices
    return torch.from_numpy(np.asarray(indices, dtype=np.int64))


def fits_in_memory(count: int, shape: Shape, pixel_type: npt.DTypeLike) -> bool:
    """Whether so many images are kept in memory."""
    return count * math.prod(shape) * np.dtype(pixel_type).itemsize <= IN_MEMORY_BYTES


def _read_array_file(path: Path) -> tuple[Array, Array | None]:
    """The array of images in a file, and that of their labels if there is one."""
    opened = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(opened, np.ndarray):
        return opened, None
    with opened as archive:
        unpacked = sum(entry.file_size for entry in archive.zip.infolist())
        if unpacked > UNPACKED_BYTES:
            raise NearfarError(
                f"{str(path)!r} unpacks to {unpacked / 2**30:.1f} GiB, and at most "
                f"{UNPACKED_BYTES / 2**30:g} GiB are loaded: save the images by numpy.save instead"
            )
        labels = next((archive[key] for key in LABEL_KEYS if key in archive), None)
        for key in IMAGE_KEYS:
            if key in archive:
                return archive[key], labels
        candidates = [
            key for key in archive if key not in LABEL_KEYS and np.ndim(archive[key]) in (3, 4)
        ]
        if len(candidates) != 1:
            raise NearfarError(
                f"{str(path)!r} holds arrays named {printable(', '.join(archive)) or 'nothing'}: "
                "expected the images under the name images"
            )
        return archive[candidates[0]], labels


def _channels_first(array: Array, name: str) -> Array:
    """The array seen as [n, c, h, w]."""
    if array.dtype.kind not in "buif":
        raise NearfarError(
            f"{name!r} is an array of {array.dtype}: expected bool, integers in 0…255 or floats "
            "in 0…1"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    elif array.ndim != 4 or array.shape[1] not in (1, 3):
        raise NearfarError(
            f"{name!r} is an array of shape {array.shape}: expected [n, height, width], also with "
            "1 or 3 channels last"
        )
    if array.size == 0:
        raise NearfarError(f"{name!r} is an array of shape {array.shape}: it holds no images")
    return array


def _check_values(pixels: Array, name: str) -> None:
    """Refuse pixels that are not finite, or outside the range of their type."""
    if pixels.dtype.kind == "b" or pixels.dtype == np.uint8:
        return
    for rows in _chunks(pixels):
        chunk = pixels[rows.start : rows.stop]
        low, high = chunk.min(), chunk.max()
        if pixels.dtype.kind != "f":
            if low < 0 or high > 255:
                raise NearfarError(f"{name!r} holds integers in {low}…{high}: expected 0…255")
        elif not (np.isfinite(low) and np.isfinite(high)):
            first = rows.start + np.isfinite(chunk).all(axis=(1, 2, 3)).argmin()
            raise NearfarError(f"{name!r} holds NaN or infinite pixels, first in image {first}")
        elif low < -PIXEL_TOLERANCE or high > 1 + PIXEL_TOLERANCE:
            raise NearfarError(
                f"{name!r} holds floats in {low:g}…{high:g}: expected 0 (black) … 1 (white), "
                "divide 8-bit pixels by 255"
            )


def _number_labels(
    labels: npt.ArrayLike | None, count: int, name: str
) -> tuple[npt.NDArray[np.int64] | None, list[str] | None]:
    """Class numbers, and the classes' names if the labels are strings."""
    if labels is None:
        return None, None
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise NearfarError(
            f"the labels of {name!r} have shape {labels.shape}: expected ({count},), one an image"
        )
    if labels.dtype.kind in "ui":
        return labels.astype(np.int64), None
    if labels.dtype.kind != "U":
        raise NearfarError(
            f"the labels of {name!r} are {labels.dtype}: expected integers or strings"
        )
    classes, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64), classes.tolist()


def _chunks(array: Array) -> Iterator[range]:
    """The rows of an array in runs of about `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // array[:1].nbytes)
    for start in range(0, len(array), step):
        yield range(start, min(start + step, len(array)))


def _pixel_type(array: Array) -> type[np.float32] | type[np.uint8]:
    """The type of pixels that an array is converted to."""
    return np.float32 if array.dtype.kind == "f" else np.uint8


def _cover(pixels: Tensor, height: int, width: int) -> Tensor:
    """Scale images, [b, c, h, w], to cover the size and crop their centers, as PIL.ImageOps.fit."""
    before = pixels.shape[-2:]
    if before == (height, width):
        return pixels
    scale = min(before[0] / height, before[1] / width)
    kept = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (before[0] - kept[0]) // 2, (before[1] - kept[1]) // 2
    pixels = pixels[..., top : top + kept[0], left : left + kept[1]]
    return interpolate(pixels, (height, width), mode="bilinear", antialias=True)
