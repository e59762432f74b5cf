"""Images from arrays and array files."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.data.darkness import warn_if_dark
from nearfar.data.images import Images, Shape
from nearfar.data.label_values import label_values
from nearfar.data.sizes import MIN_SIDE, Channels, Size, check_channels, check_size
from nearfar.errors import NearfarError, printable, reason
from nearfar.files import normal_form

#: Decoded or converted images up to this total size are kept in memory; larger sets are read in
#: batches.
IN_MEMORY_BYTES = 2**30
#: Size of the chunks in which an array is checked or converted, in bytes.
CHUNK_BYTES = 2**26
#: Maximum size of .npz content, which is unpacked in memory, unlike .npy.
UNPACKED_BYTES = 2**33
#: Tolerance for float pixels outside [0, 1], about the rounding error of float16.
PIXEL_TOLERANCE = 1e-3

IMAGE_KEYS = ("images", "x", "X", "data", "arr_0")
LABEL_KEYS = ("labels", "y", "Y")
CLASS_KEY = "classes"

Array = npt.NDArray[Any]


class ArrayImages(Images):
    """Images in a tensor, which is not copied.

    Parameters
    ----------
    images : Tensor or ndarray
        uint8[n, c, h, w] with values in [0, 255], or float32[n, c, h, w] with values in [0, 1]. For
        other layouts and types, see `images_from_array`.
    labels : array of n integers or strings, optional
        Label of each image. Strings are numbered in sorted order.
    classes : sequence of str, optional
        Name of each class number.
    name : str
        Source of the images, for messages.

    Raises
    ------
    NearfarError
        If the shape or type of `images` is not supported, if the number of labels differs from the
        number of images, or if labels are neither integers nor strings.

    Examples
    --------
    >>> import torch
    >>> from nearfar.data import ArrayImages
    >>> ArrayImages(torch.zeros(5, 1, 28, 28)).shape
    (1, 28, 28)
    """

    def __init__(
        self,
        images: Tensor | Array,
        labels: npt.ArrayLike | None = None,
        classes: Sequence[str] | None = None,
        name: str = "array",
    ) -> None:
        with warnings.catch_warnings():
            # Memory-mapped arrays are read-only, and never written to.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self._pixels = torch.as_tensor(images).detach()
        if self._pixels.ndim != 4 or not _is_pixel_type(self._pixels.dtype):
            raise NearfarError(
                f"{name!r} is a tensor of {self._pixels.dtype} and shape "
                f"{tuple(self._pixels.shape)}: expected uint8 or floats of shape (n, channels, "
                "height, width)"
            )
        _, channels, height, width = self._pixels.shape
        self.shape = (channels, height, width)
        self.name = name
        self.labels, own_classes = number_labels(labels, len(self._pixels), name)
        self.classes = own_classes if classes is None else list(classes)

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`. The type is that of the tensor."""
        return self._pixels.index_select(0, as_index(indices))


class ConvertedImages(Images):
    """Images in an array that is too large to copy. Each batch is converted when it is read."""

    def __init__(self, pixels: Array, shape: Shape, name: str) -> None:
        self._array = pixels
        self.shape = shape
        self.name = name

    def __len__(self) -> int:
        return len(self._array)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`. The type is float32 for arrays of floats, otherwise uint8."""
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
    """Check an array and return its content as `Images`.

    Parameters
    ----------
    array : array or Tensor
        Array of shape [n, h, w] with w ≥ 8, or of shape [n, h, w, c] or [n, c, h, w] with c in
        {1, 3}. Values are bool, integers in [0, 255], or floats in [0, 1]. Arrays of at most 1 GiB
        are copied. Larger ones are converted batch by batch, when images are read.
    labels : array of n integers or strings, optional
        Label of each image. Strings are numbered in sorted order.
    classes : sequence of str, optional
        Name of each class number.
    name : str
        Name of the array, for error messages.
    size : int or (height, width), optional
        Size in pixels, at least 8: images are scaled to cover it, then center-cropped.
    channels : {1, 3}, optional
        Number of channels; 3 repeats grayscale images as RGB.

    Raises
    ------
    NearfarError
        If the array does not contain images, or the labels do not match the images.

    Warns
    -----
    UserWarning
        If the brightest pixel is below 1/16 of white.

    Examples
    --------
    >>> import numpy as np
    >>> images = images_from_array(np.zeros((4, 28, 28), np.uint8), labels=[0, 1, 1, 0])
    >>> len(images), images.shape
    (4, (1, 28, 28))
    """
    cover = check_size(size)
    check_channels(channels)
    pixels = _channels_first(as_array(array, name), name, channels)
    _, depth, height, width = pixels.shape
    height, width = cover or (height, width)
    if min(height, width) < MIN_SIDE:
        raise NearfarError(
            f"the images of {name!r} are {height}x{width} pixels: expected {MIN_SIDE} or more "
            "per side, or a larger size to scale them to"
        )
    if channels == 1 and depth == 3:
        raise NearfarError(
            f"{name!r} holds RGB images, but channels=1 (gray): convert the array first"
        )
    numbers, own_classes = number_labels(labels, len(pixels), name)
    _check_values(pixels, name)
    white = 1 if pixels.dtype.kind in "bf" else 255
    chunks = (pixels[rows.start : rows.stop] for rows in _chunks(pixels))
    warn_if_dark(chunks, white, name, stacklevel=2)

    images: Images = ConvertedImages(pixels, (channels or depth, height, width), name)
    pixel_type = _pixel_type(pixels)
    if fits_in_memory(len(pixels), images.shape, pixel_type):
        kept = np.empty((len(pixels), *images.shape), pixel_type)
        for rows in _chunks(pixels):
            kept[rows.start : rows.stop] = images.batch(rows)
        images = ArrayImages(kept, name=name)
    images.labels = numbers
    images.classes = own_classes if classes is None else list(classes)
    return images


def open_array_file(
    path: Path, *, name: str, size: Size | None = None, channels: Channels | None = None
) -> Images:
    """Open a memory-mapped .npy file, or an .npz file with or without labels.

    Parameters
    ----------
    path : Path
        Path of the file.
    name, size, channels
        See `images_from_array`.
    """
    try:
        content = _read_array_file(path)
    except NearfarError:
        raise
    except Exception as error:  # numpy and zipfile may raise almost any error for a damaged file
        pickled = "pickle" in str(error) or "Python objects" in str(error)
        why = "pickled objects, or no array at all" if pickled else reason(error)
        raise NearfarError(
            f"{name!r} cannot be read ({why}): expected numbers saved by numpy.save or numpy.savez"
        ) from error
    images = images_from_array(
        content.images, content.labels, name=name, size=size, channels=channels
    )
    if content.classes is not None:
        images.classes = _class_names(content.classes, images, name)
    images.unread = [f"array {printable(key)!r}: not read" for key in content.unread]
    if content.unread:
        keys = ", ".join(repr(printable(key)) for key in content.unread)
        warnings.warn(f"{name!r}: not read: array {keys}", stacklevel=3)
    return images


def as_array(array: npt.ArrayLike, name: str = "array") -> Array:
    """Convert lists, tensors on any device, data frames and the like to a NumPy array.

    Raises
    ------
    NearfarError
        If the input is ragged, has masked values, holds PIL images, or is an iterator.

    Examples
    --------
    >>> as_array(torch.zeros(2, requires_grad=True))
    array([0., 0.], dtype=float32)
    """
    if str(getattr(array, "dtype", "")) == "object" and np.ndim(array) == 1:
        array = list(np.asarray(array))  # images in a column of a data frame
    if isinstance(array, Image) or (
        isinstance(array, list | tuple) and any(isinstance(each, Image) for each in array)
    ):
        raise NearfarError(
            f"{name!r} holds PIL images: expected an array, such as numpy.stack of "
            "numpy.asarray(image.convert('RGB'))"
        )
    if isinstance(array, Iterator):
        raise NearfarError(f"{name!r} is an iterator: expected an array, such as numpy.stack of it")
    if np.ma.is_masked(array):
        raise NearfarError(f"{name!r} has masked values: fill them first")
    try:
        if isinstance(array, list | tuple) and any(isinstance(each, Tensor) for each in array):
            array = torch.stack([torch.as_tensor(each) for each in array])
        if isinstance(array, Tensor):
            array = array.detach().cpu()
            array = array.float() if array.dtype == torch.bfloat16 else array
            return array.resolve_conj().resolve_neg().numpy()
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NearfarError(
            f"{name!r} is not an array of one shape ({reason(error)}): expected images of one size"
        ) from error


def as_index(indices: Sequence[int] | Tensor) -> Tensor:
    """Convert image indices (list, range, array or tensor) to int64[b]."""
    if isinstance(indices, Tensor):
        return indices
    numbers = np.asarray(indices)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise NearfarError(f"indices of {numbers.dtype}: expected whole numbers from 0")
    return torch.from_numpy(numbers.astype(np.int64))


def fits_in_memory(count: int, shape: Shape, pixel_type: npt.DTypeLike) -> bool:
    """Return whether `count` images of a given shape and pixel type are kept in memory."""
    return count * math.prod(shape) * np.dtype(pixel_type).itemsize <= IN_MEMORY_BYTES


class _Content(NamedTuple):
    """Images, labels and class names from a file, and the names of its unread arrays."""

    images: Array
    labels: Array | None = None
    classes: Array | None = None
    unread: Sequence[str] = ()


def _read_array_file(path: Path) -> _Content:
    """Read the images from an array file, and any labels and class names."""
    content = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(content, np.ndarray):
        return _Content(content)
    with content as archive:
        unpacked = sum(entry.file_size for entry in archive.zip.infolist())
        if unpacked > UNPACKED_BYTES:
            raise NearfarError(
                f"{str(path)!r} unpacks to {unpacked / 2**30:.1f} GiB, and at most "
                f"{UNPACKED_BYTES / 2**30:g} GiB are loaded: use numpy.save instead"
            )
        label_key = next((key for key in LABEL_KEYS if key in archive), None)
        class_key = CLASS_KEY if CLASS_KEY in archive and label_key else None
        image_key = next((key for key in IMAGE_KEYS if key in archive), None)
        if image_key is None:
            candidates = [
                key for key in archive if key not in LABEL_KEYS and np.ndim(archive[key]) in (3, 4)
            ]
            if len(candidates) != 1:
                raise NearfarError(
                    f"{str(path)!r} holds arrays named "
                    f"{printable(', '.join(archive)) or 'nothing'}: expected the images under the "
                    "name images"
                )
            image_key = candidates[0]
        used = (image_key, label_key, class_key)
        labels, classes = (None if key is None else check_text(archive[key]) for key in used[1:])
        unread = [key for key in archive if key not in used]
        return _Content(archive[image_key], labels, classes, unread)


def check_text(array: Array) -> Array:
    """Check that any text in an array is valid, and return the array.

    Raises
    ------
    ValueError
        If text contains invalid code points.

    Examples
    --------
    >>> check_text(np.array([2**31], np.uint32).view("U1"))
    Traceback (most recent call last):
    ValueError: damaged text
    """
    if array.dtype.kind == "U" and array.dtype.itemsize:
        codes = np.ascontiguousarray(array).reshape(-1).view(f"{array.dtype.byteorder}u4")
        if (codes > sys.maxunicode).any():
            raise ValueError("damaged text")
    return array


def _class_names(classes: Array, images: Images, name: str) -> list[str]:
    """Check the class names from a file, and return them as a list."""
    labels = images.labels
    names = [normal_form(str(each)) for each in classes.ravel()]
    fits = classes.ndim == 1 and classes.dtype.kind == "U" and len(set(names)) == len(names)
    if images.classes is not None or not fits:
        raise NearfarError(
            f"the classes of {name!r} have type {classes.dtype} and shape {classes.shape}: "
            "expected one name per class, for labels that are numbers"
        )
    if labels is not None and not 0 <= labels.min() <= labels.max() < len(names):
        raise NearfarError(
            f"the labels of {name!r} are {labels.min()}…{labels.max()}, for {len(names)} classes"
        )
    return names


def _channels_first(array: Array, name: str, channels: int | None = None) -> Array:
    """Return a view of an array with the shape [n, c, h, w]."""
    if array.dtype.kind not in "buif":
        raise NearfarError(
            f"{name!r} is an array of {array.dtype}: expected bool, integers in 0…255 or floats "
            "in 0…1"
        )
    if array.ndim == 3:
        width = array.shape[2]
        if 0 < width < MIN_SIDE or (len(array) == 3 == channels and width > 3):
            order = "[height, width, channels]" if width < MIN_SIDE else "[channels, height, width]"
            remedy = "array[None]" if width in (1, 3) or width >= MIN_SIDE else "wider images"
            gray = "" if width < MIN_SIDE else ", or array[..., None] for three gray images"
            raise NearfarError(
                f"{name!r} is an array of shape {array.shape}, which looks like one picture "
                f"{order}: expected a set of images, {remedy} for one{gray}"
            )
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
    """Check that floats are finite and in [0, 1], and that integers are in [0, 255]."""
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


def number_labels(
    labels: npt.ArrayLike | None, count: int, name: str
) -> tuple[npt.NDArray[np.int64] | None, list[str] | None]:
    """Check labels, and return class numbers and, if the labels are strings, class names."""
    if labels is None:
        return None, None
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise NearfarError(
            f"the labels of {name!r} have shape {labels.shape}: expected ({count},), one per image"
        )
    if labels.dtype.kind == "O":  # a column of a data frame
        known = label_values(labels.tolist(), "labels", name)
        if None in known:
            raise NearfarError(f"the labels of {name!r} lack some: expected one per image")
        labels = np.array(known)
    if labels.dtype.kind in "ui":
        if labels.dtype == np.uint64 and labels.size and labels.max() > np.iinfo(np.int64).max:
            raise NearfarError(f"the labels of {name!r} are too large: {labels.max()}")
        return labels.astype(np.int64), None
    if labels.dtype.kind != "U":
        raise NearfarError(
            f"the labels of {name!r} are {labels.dtype}: expected integers or strings"
        )
    normal = np.array([normal_form(label) for label in labels.tolist()])
    classes, numbers = np.unique(normal, return_inverse=True)
    return numbers.astype(np.int64), classes.tolist()


def _is_pixel_type(kind: torch.dtype) -> bool:
    """Return whether `to_unit` supports a pixel type."""
    return kind == torch.uint8 or kind.is_floating_point


def _chunks(array: Array) -> Iterator[range]:
    """Yield ranges of consecutive rows that contain about `CHUNK_BYTES` bytes each."""
    step = max(1, CHUNK_BYTES // array[:1].nbytes)
    for start in range(0, len(array), step):
        yield range(start, min(start + step, len(array)))


def _pixel_type(array: Array) -> type[np.float32] | type[np.uint8]:
    """Return the type that the pixels of an array are converted to."""
    return np.float32 if array.dtype.kind == "f" else np.uint8


def _cover(pixels: Tensor, height: int, width: int) -> Tensor:
    """Scale images ([b, c, h, w]) to cover a size, then center-crop, like PIL.ImageOps.fit."""
    old_height, old_width = pixels.shape[-2:]
    if (old_height, old_width) == (height, width):
        return pixels
    scale = min(old_height / height, old_width / width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (old_height - rows) // 2, (old_width - columns) // 2
    pixels = pixels[..., top : top + rows, left : left + columns]
    return interpolate(pixels, (height, width), mode="bilinear", antialias=True)
