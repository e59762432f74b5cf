"""Images in the files of a folder, at any depth."""

from __future__ import annotations

import os
import warnings
from collections import Counter, deque
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
from nearfar.data.darkness import warn_if_dark
from nearfar.data.decoding import UnreadableError, image_endings, read_header, read_image
from nearfar.data.images import Images, Shape
from nearfar.data.sizes import MIN_SIDE, Channels, Size, check_channels, check_size
from nearfar.errors import NearfarError, printable, reason
from nearfar.files import normal_form
from nearfar.progress import Track, silent

#: Largest side at which images of one common size keep it, in pixels.
MAX_COMMON_SIDE = 128
#: Side of all other images, in pixels.
DEFAULT_SIDE = 64

THREADS = min(os.cpu_count() or 1, 8)
#: Part of a file that is read at once, in bytes.
FILE_CHUNK = 2**20
#: Fewest images that show whether a set is dark.
CHECKED_IMAGES = 16
#: Most endings that are named.
SHOWN_ENDINGS = 8

R = TypeVar("R")
T = TypeVar("T")


class FolderImages(Images):
    """Images in the files of a folder, at any depth, sorted by path.

    All headers are read at the start. Pixels are kept in memory if they take at most 1 GiB;
    larger sets are decoded on demand, and a file that turns out to be damaged is replaced by a
    gray image, with a warning.

    Parameters
    ----------
    root : str or path
        The folder.
    files : sequence of str, optional
        Paths in the folder. Default: every visible file with the ending of an image.
    name : str, optional
        The folder as the user wrote it.
    size : int or (height, width), optional
        Size in pixels, at least 8: images are scaled to cover it and center cropped. Default: the
        common size of all images, if there is one with sides of at most 128 pixels; otherwise 64.
    channels : {1, 3}, optional
        Gray or RGB. Default: gray if all images are.
    strict : bool
        Whether an unreadable file raises an error; otherwise it is listed in `skipped`.
    progress : Track
        Progress display while reading, see `nearfar.progress.Track`.
    read : callable
        Decoder, from a path and (c, h, w) to uint8[c, h, w]: `read_image` or `read_binary_mask`.

    Attributes
    ----------
    root : Path
        The folder.
    files : list of str
        Path of each image in the folder.
    labels : int64[n] or None
        Number of the first-level sub-folder, if every image lies in one. Names of sub-folders that
        differ only in their Unicode form are one class.

    Raises
    ------
    NearfarError
        If no image is readable, if images are smaller than 8 pixels and no size is given, or if a
        file is unreadable and `strict` is true. Later, if a file has become unreadable.

    Warns
    -----
    UserWarning
        If files are not named like images, if links lead to folders that are read anyway, if files
        are animations, of which the first picture is used, or if the brightest pixel of all images
        is below 1/16 of white.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("L", (28, 28)).save(Path(folder, name, "1.png"))
    ...     images = FolderImages(folder)
    >>> images.shape, images.files, images.labels
    ((1, 28, 28), ['cat/1.png', 'dog/1.png'], array([0, 1]))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        files: Sequence[str] | None = None,
        *,
        name: str | None = None,
        size: Size | None = None,
        channels: Channels | None = None,
        strict: bool = False,
        progress: Track = silent,
        read: Callable[[Path, Shape], Tensor] = read_image,
    ) -> None:
        cover = check_size(size)
        check_channels(channels)
        self.root = Path(root)
        self.name = name or str(root)
        self.skipped: list[str] = []
        self._strict = strict
        self._decoder = read

        self._others: list[str] = []
        self._links: list[str] = []
        readable, sizes, gray, animations = [], [], True, 0
        files = self._find() if files is None else files
        for file, header in self._each(files, read_header, "scanning", progress):
            readable.append(file)
            sizes.append(header.size)
            gray = gray and header.gray
            animations += header.animated
        self._require(readable)
        if self._others:
            warnings.warn(f"{self.name!r}: {_describe_others(self._others)}", stacklevel=2)
        if self._links:
            warnings.warn(
                f"{self.name!r}: {len(self._links)} links to folders that are read anyway are not "
                f"followed ({printable(self._links[0])!r}{', …' * (len(self._links) > 1)})",
                stacklevel=2,
            )
        if animations:
            warnings.warn(
                f"{self.name!r}: {animations} of {len(readable)} files are animations, of which "
                "the first picture is used",
                stacklevel=2,
            )
        self.shape = (channels or (1 if gray else 3), *(cover or self._default_size(set(sizes))))

        self.in_memory = fits_in_memory(len(readable), self.shape, np.uint8)
        kept = torch.empty((len(readable) if self.in_memory else 0, *self.shape), dtype=torch.uint8)
        self.files: list[str] = [] if self.in_memory else readable
        if self.in_memory:
            for file, pixels in self._each(readable, self._decode, "decoding", progress):
                kept[len(self.files)] = pixels
                self.files.append(file)
            self._require(self.files)
        present = set(self.files)
        self._sizes = np.array(sizes, np.int32)[[file in present for file in readable]]
        self._kept = ArrayImages(kept[: len(self.files)])
        self._unseen = read is read_image
        if self.in_memory:
            self._warn_if_dark(kept[: len(self.files)].split(CHECKED_IMAGES))
        self.labels, self.classes = _classes_of(self.files)

    @property
    def unread(self) -> list[str]:  # type: ignore[override]
        """See `Images`."""
        links = [f"{link!r}: a link to a folder that is read anyway" for link in self._links]
        return [*links, *(f"{file!r}: not named like an image" for file in self._others)]

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`; uint8."""
        if self.in_memory:
            return self._kept.batch(indices)
        files = [self.files[index] for index in as_index(indices).tolist()]
        worker = get_worker_info()
        in_threads = worker is None  # otherwise other workers use the other processors
        pixels = torch.stack(list((map_in_threads if in_threads else map)(self._read, files)))
        if len(pixels) >= CHECKED_IMAGES and (worker is None or worker.id == 0):
            self._warn_if_dark([pixels])
        return pixels

    def content(self, indices: Sequence[int] | Tensor) -> Iterator[bytes]:
        """See `Images`."""
        for index in as_index(indices).tolist():
            path = self.root / self.files[index]
            try:
                with path.open("rb") as file:
                    yield from iter(partial(file.read, FILE_CHUNK), b"")
            except OSError as error:
                raise NearfarError(_gone(path, reason(error))) from error

    def sizes(self, indices: Sequence[int] | Tensor) -> npt.NDArray[np.int32]:
        """See `Images`."""
        return self._sizes[as_index(indices).numpy()]

    def names(self) -> list[str]:
        """See `Images`; unprintable characters are escaped."""
        return [printable(file) for file in self.files]

    def _warn_if_dark(self, batches: Iterable[Tensor]) -> None:
        """Look at the first images, or at all in memory, once."""
        if self._unseen:
            warn_if_dark(batches, 255, self.name, stacklevel=3)
            self._unseen = False

    def _read(self, file: str) -> Tensor:
        path = self.root / file
        try:
            return self._decode(path)
        except UnreadableError as error:
            return self._replace(path, error)

    def _decode(self, path: Path) -> Tensor:
        return self._decoder(path, self.shape)

    def _replace(self, path: Path, error: UnreadableError) -> Tensor:
        """Return gray pixels for a damaged image; raise an error if its file has changed."""
        try:
            read_header(path)
        except UnreadableError:
            raise NearfarError(_gone(path, str(error))) from error
        if self._strict:
            raise NearfarError(_unreadable(path, str(error))) from error
        warnings.warn(f"{str(path)!r} is replaced by a gray image: {error}", stacklevel=2)
        return torch.full(self.shape, 128, dtype=torch.uint8)

    def _find(self) -> list[str]:
        """Return the sorted paths of files named like images; each real folder counts once."""
        visited: set[Path] = set()
        files: list[Path] = []

        def skip_folder(error: OSError) -> None:
            self._skip(str(Path(error.filename).relative_to(self.root)), reason(error))

        # Links are followed last: they may lead back to folders reached without them.
        waiting = deque([self.root])
        while waiting:
            for place, subfolders, names in os.walk(waiting.popleft(), onerror=skip_folder):
                folder = Path(place)
                if folder.resolve() in visited:
                    self._links.append(str(folder.relative_to(self.root)))
                    subfolders.clear()
                    continue
                visited.add(folder.resolve())
                subfolders[:] = sorted(filter(_is_visible, subfolders))
                waiting += filter(Path.is_symlink, (folder / name for name in subfolders))
                files += (folder / name for name in names)
        found: list[str] = []
        for file in sorted(files):
            path, named = str(file.relative_to(self.root)), _is_named_like_an_image(file)
            if _is_visible(file.name):
                (found if named else self._others).append(path)
            elif named:
                self._others.append(path)
        return found

    def _each(
        self,
        files: Sequence[str],
        read: Callable[[Path], R],
        description: str,
        progress: Track,
    ) -> Iterator[tuple[str, R]]:
        """Read each file, in order; skip unreadable ones."""
        paths = (self.root / file for file in files)
        results = zip(files, map_in_threads(partial(_attempt, read), paths), strict=True)
        for file, result in progress(results, description, len(files)):
            if isinstance(result, UnreadableError):
                self._skip(file, str(result))
            else:
                yield file, result

    def _skip(self, file: str, why: str) -> None:
        if self._strict:
            raise NearfarError(_unreadable(self.root / file, why))
        self.skipped.append(f"{file!r}: {why}")

    def _require(self, files: Sequence[str]) -> None:
        """Check that there is at least one image."""
        if not files and self.skipped:
            raise NearfarError(
                f"{self.name!r} has no readable image among {len(self.skipped)}: {self.skipped[0]}"
            )
        if not files:
            others = f"; {_describe_others(self._others)}" if self._others else ""
            raise NearfarError(
                f"{self.name!r} contains no images: expected .jpg, .png or such files at any depth"
                f"{others}"
            )

    def _default_size(self, sizes: set[tuple[int, int]]) -> tuple[int, int]:
        """Return height and width for images without a given size."""
        height, width = next(iter(sizes))
        if len(sizes) > 1 or max(height, width) > MAX_COMMON_SIDE:
            return DEFAULT_SIDE, DEFAULT_SIDE
        if min(height, width) < MIN_SIDE:
            raise NearfarError(
                f"the images of {self.name!r} are {height}x{width} pixels: expected {MIN_SIDE} "
                "or more per side, or a larger size to scale them to"
            )
        return height, width


def _gone(path: Path, why: str) -> str:
    return f"{str(path)!r} can no longer be read ({why}): do not change files that are in use"


def _unreadable(path: Path, why: str) -> str:
    return f"{str(path)!r} cannot be read ({why}): repair or remove it"


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _is_named_like_an_image(path: Path) -> bool:
    return path.suffix.lower() in image_endings()


def _describe_others(files: Sequence[str]) -> str:
    """Count files that are not read, by ending."""
    endings = Counter(
        printable(Path(file).suffix.lower()) or "no ending"
        if _is_visible(Path(file).name)
        else "hidden"
        for file in files
    )
    listed = [f"{ending} ({count})" for ending, count in endings.most_common(SHOWN_ENDINGS)]
    more = ", …" if len(endings) > SHOWN_ENDINGS else ""
    what = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    return f"{what} not named like images: {', '.join(listed)}{more}"


def _classes_of(files: Sequence[str]) -> tuple[npt.NDArray[np.int64] | None, list[str] | None]:
    """Return labels and class names by first-level sub-folder, if every file lies in one."""
    folders = [normal_form(file.partition(os.sep)[0]) for file in files if os.sep in file]
    if len(folders) < len(files):
        return None, None
    classes = sorted(set(folders))
    numbers = {folder: number for number, folder in enumerate(classes)}
    labels = np.array([numbers[folder] for folder in folders], np.int64)
    return labels, [printable(folder) for folder in classes]


def _attempt(read: Callable[[Path], R], path: Path) -> R | UnreadableError:
    """Read a path, or return the reason why it is unreadable."""
    try:
        return read(path)
    except UnreadableError as error:
        return error


def map_in_threads(read: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `read(item)` for each item, in order, computed by threads a few items ahead.

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
