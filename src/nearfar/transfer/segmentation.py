"""Semantic segmentation with a fully convolutional network (FCN) [1]_ on a backbone.

References
----------
.. [1] J. Long, E. Shelhamer, T. Darrell, "Fully convolutional networks for semantic
   segmentation", CVPR 2015.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from nearfar.errors import NearfarError
from nearfar.models import BackboneEncoder, FeatureGrid, resolve_device
from nearfar.progress import Track, silent
from nearfar.transfer.backbones import BackboneSpec
from nearfar.transfer.devkit import BACKGROUND, Devkit
from nearfar.transfer.finetuning import FinetuneConfig, finetune_network
from nearfar.transfer.heads import convolutional_head
from nearfar.transfer.label_maps import (
    IGNORE_INDEX,
    Colors,
    LabelMap,
    read_label_map,
    read_label_map_colors,
)
from nearfar.transfer.metrics import ConfusionMatrix
from nearfar.transfer.pictures import (
    MIN_PADDED_SIDE,
    PADDING,
    Picture,
    pad_and_stack,
    picture_size,
    read_each,
    read_scaled,
)
from nearfar.transfer.storage import write_finetuned

Stride = Literal[32, 16, 8]

#: Shorter image side in pixels.
SEGMENTATION_SIZE = 320
SEGMENTATION_CONFIG = FinetuneConfig(steps=10_000, batch_size=8)

#: Number of finer feature maps added at each stride.
_SKIPS: dict[Stride, int] = {32: 0, 16: 1, 8: 2}
_DROPOUT = 0.5


@dataclass(frozen=True)
class SegmentationSet:
    """Images of a devkit for semantic segmentation.

    Parameters
    ----------
    devkit : Devkit
        Devkit that contains the images.
    names : sequence of str
        Names of the n images.
    size : int
        Length to which the shorter side of images is scaled, in pixels.
    colors : mapping of int to (red, green, blue)
        Color of each value of the label maps, according to the palettes of the files.

    Examples
    --------
    >>> SegmentationSet(Devkit(Path("VOC2012"), ("background", "cat")), ["a"], 320).pictures()
    [PosixPath('VOC2012/JPEGImages/a.jpg')]
    """

    devkit: Devkit
    names: Sequence[str]
    size: int
    colors: Colors = field(default_factory=dict)

    def pictures(self) -> list[Path]:
        """Return the paths of the images."""
        return [self.devkit.image(name) for name in self.names]


def open_segmentation_set(
    devkit: Devkit,
    split: str,
    size: int,
    track: Track = silent,
    *,
    colors: Mapping[int, tuple[int, int, int]] | None = None,
) -> SegmentationSet:
    """Return the images in a split of a devkit, after checking all images and label maps.

    Parameters
    ----------
    devkit : Devkit
        Devkit that contains the images.
    split : str
        Name of the split.
    size : int
        Length to which the shorter side of images is scaled, in pixels.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    colors : mapping of int to (red, green, blue), optional
        `colors` of another split. Both splits must use the same palette.

    Raises
    ------
    NearfarError
        If a file of the devkit cannot be used, a value has different colors in different files, or
        all pixels are ignored or background.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     open_segmentation_set(devkit, "train", 96).names
    ['scene_0000', 'scene_0001']
    """
    names = devkit.split("Segmentation", split)
    seen: Colors = dict(colors or {})
    values: set[int] = set()
    label_maps = read_each(devkit, names, read_label_map_colors, track)
    for name, (label_map, shown) in zip(names, label_maps, strict=True):
        values.update(np.unique(label_map).tolist())
        for value, color in shown.items():
            if seen.setdefault(value, color) != color:
                raise NearfarError(
                    f"{str(devkit.mask(name))!r} has the color {color} for the value {value}, "
                    f"other masks have {seen[value]}: expected the same palette in all, since the "
                    "values are the classes"
                )
    if values == {IGNORE_INDEX}:
        raise NearfarError(
            f"all pixels of the split {split!r} of {str(devkit.root)!r} are ignored: "
            "expected some with a class"
        )
    if values == {0, IGNORE_INDEX} and devkit.mask_classes[0] == BACKGROUND:
        raise NearfarError(
            f"the masks of the split {split!r} of {str(devkit.root)!r} have only the values 0 and "
            f"{IGNORE_INDEX}, background and ignored pixels: expected class numbers"
        )
    return SegmentationSet(devkit, names, size, seen)


class FCN(nn.Module):
    """Fully convolutional network: FCN-32s, FCN-16s or FCN-8s.

    The network computes class scores from the embeddings and adds class scores from finer feature
    maps. Scores are upsampled by bilinear interpolation between cell centers. (In the original FCN,
    upsampling is learned, with bilinear initialization.)

    Parameters
    ----------
    backbone : BackboneEncoder
        Backbone. A copy is used.
    num_classes : int
        Number of classes.
    stride : {32, 16, 8}
        Stride of the finest scores before upsampling. With 32, 16 and 8, the network uses zero, one
        and two finer feature maps, respectively.

    Raises
    ------
    NearfarError
        If the backbone has too few finer feature maps.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> FCN(spec.build(), 5, 8).eval()(torch.rand(1, 3, 97, 130)).shape
    torch.Size([1, 5, 97, 130])
    """

    def __init__(self, backbone: BackboneEncoder, num_classes: int, stride: Stride) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = convolutional_head(backbone)
        self.backbone.head = nn.Sequential()
        self.drop = nn.Dropout(_DROPOUT)
        self.score = nn.Conv2d(backbone.embedding_size, num_classes, 1)
        self.cells = backbone.grid.after(self.head)
        channels = skip_channels(backbone, stride)
        self.skips = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in channels)
        for layer in (self.score, *self.skips):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the score of each class for each pixel (float[b, num_classes, h, w]).

        The images are float[b, 3, h, w], with values in [0, 1].
        """
        maps = self.backbone.feature_maps(images)
        cells, embeddings = self.cells, self.head(maps[self.backbone.grid])
        scores: Tensor = self.score(self.drop(embeddings))
        for skip, (finer, values) in zip(self.skips, _finer_maps(maps, cells), strict=False):
            scores = cells.sample(scores, finer, values.shape[2:]) + skip(values)
            cells = finer
        return cells.sample(scores, FeatureGrid(), images.shape[2:])


@torch.no_grad()
def skip_channels(backbone: BackboneEncoder, stride: Stride) -> list[int]:
    """Return the number of channels of each finer feature map that an FCN uses, coarsest first.

    Raises
    ------
    NearfarError
        If the backbone has too few finer feature maps.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> skip_channels(spec.build(), 8)
    [256, 192]
    """
    probe = torch.zeros(1, 3, MIN_PADDED_SIDE, MIN_PADDED_SIDE)
    maps = copy.deepcopy(backbone).eval().feature_maps(probe)
    finer = _finer_maps(maps, backbone.grid.after(convolutional_head(backbone)))
    if len(finer) < _SKIPS[stride]:
        raise NearfarError(
            f"FCN-{stride}s needs {_SKIPS[stride]} finer feature maps, but this backbone "
            f"has {len(finer)}: use another stride or backbone"
        )
    return [values.shape[1] for _, values in finer[: _SKIPS[stride]]]


def _finer_maps(
    maps: dict[FeatureGrid, Tensor], embeddings: FeatureGrid
) -> list[tuple[FeatureGrid, Tensor]]:
    """Return the feature maps with smaller strides than the embeddings, coarsest first."""
    return [each for each in reversed(maps.items()) if each[0].stride < embeddings.stride]


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetunedSegmenter:
    """Fine-tuned semantic segmentation model.

    Parameters
    ----------
    network : FCN
        Trained network.
    backbone : BackboneSpec
        Architecture of the backbone.
    classes : tuple of str
        Names of the classes, in the order of the values in a label map.
    size : int
        Length to which the shorter side of images is scaled, in pixels.
    stride : {32, 16, 8}
        Output stride, see `FCN`.

    Examples
    --------
    >>> import numpy as np
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> segmenter = FinetunedSegmenter(
    ...     network=FCN(spec.build(), 2, 32).eval(),
    ...     backbone=spec,
    ...     classes=("background", "cat"),
    ...     size=96,
    ...     stride=32,
    ... )
    >>> (label_map,) = segmenter.predict([np.zeros((50, 70, 3), np.uint8)])
    >>> label_map.shape
    (50, 70)
    """

    task: ClassVar[str] = "segmentation"

    network: FCN
    backbone: BackboneSpec
    classes: tuple[str, ...]
    size: int
    stride: Stride

    def predict(self, pictures: Sequence[Picture], *, track: Track = silent) -> Iterator[LabelMap]:
        """Yield the predicted label map of each image.

        Parameters
        ----------
        pictures : sequence of path or uint8[h, w, 3]
            Images of any size.

        Yields
        ------
        uint8[h, w]
            Class number of each pixel, at the original size of the image.

        Raises
        ------
        NearfarError
            If an image cannot be read.
        """
        return self._predict(pictures, track)

    @torch.no_grad()
    def _predict(self, pictures: Sequence[Picture], track: Track) -> Iterator[LabelMap]:
        device = next(self.network.parameters()).device
        for picture in track(pictures, "segmenting", len(pictures)):
            image, _ = read_scaled(picture, self.size)
            scores = self.network(pad_and_stack([image], PADDING).to(device))
            scores = scores[..., : image.shape[1], : image.shape[2]]
            size = picture_size(picture)
            scores = interpolate(scores, size, mode="bilinear", align_corners=False)
            yield scores.argmax(1)[0].byte().cpu().numpy()

    def evaluate(self, test: SegmentationSet, *, track: Track = silent) -> ConfusionMatrix:
        """Return the confusion matrix of all pixels, at the original size of the test images."""
        matrix = ConfusionMatrix(len(self.classes))
        predictions = self.predict(test.pictures(), track=track)
        for name, predicted in zip(test.names, predictions, strict=True):
            matrix.add(read_label_map(test.devkit, name), predicted)
        return matrix

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the weights (safetensors) and the configuration (JSON) to a folder.

        Use `load_finetuned` to read the segmenter.
        """
        config = {
            "task": self.task,
            "backbone": vars(self.backbone),
            "classes": list(self.classes),
            "size": self.size,
            "stride": self.stride,
        }
        write_finetuned(Path(folder), self.network, config)

    @classmethod
    def from_config(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> FinetunedSegmenter:
        """Return the segmenter with the given configuration and weights, as written by `save`."""
        backbone, classes = BackboneSpec(**config["backbone"]), tuple(config["classes"])
        network = FCN(backbone.build(), len(classes), config["stride"])
        network.load_state_dict(tensors)
        return cls(
            network=network.eval(),
            backbone=backbone,
            classes=classes,
            size=config["size"],
            stride=config["stride"],
        )


def finetune_segmenter(
    backbone: BackboneEncoder,
    train: SegmentationSet,
    stride: Stride = 32,
    config: FinetuneConfig = SEGMENTATION_CONFIG,
    *,
    device: str | torch.device = "auto",
    track: Track = silent,
) -> FinetunedSegmenter:
    """Train an FCN on random square crops of images. Half of the crops are mirrored.

    Parameters
    ----------
    backbone : BackboneEncoder
        Backbone. A copy is trained; the backbone itself is not changed.
    train : SegmentationSet
        Training images.
    stride : {32, 16, 8}
        See `FCN`.
    config : FinetuneConfig
        Training options.
    device : str or torch.device
        Device for training.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Returns
    -------
    FinetunedSegmenter
        Trained model.

    Raises
    ------
    NearfarError
        If the backbone has too few finer feature maps, or the loss becomes NaN or infinite.

    Examples
    --------
    >>> spec = BackboneSpec(name="alexnet", embedding_size=16, widths=(24,), image_size=(64, 64))
    >>> import tempfile
    >>> from nearfar.transfer import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     devkit = Devkit.open(write_scenes(Path(folder, "VOC"), 4))
    ...     train = open_segmentation_set(devkit, "train", 96)
    ...     config = FinetuneConfig(steps=1, batch_size=1)
    ...     finetune_segmenter(spec.build(), train, 32, config, device="cpu").classes
    ('background', 'disc', 'square', 'triangle')
    """
    target = resolve_device(device)
    network = FCN(backbone, len(train.devkit.mask_classes), stride).to(target)

    def loss(rows: Tensor) -> Tensor:
        images, label_maps = [], []
        for row in rows.tolist():
            name = train.names[row]
            image, _ = read_scaled(train.devkit.image(name), train.size)
            label_map = _resize(read_label_map(train.devkit, name), image.shape[1:])
            image, label_map = _random_crop(image, label_map, train.size)
            images.append(image)
            label_maps.append(label_map)
        scores = network(pad_and_stack(images, PADDING).to(target))
        truth = pad_and_stack(label_maps, IGNORE_INDEX).long().squeeze(1).to(target)
        # The mean loss without any pixels would be NaN.
        count = (truth != IGNORE_INDEX).sum().clamp_min(1)
        return cross_entropy(scores, truth, ignore_index=IGNORE_INDEX, reduction="sum") / count

    finetune_network(network, loss, len(train.names), config, track)
    return FinetunedSegmenter(
        network=network,
        backbone=BackboneSpec.of(backbone),
        classes=train.devkit.mask_classes,
        size=train.size,
        stride=stride,
    )


def _resize(label_map: LabelMap, size: Sequence[int]) -> Tensor:
    """Return a label map, resized to `size` (uint8[1, h, w])."""
    pixels = torch.from_numpy(label_map)[None, None]
    return interpolate(pixels, tuple(size), mode="nearest-exact")[0]


def _random_crop(image: Tensor, label_map: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return a random crop of an image and of its label map, mirrored with probability 0.5.

    The crop has at most `side` pixels per side.
    """
    height, width = image.shape[1:]
    top = int(torch.randint(max(height - side, 0) + 1, ()))
    left = int(torch.randint(max(width - side, 0) + 1, ()))
    crops = [each[:, top : top + side, left : left + side] for each in (image, label_map)]
    image, label_map = (each.flip(-1) for each in crops) if torch.rand(()) < 0.5 else crops
    return image, label_map
