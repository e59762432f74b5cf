"""Synthetic scenes of simple shapes, as a VOC devkit or as class folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from nearfar.transfer.devkit import BACKGROUND

SHAPES = ("disc", "square", "triangle")
#: Of this many consecutive images, one is in val, one in test, and the rest in train.
SPLIT_EVERY = 4
MOST_OBJECTS = 3


def write_scenes(
    root: str | os.PathLike[str], count: int, *, size: tuple[int, int] = (96, 128), seed: int = 0
) -> Path:
    """Write a devkit of images that show one to three shapes, with boxes, masks and splits.

    Parameters
    ----------
    root : str or path
        Output folder, created if needed.
    count : int
        Number of images. Half of them are in the split "train", a quarter in "val", and a quarter
        in "test".
    size : tuple of int
        Height and width of the images, in pixels.
    seed : int
        Seed of the random scenes.

    Returns
    -------
    Path
        `root`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     sorted(path.name for path in write_scenes(Path(root), 4).iterdir())
    ['Annotations', 'ImageSets', 'JPEGImages', 'SegmentationClass', 'classes.txt']
    """
    root = Path(root)
    for folder in ("JPEGImages", "Annotations", "SegmentationClass"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    names = [f"scene_{number:04}" for number in range(count)]
    for name in names:
        _write_scene(root, name, size, generator)
    splits = {
        "train": [name for row, name in enumerate(names) if row % SPLIT_EVERY < SPLIT_EVERY - 2],
        "val": names[SPLIT_EVERY - 2 :: SPLIT_EVERY],
        "test": names[SPLIT_EVERY - 1 :: SPLIT_EVERY],
    }
    for task in ("Main", "Segmentation"):
        lists = root / "ImageSets" / task
        lists.mkdir(parents=True, exist_ok=True)
        for split, chosen in splits.items():
            (lists / f"{split}.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    (root / "classes.txt").write_text("\n".join((BACKGROUND, *SHAPES)) + "\n", encoding="utf-8")
    return root


def write_classes(
    root: str | os.PathLike[str], count: int, *, size: tuple[int, int] = (64, 64), seed: int = 0
) -> Path:
    """Write `count` images of each shape, and return `root`.

    The subfolders of `root` are named after the shapes: "disc", "square" and "triangle".

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     sorted(path.name for path in write_classes(Path(root), 1).iterdir())
    ['disc', 'square', 'triangle']
    """
    root, generator = Path(root), np.random.default_rng(seed)
    for label, shape in enumerate(SHAPES):
        (root / shape).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, mask = _background(size, generator)
            _draw(image, mask, label, generator)
            image.save(root / shape / f"{number:04}.jpg")
    return root


def _write_scene(
    root: Path, name: str, size: tuple[int, int], generator: np.random.Generator
) -> None:
    image, mask = _background(size, generator)
    annotation = Element("annotation")
    SubElement(annotation, "filename").text = f"{name}.jpg"
    for label in generator.integers(len(SHAPES), size=generator.integers(1, MOST_OBJECTS + 1)):
        box = _draw(image, mask, label, generator)
        item = SubElement(annotation, "object")
        SubElement(item, "name").text = SHAPES[label]
        SubElement(item, "difficult").text = "0"
        bounds = SubElement(item, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            SubElement(bounds, side).text = str(value + 1)
    image.save(root / "JPEGImages" / f"{name}.jpg")
    mask.putpalette([0, 0, 0, 200, 60, 60, 60, 200, 60, 60, 60, 200])
    mask.save(root / "SegmentationClass" / f"{name}.png")
    ElementTree(annotation).write(root / "Annotations" / f"{name}.xml", encoding="utf-8")


def _background(size: tuple[int, int], generator: np.random.Generator) -> tuple[Any, Any]:
    """Return a dark image with noise, and an empty mask of the same size."""
    height, width = size
    noise = generator.normal(80, 12, (height, width, 3)) + generator.normal(0, 20, 3)
    pixels: npt.NDArray[np.uint8] = noise.clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels), Image.new("P", (width, height), 0)


def _draw(
    image: Any, mask: Any, label: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a shape at a random position on an image and its mask, and return its box.

    The box contains the left, top, right and bottom pixel of the shape, numbered from 0.
    """
    width, height = image.size
    side = int(generator.integers(min(width, height) // 4, min(width, height) // 2))
    left, top = (int(generator.integers(0, length - side)) for length in (width, height))
    box = (left, top, left + side - 1, top + side - 1)
    color = tuple(int(value) for value in generator.integers(120, 256, 3))
    for canvas, fill in ((image, color), (mask, int(label) + 1)):
        pencil = ImageDraw.Draw(canvas)
        if SHAPES[label] == "disc":
            pencil.ellipse(box, fill)
        elif SHAPES[label] == "square":
            pencil.rectangle(box, fill)
        else:
            left, top, right, bottom = box
            pencil.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill)
    return box
