"""Images found in a source: location and label of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nearfar.data.decoding import Header, read_header
from nearfar.data.depth import Decoding
from nearfar.data.encoded import Encoded, open_bytes

#: Bytes of a file to read at once.
FILE_CHUNK = 2**20


class Item(ABC):
    """Encoded image at its storage location.

    Attributes
    ----------
    name : str
        Name of the image in messages and results.
    place : str
        The same, relative to the current folder.
    path : Path or None
        The file, if it holds only this image.

    Examples
    --------
    See `StoredImages` for an image in memory.

    >>> issubclass(FileItem, Item)
    True
    """

    __slots__ = ("name",)
    name: str
    path: Path | None = None

    @property
    def place(self) -> str:
        """See `Item`."""
        return self.name

    @abstractmethod
    def load(self) -> Encoded:
        """Return the encoded image; raise `UnreadableError` if it cannot be read."""

    def header(self, decoding: Decoding) -> Header:
        """Return size and kind; raise `UnreadableError` if it is not an image."""
        return read_header(self.load(), decoding)

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of the encoded image, in pieces."""
        with open_bytes(self.load()) as file:
            yield from iter(partial(file.read, FILE_CHUNK), b"")


class FileItem(Item):
    """Image in a file of its own, named by its path in a folder.

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
    def place(self) -> str:
        """See `Item`."""
        return str(self.path)

    def load(self) -> Path:
        """See `Item`."""
        return self.path


@dataclass
class Found:
    """Content of a source.

    Attributes
    ----------
    items : list of Item
        Images.
    labels : list of int or str, optional
        Class of each image.
    classes : list of str, optional
        Names of labels that are numbers.
    skipped, unread : list of str
        See `Images`.
    notes : list of str
        Warnings, one line each.

    Examples
    --------
    >>> found = Found([FileItem(Path("photos"), "1.jpg")], labels=["cat"])
    >>> found.items[0].name
    '1.jpg'
    """

    items: list[Item] = field(default_factory=list)
    labels: list[int] | list[str] | None = None
    classes: list[str] | None = None
    skipped: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(parts: Sequence[Found]) -> Found:
    """Merge the contents of several sources, in order.

    Labels are kept if every source with images has them. Numbers are kept if their classes have the
    same names everywhere.
    """
    merged = Found()
    for part in parts:
        merged.items += part.items
        merged.skipped += part.skipped
        merged.unread += part.unread
        merged.notes += part.notes
    filled = [part for part in parts if part.items]
    labeled = [part for part in filled if part.labels is not None]
    if not labeled:
        return merged
    if len(labeled) < len(filled):
        count = sum(len(part.items) for part in labeled)
        merged.notes.append(
            f"{count} of {len(merged.items)} images have labels, which are not used"
        )
        return merged
    same = all(part.classes == labeled[0].classes for part in labeled)
    lists = [part.labels if same else _named(part) for part in labeled]
    labels: list[Any] = [label for each in lists for label in each or ()]
    if len({isinstance(label, str) for label in labels}) > 1:
        labels = [str(label) for label in labels]
    merged.labels, merged.classes = labels, labeled[0].classes if same else None
    return merged


def _named(part: Found) -> Sequence[Any]:
    """Return labels as names where numbers have one."""
    labels: Sequence[Any] = part.labels or ()
    return labels if part.classes is None else [part.classes[label] for label in labels]
