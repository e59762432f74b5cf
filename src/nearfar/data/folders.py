"""Images in files, at any depth of a folder."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from nearfar.data.arrays import ArrayImages, as_index, fits_in_memory
from nearfar.data.decoding import UnreadableError, image_endings, read_header, read_image
from nearfar.data.images import Images, Shape
from nearfar.data.sizes import MIN_SIDE, Channels, Size, check_channels, check_size
from nearfar.errors import NearfarError, printable, reason
from nearfar.progress import Track, silent

#: Images that are all of one size keep it up to this many pixels a side …
LARGEST_KEPT = 128
#: … and are otherwise scaled to this many.
USUAL_SIZE = 64

THREADS = min(os.cpu_count() or 1, 8)
#: Bytes of a file.
READ_AT_ONCE = 2**20

R = TypeVar("R")
T = TypeVar("T")


class FolderImages(Images):
    """Images in the files of a folder, at any depth, sorted by path.

    The header of each file is read at the start, and has a say in `shape`. Of a set of at most
    `nearfar.data.arrays.IN_MEMORY_BYTES`, the pixels are read too, and kept. Of a larger one, which
    may have millions of files, they are read when asked for; a file whose pixels then turn out to
    be damaged is warned of, and seen as gray, since training must go on.

    Parameters
    ----------
    root : Path
        The folder.
    files : sequence of str, optional
        Paths in it. The default is every file that is named like an image and not hidden.
    name : str, optional
        The folder as the user wrote it.
    size : int or (height, width), optional
        Pixels, 8 or more: images are scaled to cover it and center cropped. The default is the
        size of all images, if they have one of at most 128 on the longer side, else 64.
    channels : 1 or 3, optional
        Gray or RGB. The default is 1 if every image is gray.
    strict : bool
        Whether a file that cannot be read is an error; if not, it is noted in `skipped`.
    progress : Track
        Shows how far reading has come, see `nearfar.progress.Track`.
    read : callable
        Makes uint8[c, h, w] of a path and that shape; `nearfar.data.decoding.read_image` or
        `read_mask`.

    Attributes
    ----------
    root : Path
        The folder.
    files : list of str
        Path of each image in it.
    labels : int64[n] or None
        Number of the first-level sub-folder, if every image lies in one.

    Raises
    ------
    NearfarError
        No image can be read; all are smaller than 8 pixels and no size is given; a file cannot be
        read and `strict` is set. Later: a file can no longer be read.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str] | None = None,
        *,
        name: str | None = None,
        size: Size | None = None,
        channels: Channels | None = None,
        strict: bool = False,
        progress: Track = silent,
        read: Callable[[Path, Shape], Tensor] = read_image,
    ) -> None:
        asked = check_size(size)
        check_channels(channels)
        self.root = root
        self.name = name or str(root)
        self.skipped: list[str] = []
        self._strict = strict
        self._reader = read

        found, sizes, gray = [], set(), True
        files = self._find() if files is None else files
        for file, header in self._each(files, read_header, "scanning", progress):
            found.append(file)
            sizes.add(header.size)
            gray = gray and header.gray
        self._require(found)
        self.shape = (channels or (1 if gray else 3), *(asked or self._usual_size(sizes)))

        self.in_memory = fits_in_memory(len(found), self.shape, np.uint8)
        kept = torch.empty((len(found) if self.in_memory else 0, *self.shape), dtype=torch.uint8)
        self.files: list[str] = [] if self.in_memory else found
        if self.in_memory:
            for file, pixels in self._each(found, self._decode, "decoding", progress):
                kept[len(self.files)] = pixels
                self.files.append(file)
            self._require(self.files)
        self._kept = ArrayImages(kept[: len(self.files)])
        self.labels, self.classes = _classes_of(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`; uint8."""
        if self.in_memory:
            return self._kept.batch(indices)
        files = [self.files[index] for index in as_index(indices).tolist()]
        alone = get_worker_info() is None  # otherwise other workers keep the processors busy
        return torch.stack(list((map_in_threads if alone else map)(self._read, files)))

    def content(self, indices: Sequence[int] | Tensor) -> Iterator[bytes]:
        """See `Images`."""
        for index in as_index(indices).tolist():
            path = self.root / self.files[index]
            try:
                with path.open("rb") as file:
                    yield from iter(partial(file.read, READ_AT_ONCE), b"")
            except OSError as error:
                raise NearfarError(_gone(path, reason(error))) from error

    def names(self) -> list[str]:
        """See `Images`; with escapes for what cannot be printed."""
        return [printable(file) for file in self.files]

    def _read(self, file: str) -> Tensor:
        path = self.root / file
        try:
            return self._decode(path)
        except UnreadableError as error:
            return self._instead(path, error)

    def _decode(self, path: Path) -> Tensor:
        return self._reader(path, self.shape)

    def _instead(self, path: Path, error: UnreadableError) -> Tensor:
        """A gray image in place of damaged pixels, unless the file changed since it was found."""
        try:
            read_header(path)
        except UnreadableError:
            raise NearfarError(_gone(path, str(error))) from error
        if self._strict:
            raise NearfarError(_refusal(path, str(error))) from error
        warnings.warn(f"{str(path)!r} is seen as gray: {error}", stacklevel=2)
        return torch.full(self.shape, 128, dtype=torch.uint8)

    def _find(self) -> list[str]:
        """Paths of the files that are named like images, sorted; each real folder counts once."""
        entered: set[Path] = set()
        files: list[Path] = []

        def unreadable(error: OSError) -> None:
            self._skip(str(Path(error.filename).relative_to(self.root)), reason(error))

        # Links wait until all that can be reached without them is known: they may lead back there.
        waiting = deque([self.root])
        while waiting:
            for place, subfolders, names in os.walk(waiting.popleft(), onerror=unreadable):
                folder = Path(place)
                if folder.resolve() in entered:
                    subfolders.clear()
                    continue
                entered.add(folder.resolve())
                subfolders[:] = sorted(filter(_is_visible, subfolders))
                waiting += filter(Path.is_symlink, (folder / name for name in subfolders))
                files += (folder / name for name in filter(_is_visible, names))
        return [
            str(file.relative_to(self.root))
            for file in sorted(files)
            if file.suffix.lower() in image_endings()
        ]

    def _each(
        self,
        files: Sequence[str],
        read: Callable[[Path], R],
        description: str,
        progress: Track,
    ) -> Iterator[tuple[str, R]]:
        """What is read from each file, in order; files that cannot be read are left out."""
        paths = (self.root / file for file in files)
        results = zip(files, map_in_threads(partial(_attempt, read), paths), strict=True)
        for file, result in progress(results, description, len(files)):
            if isinstance(result, UnreadableError):
                self._skip(file, str(result))
            else:
                yield file, result

    def _skip(self, file: str, why: str) -> None:
        if self._strict:
            raise NearfarError(_refusal(self.root / file, why))
        self.skipped.append(f"{file!r}: {why}")

    def _require(self, files: Sequence[str]) -> None:
        """Refuse to go on without any image."""
        if not files and self.skipped:
            raise NearfarError(
                f"{self.name!r} has no image that can be read, of {len(self.skipped)} tried: "
                f"{self.skipped[0]}"
            )
        if not files:
            raise NearfarError(
                f"{self.name!r} holds no images: expected .jpg, .png or such files at any depth"
            )

    def _usual_size(self, sizes: set[tuple[int, int]]) -> tuple[int, int]:
        """Height and width where none are asked for."""
        height, width = next(iter(sizes))
        if len(sizes) > 1 or max(height, width) > LARGEST_KEPT:
            return USUAL_SIZE, USUAL_SIZE
        if min(height, width) < MIN_SIDE:
            raise NearfarError(
                f"the images of {self.name!r} are {height}x{width} pixels: expected {MIN_SIDE} "
                "or more a side, or a larger size to scale them to"
            )
        return height, width


def _gone(path: Path, why: str) -> str:
    return (
        f"{str(path)!r} can no longer be read ({why}): "
        "keep the files as they are while they are in use"
    )


def _refusal(path: Path, why: str) -> str:
    return f"{str(path)!r} cannot be read ({why}): mend or remove it"


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _classes_of(files: Sequence[str]) -> tuple[npt.NDArray[np.int64] | None, list[str] | None]:
    """Labels and class names by first-level sub-folder, if all files lie in one."""
    folders = [file.partition(os.sep)[0] for file in files if os.sep in file]
    if len(folders) < len(files):
        return None, None
    classes = sorted(set(folders))
    numbers = {folder: number for number, folder in enumerate(classes)}
    labels = np.array([numbers[folder] for folder in folders], np.int64)
    return labels, [printable(folder) for folder in classes]


def _attempt(read: Callable[[Path], R], path: Path) -> R | UnreadableError:
    """What is read from a path, or why it cannot be."""
    try:
        return read(path)
    except UnreadableError as error:
        return error


def map_in_threads(read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield what is read for each item, in order, by threads that are not far ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        ahead: deque[Future[R]] = deque()
        for item in items:
            ahead.append(pool.submit(read, item))
            if len(ahead) > 4 * THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
