"""Learning what normal motion is, from its opposite.

A small network learns to tell patches of normal clips from what nothing normal is, made of the
same patches (`nearfar.anomaly.samples`), knowing in which row of the image they lie; what it finds
fast, large or gliding in a new clip is abnormal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from nearfar import runs
from nearfar.anomaly.clips import Pixels
from nearfar.anomaly.patches import Grid, Map
from nearfar.anomaly.samples import Samples, moving
from nearfar.data import to_unit
from nearfar.progress import Track, silent
from nearfar.training.adam import adam_tensors, load_adam
from nearfar.training.loop import strip
from nearfar.training.rates import rate_at

#: Patches are seen at half their size.
SHRINK = 2
#: How samples are learned.
EPOCHS, BATCH, RATE, DECAY = 6, 256, 2e-3, 0.01
WIDTHS = (24, 32, 48, 64)
#: The lowest score, in log odds, and that of patches that do not move.
LOWEST = -8.0


class TempoNet(nn.Module):
    """Log odds that a patch is faster or larger than normal, or glides.

    Parameters
    ----------
    frames : int
        Consecutive frames of a patch, at least 2.
    side : int
        Side of a patch in pixels, after halving.
    """

    def __init__(self, frames: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inner = 2 * frames  # the frames, their differences, and the place
        for i, outer in enumerate(WIDTHS):
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

    def forward(self, patches: Tensor, rows: Tensor) -> Tensor:
        """From float[b, t, s, s], and how far down they lie, float[b] in 0…1, to float[b]."""
        centered = patches - patches.mean((1, 2, 3), keepdim=True)
        changes = 3 * (centered[:, 1:] - centered[:, :-1])
        places = (rows - 0.5)[:, None, None, None].expand(-1, 1, *patches.shape[2:])
        odds: Tensor = self.layers(torch.cat([centered, changes, places], dim=1))
        return odds[:, 0]


class Tempo:
    """Scores moving patches by a trained network like `TempoNet`, in log odds above the lowest."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, window: Pixels, grid: Grid) -> Map:
        """See `nearfar.anomaly.scoring.Scorer`."""
        scores = torch.zeros(grid.shape).flatten()
        places = moving(window, grid)
        for start in range(0, len(places), BATCH):
            chosen = places[start : start + BATCH]
            rows = torch.from_numpy(grid.depths[chosen]).float()
            odds = self.network(halved(torch.from_numpy(grid.cut(window, chosen))), rows)
            scores[chosen] = (odds - LOWEST).clamp(min=0)
        return scores.view(grid.shape).numpy()


def halved(patches: Tensor) -> Tensor:
    """Patches as the network sees them: uint8[b, t, p, p] to float32[b, t, p / 2, p / 2]."""
    return avg_pool2d(to_unit(patches), SHRINK)


def train_tempo(
    samples: Samples,
    seed: int,
    epochs: int = EPOCHS,
    *,
    folder: Path | None = None,
    track: Track = silent,
) -> TempoNet:
    """Learn to tell normal samples from abnormal ones.

    Parameters
    ----------
    folder : Path, optional
        Where a checkpoint is kept after each epoch, and taken up if there is one: the result is
        bit for bit that of an uninterrupted training.
    """
    frames, side = samples.patches.shape[1], samples.patches.shape[2] // SHRINK
    steps = -(-len(samples.patches) // BATCH)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = TempoNet(frames, side)
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
        first = 0 if folder is None else _resume(folder, network, optimizer)
        for epoch in range(first, epochs):
            # What an epoch draws depends on its number alone, for resuming.
            torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
            batches = torch.randperm(len(samples.patches)).split(BATCH)
            description = f"learning motion, epoch {epoch + 1} of {epochs}"
            for step, rows in enumerate(track(batches, description, steps)):
                rate = rate_at("one-cycle", (epoch + step / steps) / epochs)
                optimizer.param_groups[0]["lr"] = RATE * rate
                odds = network(halved(samples.patches[rows]), samples.rows[rows])
                loss = binary_cross_entropy_with_logits(odds, samples.abnormal[rows].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if folder is not None:
                _keep(folder, network, optimizer, epoch + 1)
    return network.eval()


def _keep(folder: Path, network: TempoNet, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """Write a checkpoint after so many epochs."""
    tensors = {
        **{f"network.{name}": value for name, value in network.state_dict().items()},
        **{f"adam.{name}": value for name, value in adam_tensors(optimizer).items()},
    }
    runs.write_checkpoint(folder, tensors, {"epoch": epoch})


def _resume(folder: Path, network: TempoNet, optimizer: torch.optim.Optimizer) -> int:
    """Read a checkpoint, if there is one; return after how many epochs it was written."""
    if not (folder / runs.CHECKPOINT).is_file():
        return 0
    tensors, place = runs.read_checkpoint(folder)
    runs.load_weights(network, tensors, "network.", folder)
    load_adam(optimizer, strip("adam.", tensors))
    return int(place["epoch"])
