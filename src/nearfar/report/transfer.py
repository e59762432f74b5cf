"""Results of transfer: a table, a figure and a JSON file per task."""

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

#: Shorter side of images in figures, in pixels.
SIDE = 300
#: Images per figure.
SHOWN = 4
#: Most classes per figure of a classification.
CLASSES_SHOWN = 20
#: Smallest score of detections in figures.
MIN_SCORE = 0.5


def write_transfer(
    folder: Path,
    task: str,
    rows: Mapping[str, Mapping[str, float]],
    settings: Mapping[str, Any],
    notes: Sequence[str],
    draw: Callable[[], Figure],
) -> str:
    """Write the results of a task as `TASK.json`, `.md` and `.png`; return the table.

    Parameters
    ----------
    folder : Path
        Folder of the files, created as needed.
    task : str
        Name of the task.
    rows : mapping of str to mapping of str to float
        Scores, 0…1 or NaN, by row and column title.
    settings : mapping
        Settings as JSON types, with `weights` and the seed in `schedule`.
    notes : sequence of str
        Notes below the table.
    draw : callable
        Draws the figure, once the numbers are written.

    Returns
    -------
    str
        Table in Markdown.

    Examples
    --------
    >>> import tempfile
    >>> settings = {"weights": "random", "schedule": {"seed": 0}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = write_transfer(
    ...         Path(folder), "classify", {"test": {"accuracy": 0.8}}, settings, [], Figure
    ...     )
    >>> table.splitlines()[2]
    '| test | 80.0 |'
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
    """Return rows of values per class, and a row of their means without NaN.

    Examples
    --------
    >>> with_mean(["cat", "dog"], {"AP": np.array([0.5, 0.25])})["mean"]
    {'AP': 0.375}
    """
    rows = {
        name: {title: float(values[row]) for title, values in columns.items()}
        for row, name in enumerate(names)
    }
    return {**rows, "mean": {title: float(np.nanmean(each)) for title, each in columns.items()}}


def spread_rows(count: int, shown: int = SHOWN) -> list[int]:
    """Return `shown` evenly spread row numbers below `count`.

    Examples
    --------
    >>> spread_rows(100, shown=4)
    [0, 33, 66, 99]
    """
    return sorted({int(row) for row in np.linspace(0, count - 1, shown)})


def draw_detections(
    devkit: Devkit, names: Sequence[str], truth: Sequence[Objects], found: Sequence[Detections]
) -> Figure:
    """Draw some images with true objects and confident detections."""
    images, objects_shown, detections_shown = [], [], []
    for row in spread_rows(len(names)):
        objects, each = truth[row], found[row]
        pixels, scale = _pixels(devkit, names[row])
        images.append(pixels)
        objects_shown.append(Boxes(objects.boxes * scale, objects.labels))
        confident = each.scores >= MIN_SCORE
        detections_shown.append(Boxes(each.boxes[confident] * scale, each.labels[confident]))
    return detection_sheet(images, objects_shown, detections_shown, devkit.classes)


def draw_masks(devkit: Devkit, names: Sequence[str], pairs: Sequence[tuple[Any, Any]]) -> Figure:
    """Draw images with their true and predicted masks."""
    images = [_pixels(devkit, name)[0] for name in names]
    truth, found = zip(*pairs, strict=True)
    return mask_sheet(images, truth, found, devkit.mask_classes)


def draw_surest(test: Labeled, scores: Any) -> Figure:
    """Draw the test images with the highest scores per class, for up to 20 classes."""
    rows = {}
    for column in spread_rows(len(test.classes), CLASSES_SHOWN):
        best = np.argsort(-scores[:, column], kind="stable")[: 2 * SHOWN]
        rows[test.classes[column]] = _unit(test.images, best.tolist())
    return comparison_sheet(rows)


def _unit(images: Images, rows: list[int]) -> Any:
    return to_unit(images.batch(rows)).numpy()


def _pixels(devkit: Devkit, name: str) -> tuple[Any, float]:
    """Read an image for a figure, uint8[h, w, 3], and its scale."""
    from nearfar.transfer.scenes import read_scaled

    image, scale = read_scaled(devkit, name, SIDE)
    return (image * 255).byte().permute(1, 2, 0).numpy(), scale


def _percent(value: float) -> str:
    return BLANK if np.isnan(value) else f"{100 * value:.1f}"
