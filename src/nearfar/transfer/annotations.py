"""Objects in images, as the XML files of a VOC devkit give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import (
    Element,
    ParseError,
    TreeBuilder,
    XMLParser,
)

import numpy as np
import numpy.typing as npt

from nearfar.errors import NearfarError, reason
from nearfar.transfer.devkit import Devkit, read_lines
from nearfar.transfer.scenes import true_size

#: Bytes; those of VOC have a few thousand.
LARGEST = 8 * 2**20
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Objects:
    """The m objects in an image.

    Parameters
    ----------
    boxes : float32[m, 4]
        Left, top, right, bottom in pixels from the upper left corner of the image: right − left
        is the width. (VOC counts pixels from 1, and the last one is inside.)
    labels : int64[m]
        Their classes.
    difficult : bool[m]
        Which of them are not to be judged by.
    size : tuple of int
        Height and width of the image.
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]
    size: tuple[int, int]


def read_objects(devkit: Devkit, name: str) -> Objects:
    """Read the objects in an image of a devkit.

    Raises
    ------
    NearfarError
        If the file is missing or no such XML, a class is not of the devkit, or a box has no area
        or is not inside of the image.
    """
    path = devkit.annotation(name)
    found = _parse(path).findall("object")
    height, width = true_size(devkit, name)
    corners, labels, difficult = [], [], []
    for item in found:
        kind = (item.findtext("name") or "").strip()
        if kind not in devkit.classes:
            raise NearfarError(
                f"{str(path)!r}: class {kind!r} is not in the devkit's list of "
                f"{len(devkit.classes)} classes"
            )
        box = _box(item, path)
        left, top, right, bottom = box
        if left < -1 or top < -1 or right > width or bottom > height:
            raise NearfarError(
                f"{str(path)!r}: the box {_shown(box)} of {kind!r} is not inside of the image of "
                f"{width}x{height} pixels"
            )
        left, top = max(left, 0), max(top, 0)  # some tools count from 0
        if not (left < right and top < bottom):
            raise NearfarError(f"{str(path)!r}: the box {_shown(box)} of {kind!r} has no area")
        corners.append((left, top, right, bottom))
        labels.append(devkit.classes.index(kind))
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    return Objects(
        np.array(corners, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, bool),
        (height, width),
    )


def presence(devkit: Devkit, split: str, names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Say which classes are seen in which images, int8[n, classes].

    As in VOC's lists, 1 means yes, −1 no, and 0 that only difficult objects are seen, which counts
    neither way. Taken from the lists of the devkit, or of a devkit without them, from the boxes.

    Raises
    ------
    NearfarError
        If there is a list for some classes only, one does not fit the images, or as
        `read_objects`.
    """
    lists = [devkit.class_list(kind, split) for kind in devkit.classes]
    there = [path.is_file() for path in lists]
    if all(there):
        return np.stack([_listed(path, names) for path in lists], axis=1)
    if any(there):
        missing = lists[there.index(False)]
        raise NearfarError(
            f"{str(missing)!r} is missing: expected such a list for every class, or for none"
        )
    seen = np.full((len(names), len(devkit.classes)), -1, np.int8)
    for row, name in enumerate(names):
        objects = read_objects(devkit, name)
        seen[row, objects.labels] = 0
        seen[row, objects.labels[~objects.difficult]] = 1
    return seen


def _listed(path: Path, names: Sequence[str]) -> npt.NDArray[np.int8]:
    """What a list says of each image."""
    flags = {}
    for line in read_lines(path):
        name, _, flag = line.strip().partition(" ")
        if flag.strip() not in ("1", "0", "-1"):
            raise NearfarError(
                f"{str(path)!r}: expected a name and 1, 0 or -1 a line, not {line[:80]!r}"
            )
        flags[name] = int(flag)
    for name in names:
        if name not in flags:
            raise NearfarError(f"{str(path)!r} says nothing of the image {name!r} of its split")
    return np.array([flags[name] for name in names], np.int8)


class _NoDoctype(TreeBuilder):
    """Stops at a document type, where entities would be declared that expand without bounds."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type, which annotations do not")


def _parse(path: Path) -> Element:
    """Read the root of an XML file that is safe to read."""
    if not path.is_file():
        raise NearfarError(f"{str(path)!r} is missing: expected the boxes of an image of the split")
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        parser = XMLParser(target=_NoDoctype())  # noqa: S314
        parser.feed(text)
        return parser.close()
    except (OSError, ParseError, ValueError, LookupError) as error:
        raise NearfarError(
            f"{str(path)!r} cannot be read as a VOC annotation ({reason(error)})"
        ) from error


def _box(item: Element, path: Path) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of an object, counted from 0."""
    texts = [item.findtext(f"bndbox/{side}") for side in SIDES]
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
    except ValueError as error:
        raise NearfarError(
            f"{str(path)!r}: expected numbers for {', '.join(SIDES)} of each object, not {texts}"
        ) from error
    return left - 1, top - 1, right, bottom


def _shown(box: tuple[float, float, float, float]) -> str:
    """A box as its file has it."""
    left, top, right, bottom = box
    return f"({left + 1:g}, {top + 1:g}, {right:g}, {bottom:g})"
