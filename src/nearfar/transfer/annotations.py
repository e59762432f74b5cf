"""Object annotations from the XML files of a VOC devkit."""

from __future__ import annotations

import math
import re
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

from nearfar.errors import NearfarError, printable, reason
from nearfar.files import exists
from nearfar.transfer.devkit import Devkit, one_form, read_lines, split_flag
from nearfar.transfer.grids import Grid, read_grid

#: Maximum file size, in bytes; VOC's files have a few thousand bytes.
_MAX_BYTES = 8 * 2**20
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_DIFFICULT = {"": False, "0": False, "false": False, "1": True, "true": True}


@dataclass(frozen=True)
class Objects:
    """Objects in an image.

    Parameters
    ----------
    boxes : float32[m, 4]
        Left, top, right and bottom edge of each object, in pixels from the upper left corner of the
        upright image. The width is right − left. (In VOC files, pixels are numbered from 1, and
        right and bottom are the last pixels inside the box.)
    labels : int64[m]
        Class number of each object.
    difficult : bool[m]
        Whether each object is marked as difficult. Difficult objects are not evaluated.
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
    """Return the annotated objects in an image of a devkit.

    Raises
    ------
    NearfarError
        If the annotation file is missing, damaged, or belongs to another image. If ``<size>`` does
        not match the image, or leaves open whether boxes refer to the image before or after EXIF
        rotation. If a class is not in the devkit, or a box has no area or is not inside the image.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     read_objects(devkit, "scene_0000").size
    (96, 128)
    """
    return _read_objects(devkit, name, placed=True)


def read_presence(devkit: Devkit, split: str, names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Return which classes are present in which images (int8[n, classes]).

    As in the class lists of VOC, 1 means present, and −1 means absent. The value is 0 if all
    objects of the class are difficult; the image is then not evaluated for this class. Values are
    read from the class lists of the devkit. If there are none, they are derived from the annotated
    objects.

    Raises
    ------
    NearfarError
        If only some of the class lists exist, or a list does not match the images. See also
        `read_objects`.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     read_presence(devkit, "train", ["scene_0000", "scene_0001"]).shape
    (2, 3)
    """
    lists = [devkit.class_list(kind, split) for kind in devkit.classes]
    present = [exists(path) for path in lists]
    if all(present):
        return np.stack([_read_list(path, names) for path in lists], axis=1)
    if any(present):
        missing = lists[present.index(False)]
        raise NearfarError(
            f"{str(missing)!r} is missing: expected such a list for every class, or for none"
        )
    presence = np.full((len(names), len(devkit.classes)), -1, np.int8)
    for row, name in enumerate(names):
        objects = _read_objects(devkit, name, placed=False)
        presence[row, objects.labels] = 0
        presence[row, objects.labels[~objects.difficult]] = 1
    return presence


def _read_objects(devkit: Devkit, name: str, *, placed: bool) -> Objects:
    """Return the objects in an image, with boxes on the upright image.

    If `placed` is true, raise an error if it is unknown whether boxes refer to the image before or
    after EXIF rotation. Otherwise, the boxes are unreliable in this case.
    """
    path, image = devkit.annotation(name), devkit.image(name)
    grid = read_grid(image)
    root = _parse(path)
    _check_name(root, name, path)
    _check_tags(root, path)
    items = root.findall("object")
    if len(items) < sum(1 for _ in root.iter("object")):
        raise NearfarError(
            f"{str(path)!r} has objects nested in others: expected them side by side"
        )
    stored = _is_stored(root, grid, path)
    height, width = grid.stored if stored else grid.upright
    if stored is None:
        if placed and items:
            raise NearfarError(
                f"{str(path)!r}: its boxes were drawn on {str(image)!r} before or after the EXIF "
                f"orientation {grid.orientation} turns it, and <size> does not tell: remove "
                "the orientation if before, turn the pixels instead if after"
            )
        height = width = max(grid.stored)
    corners, labels, difficult = [], [], []
    for item in items:
        kind = one_form(_text_of(item, "name", path))
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
        flag = _text_of(item, "difficult", path).lower()
        if flag not in _DIFFICULT:
            raise NearfarError(f"{str(path)!r}: <difficult> is {flag[:80]!r}: expected 0 or 1")
        difficult.append(_DIFFICULT[flag])
    boxes = np.array(corners, np.float64).reshape(-1, 4)
    if stored:
        boxes = grid.rotate_boxes(boxes)
    return Objects(
        boxes.astype(np.float32),
        np.array(labels, np.int64),
        np.array(difficult, bool),
        grid.upright,
    )


def _check_tags(root: Element, path: Path) -> None:
    """Raise an error if a tag of an object is misspelled, because the object would be missed."""
    for element in root.iter():
        tag = str(element.tag)
        if tag != "object" and tag.rpartition("}")[2].lower() == "object":
            raise NearfarError(
                f"{str(path)!r} has elements <{printable(tag)[:80]}>: expected <object>"
            )


def _check_name(root: Element, name: str, path: Path) -> None:
    """Raise an error if an annotation states the file name of another image."""
    file = re.split(r"[/\\]", one_form(_text_of(root, "filename", path)))[-1].lower()
    if file and one_form(name).lower() not in (file, file.rpartition(".")[0]):
        raise NearfarError(
            f"{str(path)!r} is of the image {file!r}, by its <filename>: expected "
            f"{name + '.jpg'!r}; correct one of the names"
        )


def _is_stored(root: Element, grid: Grid, path: Path) -> bool | None:
    """Return whether boxes refer to the stored pixels, that is, to the image before EXIF rotation.

    This is derived from ``<size>``. Return None if it cannot be known.
    """
    texts = [_text_of(root, f"size/{side}", path) or "0" for side in ("height", "width")]
    try:
        height, width = (float(text) for text in texts)
    except ValueError as error:
        raise NearfarError(
            f"{str(path)!r}: expected numbers for <height> and <width>, not {texts}"
        ) from error
    if height == 0 or width == 0:
        return grid.is_stored(None)
    if not (math.isfinite(height) and math.isfinite(width) and grid.fits((height, width))):  # type: ignore[arg-type]
        raise NearfarError(
            f"{str(path)!r}: its boxes were drawn on {width:g}x{height:g} pixels, by its <size>, "
            f"and its image has {grid}: expected the same"
        )
    return grid.is_stored((int(height), int(width)))


def _read_list(path: Path, names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Return the flag of each named image in a class list (int8[n])."""
    flags: dict[str, int] = {}
    for line in read_lines(path):
        flagged = split_flag(line)
        if flagged is None:
            raise NearfarError(
                f"{str(path)!r}: expected a name and 1, 0 or -1 per line, not {line[:80]!r}"
            )
        name, flag = one_form(flagged[0]), flagged[1]
        if flags.setdefault(name, flag) != flag:
            raise NearfarError(f"{str(path)!r} names {name!r} twice, with different flags")
    for name in names:
        if one_form(name) not in flags:
            raise NearfarError(f"{str(path)!r} has no line for the image {name!r} of its split")
    return np.array([flags[one_form(name)] for name in names], np.int8)


class _NoDoctype(TreeBuilder):
    """XML parser target that rejects document types, whose entities can expand without limit."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type declaration, which is not allowed")


def _parse(path: Path) -> Element:
    """Return the root element of an XML annotation file. Unsafe files are rejected."""
    if not path.is_file():
        raise NearfarError(f"{str(path)!r} is missing: expected the boxes of an image of the split")
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
        parser = XMLParser(target=_NoDoctype())  # noqa: S314
        parser.feed(text)
        root = parser.close()
    except (OSError, ParseError, ValueError, LookupError) as error:
        raise NearfarError(
            f"{str(path)!r} cannot be read as a VOC annotation ({reason(error)})"
        ) from error
    if root.tag != "annotation":
        raise NearfarError(
            f"{str(path)!r} is not a VOC annotation: its root is <{printable(root.tag)[:80]}>, "
            "expected <annotation>"
        )
    return root


def _text_of(parent: Element, name: str, path: Path) -> str:
    """Return the stripped text of a child element, or "" if there is none.

    Raise an error if there are several.
    """
    found = parent.findall(name)
    if len(found) > 1:
        raise NearfarError(
            f"{str(path)!r} has {len(found)} elements {name!r} in the same parent: expected one"
        )
    return (found[0].text or "").strip() if found else ""


def _box(item: Element, path: Path) -> tuple[float, float, float, float]:
    """Return the left, top, right and bottom of an object, with pixels numbered from 0."""
    texts = [_text_of(item, f"bndbox/{side}", path) for side in _SIDES]
    try:
        left, top, right, bottom = (float(text) for text in texts)
    except ValueError as error:
        raise NearfarError(
            f"{str(path)!r}: expected numbers for {', '.join(_SIDES)} of each object, not {texts}"
        ) from error
    if min(left, top) >= 0 and max(right, bottom) <= 1 and min(left, top, right, bottom) < 1:
        raise NearfarError(
            f"{str(path)!r}: the box ({left:g}, {top:g}, {right:g}, {bottom:g}) seems to be in "
            "shares of the image: expected pixels, from 1"
        )
    return left - 1, top - 1, right, bottom


def _text(box: tuple[float, float, float, float]) -> str:
    """Return a box as text, with the coordinates that are in the annotation file."""
    left, top, right, bottom = box
    return f"({left + 1:g}, {top + 1:g}, {right:g}, {bottom:g})"
