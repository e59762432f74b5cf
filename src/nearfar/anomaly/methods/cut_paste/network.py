"""Cut-paste network, which segments artificial changes in images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from nearfar.anomaly.clips import Pixels
from nearfar.anomaly.methods.cut_paste.examples import change
from nearfar.anomaly.methods.resumable import fit_resumable
from nearfar.anomaly.tiles import CELL
from nearfar.data import to_unit
from nearfar.progress import Track, silent
from nearfar.training import shuffled_batches

#: Channels and strides of the layers, and dilations of the layers after them.
_LAYERS = ((16, 2), (32, 2), (48, 1), (64, 2))
_DILATIONS = (1, 2, 4)
#: Logit of a change before training.
_PRIOR = -3.0
#: Fraction of a cell's pixels that must change for the cell to count as changed.
_CELL_FRACTION = 0.04
#: Brightness of near examples.
_GAINS = (0.9, 1.1)


@dataclass(frozen=True, kw_only=True)
class CutPasteTraining:
    """Training settings of the cut-paste network.

    Parameters
    ----------
    tiles : int
        Maximum number of training tiles from normal images.
    side : int
        Side of training crops in pixels, a multiple of 8.
    epochs : int
        Number of epochs. A checkpoint is written after each epoch.
    steps : int
        Number of steps per epoch.
    batch_size : int
        Number of examples per step.
    far : float
        Fraction of far examples, which are changed images, in [0, 1].
    lr : float
        Peak learning rate of AdamW in a one-cycle schedule.
    weight_decay : float
        Weight decay.

    Examples
    --------
    >>> CutPasteTraining(epochs=1).batch_size
    32
    """

    tiles: int = 1000
    side: int = 112
    epochs: int = 10
    steps: int = 100
    batch_size: int = 32
    far: float = 0.75
    lr: float = 2e-3
    weight_decay: float = 0.01


class CutPasteNet(nn.Sequential):
    """Network that returns, for each cell of 8×8 pixels, the logit that it was changed.

    Images have the shape [b, 3, h, w], and logits the shape [b, h/8, w/8].

    Examples
    --------
    >>> CutPasteNet().eval()(torch.rand(2, 3, 112, 64)).shape
    torch.Size([2, 14, 8])
    """

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        inner = 3
        for outer, stride in _LAYERS:
            layers += _block(inner, outer, stride=stride)
            inner = outer
        for dilation in _DILATIONS:
            layers += _block(inner, inner, dilation=dilation)
        last = nn.Conv2d(inner, 1, 1)
        nn.init.constant_(last.bias, _PRIOR)  # type: ignore[arg-type]
        super().__init__(*layers, last, nn.Flatten(1, 2))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits that cells were changed. Images have values in [0, 1]."""
        odds: Tensor = super().forward(2 * images - 1)
        return odds


def _block(inner: int, outer: int, *, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(
        inner, outer, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )
    return [convolution, nn.BatchNorm2d(outer), nn.ReLU()]


def train_cut_paste_net(
    tiles: Pixels,
    training: CutPasteTraining | None = None,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    track: Track = silent,
) -> CutPasteNet:
    """Train a network to detect artificial changes.

    Near examples are crops of tiles, randomly flipped and slightly varied in brightness. Far
    examples are also modified by `change`.

    Parameters
    ----------
    tiles : uint8[n, 3, s, s]
        Tiles of normal images.
    training : CutPasteTraining, optional
        Training settings. Default: `CutPasteTraining()`.
    seed : int
        Random seed for initial weights and examples.
    folder : Path, optional
        Folder for a checkpoint after each epoch. Training continues from an existing checkpoint.
        The result is bit-identical to that of uninterrupted training.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    CutPasteNet

    Raises
    ------
    NearfarError
        If the loss becomes NaN or infinite, or the checkpoint is damaged.

    Examples
    --------
    >>> tiles = np.random.default_rng(0).integers(90, 110, (4, 3, 64, 64)).astype(np.uint8)
    >>> training = CutPasteTraining(side=32, epochs=1, steps=2, batch_size=4)
    >>> train_cut_paste_net(tiles, training).training
    False
    """
    training = training or CutPasteTraining()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CutPasteNet()
        generator = np.random.default_rng()

        def batches(epoch: int) -> Iterator[Tensor]:
            nonlocal generator
            generator = np.random.default_rng((seed, epoch))
            rows = torch.Generator().manual_seed(int(generator.integers(2**32)))
            return shuffled_batches(
                len(tiles), training.batch_size, steps=training.steps, generator=rows
            )

        def loss(rows: Tensor) -> Tensor:
            images, changed = _draw(tiles, rows.numpy(), training, generator)
            return binary_cross_entropy_with_logits(network(images), changed)

        fit_resumable(
            network,
            loss,
            batches,
            epochs=training.epochs,
            steps=training.steps,
            lr=training.lr,
            weight_decay=training.weight_decay,
            folder=None if folder is None else Path(folder),
            track=track,
            description="training on near and far examples",
        )
    return network


def _draw(
    tiles: Pixels,
    rows: Pixels,
    training: CutPasteTraining,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Return examples (float[b, 3, side, side]) and the target of each cell, 1 if it is changed."""
    side = training.side
    images = np.empty((len(rows), side, side, 3), np.uint8)
    masks = np.zeros((len(rows), 1, side, side), np.float32)
    for place, row in enumerate(rows):
        image = _part(tiles[row], side, generator)
        if generator.random() < training.far:
            donor = _part(tiles[generator.integers(len(tiles))], side, generator)
            image, masks[place, 0] = change(image, donor, generator)
        images[place] = image
    gains = torch.from_numpy(generator.uniform(*_GAINS, len(rows)).astype(np.float32))
    pixels = to_unit(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    cells = avg_pool2d(torch.from_numpy(masks), CELL)[:, 0] >= _CELL_FRACTION
    return pixels * gains[:, None, None, None], cells.float()


def _part(tile: Pixels, side: int, generator: np.random.Generator) -> Pixels:
    """Return a random crop (uint8[side, side, 3]) of a tile (uint8[3, s, s]), randomly flipped."""
    top, left = generator.integers(0, tile.shape[1] - side + 1, 2)
    part = tile[:, top : top + side, left : left + side]
    flips = generator.choice([1, -1], 2)
    return part[:, :: flips[0], :: flips[1]].transpose(1, 2, 0)
