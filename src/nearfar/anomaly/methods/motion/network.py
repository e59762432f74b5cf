"""Motion classifier: a small convolutional network, and its training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from nearfar.anomaly.methods.motion.pseudo_anomalies import MotionSamples
from nearfar.anomaly.methods.resumable import fit_resumable
from nearfar.data import to_unit
from nearfar.progress import Track, silent

#: Factor by which patches are scaled down.
DOWNSCALE = 2
_WIDTHS = (24, 32, 48, 64)


@dataclass(frozen=True, kw_only=True)
class MotionTraining:
    """Training settings of the motion classifier.

    Parameters
    ----------
    samples : int
        Maximum number of normal patches.
    epochs : int
        Passes over all patches.
    batch_size : int
        Number of patches per step.
    lr : float
        Peak learning rate of AdamW in a one-cycle schedule.
    weight_decay : float
        Weight decay.

    Examples
    --------
    >>> MotionTraining(epochs=1).batch_size
    256
    """

    samples: int = 24_000
    epochs: int = 6
    batch_size: int = 256
    lr: float = 2e-3
    weight_decay: float = 0.01


class MotionNet(nn.Module):
    """Network that returns the logit that a patch moves too fast, is too large, or glides.

    Parameters
    ----------
    frames : int
        Number of frames per patch, at least 2.
    side : int
        Side of a patch in pixels, after `downscale`.

    Examples
    --------
    >>> network = MotionNet(frames=5, side=24).eval()
    >>> network(torch.zeros(3, 5, 24, 24), torch.tensor([0.1, 0.5, 0.9])).shape
    torch.Size([3])
    """

    def __init__(self, frames: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = 2 * frames  # the frames, their differences, and the position
        for i, outer in enumerate(_WIDTHS):
            stride = 1 if i == 0 else 2
            layers += [
                nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(),
            ]
            side = -(-side // stride)
            inner = outer
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(inner * side**2, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def forward(self, patches: Tensor, positions: Tensor) -> Tensor:
        """Return the logit of each patch (float[b]).

        Parameters
        ----------
        patches : float[b, t, s, s]
            Patches with values in [0, 1].
        positions : float[b]
            Vertical positions of the patches in the frame, in [0, 1]. See `Grid.positions`.
        """
        centered = patches - patches.mean((1, 2, 3), keepdim=True)
        changes = 3 * (centered[:, 1:] - centered[:, :-1])
        places = (positions - 0.5)[:, None, None, None].expand(-1, 1, *patches.shape[2:])
        odds: Tensor = self.layers(torch.cat([centered, changes, places], dim=1))
        return odds[:, 0]


def downscale(patches: Tensor) -> Tensor:
    """Prepare patches for the classifier: scale values to [0, 1], and halve height and width.

    Parameters
    ----------
    patches : uint8[b, t, p, p]
        Patches of t frames.

    Returns
    -------
    float32[b, t, p / 2, p / 2]

    Examples
    --------
    >>> downscale(torch.full((1, 5, 48, 48), 255, dtype=torch.uint8)).shape
    torch.Size([1, 5, 24, 24])
    """
    return avg_pool2d(to_unit(patches), DOWNSCALE)


def train_motion_net(
    samples: MotionSamples,
    training: MotionTraining | None = None,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    track: Track = silent,
) -> MotionNet:
    """Train a classifier to distinguish pseudo-anomalies from normal patches.

    Parameters
    ----------
    samples : MotionSamples
        Samples from `draw_samples`.
    training : MotionTraining, optional
        Training settings. Default: `MotionTraining()`.
    seed : int
        Random seed for initial weights, batches and dropout.
    folder : Path, optional
        Folder for a checkpoint after each epoch. Training continues from an existing checkpoint.
        The result is bit-identical to that of uninterrupted training.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    MotionNet

    Raises
    ------
    NearfarError
        If the loss becomes NaN or infinite, or the checkpoint is damaged.

    Examples
    --------
    >>> patches = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    >>> samples = MotionSamples(patches, torch.full((8,), 0.5), torch.arange(8) % 2 == 0)
    >>> network = train_motion_net(samples, MotionTraining(epochs=1))
    >>> network.training
    False
    """
    training = training or MotionTraining()
    count, frames, side, _ = samples.patches.shape
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MotionNet(frames, side // DOWNSCALE)

        def batches(epoch: int) -> Sequence[Tensor]:
            torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
            return torch.randperm(count).split(training.batch_size)

        def loss(rows: Tensor) -> Tensor:
            odds = network(downscale(samples.patches[rows]), samples.positions[rows])
            return binary_cross_entropy_with_logits(odds, samples.abnormal[rows].float())

        fit_resumable(
            network,
            loss,
            batches,
            epochs=training.epochs,
            steps=-(-count // training.batch_size),
            lr=training.lr,
            weight_decay=training.weight_decay,
            folder=None if folder is None else Path(folder),
            track=track,
            description="training the motion classifier",
        )
    return network
