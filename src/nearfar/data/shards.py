"""Tar files in WebDataset's layout: key.jpg with key.cls, key.json or key.txt.

The files are read without extraction.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nearfar.data.decoding import image_extensions
from nearfar.data.encoded import UnreadableError
from nearfar.data.label_values import label_columns, label_values
from nearfar.data.listing import Item, Listing
from nearfar.errors import NearfarError, printable, reason

TAR_EXTENSION = ".tar"
#: Extensions of compressed archives, which do not allow random access to images.
COMPRESSED_EXTENSIONS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
#: Parts of a sample that may contain its class, most certain first.
LABEL_PARTS = ("cls", "json", "txt")
#: Maximum size of a part that may contain a class, in bytes.
MAX_LABEL_BYTES = 2**16
#: Maximum length of a class name; longer texts are captions.
MAX_NAME = 100
#: Maximum number of shards of a pattern.
MAX_SHARDS = 100_000
_RANGE = re.compile(r"\{(\d{1,12})\.\.(\d{1,12})\}")


class MemberItem(Item):
    """Image in a tar file."""

    __slots__ = ("offset", "shard", "size")

    def __init__(self, shard: Path, name: str, offset: int, size: int) -> None:
        self.shard, self.name, self.offset, self.size = shard, name, offset, size

    @property
    def location(self) -> str:
        """See `Item`."""
        return f"{self.shard}, {self.name}"

    def load(self) -> bytes:
        """See `Item`."""
        return self.read()

    def read(self) -> bytes:
        """Return the bytes of the image."""
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise UnreadableError(reason(error)) from error
        if len(content) < self.size:
            raise UnreadableError(f"{len(content)} of {self.size} bytes: the tar file is truncated")
        return content


@dataclass
class _Sample:
    """Members of a tar file that share a key: images and other parts."""

    images: list[MemberItem] = field(default_factory=list)
    parts: dict[str, MemberItem] = field(default_factory=dict)


def shards_of(pattern: str) -> list[str]:
    """Return the paths that a pattern such as ``shard-{000000..000009}.tar`` stands for.

    A path without a pattern is returned as a list of one.

    Raises
    ------
    NearfarError
        If the pattern stands for more than 100,000 paths.

    Examples
    --------
    >>> shards_of("photos-{08..10}.tar")
    ['photos-08.tar', 'photos-09.tar', 'photos-10.tar']
    """
    ranges = [(int(first), int(last)) for first, last in _RANGE.findall(pattern)]
    if math.prod(max(0, last - first + 1) for first, last in ranges) > MAX_SHARDS:
        raise NearfarError(f"{pattern!r} stands for more than {MAX_SHARDS:,} files")
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    filled = (
        f"{pattern[: match.start()]}{number:0{len(match[1])}}{pattern[match.end() :]}"
        for number in range(int(match[1]), int(match[2]) + 1)
    )
    return [path for each in filled for path in shards_of(each)]


def find_members(path: Path, prefix: str) -> Listing:
    """Find the images in a tar file, with their labels.

    Parameters
    ----------
    path : Path
        Path of the tar file.
    prefix : str
        Prefix of image names.
    """
    listing = Listing()
    samples: dict[str, _Sample] = {}
    unread: Counter[str] = Counter()
    place = prefix.removesuffix("/") or path.name
    for name, (offset, size) in _members(path, place, listing, unread).items():
        folder, _, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        if not stem:
            unread["hidden"] += 1
            continue
        item = MemberItem(path, prefix + name, offset, size)
        sample = samples.setdefault(f"{folder}/{stem}", _Sample())
        if f".{base.rpartition('.')[2].lower()}" in image_extensions() and extension:
            sample.images.append(item)
        else:
            sample.parts[extension.lower()] = item
    labels: list[Any] = []
    kinds = [_choose(sample, unread) for sample in samples.values()]
    texts = [part for sample in samples.values() if (part := sample.parts.get("txt"))]
    captions = _are_captions(texts)
    for sample, images in zip(samples.values(), kinds, strict=True):
        label, used = _label(sample.parts, captions) if images else (None, "")
        listing.items += images
        labels += [label] * len(images)
        unread.update(f".{kind}" for kind in sample.parts if kind != used)
    listing.unread = [
        f"{place!r}: {count} members not read: {kind}" for kind, count in sorted(unread.items())
    ]
    if not listing.items and not listing.skipped:
        listing.skipped.append(f"{place!r}: a tar file without images")
    if any(label is not None for label in labels):
        listing.labels = label_values(labels, "cls", str(path), text=True)
    return listing


def _members(
    path: Path, place: str, listing: Listing, unread: Counter[str]
) -> dict[str, tuple[int, int]]:
    """Return the offset and size of each member of a tar file, by name.

    The content is not read.

    As in an extracted archive, the last of several members with the same name replaces the others.
    Links are replaced with their targets.
    """
    members: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    try:
        end = path.stat().st_size
        with tarfile.open(path, "r:") as tar:
            last = -1
            while (member := tar.next()) is not None:
                if tar.offset <= last or member.size < 0:
                    raise tarfile.ReadError("damaged header")
                last = tar.offset
                tar.members = []  # type: ignore[attr-defined]  # kept otherwise
                if member.isreg() and member.sparse is None:
                    if member.offset_data + member.size > end:
                        raise tarfile.ReadError(f"truncated in {member.name!r}")
                    name = printable(member.name)
                    unread["replaced by a later member"] += name in members
                    members[name] = member.offset_data, member.size
                elif member.islnk() or member.issym():
                    folder = posixpath.dirname(member.name) if member.issym() else ""
                    links[printable(member.name)] = printable(
                        posixpath.join(folder, member.linkname)
                    )
                elif not member.isdir():
                    unread["links and special files"] += 1
            with path.open("rb") as file:
                file.seek(max(0, min(last, end)) if last > 0 else 0)
                if last > 0 and file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("no end mark: damaged or truncated")
    except (tarfile.TarError, OSError, ValueError, UnicodeError, OverflowError) as error:
        listing.skipped.append(f"{place!r}: the rest of the tar file ({reason(error)})")
    by_path = {posixpath.normpath(name): each for name, each in members.items()}
    for name, target in links.items():
        linked = by_path.get(posixpath.normpath(target))
        if linked is None:
            unread["links and special files"] += 1
        else:
            members[name] = linked
    unread += Counter()  # drops zeros
    return members


def _choose(sample: _Sample, unread: Counter[str]) -> list[MemberItem]:
    """Return the images of a sample.

    If there are images named like key.jpg, those named like key.mask.png are not used.
    """
    plain = [item for item in sample.images if item.name.rpartition("/")[2].count(".") == 1]
    if not plain:
        return sample.images
    others = (item.name.rpartition("/")[2] for item in sample.images if item not in plain)
    unread.update(f".{name.partition('.')[2]}" for name in others)
    return plain


def _text(item: MemberItem) -> str:
    if item.size > MAX_LABEL_BYTES:
        return ""
    with suppress(UnreadableError, UnicodeDecodeError):
        return item.read().decode("utf-8-sig").strip()
    return ""


def _are_captions(texts: Sequence[MemberItem]) -> bool:
    """Return whether texts are captions of single images instead of class names."""
    some = [_text(each) for each in texts[:1000]]
    return len(set(some)) > max(1, len(some) // 2) or any(len(each) > MAX_NAME for each in some)


def _label(parts: Mapping[str, MemberItem], captions: bool) -> tuple[str | None, str]:
    """Return the label of a sample, or None, and the extension of the part that contains it."""
    for kind in LABEL_PARTS:
        if kind not in parts or (kind == "txt" and captions):
            continue
        label = _text(parts[kind])
        if kind == "json":
            label = _label_in_json(label)
        if label:
            return label, kind
    return None, ""


def _label_in_json(text: str) -> str:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    for key in label_columns(reversed(content)):
        value = content[key]
        if isinstance(value, str | int) and str(value):
            return str(value)
    return ""
