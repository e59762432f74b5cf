"""PASCAL VOC devkits: the images of a split, and the classes.

A devkit holds ``JPEGImages/NAME.jpg``, and for its tasks ``Annotations/NAME.xml`` (objects),
``SegmentationClass/NAME.png`` (masks), and the names of each split, one per line, in
``ImageSets/Main/SPLIT.txt`` and ``ImageSets/Segmentation/SPLIT.txt``. A file ``classes.txt`` beside
them lists the classes, one per line; without it, they are VOC's own.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nearfar.errors import NearfarError, printable, reason

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
BACKGROUND = "background"

IMAGE_FOLDER, CLASS_FILE = "JPEGImages", "classes.txt"
#: Lists of splits, for classification and detection, or for segmentation.
ImageSet = Literal["Main", "Segmentation"]

#: Bytes of the longest list of names.
_MAX_LIST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Devkit:
    r"""VOC devkit, such as ``VOCdevkit/VOC2007``.

    Parameters
    ----------
    root : Path
        Folder that holds ``JPEGImages``.
    mask_classes : tuple of str
        Classes of the values 0, 1, … of a mask.

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

    @classmethod
    def open(cls, root: str | os.PathLike[str]) -> Devkit:
        """Open a devkit.

        Raises
        ------
        NearfarError
            If the folder is not a devkit, or its ``classes.txt`` cannot be used.
        """
        root = Path(root)
        if not (root / IMAGE_FOLDER).is_dir():
            raise NearfarError(
                f"{str(root)!r} is no VOC devkit: expected a folder with {IMAGE_FOLDER} in it, "
                "such as VOCdevkit/VOC2007"
            )
        if not (root / CLASS_FILE).is_file():
            return cls(root, (BACKGROUND, *VOC_CLASSES))
        classes = tuple(line.strip() for line in read_lines(root / CLASS_FILE))
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
                f"{str(root / CLASS_FILE)!r}: expected classes beside {BACKGROUND!r}"
            )
        return cls(root, classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of objects: without the background."""
        return tuple(name for name in self.mask_classes if name != BACKGROUND)

    def split(self, image_set: ImageSet, split: str) -> list[str]:
        """Return the names of the images of a split.

        Raises
        ------
        NearfarError
            If the split is missing or empty, names an image twice, or an image is missing.
        """
        path = self.root / "ImageSets" / image_set / f"{split}.txt"
        if not path.is_file():
            here = sorted(file.stem for file in path.parent.glob("*.txt") if "_" not in file.stem)
            raise NearfarError(
                f"{str(path)!r} does not exist: expected one of the splits "
                f"{', '.join(here) or '(none is there)'}"
            )
        # Some official lists have a flag behind each name.
        names = [line.split()[0] for line in read_lines(path)]
        if not names:
            raise NearfarError(f"{str(path)!r} is empty: expected the name of an image per line")
        counts = Counter(names)
        for name in counts:
            if counts[name] > 1:
                raise NearfarError(f"{str(path)!r} names {name!r} {counts[name]} times")
            if Path(name).name != name:
                raise NearfarError(f"{str(path)!r}: {name!r} is not the name of an image")
            if not self.image(name).is_file():
                raise NearfarError(f"{str(self.image(name))!r} is missing: {str(path)!r} names it")
        return names

    def check_apart(self, image_set: ImageSet, train: str, test: str) -> None:
        """Check that the training and test splits are disjoint.

        Raises
        ------
        NearfarError
            If they have images in common.
        """
        names, others = (set(self.split(image_set, split)) for split in (train, test))
        if both := names & others:
            raise NearfarError(
                f"{len(both)} of the {len(others)} images of the split {test!r} are in {train!r}, "
                "too: expected disjoint splits for training and test"
            )

    def image(self, name: str) -> Path:
        """Return the path of an image."""
        return self.root / IMAGE_FOLDER / f"{name}.jpg"

    def annotation(self, name: str) -> Path:
        """Return the path of the objects of an image."""
        return self.root / "Annotations" / f"{name}.xml"

    def mask(self, name: str) -> Path:
        """Return the path of the mask of an image."""
        return self.root / "SegmentationClass" / f"{name}.png"

    def class_list(self, name: str, split: str) -> Path:
        """Return the path of the list of a class: presence in each image of a split."""
        return self.root / "ImageSets" / "Main" / f"{name}_{split}.txt"


def read_lines(path: Path) -> list[str]:
    """Return the non-empty lines of a list.

    Raises
    ------
    NearfarError
        If the file cannot be read as one.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_LIST_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({reason(error)})") from error
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if len(text) > _MAX_LIST_BYTES or "\0" in line:
            raise NearfarError(f"{printable(str(path))!r} is not a list of names, one per line")
    return lines
