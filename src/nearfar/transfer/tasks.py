"""Transfer tasks: fine-tuning of pretrained weights, and evaluation of the result."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch

from nearfar.data import Images, Subset, open_images
from nearfar.errors import NearfarError
from nearfar.models import BackboneEncoder, resolve_device
from nearfar.progress import Track, silent
from nearfar.transfer.backbones import backbone_of, initialize_backbone, open_backbone
from nearfar.transfer.classification import (
    CLASSIFICATION_CONFIG,
    PROTOCOLS,
    Protocol,
    check_image_shape,
    classification_metrics,
    finetune_classifier,
)
from nearfar.transfer.classification_data import (
    ClassificationSet,
    open_classification_set,
    open_devkit_images,
    split_labeled_images,
)
from nearfar.transfer.detection import (
    DETECTION_CONFIG,
    DETECTION_SIZE,
    DetectionSet,
    detection_metrics,
    finetune_detector,
    open_detection_set,
)
from nearfar.transfer.devkit import IMAGE_FOLDER, Devkit
from nearfar.transfer.finetuning import FinetuneConfig
from nearfar.transfer.layout import CONFIG, PROPOSALS_FOLDER, WEIGHTS
from nearfar.transfer.loading import Finetuned
from nearfar.transfer.segmentation import (
    SEGMENTATION_CONFIG,
    SEGMENTATION_SIZE,
    SegmentationSet,
    Stride,
    finetune_segmenter,
    open_segmentation_set,
    skip_channels,
)
from nearfar.transfer.storage import claim_folder, open_output

PathLike = str | os.PathLike[str]
F = TypeVar("F", bound=Callable[..., "TransferResult"])


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights to transfer, and options for training.

    Parameters
    ----------
    weights : str
        See `open_backbone`.
    like : path, optional
        See `open_backbone`.
    size : int, optional
        Image size in pixels. For classification, it is the side of square images; otherwise, it is
        the length of the shorter side. The default depends on the task.
    config : FinetuneConfig, optional
        Training options. The default depends on the task.
    folder : path, optional
        Output folder, see `TransferResult.save`. It is created before any data is read, so that
        errors occur early.
    device : {"auto", "cpu", "cuda", "mps"}
        Device for training.
    track : callable
        Progress display, see `nearfar.progress.Track`.

    Examples
    --------
    >>> Source(weights="random", device="cpu").size is None
    True
    """

    weights: str
    like: PathLike | None = None
    size: int | None = None
    config: FinetuneConfig | None = None
    folder: PathLike | None = None
    device: str | torch.device = "auto"
    track: Track = silent


@dataclass(frozen=True, kw_only=True)
class TransferResult:
    """Scores and networks of a transfer task.

    Parameters
    ----------
    task : {"classify", "detect", "segment"}
        Name of the task.
    scores : mapping of str to mapping of str to float
        For each row of the table (protocol or class), the score in each column (metric). Scores are
        in [0, 1], or NaN if unknown.
    settings : mapping of str to object
        All settings that affect the scores, by name, as JSON types.
    notes : sequence of str
        Notes below the table.
    models : mapping of str to fine-tuned network
        Fine-tuned networks. For classification, the keys are the protocols. For other tasks, the
        only key is the name of the task.
    test : ClassificationSet, DetectionSet or SegmentationSet
        Test images.
    predictions : array or list of Detections, optional
        For classification, the scores of the last classifier (float32[n, k]). For detection, the
        detections in each test image.

    Examples
    --------
    >>> TransferResult(
    ...     task="classify", scores={"all": {"accuracy": 0.5}}, settings={}, notes=[], models={},
    ...     test=None, predictions=None,
    ... ).scores["all"]
    {'accuracy': 0.5}
    """

    task: str
    scores: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]
    notes: Sequence[str]
    models: Mapping[str, Finetuned]
    test: ClassificationSet | DetectionSet | SegmentationSet | None
    predictions: Any = None

    def open_output(self, folder: PathLike) -> AbstractContextManager[None]:
        """Context manager that marks a folder as unfinished while results are written to it.

        Raises
        ------
        NearfarError
            If the folder is not writable.
        """
        extensions = ("json", "md", "png")
        names = (
            *PROTOCOLS,
            CONFIG,
            WEIGHTS,
            *(f"{self.task}.{extension}" for extension in extensions),
        )
        return open_output(Path(folder), names)

    def save(self, folder: PathLike) -> None:
        """Write the fine-tuned networks to a folder.

        Each classifier is written to a subfolder that is named after the protocol.

        Raises
        ------
        NearfarError
            If the folder is not writable.
        """
        for name, model in self.models.items():
            model.save(Path(folder, name if self.task == "classify" else ""))


def _claims_folder(transfer: F) -> F:
    """Decorator that creates the output folder first, and removes it if it is empty on error."""

    @functools.wraps(transfer)
    def claiming(source: Source, *arguments: Any, **options: Any) -> TransferResult:
        with claim_folder(None if source.folder is None else Path(source.folder)):
            return transfer(source, *arguments, **options)

    return cast(F, claiming)


@_claims_folder
def transfer_classification(
    source: Source,
    data: PathLike,
    *,
    protocols: Sequence[Protocol] = PROTOCOLS,
    splits: tuple[str, str] | None = None,
    test: PathLike | None = None,
    labels_per_class: int | None = None,
    open_source: Callable[..., Images] = open_images,
) -> TransferResult:
    """Transfer weights to classification of single-label images or of a VOC devkit.

    Parameters
    ----------
    source : Source
        Weights and training options.
    data : path
        VOC devkit, with one or several classes per image; or images with exactly one class each.
    protocols : sequence of {"linear", "fc", "all"}
        See `finetune_classifier`.
    splits : tuple of str, optional
        Training and test splits of a devkit. Default: "trainval" and "test".
    test : path, optional
        Test images, unless `data` is a devkit. Default: a fifth of each class is held out.
    labels_per_class : int, optional
        Number of training images per class, unless `data` is a devkit. Default: all.
    open_source : callable
        Function that takes a path and the keyword arguments `size` and `channels`, and returns
        `Images`. Default: `nearfar.data.open_images`.

    Raises
    ------
    NearfarError
        If the weights, the data or the folder cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_classes
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file(resnet18().state_dict(), f"{folder}/weights.safetensors")
    ...     data = write_classes(Path(folder, "shapes"), 10)
    ...     source = Source(weights=f"{folder}/weights.safetensors", size=32, device="cpu")
    ...     result = transfer_classification(source, data, protocols=["linear"])
    >>> list(result.scores["linear"])
    ['accuracy']
    """
    if not protocols:
        raise NearfarError(f"no protocols: expected one or more of {', '.join(PROTOCOLS)}")
    backbone, config, device = _open(source, CLASSIFICATION_CONFIG)
    size = source.size or max(backbone_of(source.weights, source.like)[1][1:])
    for protocol in protocols:
        check_image_shape(backbone, (3, size, size), protocol, config)
    if (Path(data) / IMAGE_FOLDER).is_dir():
        if test is not None or labels_per_class is not None:
            raise NearfarError(
                f"test and labels_per_class do not apply to a devkit, such as {str(data)!r}"
            )
        devkit, splits = Devkit.open(data), splits or ("trainval", "test")
        devkit.check_disjoint("Main", *splits)
        train_set, test_set = (
            open_classification_set(devkit, split, size, source.track) for split in splits
        )
    else:
        if splits is not None:
            raise NearfarError(f"splits apply only to a devkit: {str(data)!r} is not a devkit")
        if test is not None and os.path.realpath(test) == os.path.realpath(data):
            raise NearfarError(
                f"{str(test)!r} is given for training and test: expected other test images, or "
                "none, to hold out a fifth"
            )
        train_set, test_set = split_labeled_images(
            open_source(data, size=size, channels=3),
            None if test is None else open_source(test, size=size, channels=3),
            labels_per_class=labels_per_class,
            seed=config.seed,
        )
    _initialize(
        source, backbone, config, len(train_set.images), lambda rows: Subset(train_set.images, rows)
    )
    scores: dict[str, Mapping[str, float]] = {}
    models: dict[str, Finetuned] = {}
    for protocol in protocols:
        model = finetune_classifier(
            backbone, train_set, protocol, config, device=device, track=source.track
        )
        models[protocol] = model
        predictions = model.scores(test_set.images)
        scores[protocol] = classification_metrics(predictions, test_set)
    return TransferResult(
        task="classify",
        scores=scores,
        settings={
            **_settings(source, config, device),
            "data": str(data),
            "size": size,
            "splits": splits,
            "test": None if test is None else str(test),
            "labels_per_class": labels_per_class,
            "protocols": protocols,
        },
        notes=[
            f"{len(train_set.images):,} training images of {train_set.images.name}, "
            f"{len(test_set.images):,} test images of {test_set.images.name}, {size} pixels per "
            "side."
        ],
        models=models,
        test=test_set,
        predictions=predictions,
    )


@_claims_folder
def transfer_detection(
    source: Source,
    data: PathLike,
    *,
    splits: tuple[str, str] = ("trainval", "test"),
    proposals: PathLike | None = None,
) -> TransferResult:
    """Transfer weights to object detection with Fast R-CNN. This needs OpenCV.

    Parameters
    ----------
    source : Source
        Weights and training options.
    data : path
        VOC devkit.
    splits : tuple of str
        Training and test splits.
    proposals : path, optional
        Cache folder for region proposals. Default: the subfolder "proposals" of `source.folder`;
        without `source.folder`, no cache.

    Raises
    ------
    NearfarError
        If the weights, the data or the folder cannot be used, or OpenCV is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> config = FinetuneConfig(steps=1, batch_size=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file(resnet18().state_dict(), f"{folder}/weights.safetensors")
    ...     weights = f"{folder}/weights.safetensors"
    ...     source = Source(weights=weights, size=96, config=config, device="cpu")
    ...     data = write_scenes(Path(folder, "VOC"), 4)
    ...     result = transfer_detection(source, data, splits=("train", "test"))
    >>> list(result.scores)
    ['disc', 'square', 'triangle', 'mean']
    """
    backbone, config, device = _open(source, DETECTION_CONFIG)
    devkit, size = Devkit.open(data), source.size or DETECTION_SIZE
    devkit.check_disjoint("Main", *splits)
    if proposals is None and source.folder is not None:
        proposals = Path(source.folder) / PROPOSALS_FOLDER
    cache = None if proposals is None else Path(proposals)
    train_set, test_set = (
        open_detection_set(devkit, split, size, cache, source.track) for split in splits
    )
    _initialize_on_devkit(source, backbone, config, train_set)
    model = finetune_detector(backbone, train_set, config, device=device, track=source.track)
    detections = model.predict_set(test_set, track=source.track)
    return TransferResult(
        task="detect",
        scores=_with_mean(devkit.classes, detection_metrics(detections, test_set)),
        settings={
            **_settings(source, config, device),
            "data": str(data),
            "size": size,
            "splits": splits,
            "proposals": None if cache is None else str(cache),
        },
        notes=[_describe(train_set, test_set, data)],
        models={"detect": model},
        test=test_set,
        predictions=detections,
    )


@_claims_folder
def transfer_segmentation(
    source: Source,
    data: PathLike,
    *,
    splits: tuple[str, str] = ("train", "val"),
    stride: Stride = 32,
) -> TransferResult:
    """Transfer weights to semantic segmentation with an FCN.

    Parameters
    ----------
    source : Source
        Weights and training options.
    data : path
        VOC devkit.
    splits : tuple of str
        Training and test splits.
    stride : {32, 16, 8}
        See `FCN`.

    Raises
    ------
    NearfarError
        If the weights, the data or the folder cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> from safetensors.torch import save_file
    >>> from torchvision.models import resnet18
    >>> config = FinetuneConfig(steps=1, batch_size=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file(resnet18().state_dict(), f"{folder}/weights.safetensors")
    ...     weights = f"{folder}/weights.safetensors"
    ...     source = Source(weights=weights, size=64, config=config, device="cpu")
    ...     result = transfer_segmentation(source, write_scenes(Path(folder, "VOC"), 4))
    >>> list(result.scores)
    ['background', 'disc', 'square', 'triangle', 'mean']
    """
    backbone, config, device = _open(source, SEGMENTATION_CONFIG)
    skip_channels(backbone, stride)
    devkit, size = Devkit.open(data), source.size or SEGMENTATION_SIZE
    devkit.check_disjoint("Segmentation", *splits)
    train_set = open_segmentation_set(devkit, splits[0], size, source.track)
    test_set = open_segmentation_set(devkit, splits[1], size, source.track, colors=train_set.colors)
    _initialize_on_devkit(source, backbone, config, train_set)
    model = finetune_segmenter(
        backbone, train_set, stride, config, device=device, track=source.track
    )
    matrix = model.evaluate(test_set, track=source.track)
    return TransferResult(
        task="segment",
        scores=_with_mean(devkit.mask_classes, {"IoU": matrix.iou()}),
        settings={
            **_settings(source, config, device),
            "data": str(data),
            "size": size,
            "splits": splits,
            "fcn": stride,
        },
        notes=[
            f"FCN-{stride}s. {_describe(train_set, test_set, data)} Evaluated at the size of the "
            "files."
        ],
        models={"segment": model},
        test=test_set,
    )


def _open(
    source: Source, default: FinetuneConfig
) -> tuple[BackboneEncoder, FinetuneConfig, torch.device]:
    """Return the backbone, the training options and the device for a transfer."""
    device = resolve_device(source.device)
    config = source.config or default
    return open_backbone(source.weights, like=source.like, seed=config.seed), config, device


def _initialize(
    source: Source,
    backbone: BackboneEncoder,
    config: FinetuneConfig,
    n: int,
    choose: Callable[[list[int]], Images],
) -> None:
    initialize_backbone(backbone, source.weights, n, choose, seed=config.seed, track=source.track)


def _initialize_on_devkit(
    source: Source,
    backbone: BackboneEncoder,
    config: FinetuneConfig,
    train: DetectionSet | SegmentationSet,
) -> None:
    def choose(rows: list[int]) -> Images:
        return open_devkit_images(train.devkit, [train.names[row] for row in rows], train.size)

    _initialize(source, backbone, config, len(train.names), choose)


def _settings(source: Source, config: FinetuneConfig, device: torch.device) -> dict[str, Any]:
    return {
        "weights": source.weights,
        "like": None if source.like is None else str(source.like),
        "schedule": asdict(config),
        "device": str(device),
    }


def _describe(
    train: DetectionSet | SegmentationSet, test: DetectionSet | SegmentationSet, data: PathLike
) -> str:
    return (
        f"{len(train.names):,} training images, {len(test.names):,} test images, of {data}; "
        f"{train.size} pixels on the shorter side."
    )


def _with_mean(names: Sequence[str], columns: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the scores of each class as a row, and a row "mean" with the mean over the classes.

    Classes without a value (NaN) are left out of the mean.
    """
    rows = {
        name: {title: float(values[row]) for title, values in columns.items()}
        for row, name in enumerate(names)
    }
    return {**rows, "mean": {title: float(np.nanmean(each)) for title, each in columns.items()}}
