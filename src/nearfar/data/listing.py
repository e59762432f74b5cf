"""Images found in a source, with their locations and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from nearfar.data.decoding import Header, read_header
from nearfar.data.encoded import Encoded, open_bytes
from nearfar.data.levels import Decoding

#: Bytes of a file to read at once.
FILE_CHUNK = 2**20


class Item(ABC):
    """Encoded image that is read when it is needed.

    Attributes
    ----------
    name : str
        Name of the image in messages and results.
    location : str
        Location of the image, as a path relative to the current folder.
    path : Path or None
        File of the image. None if the image is part of a larger file.

    Examples
    --------
    For an image in memory, see `StoredImages`.

    >>> issubclass(FileItem, Item)
    True
    """

    __slots__ = ("name",)
    name: str
    path: Path | None = None

    @property
    def location(self) -> str:
        """See `Item`."""
        return self.name

    @abstractmethod
    def load(self) -> Encoded:
        """Return the encoded image. Raise `UnreadableError` if it cannot be read."""

    def header(self, decoding: Decoding) -> Header:
        """Return the header. Raise `UnreadableError` if the content is not an image."""
        return read_header(self.load(), decoding)

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of the encoded image, in pieces."""
        with open_bytes(self.load()) as file:
            yield from iter(partial(file.read, FILE_CHUNK), b"")


class FileItem(Item):
    """Image file, named by its path relative to a folder.

    Examples
    --------
    >>> FileItem(Path("photos"), "cat/1.jpg").path.as_posix()
    'photos/cat/1.jpg'
    """

    __slots__ = ("root",)

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name

    @property
    def path(self) -> Path:  # type: ignore[override]
        """See `Item`."""
        return self.root / self.name

    @property
    def location(self) -> str:
        """See `Item`."""
        return str(self.path)

    def load(self) -> Path:
        """See `Item`."""
        return self.path


@dataclass
class Listing:
    """Images and labels found in a source.

    Attributes
    ----------
    items : list of Item
        Images found.
    labels : list of int, str or None, optional
        Class of each image; None if unknown.
    classes : list of str, optional
        Class names, if labels are class numbers.
    skipped, unread : list of str
        See `Images`.
    notes : list of str
        Warnings, one line each.

    Examples
    --------
    >>> listing = Listing([FileItem(Path("photos"), "1.jpg")], labels=["cat"])
    >>> listing.items[0].name
    '1.jpg'
    """

    items: list[Item] = field(default_factory=list)
    labels: Sequence[int | str | None] | None = None
    classes: list[str] | None = None
    skipped: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(parts: Sequence[Listing]) -> Listing:
    """Merge the images and labels found in several sources, in the given order.

    Labels remain class numbers if the class names are the same in all sources; otherwise, they
    become class names.
    """
    merged = Listing()
    for part in parts:
        merged.items += part.items
        merged.skipped += part.skipped
        merged.unread += part.unread
        merged.notes += part.notes
    filled = [part for part in parts if part.items]
    labeled = [part for part in filled if part.labels is not None]
    if not labeled:
        return merged
    same = all(part.classes == labeled[0].classes for part in labeled)
    labels = [label for part in filled for label in _labels(part, named=not same)]
    if len({isinstance(label, str) for label in labels if label is not None}) > 1:
        labels = [None if label is None else str(label) for label in labels]
    merged.labels, merged.classes = labels, labeled[0].classes if same else None
    return merged


def _labels(part: Listing, *, named: bool) -> Sequence[int | str | None]:
    """Return the label of each image.

    If `named` is true, class numbers are replaced by class names.
    """
    labels = part.labels or [None] * len(part.items)
    if not named or part.classes is None:
        return labels
    return [part.classes[label] if isinstance(label, int) else label for label in labels]
