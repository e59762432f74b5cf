"""The tasks that Table 2 transfers to, for whichever data sets are at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nearfar.data import Images, hold_out, require_labels
from nearfar.errors import require
from nearfar.experiments import caltech101
from nearfar.experiments.runner import fingerprint
from nearfar.models import Backbone, resolve_device
from nearfar.progress import Track, silent
from nearfar.transfer import (
    CLASSIFICATION_CONFIG,
    DETECTION_CONFIG,
    DETECTION_SIZE,
    PROTOCOLS,
    SEGMENTATION_CONFIG,
    SEGMENTATION_SIZE,
    ClassificationSet,
    DetectionSet,
    Devkit,
    FinetuneConfig,
    Protocol,
    Stride,
    classification_metrics,
    detection_ap,
    finetune_classifier,
    finetune_detector,
    finetune_segmenter,
    open_classification_set,
    open_detection_set,
    open_segmentation_set,
    single_label_set,
    subsample_per_class,
)

#: The cheapest and the whole.
TWO_PROTOCOLS: tuple[Protocol, ...] = ("linear", "all")
#: How many labels of each class are learned from; None for all.
LABELS = (5, 20, None)
FCN_STRIDE: Stride = 8
VOC_2007, VOC_2012 = Path("VOCdevkit", "VOC2007"), Path("VOCdevkit", "VOC2012")

#: The paper's Table 2 by column.
PAPER_COLUMNS = ("fc8", "fc6_8", "all", "detection", "segmentation")
PAPER = {
    row: dict(zip(PAPER_COLUMNS, shares, strict=False))
    for row, shares in {
        "kmeans": (0.320, 0.392, 0.566, 0.456, 0.326),
        "autoencoder": (0.248, 0.160, 0.538, 0.419),
        "NRE": (0.559, 0.712, 0.744, 0.547, 0.511),
    }.items()
}
PAPER_PROTOCOLS = {"linear": "fc8", "fc": "fc6_8", "all": "all"}


@dataclass(frozen=True)
class Sizes:
    """Sides of images in pixels, and how long each task is learned."""

    images: int
    classification: FinetuneConfig
    detected: int
    detection: FinetuneConfig
    segmented: int
    segmentation: FinetuneConfig


#: What is usual, and needs a GPU.
FULL = Sizes(
    images=224,
    classification=CLASSIFICATION_CONFIG,
    detected=DETECTION_SIZE,
    detection=DETECTION_CONFIG,
    segmented=SEGMENTATION_SIZE,
    segmentation=SEGMENTATION_CONFIG,
)
#: What two cores can do in a night.
SMALL = Sizes(
    images=64,
    classification=FinetuneConfig(steps=200, batch_size=64, lr=1e-3),
    detected=240,
    detection=FinetuneConfig(steps=300, batch_size=2, lr=2e-4),
    segmented=180,
    segmentation=FinetuneConfig(steps=400, batch_size=8, lr=5e-4),
)
#: For the sake of a minute.
QUICK = Sizes(
    images=64,
    classification=FinetuneConfig(steps=2, batch_size=8),
    detected=96,
    detection=FinetuneConfig(steps=2, batch_size=2),
    segmented=96,
    segmentation=FinetuneConfig(steps=2, batch_size=2),
)


@dataclass(frozen=True)
class Task:
    """Something to transfer to.

    Parameters
    ----------
    name : str
        What its cells are called.
    columns : mapping of str to str
        The titles of its results.
    note : str
        What a reader has to know.
    settings : mapping
        Everything that decides a result beside the weights: only what JSON holds.
    measure : callable
        From a backbone and a seed to the results, 0…1.
    paper : mapping of str to str
        The columns of `PAPER` that results are comparable with.
    """

    name: str
    columns: Mapping[str, str]
    note: str
    settings: Mapping[str, Any]
    measure: Callable[[Backbone, int], dict[str, float]]
    paper: Mapping[str, str]


def find_tasks(root: Path, proposals: Path, sizes: Sizes, track: Track = silent) -> Iterator[Task]:
    """Yield the tasks whose data are in a folder, in their owners' layout.

    Parameters
    ----------
    proposals : Path
        The folder to keep boxes for detection in.
    """
    if (root / caltech101.FOLDER).is_dir():
        images = caltech101.of_classes(
            caltech101.CLASSES, root, quick=False, size=sizes.images, track=track
        )
        yield few_labels("caltech", "Caltech-9", images, sizes, track)
    if (root / "bccd").is_dir():
        yield detection("bccd", root / "bccd", ("trainval", "test"), proposals, sizes, track)
    if (root / "camvid").is_dir():
        yield segmentation("camvid", root / "camvid", ("train", "test"), sizes, track)
    if (root / VOC_2007).is_dir():
        splits = ("trainval", "test")
        yield classification("voc-classes", root / VOC_2007, splits, sizes, track)
        yield detection("voc-boxes", root / VOC_2007, splits, proposals, sizes, track)
    if (root / VOC_2012).is_dir():
        yield segmentation("voc-masks", root / VOC_2012, ("train", "val"), sizes, track)


def few_labels(name: str, title: str, images: Images, sizes: Sizes, track: Track = silent) -> Task:
    """Classify images of one label each, by few labels and by all; a fifth is held out."""
    labels = require_labels(images)

    def measure(backbone: Backbone, seed: int) -> dict[str, float]:
        rows, held = hold_out(images, seed)
        test = single_label_set(images, labels, held)
        results = {}
        for count in LABELS:
            chosen = rows if count is None else subsample_per_class(labels, rows, count, seed)
            train = single_label_set(images, labels, chosen)
            for protocol in TWO_PROTOCOLS:
                scores = _classify(backbone, train, test, protocol, sizes, seed, track)
                results[f"{protocol}-{count or 'every'}"] = classification_metrics(scores, test)[
                    "accuracy"
                ]
        return results

    columns = {
        f"{protocol}-{count or 'every'}": f"{title}, {count or 'all'} labels, {shown}"
        for protocol, shown in (("linear", "linear"), ("all", "fine-tuned"))
        for count in LABELS
    }
    note = (
        f"{title}: accuracy, {len(images):,} images of {len(images.classes or ())} classes, of "
        "which each seed holds out its own fifth; so many labels of each class, a linear "
        f"classifier on the embeddings or everything fine-tuned; {images.shape[1]} pixels a side"
    )
    settings = {"images": fingerprint(images), "schedule": asdict(sizes.classification)}
    return Task(name, columns, note, settings, measure, {})


def classification(
    name: str, root: Path, splits: Sequence[str], sizes: Sizes, track: Track = silent
) -> Task:
    """Classify images of several labels, by three protocols."""
    devkit = Devkit.open(root)
    train, test = (open_classification_set(devkit, split, sizes.images, track) for split in splits)

    def measure(backbone: Backbone, seed: int) -> dict[str, float]:
        results: dict[str, float] = {}
        for protocol in PROTOCOLS:
            scores = _classify(backbone, train, test, protocol, sizes, seed, track)
            results[protocol] = classification_metrics(scores, test)["mAP, 11 points"]
        return results

    titles: dict[str, str] = {"linear": "FC8", "fc": "FC6-8", "all": "all"}
    columns = {protocol: f"{root.name}, {title}" for protocol, title in titles.items()}
    note = f"{root.name}: 11-point mAP, {len(train.images):,} and {len(test.images):,} images"
    settings = {
        **_identify(devkit, splits, [len(train.images), len(test.images)]),
        "size": sizes.images,
        "schedule": asdict(sizes.classification),
    }
    return Task(name, columns, note, settings, measure, PAPER_PROTOCOLS)


def detection(
    name: str,
    root: Path,
    splits: Sequence[str],
    proposals: Path,
    sizes: Sizes,
    track: Track = silent,
) -> Task:
    """Detect objects by Fast R-CNN."""
    require("cv2.ximgproc", extra="detection")
    devkit = Devkit.open(root)
    folder = proposals / name

    def scenes() -> list[DetectionSet]:
        return [
            open_detection_set(devkit, split, sizes.detected, folder, track) for split in splits
        ]

    def measure(backbone: Backbone, seed: int) -> dict[str, float]:
        device, (train, test) = resolve_device("auto"), scenes()
        schedule = replace(sizes.detection, seed=seed)
        model = finetune_detector(backbone, train, schedule, device=device, track=track)
        found = model.predict_set(test, track=track)
        precision = detection_ap(found, test.objects, len(devkit.classes), "11")
        return {"detection": float(np.nanmean(precision))}

    counts = [len(devkit.split("Main", split)) for split in splits]
    note = (
        f"{root.name}, boxes: 11-point mAP by Fast R-CNN, {counts[0]:,} and {counts[1]:,} images, "
        f"{sizes.detected} pixels on the shorter side, {sizes.detection.steps:,} steps of "
        f"{sizes.detection.batch_size}"
    )
    settings = {
        **_identify(devkit, splits, counts),
        "size": sizes.detected,
        "schedule": asdict(sizes.detection),
    }
    return Task(
        name,
        {"detection": f"{root.name}, boxes"},
        note,
        settings,
        measure,
        {"detection": "detection"} if VOC_2007.name == root.name else {},
    )


def segmentation(
    name: str, root: Path, splits: Sequence[str], sizes: Sizes, track: Track = silent
) -> Task:
    """Segment images by an FCN-8s."""
    devkit = Devkit.open(root)
    train, test = (open_segmentation_set(devkit, split, sizes.segmented, track) for split in splits)

    def measure(backbone: Backbone, seed: int) -> dict[str, float]:
        device, schedule = resolve_device("auto"), replace(sizes.segmentation, seed=seed)
        model = finetune_segmenter(
            backbone, train, FCN_STRIDE, schedule, device=device, track=track
        )
        counts = model.evaluate(test, track=track)
        return {"segmentation": float(np.nanmean(counts.iou()))}

    counts = [len(train.names), len(test.names)]
    note = (
        f"{root.name}, masks: mIoU by FCN-{FCN_STRIDE}s, {counts[0]:,} and {counts[1]:,} images, "
        f"{sizes.segmented} pixels on the shorter side, {sizes.segmentation.steps:,} steps of "
        f"{sizes.segmentation.batch_size}"
    )
    settings = {
        **_identify(devkit, splits, counts),
        "size": sizes.segmented,
        "fcn": FCN_STRIDE,
        "schedule": asdict(sizes.segmentation),
    }
    return Task(
        name,
        {"segmentation": f"{root.name}, masks"},
        note,
        settings,
        measure,
        {"segmentation": "segmentation"} if VOC_2012.name == root.name else {},
    )


def _classify(
    backbone: Backbone,
    train: ClassificationSet,
    test: ClassificationSet,
    protocol: Protocol,
    sizes: Sizes,
    seed: int,
    track: Track,
) -> npt.NDArray[np.float32]:
    schedule = replace(sizes.classification, seed=seed)
    device = resolve_device("auto")
    model = finetune_classifier(backbone, train, protocol, schedule, device=device, track=track)
    return model.scores(test.images)


def _identify(devkit: Devkit, splits: Sequence[str], counts: Sequence[int]) -> dict[str, Any]:
    return {
        "devkit": devkit.root.name,
        "classes": devkit.mask_classes,
        "splits": list(splits),
        "images": list(counts),
    }
