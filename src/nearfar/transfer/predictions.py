"""Files with predictions for new images: probabilities, detections or label maps."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from nearfar.data import Images, StoredImages, UnreadableError, to_unit
from nearfar.errors import NearfarError
from nearfar.files import atomic_path, fitting_name, write_json
from nearfar.progress import Track, silent
from nearfar.transfer.classification import FinetunedClassifier
from nearfar.transfer.detection import FinetunedDetector
from nearfar.transfer.label_maps import voc_color, write_label_map
from nearfar.transfer.loading import Finetuned
from nearfar.transfer.metrics import Detections
from nearfar.transfer.pictures import Picture, read_full_size
from nearfar.transfer.segmentation import FinetunedSegmenter
from nearfar.transfer.storage import open_output

#: Names of all output files and folders.
_OWN = ("predictions.csv", "detections.json", "drawn", "classes.json", "masks")
#: Minimum score of a detection to draw.
_MIN_DRAWN_SCORE = 0.5


def write_predictions(
    model: Finetuned, images: Images, folder: str | os.PathLike[str], *, track: Track = silent
) -> None:
    """Write predictions for images to a folder.

    For a classifier, ``predictions.csv`` contains the name of each image, the most probable class,
    and the probability of each class. For a detector, ``detections.json`` contains all detections,
    and the subfolder ``drawn`` contains each image with the detected boxes that have a score of at
    least 0.5. For a segmenter, the subfolder ``masks`` contains a label map for each image, as a
    PNG file with the palette of VOC, and ``classes.json`` contains the class names.

    Parameters
    ----------
    model : FinetunedClassifier, FinetunedDetector or FinetunedSegmenter
        Fine-tuned network, see `load_finetuned`.
    images : Images
        Images to predict. For a classifier, they must have the image shape of the classifier. For
        other networks, image files are read again at the original size.
    folder : Path
        Output folder, created if needed.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If an image cannot be read, the image shape does not match the classifier, or the folder is
        not writable.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar.data import ArrayImages
    >>> from nearfar.transfer import BackboneSpec, finetune_classifier, split_labeled_images
    >>> images = ArrayImages(np.zeros((20, 3, 64, 64), np.uint8), np.arange(20) % 2)
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> train, test = split_labeled_images(images)
    >>> classifier = finetune_classifier(spec.build(), train, "linear", device="cpu")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_predictions(classifier, test.images, Path(folder))
    ...     Path(folder, "predictions.csv").read_text().splitlines()[0]
    'name,class,0,1'
    """
    folder = Path(folder)
    names = images.names()
    with open_output(folder, _OWN):
        if isinstance(model, FinetunedClassifier):
            _write_probabilities(model, images, folder, track)
        elif isinstance(model, FinetunedDetector):
            _write_detections(model, names, _pictures(images), folder, track)
        else:
            _write_label_maps(model, names, _pictures(images), folder, track)


def _write_probabilities(
    model: FinetunedClassifier, images: Images, folder: Path, track: Track
) -> None:
    probabilities = model.predict(images, track=track)
    with (
        atomic_path(folder / "predictions.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["name", "class", *model.classes])
        for name, row in zip(images.names(), probabilities, strict=True):
            label = model.classes[int(row.argmax())]
            table.writerow([name, label, *(f"{probability:.6g}" for probability in row)])


def _write_detections(
    model: FinetunedDetector,
    names: Sequence[str],
    pictures: Sequence[Picture],
    folder: Path,
    track: Track,
) -> None:
    lines = []
    for name, picture, detections in zip(
        names, pictures, model.predict(pictures, track=track), strict=True
    ):
        entries = zip(detections.boxes, detections.labels, detections.scores, strict=True)
        lines.append(
            {
                "name": name,
                "detections": [
                    {
                        "class": model.classes[label],
                        "score": float(score),
                        "box": [float(side) for side in box],
                    }
                    for box, label, score in entries
                ],
            }
        )
        with atomic_path(_path_in(folder / "drawn", name)) as temporary:
            _draw(picture, detections, model.classes).save(temporary, format="PNG")
    write_json(folder / "detections.json", {"classes": model.classes, "images": lines})


def _write_label_maps(
    model: FinetunedSegmenter,
    names: Sequence[str],
    pictures: Sequence[Picture],
    folder: Path,
    track: Track,
) -> None:
    for name, label_map in zip(names, model.predict(pictures, track=track), strict=True):
        write_label_map(_path_in(folder / "masks", name), label_map)
    write_json(folder / "classes.json", dict(enumerate(model.classes)))


def _draw(picture: Picture, detections: Detections, classes: Sequence[str]) -> Image.Image:
    """Return an image on which boxes with a score of at least 0.5 are drawn, with class names."""
    image = Image.fromarray(read_full_size(picture))
    pencil = ImageDraw.Draw(image)
    for box, label, score in zip(
        detections.boxes, detections.labels, detections.scores, strict=True
    ):
        if score >= _MIN_DRAWN_SCORE:
            left, top, right, bottom = box.tolist()
            color = voc_color(int(label) + 1)
            pencil.rectangle((left, top, right - 1, bottom - 1), outline=color, width=2)
            pencil.text((left + 3, top + 2), f"{classes[label]} {score:.2f}", fill=color)
    return image


def _pictures(images: Images) -> Sequence[Picture]:
    """Return images at the original size if they are stored in files, otherwise as they are."""
    if isinstance(images, StoredImages):
        return _StoredPictures(images)
    pixels = to_unit(images.batch(range(len(images)))).clamp(0, 1).mul(255).round().byte()
    return list(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy())


class _StoredPictures(Sequence[Picture]):
    """Sequence of stored images, read on demand at the original size."""

    def __init__(self, images: StoredImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: Any) -> Any:
        try:
            return (
                self.images.full_size(range(len(self))[row]).permute(1, 2, 0).contiguous().numpy()
            )
        except UnreadableError as error:
            location = self.images.items[row].location
            raise NearfarError(f"{location!r} cannot be read ({error})") from error


def _path_in(folder: Path, name: str) -> Path:
    """Return the path of a PNG file that is named after an image, and create its parent folders."""
    *folders, file = (fitting_name(part, "") for part in Path(name).parts)
    path = folder.joinpath(*folders, fitting_name(file, ".png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
