"""Object detection with Fast R-CNN [1]_ on a backbone.

References
----------
.. [1] R. Girshick, "Fast R-CNN", ICCV 2015.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align

from nearfar.errors import NearfarError
from nearfar.models import BackboneEncoder, FeatureGrid, resolve_device
from nearfar.progress import Track, silent
from nearfar.transfer.annotations import Objects, read_objects
from nearfar.transfer.backbones import BackboneSpec
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.finetuning import FinetuneConfig, finetune_network
from nearfar.transfer.heads import REGION_GRID, region_head
from nearfar.transfer.metrics import Detections, detection_ap
from nearfar.transfer.pictures import PADDING, Picture, pad_and_stack, read_each, read_scaled
from nearfar.transfer.proposals import Boxes, propose, selective_search
from nearfar.transfer.storage import write_finetuned

#: Shorter image side in pixels, as in Fast R-CNN.
DETECTION_SIZE = 600
DETECTION_CONFIG = FinetuneConfig(steps=20_000, batch_size=2, lr=1e-4)

#: Options for torchvision's `RoIHeads`, as in Fast R-CNN.
_ROI_OPTIONS: dict[str, Any] = {
    "fg_iou_thresh": 0.5,
    "bg_iou_thresh": 0.5,
    "batch_size_per_image": 128,
    "positive_fraction": 0.25,
    # Reciprocals of Fast R-CNN's standard deviations.
    "bbox_reg_weights": (10.0, 10.0, 5.0, 5.0),
    "score_thresh": 0.01,
    "nms_thresh": 0.3,
    "detections_per_img": 100,
}


@dataclass(frozen=True)
class DetectionSet:
    """Images for object detection, with annotated objects and region proposals.

    Parameters
    ----------
    devkit : Devkit
        Devkit that contains the images.
    names : sequence of str
        Names of the n images.
    objects : sequence of Objects
        Annotated objects in each image.
    proposals : sequence of float32[m, 4]
        Region proposals for each image, with coordinates as in `Objects`.
    size : int
        Length to which the shorter side of images is scaled, in pixels.

    Examples
    --------
    >>> DetectionSet(Devkit(Path("VOC2007"), ("cat",)), [], [], [], 600).size
    600
    """

    devkit: Devkit
    names: Sequence[str]
    objects: Sequence[Objects]
    proposals: Sequence[Boxes]
    size: int

    def pictures(self) -> list[Path]:
        """Return the paths of the images."""
        return [self.devkit.image(name) for name in self.names]


def open_detection_set(
    devkit: Devkit,
    split: str,
    size: int,
    proposals: str | os.PathLike[str] | None = None,
    track: Track = silent,
) -> DetectionSet:
    """Return the images in a split of a devkit, with annotated objects and region proposals.

    Parameters
    ----------
    devkit : Devkit
        Devkit that contains the images.
    split : str
        Name of the split.
    size : int
        Length to which the shorter side of images is scaled, in pixels.
    proposals : Path, optional
        Cache folder for proposals, see `nearfar.transfer.propose`.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If a file of the devkit cannot be used, or all objects are difficult. See also
        `nearfar.transfer.propose`.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     train = open_detection_set(devkit, "train", 96, Path(folder, "proposals"))
    >>> len(train.proposals)
    2
    """
    proposals = None if proposals is None else Path(proposals)
    names = devkit.split("Main", split)
    objects = list(read_each(devkit, names, read_objects, track))
    if all(each.difficult.all() for each in objects):
        raise NearfarError(
            f"the split {split!r} of {str(devkit.root)!r} has no objects, or only difficult ones: "
            "expected objects to detect"
        )
    return DetectionSet(devkit, names, objects, propose(devkit, names, proposals, track), size)


class RegionPooling(nn.Module):
    """Region pooling for torchvision's `RoIHeads`: pools the features in each box into 6×6 cells.

    Parameters
    ----------
    cells : FeatureGrid
        Positions of the cells of the feature map in the image.

    Examples
    --------
    >>> pooling = RegionPooling(FeatureGrid(stride=16))
    >>> boxes = [torch.tensor([[0.0, 0.0, 64.0, 64.0]])]
    >>> pooling({"map": torch.rand(1, 8, 6, 6)}, boxes, [(96, 96)]).shape
    torch.Size([1, 8, 6, 6])
    """

    def __init__(self, cells: FeatureGrid) -> None:
        super().__init__()
        self.cells = cells

    def forward(
        self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """Return the features in all boxes of a batch, pooled to 6×6 cells (float[m, k, 6, 6]).

        `maps` contains a single feature map (float[b, k, h, w]). `sizes` is unused.
        """
        (values,) = maps.values()
        stride, (down, right) = self.cells
        # RoIAlign treats cells as tiles, and reads zeros one cell beyond the last one.
        shift = torch.tensor([right, down, right, down], device=values.device) - stride / 2
        moved = [each - shift for each in boxes]
        values = pad(values, (0, 1, 0, 1), mode="replicate")
        return roi_align(values, moved, REGION_GRID, 1 / stride, sampling_ratio=2, aligned=True)


class FastRCNN(nn.Module):
    """Fast R-CNN: a network that classifies region proposals and refines their boxes.

    The features of the backbone are computed for the whole image, and the head of the backbone is
    applied to each region.

    Parameters
    ----------
    backbone : BackboneEncoder
        Backbone. A copy is used.
    num_classes : int
        Number of classes, excluding the background.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> network = FastRCNN(spec.build(), 3).eval()
    >>> boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    >>> detections, _ = network([torch.rand(3, 96, 128)], [boxes])
    >>> sorted(detections[0])
    ['boxes', 'labels', 'scores']
    """

    def __init__(self, backbone: BackboneEncoder, num_classes: int) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.regions = RoIHeads(
            box_roi_pool=RegionPooling(backbone.grid),
            box_head=region_head(backbone),
            box_predictor=FastRCNNPredictor(backbone.embedding_size, num_classes + 1),
            **_ROI_OPTIONS,
        )
        self.backbone.head = nn.Sequential()

    def forward(
        self,
        images: Sequence[Tensor],
        boxes: Sequence[Tensor],
        truth: Sequence[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the detections in evaluation mode, or the losses in training mode.

        Parameters
        ----------
        images : sequence of float[3, h, w]
            Images, with values in [0, 1].
        boxes : sequence of float[m, 4]
            Region proposals for each image.
        truth : sequence of dict, optional
            Ground truth of each image, required for training: "boxes" (float[t, 4]) and "labels"
            (int64[t], from 1).

        Returns
        -------
        detections, losses
            See `torchvision.models.detection.roi_heads.RoIHeads`.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        maps = {"map": self.backbone.feature_map(pad_and_stack(list(images), PADDING))}
        detections, losses = self.regions(
            maps, list(boxes), sizes, None if truth is None else list(truth)
        )
        return detections, losses


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetunedDetector:
    """Fine-tuned object detector.

    Parameters
    ----------
    network : FastRCNN
        Trained network.
    backbone : BackboneSpec
        Architecture of the backbone.
    classes : tuple of str
        Names of the classes.
    size : int
        Length to which the shorter side of images is scaled, in pixels.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> network = FastRCNN(spec.build(), 1).eval()
    >>> detector = FinetunedDetector(network=network, backbone=spec, classes=("cat",), size=96)
    >>> boxes = np.array([[0, 0, 60, 60]], np.float32)
    >>> picture = np.zeros((96, 128, 3), np.uint8)
    >>> (detections,) = detector.predict([picture], proposals=[boxes])
    >>> detections.boxes.shape[1]
    4
    """

    task: ClassVar[str] = "detection"

    network: FastRCNN
    backbone: BackboneSpec
    classes: tuple[str, ...]
    size: int

    def predict(
        self,
        pictures: Sequence[Picture],
        *,
        proposals: Sequence[Boxes] | None = None,
        track: Track = silent,
    ) -> Iterator[Detections]:
        """Yield the objects that are detected in each image.

        Parameters
        ----------
        pictures : sequence of path or uint8[h, w, 3]
            Images of any size.
        proposals : sequence of float32[m, 4], optional
            Region proposals for each image. Default: proposals from selective search, which needs
            OpenCV.
        track : Track
            Progress display, see `nearfar.progress.Track`.

        Yields
        ------
        Detections
            Detections in one image: boxes in pixels of the original image, class numbers from 0,
            and scores in [0, 1].

        Raises
        ------
        NearfarError
            If an image cannot be read, or OpenCV is needed but not installed.
        """
        return self._predict(pictures, proposals, track)

    @torch.no_grad()
    def _predict(
        self, pictures: Sequence[Picture], proposals: Sequence[Boxes] | None, track: Track
    ) -> Iterator[Detections]:
        device = next(self.network.parameters()).device
        for row, picture in enumerate(track(pictures, "detecting", len(pictures))):
            regions = selective_search(picture) if proposals is None else proposals[row]
            image, scale = read_scaled(picture, self.size)
            boxes = torch.from_numpy(regions) * scale
            ((detections,), _) = self.network([image.to(device)], [boxes.to(device)])
            yield Detections(
                (detections["boxes"].cpu() / scale).numpy().astype(np.float32),
                detections["labels"].cpu().numpy() - 1,
                detections["scores"].cpu().numpy(),
            )

    def predict_set(self, test: DetectionSet, *, track: Track = silent) -> list[Detections]:
        """Return the detections in each image of a set, using the region proposals of the set."""
        return list(self.predict(test.pictures(), proposals=test.proposals, track=track))

    def evaluate(self, test: DetectionSet, *, track: Track = silent) -> dict[str, Any]:
        """Return the average precision per class on test images, see `detection_metrics`."""
        return detection_metrics(self.predict_set(test, track=track), test)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the weights (safetensors) and the configuration (JSON) to a folder.

        Use `load_finetuned` to read the detector.
        """
        config = {
            "task": self.task,
            "backbone": vars(self.backbone),
            "classes": list(self.classes),
            "size": self.size,
        }
        write_finetuned(Path(folder), self.network, config)

    @classmethod
    def from_config(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> FinetunedDetector:
        """Return the detector with the given configuration and weights, as written by `save`."""
        backbone, classes = BackboneSpec(**config["backbone"]), tuple(config["classes"])
        network = FastRCNN(backbone.build(), len(classes))
        network.load_state_dict(tensors)
        return cls(network=network.eval(), backbone=backbone, classes=classes, size=config["size"])


def detection_metrics(detections: Sequence[Detections], test: DetectionSet) -> dict[str, Any]:
    """Return the average precision per class, float64[k], as a dictionary.

    The keys are "AP, 11 points" and "AP, all points", see `average_precision`.
    """
    return {
        "AP, 11 points": detection_ap(detections, test.objects, len(test.devkit.classes), "11"),
        "AP, all points": detection_ap(detections, test.objects, len(test.devkit.classes), "all"),
    }


def finetune_detector(
    backbone: BackboneEncoder,
    train: DetectionSet,
    config: FinetuneConfig = DETECTION_CONFIG,
    *,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> FinetunedDetector:
    """Train Fast R-CNN with a backbone.

    Difficult objects are ignored. An image without proposals is used only if it contains an object
    that is not difficult.

    Parameters
    ----------
    backbone : BackboneEncoder
        Backbone. A copy is trained; the backbone itself is not changed.
    train : DetectionSet
        Training images.
    config : FinetuneConfig
        Training options.
    device : str or torch.device
        Device for training.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    FinetunedDetector
        Trained detector.

    Raises
    ------
    NearfarError
        If an image can no longer be read, or the loss becomes NaN or infinite.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 8))
    ...     names = devkit.split("Main", "train")
    ...     objects = [read_objects(devkit, name) for name in names]
    ...     train = DetectionSet(devkit, names, objects, [each.boxes for each in objects], 96)
    ...     config = FinetuneConfig(steps=1, batch_size=1)
    ...     finetune_detector(spec.build(), train, config, device="cpu").classes
    ('disc', 'square', 'triangle')
    """
    boxes_of = zip(train.objects, train.proposals, strict=True)
    used = [
        row
        for row, (objects, proposals) in enumerate(boxes_of)
        if len(proposals) or not objects.difficult.all()
    ]
    target = resolve_device(device)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = FastRCNN(backbone, len(train.devkit.classes)).to(target)

    def loss(rows: Tensor) -> Tensor:
        images, boxes, truth = [], [], []
        for row in (used[number] for number in rows.tolist()):
            image, scale = read_scaled(train.devkit.image(train.names[row]), train.size)
            objects = train.objects[row]
            easy = ~objects.difficult
            true = torch.from_numpy(objects.boxes[easy]) * scale
            proposed = torch.from_numpy(train.proposals[row]) * scale
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
                true, proposed = (_mirror(each, image.shape[-1]) for each in (true, proposed))
            images.append(image.to(target))
            boxes.append(proposed.to(target))
            labels = torch.from_numpy(objects.labels[easy]) + 1
            truth.append({"boxes": true.to(target), "labels": labels.to(target)})
        _, losses = network(images, boxes, truth)
        return torch.stack(list(losses.values())).sum()

    finetune_network(network, loss, len(used), config, track)
    return FinetunedDetector(
        network=network,
        backbone=BackboneSpec.of(backbone),
        classes=train.devkit.classes,
        size=train.size,
    )


def _mirror(boxes: Tensor, width: int) -> Tensor:
    """Return the boxes (float[m, 4]) for the mirror image of an image with the given width."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)
