"""How well a network does on a task that it was transferred to: a table, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from nearfar.data import Images, to_unit
from nearfar.evaluation import BLANK
from nearfar.files import atomic_path, write_json
from nearfar.report.figures import comparison_sheet, save_figure
from nearfar.report.figures.scenes import Boxes, detection_sheet, mask_sheet
from nearfar.report.tables import markdown_table

if TYPE_CHECKING:  # loads torchvision, which takes seconds
    from nearfar.transfer.annotations import Objects
    from nearfar.transfer.devkit import Devkit
    from nearfar.transfer.labeled import Labeled
    from nearfar.transfer.metrics import Detections

#: The shorter side of pictures, in pixels.
SIDE = 300
SHOWN = 4
#: Classes are drawn up to so many, each with twice as many images.
CLASSES_SHOWN = 20
#: Detections that are drawn are at least so sure.
SURE = 0.5


def write_transfer(
    folder: Path,
    task: str,
    rows: Mapping[str, Mapping[str, float]],
    settings: Mapping[str, Any],
    notes: Sequence[str],
    draw: Callable[[], Figure],
) -> str:
    """Write what was measured as `TASK.json`, `.md` and `.png`; return the table as Markdown.

    The figure is drawn when the numbers are safe.

    Parameters
    ----------
    rows : mapping of str to mapping of str to float
        Shares, 0…1 or NaN, by row and title of the column.
    """
    folder.mkdir(parents=True, exist_ok=True)
    titles = list(next(iter(rows.values())))
    text = markdown_table(
        ["", *titles],
        [[name, *(_percent(row[title]) for title in titles)] for name, row in rows.items()],
        [*notes, f"{settings['weights']}, seed {settings['schedule']['seed']}, one run; in %."],
    )
    scores = {
        name: {title: None if np.isnan(value) else value for title, value in row.items()}
        for name, row in rows.items()
    }
    write_json(folder / f"{task}.json", {"task": task, "scores": scores, "settings": settings})
    with atomic_path(folder / f"{task}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_path(folder / f"{task}.png") as temporary:
        save_figure(draw(), temporary)
    return text


def with_mean(names: Sequence[str], columns: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return rows of a value for each class, and their mean over the classes that have one."""
    rows = {
        name: {title: float(values[row]) for title, values in columns.items()}
        for row, name in enumerate(names)
    }
    return {**rows, "mean": {title: float(np.nanmean(each)) for title, each in columns.items()}}


def spread_rows(count: int, shown: int = SHOWN) -> list[int]:
    """Return the numbers, of so many, of those that are shown, far apart from each other."""
    return sorted({int(row) for row in np.linspace(0, count - 1, shown)})


def draw_detections(
    devkit: Devkit, names: Sequence[str], truth: Sequence[Objects], found: Sequence[Detections]
) -> Figure:
    """Draw some images with what is there, and what was surely found."""
    images, real, made = [], [], []
    for row in spread_rows(len(names)):
        objects, each = truth[row], found[row]
        pixels, scale = _pixels(devkit, names[row])
        images.append(pixels)
        real.append(Boxes(objects.boxes * scale, objects.labels))
        sure = each.scores >= SURE
        made.append(Boxes(each.boxes[sure] * scale, each.labels[sure]))
    return detection_sheet(images, real, made, devkit.classes)


def draw_masks(devkit: Devkit, names: Sequence[str], pairs: Sequence[tuple[Any, Any]]) -> Figure:
    """Draw images beside their true and their predicted masks."""
    images = [_pixels(devkit, name)[0] for name in names]
    truth, found = zip(*pairs, strict=True)
    return mask_sheet(images, truth, found, devkit.mask_classes)


def draw_surest(test: Labeled, scores: Any) -> Figure:
    """Draw, for each class or some of many, the test images that look most like it."""
    rows = {}
    for column in spread_rows(len(test.classes), CLASSES_SHOWN):
        best = np.argsort(-scores[:, column], kind="stable")[: 2 * SHOWN]
        rows[test.classes[column]] = _unit(test.images, best.tolist())
    return comparison_sheet(rows)


def _unit(images: Images, rows: list[int]) -> Any:
    return to_unit(images.batch(rows)).numpy()


def _pixels(devkit: Devkit, name: str) -> tuple[Any, float]:
    """An image for a picture, uint8[h, w, 3], and how many times its true size that is."""
    from nearfar.transfer.scenes import read_scaled

    image, scale = read_scaled(devkit, name, SIDE)
    return (image * 255).byte().permute(1, 2, 0).numpy(), scale


def _percent(value: float) -> str:
    return BLANK if np.isnan(value) else f"{100 * value:.1f}"
