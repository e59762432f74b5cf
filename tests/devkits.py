"""A devkit with one bright red or green rectangle per image, and ways to check where labels lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from nearfar.config import Backbone
from nearfar.transfer import Devkit, read_label_map, read_objects
from nearfar.transfer.pictures import read_full_size

COLORS = ((220, 20, 20), (20, 220, 20))
#: Small backbone, and the shape of its images.
BACKBONE = Backbone(name="alexnet", embedding_size=64, widths=(128,)), (3, 64, 64)


def write_devkit(
    root: Path,
    *,
    names: Sequence[str] = ("0", "1", "2", "3"),
    size: tuple[int, int] = (96, 64),
    orientation: int = 1,
    upright_labels: bool = False,
    stated: tuple[int, int] | str | None = "own",
    encoding: str = "utf-8",
) -> Devkit:
    """Write a devkit; half of its images are in trainval, the others in test.

    Parameters
    ----------
    size : tuple of int
        Width and height of the stored pixels.
    orientation : int
        EXIF orientation of the images.
    upright_labels : bool
        Whether boxes and masks were drawn after the orientation turned the image.
    stated : tuple of int, optional
        Width and height in the annotations; those of the labels by default, or none.
    encoding : str
        Encoding of the lists.
    """
    for part in ("JPEGImages", "Annotations", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("background\nred\ngreen\n", encoding=encoding)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for number, name in enumerate(names):
        kind = number % 2
        pixels = np.random.default_rng(number).integers(0, 60, (*size[::-1], 3)).astype(np.uint8)
        mask = np.zeros(size[::-1], np.uint8)
        left, top = 5 + 3 * number, 8 + 2 * number
        pixels[top : top + 20, left : left + 30] = COLORS[kind]
        mask[top : top + 20, left : left + 30] = kind + 1
        image, label_map = Image.fromarray(pixels), Image.fromarray(mask)
        image.save(root / "JPEGImages" / f"{name}.jpg", quality=95, exif=exif)
        if upright_labels:
            label_map.getexif()[ExifTags.Base.Orientation] = orientation
            label_map = ImageOps.exif_transpose(label_map)
            label_map = Image.fromarray(np.asarray(label_map))
        rows, columns = np.nonzero(np.asarray(label_map))
        label_map.save(root / "SegmentationClass" / f"{name}.png")
        width, height = label_map.size if stated == "own" else stated or (0, 0)
        write_annotation(
            root / "Annotations" / f"{name}.xml",
            f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
            item(
                ("red", "green")[kind],
                (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1),
            ),
        )
    for task in ("Main", "Segmentation"):
        (root / "ImageSets" / task).mkdir(parents=True)
        half = len(names) // 2
        for split, some in (("trainval", names[:half]), ("test", names[half:])):
            path = root / "ImageSets" / task / f"{split}.txt"
            path.write_text("".join(f"{name}\n" for name in some), encoding=encoding)
    return Devkit.open(root)


def item(name: str, box: Sequence[object], more: str = "") -> str:
    """Return an object with a box, from 1."""
    sides = ("xmin", "ymin", "xmax", "ymax")
    bounds = "".join(f"<{s}>{value}</{s}>" for s, value in zip(sides, box, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{bounds}</bndbox></object>"


def write_annotation(path: Path, *parts: str) -> None:
    """Write an annotation."""
    path.write_text(f"<annotation>{''.join(parts)}</annotation>", encoding="utf-8")


def write_list(devkit: Devkit, *lines: str, name: str = "some", end: str = "\n") -> None:
    """Write a list of images."""
    path = devkit.root / "ImageSets" / "Main" / f"{name}.txt"
    path.write_bytes("".join(line + end for line in lines).encode())


def repaint_mask(path: Path, *colors: tuple[int, int, int]) -> None:
    """Give a mask a palette, from value 0 on."""
    mask = Image.fromarray(np.asarray(Image.open(path)), mode="P")
    mask.putpalette([value for color in colors for value in color])
    mask.save(path)


def boxes_lie_on_objects(devkit: Devkit) -> bool:
    """Whether boxes enclose the bright pixels of their color, in images as they are read."""
    for name in devkit.split("Main", "trainval") + devkit.split("Main", "test"):
        pixels, objects = read_full_size(devkit.image(name)), read_objects(devkit, name)
        assert objects.size == pixels.shape[:2]
        ((left, top, right, bottom),) = objects.boxes.astype(int)
        bright = pixels[..., objects.labels[0]] > 140
        inside = bright[top:bottom, left:right]
        if inside.mean() < 0.95 or bright.sum() > 1.1 * inside.size:
            return False
    return True


def masks_lie_on_objects(devkit: Devkit) -> bool:
    """Whether masks mark the bright pixels of their color, in images as they are read."""
    for name in devkit.split("Segmentation", "trainval"):
        pixels, label_map = read_full_size(devkit.image(name)), read_label_map(devkit, name)
        label = int(label_map.max())
        if ((pixels[..., label - 1] > 140) != (label_map == label)).mean() > 0.03:
            return False
    return True
