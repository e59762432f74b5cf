"""Reports of transfer tasks: a table of scores and a figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nearfar.data import Images, to_unit
from nearfar.evaluation import BLANK
from nearfar.files import atomic_path, write_json
from nearfar.report.figures import Boxes, comparison_sheet, detection_sheet, mask_sheet, save_figure
from nearfar.report.tables import markdown_table
from nearfar.transfer import (
    ClassificationSet,
    Detections,
    DetectionSet,
    FinetunedSegmenter,
    Picture,
    SegmentationSet,
    TransferResult,
    read_label_map,
    read_scaled,
)

#: Shorter side of images in figures, in pixels.
SIDE = 300
SHOWN = 4
#: Most classes to draw.
CLASSES_SHOWN = 20
#: Lowest score of a detection to draw.
SURE = 0.5


def transfer_table(result: TransferResult) -> str:
    """Return the scores of a transfer task as a table in Markdown.

    Examples
    --------
    >>> settings = {"weights": "random", "schedule": {"seed": 0}}
    >>> result = TransferResult(
    ...     task="classify", scores={"all": {"accuracy": 0.5}}, settings=settings, notes=[],
    ...     models={}, test=None,
    ... )
    >>> print(transfer_table(result).splitlines()[2])
    | all | 50.0 |
    """
    rows, settings = result.scores, result.settings
    titles = list(next(iter(rows.values())))
    seed = settings["schedule"]["seed"]
    return markdown_table(
        ["", *titles],
        [[name, *(_percent(row[title]) for title in titles)] for name, row in rows.items()],
        [*result.notes, f"{settings['weights']}, seed {seed}, one run; in %."],
    )


def write_transfer(folder: str | os.PathLike[str], result: TransferResult) -> None:
    """Write the fine-tuned networks, the scores and a figure.

    The scores are written to ``TASK.json`` and ``TASK.md``, the figure to ``TASK.png``. If drawing
    the figure fails, the networks and scores are kept.

    Parameters
    ----------
    folder : str or path
        Output folder, created if needed.
    result : TransferResult
        Networks, scores and predictions of a transfer task.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import Source, transfer_classification, write_classes
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     weights, out = f"{folder}/weights.safetensors", Path(folder, "out")
    ...     save_file(resnet18().state_dict(), weights)
    ...     data = write_classes(Path(folder, "shapes"), 10)
    ...     source = Source(weights=weights, size=32, device="cpu")
    ...     write_transfer(out, transfer_classification(source, data, protocols=["linear"]))
    ...     sorted(path.name for path in out.iterdir() if path.is_file())
    ['classify.json', 'classify.md', 'classify.png']
    """
    folder = Path(folder)
    task = result.task
    with result.open_output(folder):
        result.save(folder)
        scores = {
            name: {title: None if np.isnan(value) else value for title, value in row.items()}
            for name, row in result.scores.items()
        }
        write_json(
            folder / f"{task}.json", {"task": task, "scores": scores, "settings": result.settings}
        )
        with atomic_path(folder / f"{task}.md") as temporary:
            temporary.write_text(transfer_table(result), encoding="utf-8")
        with atomic_path(folder / f"{task}.png") as temporary:
            save_figure(draw_transfer(result), temporary)


def draw_transfer(result: TransferResult) -> Figure:
    """Return a figure that shows the predictions for some test images."""
    if isinstance(result.test, ClassificationSet):
        return _draw_most_confident(result.test, result.predictions)
    if isinstance(result.test, DetectionSet):
        return _draw_detections(result.test, result.predictions)
    assert isinstance(result.test, SegmentationSet)  # noqa: S101 - for the type alone
    (model,) = result.models.values()
    assert isinstance(model, FinetunedSegmenter)  # noqa: S101 - for the type alone
    return _draw_label_maps(result.test, model)


def spread(count: int, shown: int = SHOWN) -> list[int]:
    """Return at most `shown` row numbers, evenly spaced from 0 to `count` − 1."""
    return sorted({int(row) for row in np.linspace(0, count - 1, shown)})


def _draw_detections(test: DetectionSet, predictions: Sequence[Detections]) -> Figure:
    """Return a figure of some test images, with true objects and confident detections."""
    images, real, found = [], [], []
    for row in spread(len(test.names)):
        objects, each = test.objects[row], predictions[row]
        pixels, scale = _pixels(test.devkit.image(test.names[row]))
        images.append(pixels)
        real.append(Boxes(objects.boxes * scale, objects.labels))
        confident = each.scores >= SURE
        found.append(Boxes(each.boxes[confident] * scale, each.labels[confident]))
    return detection_sheet(images, real, found, test.devkit.classes)


def _draw_label_maps(test: SegmentationSet, model: FinetunedSegmenter) -> Figure:
    """Return a figure of some test images, with true and predicted label maps."""
    names = [test.names[row] for row in spread(len(test.names))]
    pictures = [test.devkit.image(name) for name in names]
    images = [_pixels(picture)[0] for picture in pictures]
    truth = [read_label_map(test.devkit, name) for name in names]
    return mask_sheet(images, truth, list(model.predict(pictures)), test.devkit.mask_classes)


def _draw_most_confident(test: ClassificationSet, scores: Any) -> Figure:
    """Return a figure that shows, for some classes, the test images with the highest scores."""
    rows = {}
    for column in spread(len(test.classes), CLASSES_SHOWN):
        best = np.argsort(-scores[:, column], kind="stable")[: 2 * SHOWN]
        rows[test.classes[column]] = _unit(test.images, best.tolist())
    return comparison_sheet(rows)


def _unit(images: Images, rows: list[int]) -> Any:
    return to_unit(images.batch(rows)).numpy()


def _pixels(picture: Picture) -> tuple[Any, float]:
    """Return an image for a figure (uint8[h, w, 3]), and the scale relative to the original."""
    image, scale = read_scaled(picture, SIDE)
    return (image * 255).byte().permute(1, 2, 0).numpy(), scale


def _percent(value: float) -> str:
    return BLANK if np.isnan(value) else f"{100 * value:.1f}"
