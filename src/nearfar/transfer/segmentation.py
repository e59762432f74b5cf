"""Saying of each pixel what it shows, by a fully convolutional network (FCN) [1]_ on a backbone.

References
----------
.. [1] J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic
   segmentation", CVPR 2015.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from nearfar.errors import NearfarError
from nearfar.models.backbones import Backbone
from nearfar.models.receptive_field import FeatureGrid
from nearfar.progress import Track, silent
from nearfar.transfer.devkit import Devkit
from nearfar.transfer.heads import convolutional_head
from nearfar.transfer.masks import IGNORED, read_mask
from nearfar.transfer.metrics import Overlap
from nearfar.transfer.scenes import GROUND, SMALLEST, checked, read_scaled, stack
from nearfar.transfer.schedule import Schedule, fit

Stride = Literal[32, 16, 8]
#: How many finer maps each kind adds to the coarsest.
SKIPS: dict[Stride, int] = {32: 0, 16: 1, 8: 2}

#: Shorter side of the images, in pixels.
SIZE = 320
SCHEDULE = Schedule(steps=10_000, batch_size=8)
DROPOUT = 0.5


@dataclass(frozen=True)
class Masked:
    """Images of a devkit with masks.

    Parameters
    ----------
    names : sequence of str
        n images.
    size : int
        The shorter side that they are scaled to.
    """

    devkit: Devkit
    names: Sequence[str]
    size: int


def open_masked(devkit: Devkit, split: str, size: int, track: Track = silent) -> Masked:
    """Read all images and masks of a split once: what cannot be used is told before training.

    Raises
    ------
    NearfarError
        If something in the devkit cannot be used, or all pixels of the split are to be ignored.
    """
    names = devkit.split("Segmentation", split)
    judged = [(mask != IGNORED).any() for mask in checked(devkit, names, read_mask, track)]
    if not any(judged):
        raise NearfarError(
            f"all pixels of the split {split!r} of {str(devkit.root)!r} are to be ignored: "
            "expected some of a class"
        )
    return Masked(devkit, names, size)


class FCN(nn.Module):
    """FCN-32s, -16s or -8s: scores from the embeddings, to which those of finer maps are added.

    Scores are interpolated between where the cells look. The paper learns to enlarge them, and
    begins bilinearly.

    Parameters
    ----------
    backbone : Backbone
        A copy of it is taken.
    classes : int
        How many.
    stride : {32, 16, 8}
        None, one or two finer maps.

    Raises
    ------
    NearfarError
        If the backbone has no such maps.
    """

    def __init__(self, backbone: Backbone, classes: int, stride: Stride) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = convolutional_head(backbone)
        self.backbone.head = nn.Sequential()
        self.drop = nn.Dropout(DROPOUT)
        self.score = nn.Conv2d(backbone.embedding_size, classes, 1)
        self.cells = backbone.grid.behind(self.head)
        channels = finer_channels(backbone, stride)
        self.skips = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in channels)
        for layer in (self.score, *self.skips):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """From images, float[b, 3, h, w] in 0…1, to scores, float[b, classes, h, w]."""
        maps = self.backbone.feature_maps(images)
        cells, embeddings = self.cells, self.head(maps[self.backbone.grid])
        scores: Tensor = self.score(self.drop(embeddings))
        for skip, (finer, values) in zip(self.skips, _finer(maps, cells), strict=False):
            scores = cells.sample(scores, finer, values.shape[2:]) + skip(values)
            cells = finer
        return cells.sample(scores, FeatureGrid(), images.shape[2:])


@torch.no_grad()
def finer_channels(backbone: Backbone, stride: Stride) -> list[int]:
    """Return the channels of the finer maps that an FCN adds, the coarsest first.

    Raises
    ------
    NearfarError
        If the backbone has no such maps.
    """
    maps = copy.deepcopy(backbone).eval().feature_maps(torch.zeros(1, 3, SMALLEST, SMALLEST))
    finer = _finer(maps, backbone.grid.behind(convolutional_head(backbone)))
    if len(finer) < SKIPS[stride]:
        raise NearfarError(
            f"FCN-{stride}s needs {SKIPS[stride]} finer feature maps, of which this backbone "
            f"has {len(finer)}: take another stride or backbone"
        )
    return [values.shape[1] for _, values in finer[: SKIPS[stride]]]


def _finer(
    maps: dict[FeatureGrid, Tensor], embeddings: FeatureGrid
) -> list[tuple[FeatureGrid, Tensor]]:
    """Maps of smaller strides than the embeddings have, the coarsest first."""
    return [each for each in reversed(maps.items()) if each[0].stride < embeddings.stride]


def train_segmenter(
    backbone: Backbone,
    masked: Masked,
    stride: Stride,
    schedule: Schedule,
    *,
    device: torch.device,
    track: Track = silent,
) -> FCN:
    """Train an FCN on random squares of images, mirrored or not."""
    network = FCN(backbone, len(masked.devkit.mask_classes), stride).to(device)

    def loss(rows: list[int]) -> Tensor:
        images, masks = [], []
        for row in rows:
            name = masked.names[row]
            image, _ = read_scaled(masked.devkit, name, masked.size)
            mask = _scaled(read_mask(masked.devkit, name), image.shape[1:])
            image, mask = _random_square(image, mask, masked.size)
            images.append(image)
            masks.append(mask)
        scores = network(stack(images, GROUND).to(device))
        truth = stack(masks, IGNORED).long().squeeze(1).to(device)
        # The mean over no pixels would be NaN.
        judged = (truth != IGNORED).sum().clamp_min(1)
        return cross_entropy(scores, truth, ignore_index=IGNORED, reduction="sum") / judged

    fit(network, loss, len(masked.names), schedule, track)
    return network


@torch.no_grad()
def segment(
    network: FCN, masked: Masked, *, device: torch.device, track: Track = silent
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Yield the true and the predicted class of each pixel, uint8[h, w], image after image."""
    for name in track(masked.names, "segmenting", len(masked.names)):
        truth = read_mask(masked.devkit, name)
        image, _ = read_scaled(masked.devkit, name, masked.size)
        scores = network(stack([image], GROUND).to(device))
        scores = scores[..., : image.shape[1], : image.shape[2]]
        scores = interpolate(scores, truth.shape, mode="bilinear", align_corners=False)
        yield truth, scores.argmax(1)[0].byte().cpu().numpy()


def overlap(
    network: FCN, masked: Masked, *, device: torch.device, track: Track = silent
) -> Overlap:
    """Count the pixels of images by class and prediction, at the size of the files."""
    counts = Overlap(len(masked.devkit.mask_classes))
    for truth, predicted in segment(network, masked, device=device, track=track):
        counts.add(truth, predicted)
    return counts


def _scaled(mask: npt.NDArray[np.uint8], size: Sequence[int]) -> Tensor:
    """The mask at another size, uint8[1, h, w]."""
    pixels = torch.from_numpy(mask)[None, None]
    return interpolate(pixels, tuple(size), mode="nearest-exact")[0]


def _random_square(image: Tensor, mask: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The same part of an image and its mask, at most `side` pixels a side."""
    height, width = image.shape[1:]
    top = int(torch.randint(max(height - side, 0) + 1, ()))
    left = int(torch.randint(max(width - side, 0) + 1, ()))
    parts = [each[:, top : top + side, left : left + side] for each in (image, mask)]
    image, mask = (each.flip(-1) for each in parts) if torch.rand(()) < 0.5 else parts
    return image, mask
