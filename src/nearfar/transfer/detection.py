"""Finding objects by Fast R-CNN [1]_ on a backbone.

References
----------
.. [1] R. Girshick, "Fast R-CNN", ICCV 2015.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align

from nearfar.errors import NearfarError
from nearfar.models.backbones import Backbone
from nearfar.models.receptive_field import FeatureGrid
from nearfar.progress import Track, silent
from nearfar.transfer.annotations import Objects, read_objects
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.heads import GRID, region_head
from nearfar.transfer.metrics import Detections
from nearfar.transfer.proposals import Boxes, propose
from nearfar.transfer.scenes import GROUND, checked, read_scaled, stack
from nearfar.transfer.schedule import Schedule, fit

#: Shorter side of the images, in pixels; Fast R-CNN's.
SIZE = 600
SCHEDULE = Schedule(steps=20_000, batch_size=2, lr=1e-4)

#: Boxes are objects from this overlap on, and background below; as many as this an image are
#: learned from, a quarter of them objects.
OVERLAP, REGIONS, OBJECTS = 0.5, 128, 0.25
#: Factors on the shifts of a box: the reciprocals of Fast R-CNN's standard deviations.
SHIFTS = (10.0, 10.0, 5.0, 5.0)
#: Detections with less are dropped; of those of a class that overlap by more, all but the surest;
#: of the others all but so many an image.
LEAST_SCORE, SUPPRESSED, MOST = 0.01, 0.3, 100


@dataclass(frozen=True)
class Scenes:
    """Images of a devkit with their objects and proposals.

    Parameters
    ----------
    names : sequence of str
        n images.
    objects : sequence of Objects
        In each of them.
    proposals : sequence of float32[m, 4]
        Boxes of each of them.
    size : int
        The shorter side that they are scaled to.
    """

    devkit: Devkit
    names: Sequence[str]
    objects: Sequence[Objects]
    proposals: Sequence[Boxes]
    size: int


def open_scenes(
    devkit: Devkit, split: str, size: int, proposals: Path, track: Track = silent
) -> Scenes:
    """Read all images of a split once, with their objects, and find their proposals or read them.

    Raises
    ------
    NearfarError
        If something in the devkit cannot be used, there are only difficult objects or none, or see
        `nearfar.transfer.proposals.propose`.
    """
    names = devkit.split("Main", split)
    objects = list(checked(devkit, names, read_objects, track))
    if all(each.difficult.all() for each in objects):
        raise NearfarError(
            f"the split {split!r} of {str(devkit.root)!r} has no objects, or only difficult ones: "
            "expected some to find"
        )
    return Scenes(devkit, names, objects, propose(devkit, names, proposals, track), size)


class Regions(nn.Module):
    """Cuts regions out of feature maps, as a part of torchvision's `RoIHeads`.

    Parameters
    ----------
    cells : Cells
        Where the cells of the maps look.
    """

    def __init__(self, cells: FeatureGrid) -> None:
        super().__init__()
        self.cells = cells

    def forward(
        self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
    ) -> Tensor:
        """From a map, float[b, k, h, w], and boxes in each image to float[m, k, 6, 6]."""
        (values,) = maps.values()
        stride, (down, right) = self.cells
        # RoIAlign takes the cells for tiles, and sees zeros one cell beyond the last of them.
        shift = torch.tensor([right, down, right, down], device=values.device) - stride / 2
        moved = [each - shift for each in boxes]
        values = pad(values, (0, 1, 0, 1), mode="replicate")
        return roi_align(values, moved, GRID, 1 / stride, sampling_ratio=2, aligned=True)


class FastRCNN(nn.Module):
    """A backbone's features, its head on regions of them, and a layer for classes and boxes.

    Parameters
    ----------
    backbone : Backbone
        A copy of it is taken.
    classes : int
        k, without the background.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.regions = RoIHeads(
            Regions(backbone.grid),
            region_head(backbone),
            FastRCNNPredictor(backbone.embedding_size, classes + 1),
            *(OVERLAP, OVERLAP, REGIONS, OBJECTS, SHIFTS),
            *(LEAST_SCORE, SUPPRESSED, MOST),
        )
        self.backbone.head = nn.Sequential()

    def forward(
        self,
        images: Sequence[Tensor],
        boxes: Sequence[Tensor],
        truth: Sequence[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detect, or with the truth learn to detect.

        Parameters
        ----------
        images : sequence of float[3, h, w]
            In 0…1.
        boxes : sequence of float[m, 4]
            Proposals in each image.
        truth : sequence of dict, optional
            The boxes, float[t, 4], and labels, int64[t], from 1 on, in each.

        Returns
        -------
        found, losses
            See `torchvision.models.detection.roi_heads.RoIHeads`.
        """
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        maps = {"map": self.backbone.feature_map(stack(list(images), GROUND))}
        found, losses = self.regions(
            maps, list(boxes), sizes, None if truth is None else list(truth)
        )
        return found, losses


def train_detector(
    backbone: Backbone,
    scenes: Scenes,
    schedule: Schedule,
    *,
    device: torch.device,
    track: Track = silent,
) -> FastRCNN:
    """Train Fast R-CNN on scenes; difficult objects are left out, and images without any boxes."""
    boxes_of = zip(scenes.objects, scenes.proposals, strict=True)
    used = [
        row
        for row, (objects, proposals) in enumerate(boxes_of)
        if len(proposals) or not objects.difficult.all()
    ]
    with torch.random.fork_rng():
        torch.manual_seed(schedule.seed)
        network = FastRCNN(backbone, len(scenes.devkit.classes)).to(device)

    def loss(rows: list[int]) -> Tensor:
        images, boxes, truth = [], [], []
        for row in (used[number] for number in rows):
            image, scale = read_scaled(scenes.devkit, scenes.names[row], scenes.size)
            objects = scenes.objects[row]
            easy = ~objects.difficult
            true = torch.from_numpy(objects.boxes[easy]) * scale
            proposed = torch.from_numpy(scenes.proposals[row]) * scale
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
                true, proposed = (_mirrored(each, image.shape[-1]) for each in (true, proposed))
            images.append(image.to(device))
            boxes.append(proposed.to(device))
            labels = torch.from_numpy(objects.labels[easy]) + 1
            truth.append({"boxes": true.to(device), "labels": labels.to(device)})
        _, losses = network(images, boxes, truth)
        return torch.stack(list(losses.values())).sum()

    fit(network, loss, len(used), schedule, track)
    return network


@torch.no_grad()
def detect(
    network: FastRCNN, scenes: Scenes, *, device: torch.device, track: Track = silent
) -> list[Detections]:
    """Find objects in each of the scenes."""
    found = []
    pairs = list(zip(scenes.names, scenes.proposals, strict=True))
    for name, proposals in track(pairs, "detecting", len(pairs)):
        image, scale = read_scaled(scenes.devkit, name, scenes.size)
        boxes = torch.from_numpy(proposals) * scale
        made = network([image.to(device)], [boxes.to(device)])[0][0]
        found.append(
            Detections(
                (made["boxes"].cpu() / scale).numpy().astype(np.float32),
                made["labels"].cpu().numpy() - 1,
                made["scores"].cpu().numpy(),
            )
        )
    return found


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes in the mirrored image."""
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)
