"""The folders of a PASCAL VOC devkit: which images belong to a split, and which classes there are.

A devkit holds ``JPEGImages/NAME.jpg``, and for its tasks ``Annotations/NAME.xml`` (objects),
``SegmentationClass/NAME.png`` (masks), and the names in each split, one a line, in
``ImageSets/Main/SPLIT.txt`` and ``ImageSets/Segmentation/SPLIT.txt``. Where ``classes.txt`` lies
beside them, it lists the classes, one a line; otherwise they are VOC's own.
"""

from __future__ import annotations

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

IMAGES, CLASSES = "JPEGImages", "classes.txt"
Task = Literal["Main", "Segmentation"]

#: No list of names of a data set that fits on a disk is longer.
LONGEST_LIST = 256 * 2**20


@dataclass(frozen=True)
class Devkit:
    """An opened devkit, such as ``VOCdevkit/VOC2007``.

    Parameters
    ----------
    root : Path
        The folder that holds ``JPEGImages``.
    mask_classes : tuple of str
        What the values 0, 1, … of a mask mean.
    """

    root: Path
    mask_classes: tuple[str, ...]

    @classmethod
    def open(cls, root: Path) -> Devkit:
        """Find the images and the classes of a devkit.

        Raises
        ------
        NearfarError
            If the folder is none, or its ``classes.txt`` cannot be used or lists no objects.
        """
        if not (root / IMAGES).is_dir():
            raise NearfarError(
                f"{str(root)!r} is no VOC devkit: expected a folder with {IMAGES} in it, such as "
                "VOCdevkit/VOC2007"
            )
        if not (root / CLASSES).is_file():
            return cls(root, (BACKGROUND, *VOC_CLASSES))
        classes = tuple(line.strip() for line in read_lines(root / CLASSES))
        if not classes or len(set(classes)) < len(classes):
            raise NearfarError(
                f"{str(root / CLASSES)!r}: expected one class a line, each once, "
                f"not {len(classes)} lines with {len(set(classes))} classes"
            )
        for name in classes:
            if not name.isprintable():
                raise NearfarError(
                    f"{str(root / CLASSES)!r} has the class {name!r}: expected names that can be "
                    "printed"
                )
        if classes == (BACKGROUND,):
            raise NearfarError(f"{str(root / CLASSES)!r}: expected classes beside {BACKGROUND!r}")
        return cls(root, classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of objects."""
        return tuple(name for name in self.mask_classes if name != BACKGROUND)

    def split(self, task: Task, split: str) -> list[str]:
        """Return the names of the images in a split, all of which are there.

        Raises
        ------
        NearfarError
            If there is no such split, it is empty, names an image twice, or an image is missing.
        """
        path = self.root / "ImageSets" / task / f"{split}.txt"
        if not path.is_file():
            here = sorted(file.stem for file in path.parent.glob("*.txt") if "_" not in file.stem)
            raise NearfarError(
                f"{str(path)!r} does not exist: expected one of the splits "
                f"{', '.join(here) or '(none is there)'}"
            )
        # Some official lists have a flag behind each name.
        names = [line.split()[0] for line in read_lines(path)]
        if not names:
            raise NearfarError(f"{str(path)!r} is empty: expected the name of an image a line")
        counts = Counter(names)
        for name in counts:
            if counts[name] > 1:
                raise NearfarError(f"{str(path)!r} names {name!r} {counts[name]} times")
            if Path(name).name != name:
                raise NearfarError(f"{str(path)!r}: {name!r} is no name of an image")
            if not self.image(name).is_file():
                raise NearfarError(f"{str(self.image(name))!r} is missing: {str(path)!r} names it")
        return names

    def check_apart(self, task: Task, train: str, test: str) -> None:
        """Refuse to test on what was learned from.

        Raises
        ------
        NearfarError
            If two splits have images in common.
        """
        names, others = (set(self.split(task, split)) for split in (train, test))
        if both := names & others:
            raise NearfarError(
                f"{len(both)} of the {len(others)} images of the split {test!r} are in {train!r}, "
                "too: expected none to be learned from and tested on"
            )

    def image(self, name: str) -> Path:
        """Return the file of an image."""
        return self.root / IMAGES / f"{name}.jpg"

    def annotation(self, name: str) -> Path:
        """Return the file of the objects in an image."""
        return self.root / "Annotations" / f"{name}.xml"

    def mask(self, name: str) -> Path:
        """Return the file of the mask of an image."""
        return self.root / "SegmentationClass" / f"{name}.png"

    def class_list(self, name: str, split: str) -> Path:
        """Return the file that says in which images of a split a class is seen."""
        return self.root / "ImageSets" / "Main" / f"{name}_{split}.txt"


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list that hold anything.

    Raises
    ------
    NearfarError
        If the file is no list.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LONGEST_LIST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({reason(error)})") from error
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if len(text) > LONGEST_LIST or "\0" in line:
            raise NearfarError(f"{printable(str(path))!r} is no list of names, one a line")
    return lines
