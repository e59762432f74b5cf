"""Objects in images, as the XML files of a VOC devkit describe them."""

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
from nearfar.transfer.pictures import picture_size

#: Largest file in bytes; those of VOC have a few thousand.
_MAX_BYTES = 8 * 2**20
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Objects:
    """Objects in an image.

    Parameters
    ----------
    boxes : float32[m, 4]
        Left, top, right, bottom in pixels from the upper left corner of the image: right − left
        is the width. (VOC counts pixels from 1, and includes the last.)
    labels : int64[m]
        Classes.
    difficult : bool[m]
        Objects that are not evaluated.
    size : tuple of int
        Height and width of the image.

    Examples
    --------
    >>> boxes = np.array([[10, 20, 30, 60]], np.float32)
    >>> objects = Objects(boxes, np.array([2]), np.array([False]), (100, 200))
    >>> len(objects.boxes)
    1
    """

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]
    size: tuple[int, int]


def read_objects(devkit: Devkit, name: str) -> Objects:
    """Read the objects of an image of a devkit.

    Returns
    -------
    Objects

    Raises
    ------
    NearfarError
        If the file is missing or damaged, a class is not in the devkit, or a box has no area or is
        not inside the image.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.experiments.synthetic_voc import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     read_objects(devkit, "scene_0000").size
    (96, 128)
    """
    path = devkit.annotation(name)
    height, width = picture_size(devkit.image(name))
    corners, labels, difficult = [], [], []
    for item in _parse(path).findall("object"):
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
                f"{str(path)!r}: the box {_text(box)} of {kind!r} is not inside the image of "
                f"{width}x{height} pixels"
            )
        left, top = max(left, 0), max(top, 0)  # some tools count from 0
        if not (left < right and top < bottom):
            raise NearfarError(f"{str(path)!r}: the box {_text(box)} of {kind!r} has no area")
        corners.append((left, top, right, bottom))
        labels.append(devkit.classes.index(kind))
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    return Objects(
        np.array(corners, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, bool),
        (height, width),
    )


def read_presence(devkit: Devkit, split: str, names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Return the presence of classes in images, int8[n, classes].

    As in VOC's lists: 1 for present, −1 for absent, 0 for difficult objects only, which are not
    evaluated. Read from the lists of the devkit, or from the boxes if there are none.

    Raises
    ------
    NearfarError
        If some lists are missing or do not fit the images, or as `read_objects`.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.experiments.synthetic_voc import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     read_presence(devkit, "train", ["scene_0000", "scene_0001"]).shape
    (2, 3)
    """
    lists = [devkit.class_list(kind, split) for kind in devkit.classes]
    present = [path.is_file() for path in lists]
    if all(present):
        return np.stack([_read_list(path, names) for path in lists], axis=1)
    if any(present):
        missing = lists[present.index(False)]
        raise NearfarError(
            f"{str(missing)!r} is missing: expected such a list for every class, or for none"
        )
    presence = np.full((len(names), len(devkit.classes)), -1, np.int8)
    for row, name in enumerate(names):
        objects = read_objects(devkit, name)
        presence[row, objects.labels] = 0
        presence[row, objects.labels[~objects.difficult]] = 1
    return presence


def _read_list(path: Path, names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Return the flag of each image in a list."""
    flags = {}
    for line in read_lines(path):
        name, _, flag = line.strip().partition(" ")
        if flag.strip() not in ("1", "0", "-1"):
            raise NearfarError(
                f"{str(path)!r}: expected a name and 1, 0 or -1 per line, not {line[:80]!r}"
            )
        flags[name] = int(flag)
    for name in names:
        if name not in flags:
            raise NearfarError(f"{str(path)!r} lacks the image {name!r} of its split")
    return np.array([flags[name] for name in names], np.int8)


class _NoDoctype(TreeBuilder):
    """Stops at a document type, which could declare entities that expand without bounds."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type, which annotations do not")


def _parse(path: Path) -> Element:
    """Read the root of an XML file, safely."""
    if not path.is_file():
        raise NearfarError(f"{str(path)!r} is missing: expected the boxes of an image of the split")
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
        parser = XMLParser(target=_NoDoctype())  # noqa: S314
        parser.feed(text)
        return parser.close()
    except (OSError, ParseError, ValueError, LookupError) as error:
        raise NearfarError(
            f"{str(path)!r} cannot be read as a VOC annotation ({reason(error)})"
        ) from error


def _box(item: Element, path: Path) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of an object, from 0."""
    texts = [item.findtext(f"bndbox/{side}") for side in _SIDES]
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
    except ValueError as error:
        raise NearfarError(
            f"{str(path)!r}: expected numbers for {', '.join(_SIDES)} of each object, not {texts}"
        ) from error
    return left - 1, top - 1, right, bottom


def _text(box: tuple[float, float, float, float]) -> str:
    """Return a box as in its file."""
    left, top, right, bottom = box
    return f"({left + 1:g}, {top + 1:g}, {right:g}, {bottom:g})"
