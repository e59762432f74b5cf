"""Images stored in encoded form: as files, or as parts of larger files."""

from __future__ import annotations

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from nearfar.data.arrays import ArrayImages, as_index, fits_in_memory, number_labels
from nearfar.data.darkness import DARK, warn_if_dark
from nearfar.data.decoding import Header, read_image, read_range
from nearfar.data.encoded import Encoded, MissingReaderError, UnreadableError
from nearfar.data.images import Images, Shape
from nearfar.data.levels import AS_STATED, Decoding, Depth, Window
from nearfar.data.listing import Item, Listing
from nearfar.data.sizes import MIN_SIDE, Channels, Size, check_channels, check_size
from nearfar.errors import NearfarError, printable
from nearfar.progress import Track, silent

#: Maximum side, in pixels, at which images of one common size keep that size.
MAX_COMMON_SIDE = 128
#: Side of all other images, in pixels.
DEFAULT_SIDE = 64

THREADS = min(os.cpu_count() or 1, 8)
#: Minimum number of images to decide whether a set is dark.
CHECKED_IMAGES = 16
#: Maximum number of images whose range of values is examined.
WINDOW_IMAGES = 64

R = TypeVar("R")
T = TypeVar("T")

#: Decoder: from an encoded image and (c, h, w) to uint8[c, h, w].
Read = Callable[[Encoded, Shape], Tensor]


class StoredImages(Images):
    """Images that are stored in encoded form, in files or in parts of files.

    All headers are read at the start. Pixels are kept in memory if they take at most 1 GiB. Larger
    sets are decoded batch by batch. If an image then proves to be damaged, a gray image replaces
    it, with a warning.

    Parameters
    ----------
    listing : Listing
        The images, and their labels.
    name : str
        Name of the source, as given by the user.
    size, channels, strict, progress
        See `nearfar.data.open_images`.
    decoding : Decoding
        How pixel values are mapped to gray levels. Images of floats, of signed integers or of
        32-bit integers are not used without a window, unless all values are in [0, 1].
    read : callable, optional
        Function that takes an encoded image and a shape (c, h, w), and returns the decoded image
        (uint8[c, h, w]). Default: `read_image`.

    Attributes
    ----------
    items : list of Item
        The encoded images.
    decoding : Decoding
        As given, or with the window (0, 1). That window is chosen if the files do not state black
        and white and all values are in [0, 1].

    Raises
    ------
    NearfarError
        If no image is readable, if images are smaller than 8 pixels and no size is given, or if an
        image is unreadable and `strict` is true. When images are read later: if an image can no
        longer be read.

    Warns
    -----
    UserWarning
        If some images have no label, so that labels are not used; if images are animations, of
        which only the first frame is used; if a format requires an extra that is not installed; if
        files are not used because they do not state black and white; or if the brightest pixel of
        all images is below 1/16 of white.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> from nearfar.data import Listing, Item, StoredImages
    >>> class Red(Item):
    ...     name = "red.png"
    ...     def load(self):
    ...         content = io.BytesIO()
    ...         Image.new("RGB", (12, 10), "red").save(content, "PNG")
    ...         return content.getvalue()
    >>> images = StoredImages(Listing([Red()], labels=["color"]), name="memory")
    >>> images.shape, images.names(), images.classes
    ((3, 10, 12), ['red.png'], ['color'])
    """

    def __init__(
        self,
        listing: Listing,
        *,
        name: str,
        size: Size | None = None,
        channels: Channels | None = None,
        strict: bool = False,
        progress: Track = silent,
        decoding: Decoding = AS_STATED,
        read: Read | None = None,
    ) -> None:
        cover = check_size(size)
        check_channels(channels)
        self.name = name
        self.skipped: list[str] = []
        self.unread = listing.unread
        self._strict = strict
        self._missing: Counter[tuple[str, str]] = Counter()
        for line in listing.skipped:
            self._skip(line)
        for note in listing.notes:
            warnings.warn(f"{self.name!r}: {note}", stacklevel=3)

        rows, headers = [], []
        header_of = partial(_header, decoding=decoding)
        for row, header in self._each(listing.items, header_of, "scanning", progress):
            rows.append(row)
            headers.append(header)
        self._warn_of_missing_readers()
        self._require(headers, listing)
        self._warn_of_headers(headers)
        gray = all(header.gray for header in headers)
        sides = cover or self._default_size({header.size for header in headers})
        self.shape = (channels or (1 if gray else 3), *sides)

        items = [listing.items[row] for row in rows]
        self.decoding = decoding if read else self._with_window(decoding, items, headers)
        self._has_own_reader = read is not None
        self._decoder = read or partial(read_image, decoding=self.decoding)
        self.in_memory = fits_in_memory(len(items), self.shape, np.uint8)
        kept = torch.empty((len(items) if self.in_memory else 0, *self.shape), dtype=torch.uint8)
        used = list(range(len(items)))
        if self.in_memory:
            used = []
            for row, pixels in self._each(items, self._decode, "decoding", progress):
                kept[len(used)] = pixels
                used.append(row)
            self._require(used, listing)
        self.items = [items[row] for row in used]
        self._sizes = np.array([headers[row].size for row in used], np.int32)
        self._kept = ArrayImages(kept[: len(used)])
        self._unseen = read is None and not self._warn_of_range(items, headers)
        if self.in_memory:
            self._warn_if_dark(kept[: len(used)].split(CHECKED_IMAGES))
        if listing.labels is not None:
            self._label([listing.labels[rows[row]] for row in used], listing.classes)

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`. The type is uint8."""
        if self.in_memory:
            return self._kept.batch(indices)
        items = [self.items[index] for index in as_index(indices).tolist()]
        worker = get_worker_info()
        in_threads = worker is None  # otherwise, other workers use the other processors
        pixels = torch.empty(len(items), *self.shape, dtype=torch.uint8)
        for row, image in enumerate((map_in_threads if in_threads else map)(self._read, items)):
            pixels[row] = image
        if len(pixels) >= CHECKED_IMAGES and (worker is None or worker.id == 0):
            self._warn_if_dark([pixels])
        return pixels

    def content(self, indices: Sequence[int] | Tensor) -> Iterator[bytes]:
        """See `Images`."""
        for index in as_index(indices).tolist():
            item = self.items[index]
            try:
                yield from item.content()
            except UnreadableError as error:
                raise NearfarError(_gone(item, str(error))) from error

    def sizes(self, indices: Sequence[int] | Tensor) -> npt.NDArray[np.int32]:
        """See `Images`."""
        return self._sizes[as_index(indices).numpy()]

    def uncropped(self, side: int) -> Images:
        """See `Images`. Stretched images are decoded when they are read."""
        heights, widths = self._sizes.T
        if self._has_own_reader or (heights * self.shape[2] == widths * self.shape[1]).all():
            return self
        whole = copy(self)
        whole.shape, whole.in_memory, whole._unseen = (self.shape[0], side, side), False, False
        whole._decoder = partial(read_image, decoding=self.decoding, crop=False)
        return whole

    def names(self) -> list[str]:
        """See `Images`. Unprintable characters are escaped."""
        return [printable(item.name) for item in self.items]

    def full_size(self, row: int) -> Tensor:
        """Return an image (uint8[3, h, w]) at its original size.

        Raises
        ------
        UnreadableError
            If the image can no longer be read.
        """
        height, width = self._sizes[row].tolist()
        return read_image(self.items[row].load(), (3, height, width), self.decoding)

    def _label(self, labels: Sequence[int | str | None], classes: list[str] | None) -> None:
        """Set the labels of all images. If some are missing, set none, with a warning."""
        if None in labels:
            first = self.names()[labels.index(None)]
            warnings.warn(
                f"{self.name!r}: {labels.count(None)} of {len(labels)} images have no label (first "
                f"{first!r}): labels are not used",
                stacklevel=4,
            )
            return
        self.labels, names = number_labels(np.array(labels), len(labels), self.name)
        self.classes = names if classes is None else classes

    def _with_window(
        self, decoding: Decoding, items: Sequence[Item], headers: Sequence[Header]
    ) -> Decoding:
        """Return `decoding`, with the window (0, 1) if that fits the files.

        The window fits if no file states black and white and all values are in [0, 1]. Other values
        are given no window, since one based on the brightest pixel would depend on the set of
        images.
        """
        unknown = [row for row, header in enumerate(headers) if header.depth is Depth.UNKNOWN]
        stated = any(header.depth in (Depth.STATED, Depth.FULL) for header in headers)
        if decoding.window is not None or not unknown or stated:
            return decoding
        chosen = np.linspace(0, len(unknown) - 1, min(len(unknown), WINDOW_IMAGES)).astype(int)
        ranges = [self._range(items[unknown[row]], decoding) for row in chosen]
        known = [each for each in ranges if each is not None]
        if not known:
            return decoding
        low, high = min(low for low, _ in known), max(high for _, high in known)
        if 0 <= low <= high <= 1:
            return replace(decoding, window=(0.0, 1.0))
        warnings.warn(
            f"{self.name!r}: {len(unknown)} of {len(items)} files do not state black and white, "
            "and are not used: state them by --window LOW HIGH; the numbers in "
            f"{len(known)} of them are {low:.10g}…{high:.10g}",
            stacklevel=4,
        )
        return decoding

    def _range(self, item: Item, decoding: Decoding) -> Window | None:
        try:
            return read_range(item.load(), decoding)
        except UnreadableError:
            return None

    def _warn_of_missing_readers(self) -> None:
        """Warn that some files are not used because an extra is not installed."""
        for (kind, extra), count in sorted(self._missing.items()):
            warnings.warn(
                f"{self.name!r}: {count} files are not used, each {kind}: run pip install "
                f"'nearfar[{extra}]'",
                stacklevel=4,
            )

    def _warn_of_headers(self, headers: Sequence[Header]) -> None:
        animations = sum(header.animated for header in headers)
        if animations:
            warnings.warn(
                f"{self.name!r}: {animations} of {len(headers)} files are animations, of which "
                "the first picture is used",
                stacklevel=4,
            )
        hdr = [header.hdr for header in headers if header.hdr]
        if hdr:
            warnings.warn(
                f"{self.name!r}: {len(hdr)} of {len(headers)} files are HDR images ({hdr[0]}): "
                "their levels are used as coded",
                stacklevel=4,
            )
        more = sum(header.unused_bands > 0 for header in headers)
        if more:
            warnings.warn(
                f"{self.name!r}: {more} of {len(headers)} files have bands beside red, green and "
                "blue, which are not used: choose others by --bands",
                stacklevel=4,
            )

    def _warn_of_range(self, items: Sequence[Item], headers: Sequence[Header]) -> bool:
        """Warn if images with more than 8 bits use less than 1/16 of the range of their type.

        Return whether they do.
        """
        full = [items[row] for row, each in enumerate(headers) if each.depth is Depth.FULL]
        if self.decoding.window is not None or not full:
            return False
        chosen = np.linspace(0, len(full) - 1, min(len(full), CHECKED_IMAGES)).astype(int)
        some = [full[row] for row in chosen]
        levels = [each for each in map(self._levels, some) if each is not None]
        if not levels or max(high for _, high in levels) - min(levels)[0] >= 255 * DARK:
            return False
        ranges = [each for item in some if (each := self._range(item, self.decoding)) is not None]
        if not ranges:
            return False
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        if low == high or high - low >= 65535 * DARK:  # if transparent, levels are white
            return False
        warnings.warn(
            f"{self.name!r}: the values in {len(full)} of {len(items)} files are {low:.10g}…"
            f"{high:.10g}, less than 1/16 of what their type holds: state black and white by "
            f"--window LOW HIGH, such as --window {low:.10g} {high:.10g}",
            stacklevel=4,
        )
        return True

    def _levels(self, item: Item) -> tuple[int, int] | None:
        """Return the lowest and highest pixel values of a decoded image.

        Return None if the image is unreadable.
        """
        try:
            pixels = self._decode(item)
        except UnreadableError:
            return None
        return int(pixels.min()), int(pixels.max())

    def _warn_if_dark(self, batches: Iterable[Tensor]) -> None:
        """Warn if images are dark, at the first call only."""
        if self._unseen:
            warn_if_dark(batches, 255, self.name, stacklevel=4)
            self._unseen = False

    def _read(self, item: Item) -> Tensor:
        try:
            return self._decode(item)
        except UnreadableError as error:
            return self._replace(item, error)

    def _decode(self, item: Item) -> Tensor:
        return self._decoder(item.load(), self.shape)

    def _replace(self, item: Item, error: UnreadableError) -> Tensor:
        """Return a gray image in place of a damaged one, with a warning.

        If images are read strictly or the file has changed, raise an error instead.
        """
        try:
            item.header(self.decoding)
        except UnreadableError:
            raise NearfarError(_gone(item, str(error))) from error
        if self._strict:
            raise NearfarError(_unreadable(item, str(error))) from error
        warnings.warn(f"{item.location!r} is replaced by a gray image: {error}", stacklevel=2)
        return torch.full(self.shape, 128, dtype=torch.uint8)

    def _each(
        self,
        items: Sequence[Item],
        read: Callable[[Item], R],
        description: str,
        progress: Track,
    ) -> Iterator[tuple[int, R]]:
        """Yield the row and the result of reading each item, in order. Skip unreadable items."""
        results = enumerate(map_in_threads(partial(_attempt, read), items))
        for row, result in progress(results, description, len(items)):
            if isinstance(result, UnreadableError):
                if self._strict:
                    raise NearfarError(_unreadable(items[row], str(result)))
                if isinstance(result, MissingReaderError):
                    self._missing[result.kind, result.extra] += 1
                self._skip(f"{items[row].name!r}: {result}")
            else:
                yield row, result

    def _skip(self, line: str) -> None:
        if self._strict:
            raise NearfarError(f"{self.name!r}: {line}")
        self.skipped.append(line)

    def _require(self, usable: Sequence[object], listing: Listing) -> None:
        """Check that there is at least one image."""
        if usable:
            return
        if self.skipped:
            raise NearfarError(
                f"{self.name!r} has no readable image among {len(self.skipped)}: {self.skipped[0]}"
            )
        notes = f"; {'; '.join(listing.notes)}" if listing.notes else ""
        raise NearfarError(
            f"{self.name!r} contains no images: expected .jpg, .png or similar files at any depth"
            f"{notes}"
        )

    def _default_size(self, sizes: set[tuple[int, int]]) -> tuple[int, int]:
        """Return the height and width to use if the user gives no size."""
        height, width = next(iter(sizes))
        if len(sizes) > 1 or max(height, width) > MAX_COMMON_SIDE:
            return DEFAULT_SIDE, DEFAULT_SIDE
        if min(height, width) < MIN_SIDE:
            raise NearfarError(
                f"the images of {self.name!r} are {height}x{width} pixels: expected {MIN_SIDE} "
                "or more per side, or a larger size to scale them to"
            )
        return height, width


def map_in_threads(read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `read(item)` for each item, in order. Threads read a few items ahead.

    Examples
    --------
    >>> list(map_in_threads(str.upper, ["a", "b"]))
    ['A', 'B']
    """
    with ThreadPoolExecutor(THREADS) as pool:
        ahead: deque[Future[R]] = deque()
        for item in items:
            ahead.append(pool.submit(read, item))
            if len(ahead) > 4 * THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _header(item: Item, decoding: Decoding) -> Header:
    return item.header(decoding)


def _attempt(read: Callable[[Item], R], item: Item) -> R | UnreadableError:
    """Read an item, or return the reason why it is unreadable."""
    try:
        return read(item)
    except UnreadableError as error:
        return error


def _gone(item: Item, why: str) -> str:
    return f"{item.location!r} can no longer be read ({why}): do not change files that are in use"


def _unreadable(item: Item, why: str) -> str:
    return f"{item.location!r} cannot be read ({why}): repair or remove it"
