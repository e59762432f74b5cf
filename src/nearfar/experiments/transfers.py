"""Transfer tasks of Table 2 on the data sets that are in the data root."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nearfar.data import Images, require_labels, stratified_split
from nearfar.errors import require
from nearfar.experiments import caltech101
from nearfar.experiments.cells import Column
from nearfar.experiments.runner import fingerprint
from nearfar.models import BackboneEncoder, resolve_device
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

#: The cheapest protocol, and full fine-tuning.
TWO_PROTOCOLS: dict[Protocol, str] = {"linear": "linear", "all": "fine-tuned"}
#: Labels per class to train on; None for all.
LABELS = (5, 20, None)
FCN_STRIDE: Stride = 8
VOC_2007, VOC_2012 = Path("VOCdevkit", "VOC2007"), Path("VOCdevkit", "VOC2012")
#: Title of each protocol, and key of its column in the paper's numbers.
PAPER_PROTOCOLS: dict[str, tuple[str, str]] = {
    "linear": ("FC8", "fc8"),
    "fc": ("FC6-8", "fc6_8"),
    "all": ("all", "all"),
}


@dataclass(frozen=True)
class TaskSizes:
    """Image sizes and fine-tuning options of the transfer tasks.

    Parameters
    ----------
    images : int
        Side of the square images for pre-training and classification, in pixels.
    classification : FinetuneConfig
        Fine-tuning options for classification.
    detected : int
        Shorter image side for detection, in pixels.
    detection : FinetuneConfig
        Fine-tuning options for detection.
    segmented : int
        Shorter image side for segmentation, in pixels.
    segmentation : FinetuneConfig
        Fine-tuning options for segmentation.
    """

    images: int
    classification: FinetuneConfig
    detected: int
    detection: FinetuneConfig
    segmented: int
    segmentation: FinetuneConfig


#: Standard sizes, for a GPU.
FULL = TaskSizes(
    images=224,
    classification=CLASSIFICATION_CONFIG,
    detected=DETECTION_SIZE,
    detection=DETECTION_CONFIG,
    segmented=SEGMENTATION_SIZE,
    segmentation=SEGMENTATION_CONFIG,
)
#: Sizes for an overnight run on two cores.
SMALL = TaskSizes(
    images=64,
    classification=FinetuneConfig(steps=200, batch_size=64, lr=1e-3),
    detected=240,
    detection=FinetuneConfig(steps=300, batch_size=2, lr=2e-4),
    segmented=180,
    segmentation=FinetuneConfig(steps=400, batch_size=8, lr=5e-4),
)
#: Sizes for a run of a minute.
QUICK = TaskSizes(
    images=64,
    classification=FinetuneConfig(steps=2, batch_size=8),
    detected=96,
    detection=FinetuneConfig(steps=2, batch_size=2),
    segmented=96,
    segmentation=FinetuneConfig(steps=2, batch_size=2),
)


@dataclass(frozen=True)
class TransferTask:
    """Transfer task of Table 2.

    Parameters
    ----------
    columns : sequence of Column
        Columns with the results of the task, which are between 0 and 1. `Column.part` is the name
        of the task.
    note : str
        Note below the table.
    settings : mapping
        Settings that affect the results, except for the weights, as JSON types.
    measure : callable
        Function that takes a backbone and a seed, and returns the results by `Column.key`.
    """

    columns: Sequence[Column]
    note: str
    settings: Mapping[str, Any]
    measure: Callable[[BackboneEncoder, int], dict[str, float]]


def find_tasks(
    root: Path, proposals: Path, sizes: TaskSizes, track: Track = silent
) -> Iterator[tuple[str, TransferTask]]:
    """Yield the name and the transfer task of each data set that is in the data root.

    Parameters
    ----------
    root : Path
        Data root, which contains data sets in their original layout.
    proposals : Path
        Folder for the region proposals of detection tasks.
    sizes : TaskSizes
        Image sizes and fine-tuning options of the tasks.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    """
    if (root / caltech101.FOLDER).is_dir():
        images = caltech101.of_classes(
            caltech101.CLASSES, root, quick=False, size=sizes.images, track=track
        )
        yield "caltech", few_labels("caltech", "Caltech-9", images, sizes, track)
    detect_in = partial(detection, sizes=sizes, proposals=proposals, track=track)
    segment_in = partial(segmentation, sizes=sizes, track=track)
    for make, name, folder, splits in (
        (detect_in, "bccd", Path("bccd"), ("trainval", "test")),
        (segment_in, "camvid", Path("camvid"), ("train", "test")),
        (
            partial(classification, sizes=sizes, track=track),
            "voc-classes",
            VOC_2007,
            ("trainval", "test"),
        ),
        (detect_in, "voc-boxes", VOC_2007, ("trainval", "test")),
        (segment_in, "voc-masks", VOC_2012, ("train", "val")),
    ):
        if (root / folder).is_dir():
            yield name, make(name, root / folder, splits)


def few_labels(
    name: str, title: str, images: Images, sizes: TaskSizes, track: Track = silent
) -> TransferTask:
    """Return the task of single-label classification, with few labels and with all labels.

    Each seed holds out a different random fifth of the images for testing.
    """
    labels = require_labels(images)

    def measure(backbone: BackboneEncoder, seed: int) -> dict[str, float]:
        rows, held = stratified_split(images, seed)
        test = single_label_set(images, labels, held)
        results = {}
        for count in LABELS:
            chosen = rows if count is None else subsample_per_class(labels, rows, count, seed)
            train = single_label_set(images, labels, chosen)
            for protocol in TWO_PROTOCOLS:
                scores = _classify(backbone, train, test, protocol, sizes, seed, track)
                results[f"{protocol}-{count or 'every'}"] = scores["accuracy"]
        return results

    columns = [
        Column(
            f"{protocol}-{count or 'every'}",
            f"{title}, {count or 'all'} labels, {shown}",
            part=name,
        )
        for protocol, shown in TWO_PROTOCOLS.items()
        for count in LABELS
    ]
    note = (
        f"{title}: accuracy, {len(images):,} images of {len(images.classes or ())} classes, of "
        "which each seed holds out its own fifth; labels per class; a linear classifier on the "
        f"embeddings or everything fine-tuned; {images.shape[1]} pixels per side"
    )
    settings = {"images": fingerprint(images), "schedule": asdict(sizes.classification)}
    return TransferTask(columns, note, settings, measure)


def classification(
    name: str, root: Path, splits: Sequence[str], *, sizes: TaskSizes, track: Track = silent
) -> TransferTask:
    """Return the task of multi-label classification, with three protocols."""
    devkit = Devkit.open(root)
    train, test = (open_classification_set(devkit, split, sizes.images, track) for split in splits)

    def measure(backbone: BackboneEncoder, seed: int) -> dict[str, float]:
        return {
            protocol: _classify(backbone, train, test, protocol, sizes, seed, track)[
                "mAP, 11 points"
            ]
            for protocol in PROTOCOLS
        }

    columns = [
        Column(protocol, f"{root.name}, {title}", part=name, paper=paper)
        for protocol, (title, paper) in PAPER_PROTOCOLS.items()
    ]
    note = f"{root.name}: 11-point mAP, {len(train.images):,} and {len(test.images):,} images"
    settings = {
        **_identify(devkit, splits, [len(train.images), len(test.images)]),
        "size": sizes.images,
        "schedule": asdict(sizes.classification),
    }
    return TransferTask(columns, note, settings, measure)


def detection(
    name: str,
    root: Path,
    splits: Sequence[str],
    *,
    sizes: TaskSizes,
    proposals: Path,
    track: Track = silent,
) -> TransferTask:
    """Return the task of object detection with Fast R-CNN."""
    require("cv2.ximgproc", extra="detection")
    devkit = Devkit.open(root)

    def scenes(split: str) -> DetectionSet:
        return open_detection_set(devkit, split, sizes.detected, proposals / name, track)

    def measure(backbone: BackboneEncoder, seed: int) -> dict[str, float]:
        device, (train, test) = resolve_device("auto"), map(scenes, splits)
        schedule = replace(sizes.detection, seed=seed)
        model = finetune_detector(backbone, train, schedule, device=device, track=track)
        found = model.predict_set(test, track=track)
        precision = detection_ap(found, test.objects, len(devkit.classes), "11")
        return {"detection": float(np.nanmean(precision))}

    counts = [len(devkit.split("Main", split)) for split in splits]
    column = _column(
        "detection", f"{root.name}, boxes", name, comparable=VOC_2007.name == root.name
    )
    schedule = sizes.detection
    note = (
        f"{root.name}, boxes: 11-point mAP by Fast R-CNN, "
        f"{_extent(counts, sizes.detected, schedule)}"
    )
    settings = {
        **_identify(devkit, splits, counts),
        "size": sizes.detected,
        "schedule": asdict(schedule),
    }
    return TransferTask([column], note, settings, measure)


def segmentation(
    name: str, root: Path, splits: Sequence[str], *, sizes: TaskSizes, track: Track = silent
) -> TransferTask:
    """Return the task of semantic segmentation with FCN-8s."""
    devkit = Devkit.open(root)
    train, test = (open_segmentation_set(devkit, split, sizes.segmented, track) for split in splits)

    def measure(backbone: BackboneEncoder, seed: int) -> dict[str, float]:
        device, schedule = resolve_device("auto"), replace(sizes.segmentation, seed=seed)
        model = finetune_segmenter(
            backbone, train, FCN_STRIDE, schedule, device=device, track=track
        )
        counts = model.evaluate(test, track=track)
        return {"segmentation": float(np.nanmean(counts.iou()))}

    counts = [len(train.names), len(test.names)]
    column = _column(
        "segmentation", f"{root.name}, masks", name, comparable=VOC_2012.name == root.name
    )
    schedule = sizes.segmentation
    note = (
        f"{root.name}, masks: mIoU by FCN-{FCN_STRIDE}s, "
        f"{_extent(counts, sizes.segmented, schedule)}"
    )
    settings = {
        **_identify(devkit, splits, counts),
        "size": sizes.segmented,
        "fcn": FCN_STRIDE,
        "schedule": asdict(schedule),
    }
    return TransferTask([column], note, settings, measure)


def _column(key: str, title: str, part: str, *, comparable: bool) -> Column:
    """Return a column. It shows the numbers from the paper only if these are for the same data."""
    return Column(key, title, part=part, paper=None if comparable else "")


def _extent(counts: Sequence[int], side: int, schedule: FinetuneConfig) -> str:
    return (
        f"{counts[0]:,} and {counts[1]:,} images, {side} pixels on the shorter side, "
        f"{schedule.steps:,} steps of {schedule.batch_size}"
    )


def _classify(
    backbone: BackboneEncoder,
    train: ClassificationSet,
    test: ClassificationSet,
    protocol: Protocol,
    sizes: TaskSizes,
    seed: int,
    track: Track,
) -> Mapping[str, float]:
    """Fine-tune a classifier, and return its metrics on the test images."""
    schedule = replace(sizes.classification, seed=seed)
    device = resolve_device("auto")
    model = finetune_classifier(backbone, train, protocol, schedule, device=device, track=track)
    return classification_metrics(model.scores(test.images), test)


def _identify(devkit: Devkit, splits: Sequence[str], counts: Sequence[int]) -> dict[str, Any]:
    return {
        "devkit": devkit.root.name,
        "classes": devkit.mask_classes,
        "splits": list(splits),
        "images": list(counts),
    }
