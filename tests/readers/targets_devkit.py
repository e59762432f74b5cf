"""Damaged lists and annotations of a VOC devkit, and damaged class masks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from devkits import repaint_mask, write_devkit
from nearfar.transfer import (
    Devkit,
    open_classification_set,
    open_segmentation_set,
    read_label_map,
    read_objects,
)
from readers.fuzz import target

SPLITS = ("trainval", "test")


@contextmanager
def whole(*parts: Path) -> Iterator[Devkit]:
    """Open a devkit whose folders and files are in several places."""
    with tempfile.TemporaryDirectory() as root:
        for path in (path for part in parts for path in part.iterdir()):
            Path(root, path.name).symlink_to(path)
        yield Devkit.open(root)


def prepare_devkit(inputs: Path, fixed: Path) -> None:
    devkit = write_devkit(inputs, names=["a", "b 1", "c", "d"], orientation=6)
    for folder in ("JPEGImages", "SegmentationClass"):
        (inputs / folder).rename(fixed / folder)
    for kind in devkit.classes:
        for split in SPLITS:
            lines = (f"{name}  1\n" for name in ("a", "b 1", "c", "d"))
            devkit.class_list(kind, split).write_text("".join(lines))


@target("devkit", prepare_devkit)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    with whole(inputs, fixed) as devkit:
        devkit.check_disjoint("Main", *SPLITS)
        for split in SPLITS:
            open_classification_set(devkit, split, 16)
            for name in devkit.split("Main", split):
                read_objects(devkit, name)
    return "success"


def prepare_masks(inputs: Path, fixed: Path) -> None:
    devkit = write_devkit(inputs, orientation=8)
    for folder in ("JPEGImages", "ImageSets", "Annotations", "classes.txt"):
        (inputs / folder).rename(fixed / folder)
    for name in "12":
        repaint_mask(devkit.mask(name), (0, 0, 0), (128, 0, 0), (0, 128, 0))
    Image.open(devkit.mask("2")).save(devkit.mask("2"), bits=2)


@target("class masks", prepare_masks)
def _(inputs: Path, fixed: Path, output: Path) -> str:
    with whole(inputs, fixed) as devkit:
        train = open_segmentation_set(devkit, "trainval", 16)
        for name in open_segmentation_set(devkit, "test", 16, colors=train.colors).names:
            read_label_map(devkit, name)
    return "success"
