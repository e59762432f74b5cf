"""PASCAL VOC devkits: images, splits and classes.

A devkit is a folder with these files, some of which are needed only for some tasks:

- ``JPEGImages/NAME.jpg`` (or .JPG, .jpeg, .png): images.
- ``Annotations/NAME.xml``: objects in an image.
- ``SegmentationClass/NAME.png``: mask of an image.
- ``ImageSets/Main/SPLIT.txt`` and ``ImageSets/Segmentation/SPLIT.txt``: names of the images in a
  split, one per line.
- ``classes.txt``: names of the classes, one per line. Default: the classes of VOC.

Names may contain spaces and are compared in a normalized Unicode form. Text files are encoded in
UTF-8, or in UTF-16 with a byte order mark.
"""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nearfar.errors import NearfarError, printable, reason
from nearfar.files import exists

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
BACKGROUND = "background"
#: Extensions of images; VOC's comes first.
_IMAGE_EXTENSIONS = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG")

IMAGE_FOLDER, CLASS_FILE = "JPEGImages", "classes.txt"
#: Folders of split lists, for classification and detection, or for segmentation.
ImageSet = Literal["Main", "Segmentation"]

#: Size limit of a list of names, in bytes.
_MAX_LIST_BYTES = 256 * 2**20
#: Line with a flag after the name, as in the lists of classes.
_FLAGGED = re.compile(r"(.*\S)\s+(-1|0|1)")


@dataclass(frozen=True)
class Devkit:
    r"""VOC devkit, such as ``VOCdevkit/VOC2007``.

    Parameters
    ----------
    root : Path
        Folder that contains ``JPEGImages``.
    mask_classes : tuple of str
        Names of the classes, in the order of the mask values 0, 1, ….

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Path(root, "JPEGImages").mkdir()
    ...     _ = Path(root, "classes.txt").write_text("background\ncat\ndog\n")
    ...     Devkit.open(root).classes
    ('cat', 'dog')
    """

    root: Path
    mask_classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    @classmethod
    def open(cls, root: str | os.PathLike[str]) -> Devkit:
        """Return the devkit in a folder, with the classes in ``classes.txt`` if it exists.

        Raises
        ------
        NearfarError
            If the folder is not a devkit, or ``classes.txt`` cannot be used.
        """
        root = Path(root)
        if not (root / IMAGE_FOLDER).is_dir():
            raise NearfarError(
                f"{str(root)!r} is not a VOC devkit: expected a folder that contains "
                f"{IMAGE_FOLDER}, "
                "such as VOCdevkit/VOC2007"
            )
        if not (root / CLASS_FILE).is_file():
            return cls(root, (BACKGROUND, *VOC_CLASSES))
        classes = tuple(_class_name(line) for line in read_lines(root / CLASS_FILE))
        if not classes or len(set(classes)) < len(classes):
            raise NearfarError(
                f"{str(root / CLASS_FILE)!r}: expected one class per line, each once, "
                f"not {len(classes)} lines with {len(set(classes))} classes"
            )
        for name in classes:
            if not name.isprintable():
                raise NearfarError(
                    f"{str(root / CLASS_FILE)!r} has the class {name!r}: expected printable names"
                )
        if classes == (BACKGROUND,):
            raise NearfarError(
                f"{str(root / CLASS_FILE)!r}: expected classes besides {BACKGROUND!r}"
            )
        return cls(root, classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the object classes, excluding the background."""
        return tuple(name for name in self.mask_classes if name != BACKGROUND)

    def split(self, image_set: ImageSet, split: str) -> list[str]:
        """Return the names of the images in a split.

        Raises
        ------
        NearfarError
            If the split is missing or empty, or if it lists a missing image or an image twice.
        """
        path = self.root / "ImageSets" / image_set / f"{split}.txt"
        if not path.is_file():
            here = sorted(file.stem for file in path.parent.glob("*.txt") if "_" not in file.stem)
            raise NearfarError(
                f"{str(path)!r} does not exist: expected one of the splits "
                f"{printable(', '.join(here)) or '(there are none)'}"
            )
        names = [self._name(line, path) for line in read_lines(path)]
        if not names:
            raise NearfarError(f"{str(path)!r} is empty: expected one image name per line")
        counts = Counter(names)
        for name in counts:
            if counts[name] > 1:
                raise NearfarError(f"{str(path)!r} names {name!r} {counts[name]} times")
        return names

    def _name(self, line: str, path: Path) -> str:
        """Return the image name in a line of a list; a flag may follow the name."""
        flagged = split_flag(line)
        names = [line] if flagged is None else [line, flagged[0]]
        present = [name for name in names if Path(name).name == name and exists(self.image(name))]
        if len(present) > 1:
            raise NearfarError(
                f"{str(path)!r}: the line {line!r} names the image {line!r}, or {present[1]!r} "
                "with a flag, and both exist: rename one"
            )
        if present:
            self._check_single(present[0], path)
            return present[0]
        name = names[-1]
        if Path(name).name != name:
            raise NearfarError(f"{str(path)!r}: {name!r} is not the name of an image")
        raise NearfarError(f"{str(self.image(name))!r} is missing, but listed in {str(path)!r}")

    def _check_single(self, name: str, path: Path) -> None:
        """Raise an error if there are several files for an image name."""
        found = {each.stat().st_ino: each.name for each in self._images(name)}
        if len(found) > 1:
            raise NearfarError(
                f"{str(path)!r}: {name!r} may be {' or '.join(map(repr, found.values()))} in "
                f"{IMAGE_FOLDER}: remove all but one"
            )

    def check_disjoint(self, image_set: ImageSet, train: str, test: str) -> None:
        """Check that a training split and a test split are disjoint.

        Raises
        ------
        NearfarError
            If the splits share images.
        """
        names, others = (set(self.split(image_set, split)) for split in (train, test))
        if both := names & others:
            raise NearfarError(
                f"{len(both)} of the {len(others)} images of the split {test!r} are also in "
                f"{train!r}: "
                "expected disjoint splits for training and test"
            )

    def image(self, name: str) -> Path:
        """Return the path of an image, which is a JPEG or PNG file.

        If there is no such file, the returned path ends in .jpg.
        """
        first = self.root / IMAGE_FOLDER / f"{name}{_IMAGE_EXTENSIONS[0]}"
        return next(self._images(name), first)

    def _images(self, name: str) -> Iterator[Path]:
        """Yield the path of each existing image file for an image name."""
        paths = (
            _present(self.root / IMAGE_FOLDER, name, extension) for extension in _IMAGE_EXTENSIONS
        )
        return (path for path in paths if exists(path))

    def annotation(self, name: str) -> Path:
        """Return the path of the annotation file of an image, which lists the objects."""
        return _present(self.root / "Annotations", name, ".xml")

    def mask(self, name: str) -> Path:
        """Return the path of the mask of an image."""
        return _present(self.root / "SegmentationClass", name, ".png")

    def class_list(self, name: str, split: str) -> Path:
        """Return the path of a class list: the images of a split, with flags for one class."""
        return _present(self.root / "ImageSets" / "Main", name, f"_{split}.txt")


def read_lines(path: Path) -> list[str]:
    """Return the nonempty lines of a text file, without leading and trailing whitespace.

    Raises
    ------
    NearfarError
        If the file cannot be read as text, or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_LIST_BYTES + 1)
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({reason(error)})") from error
    lines = [line for each in re.split(r"[\r\n]+", text) if (line := each.strip())]
    for line in lines:
        if len(content) > _MAX_LIST_BYTES or "\0" in line:
            raise NearfarError(f"{printable(str(path))!r} is not a list of names, one per line")
    return lines


def split_flag(line: str) -> tuple[str, int] | None:
    """Return the name and the flag in a line, or None if the line has no flag.

    The flag is 1, 0 or −1 and follows the name after a space.

    Examples
    --------
    >>> split_flag("scene 7  -1"), split_flag("scene 7")
    (('scene 7', -1), None)
    """
    match = _FLAGGED.fullmatch(line)
    return None if match is None else (match[1], int(match[2]))


def one_form(name: str) -> str:
    r"""Return a name in the composed Unicode form (NFC), without surrounding whitespace.

    In this form, é is one character.

    Examples
    --------
    >>> one_form("cafe\u0301 ") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name.strip())


def _class_name(line: str) -> str:
    """Return the class name in a line. Any spelling of the background becomes "background"."""
    name = one_form(line)
    return BACKGROUND if name.strip("_").lower() == BACKGROUND else name


def _present(folder: Path, name: str, extension: str) -> Path:
    """Return the path of a file, with its name in the Unicode form in which the file exists."""
    path = folder / f"{name}{extension}"
    if name.isascii() or exists(path):
        return path
    others = (folder / f"{unicodedata.normalize(form, name)}{extension}" for form in ("NFC", "NFD"))
    return next((other for other in others if exists(other)), path)
