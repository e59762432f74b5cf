"""Learning what normal motion is, from its opposite: the same patches played too fast, or grown.

Nothing abnormal is needed to make abnormal samples of what is normal: every second or third frame
of a clip shows its people at two and three times their speed, and the middle of a patch scaled up
shows them too large [1]_. A small network learns to tell these far ends from the patches as they
are, knowing in which row of the image they lie; what it finds fast or large in a new clip is
abnormal.

References
----------
.. [1] M. Astrid et al., "Synthetic temporal anomaly guided end-to-end video anomaly detection",
   ICCV workshops 2021: skipped frames as anomalies, there for an autoencoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, interpolate

from nearfar import artifacts
from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.patches import Grid, Map, Places
from nearfar.data import to_unit
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent
from nearfar.training.rates import rate_at

#: Patches are seen at half their size.
SHRINK = 2
#: Mean change of the middle of a patch, in gray levels, from which on it is taken to move.
MOVING = 4
#: How many times too fast the fast patches are, and how many times too large the grown ones.
SPEEDS = (2, 3)
GROWTH = (1.6, 2.2)
#: The share of each kind of abnormal samples.
FAR = {"fast": 0.75, "grown": 0.25}
#: Samples of each kind, normal and abnormal, and how they are learned.
SAMPLES = 24_000
EPOCHS, BATCH, RATE, DECAY = 6, 256, 2e-3, 0.01
WIDTHS = (24, 32, 48, 64)
#: The lowest score, in log odds, and that of patches that do not move.
LOWEST = -8.0
#: Patches drawn from the same window.
TOGETHER = 24


class TempoNet(nn.Module):
    """Log odds that a patch is faster or larger than normal.

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
        chosen = moving(window, grid)
        if len(chosen):
            rows = torch.from_numpy(places(grid).repeat(grid.shape[1])[chosen]).float()
            odds = self.network(halved(torch.from_numpy(grid.cut(window, chosen))), rows)
            scores[chosen] = (odds - LOWEST).clamp(min=0)
        return scores.view(grid.shape).numpy()


def halved(patches: Tensor) -> Tensor:
    """Patches as the network sees them: uint8[b, t, p, p] to float32[b, t, p / 2, p / 2]."""
    return avg_pool2d(to_unit(patches), SHRINK)


def moving(window: Sequence[Pixels] | Pixels, grid: Grid) -> Places:
    """Which patches change in their middle between the last two frames of a window, int64[n]."""
    change = np.abs(window[-1].astype(np.int16) - window[-2]).astype(np.float32)
    quarter = grid.patch // 4
    inner = change[quarter:-quarter, quarter:-quarter]
    means = Grid(inner.shape, grid.patch - 2 * quarter, 1).means(inner)
    return np.flatnonzero(means[grid.tops[:, None], grid.lefts] > MOVING)


def places(grid: Grid) -> npt.NDArray[np.float64]:
    """How far down the middle of each row of patches lies, float[rows] in 0…1."""
    return (grid.tops + grid.patch / 2) / grid.size[0]


@dataclass(frozen=True)
class Samples:
    """Patches to learn from: uint8[n, t, p, p], how far down they lie, and which are abnormal."""

    patches: Tensor
    rows: Tensor
    abnormal: Tensor


def sample(
    clips: Iterable[Clip],
    grid: Grid,
    frames: int,
    seed: int,
    count: int = SAMPLES,
    far: Mapping[str, float] = FAR,
) -> Samples:
    """Draw moving patches of normal clips, as they are, played too fast, and grown.

    The clips are read once, a frame at a time.

    Parameters
    ----------
    count : int
        How many samples of each, normal and abnormal, at most.
    far : mapping of str to float
        The share of each kind of abnormal samples, "fast" and "grown".

    Raises
    ------
    NearfarError
        If nothing moves in the clips, or their frames are of another size than the grid's.
    """
    generator = np.random.default_rng(seed)
    most = {"normal": count} | {kind: round(count * share) for kind, share in far.items()}
    shape = frames, grid.patch, grid.patch
    pools = {kind: Reservoir(size, shape, generator) for kind, size in most.items()}
    rows = places(grid).repeat(grid.shape[1])
    longest = (frames - 1) * max(SPEEDS) + 1
    for clip in clips:
        for recent in _histories(clip, grid, longest):
            # Whether it moves is judged at the true speed, for all kinds alike.
            found = moving(recent[-2:], grid)
            for kind, pool in pools.items():
                step = int(generator.choice(SPEEDS)) if kind == "fast" else 1
                if len(recent) < (frames - 1) * step + 1:
                    continue
                window = np.stack(recent[-1 - (frames - 1) * step :: step])
                chosen = generator.permutation(found)[:TOGETHER]
                for patch, row in zip(grid.cut(window, chosen), rows[chosen], strict=True):
                    changed = patch
                    if kind == "grown":
                        changed = _grown(patch, generator.uniform(*GROWTH))
                    if generator.random() < 0.5:
                        changed = changed[:, :, ::-1]
                    pool.offer(changed, row)
    if not all(pool.seen for pool in pools.values()):
        raise NearfarError(
            "nothing moves in the normal clips, or they are shorter than "
            f"{longest} frames: expected some normal motion to learn from"
        )
    return Samples(
        torch.from_numpy(np.concatenate([pool.patches for pool in pools.values()])),
        torch.from_numpy(np.concatenate([pool.rows for pool in pools.values()])),
        torch.tensor([kind != "normal" for kind, pool in pools.items() for _ in pool.rows]),
    )


class Reservoir:
    """Keeps each of all patches that it is offered with the same probability.

    Parameters
    ----------
    most : int
        How many it keeps.
    shape : (int, int, int)
        Of a patch.
    generator : numpy.random.Generator
        Draws.
    """

    def __init__(
        self, most: int, shape: tuple[int, int, int], generator: np.random.Generator
    ) -> None:
        self.seen, self._generator = 0, generator
        self._patches = np.empty((most, *shape), np.uint8)
        self._rows = np.empty(most, np.float32)

    def offer(self, patch: Pixels, row: float) -> None:
        """Keep a patch, and how far down it lies, or not."""
        place = self.seen
        self.seen += 1
        if place >= len(self._rows):
            place = int(self._generator.integers(self.seen))
        if place < len(self._rows):
            self._patches[place], self._rows[place] = patch, row

    @property
    def patches(self) -> Pixels:
        """Those that are kept, uint8[n, t, p, p]."""
        return self._patches[: self.seen]

    @property
    def rows(self) -> npt.NDArray[np.float32]:
        """How far down they lie, float32[n]."""
        return self._rows[: self.seen]


def _histories(clip: Clip, grid: Grid, longest: int) -> Iterator[list[Pixels]]:
    """Each frame of a clip behind those before it, at least one and at most so many in all."""
    recent: deque[Frame] = deque(maxlen=longest)
    for frame in clip:
        grid.check(frame.pixels.shape, clip.name)
        if recent and frame.number != recent[-1].number + 1:
            recent.clear()  # across a gap, all would seem to jump
        recent.append(frame)
        if len(recent) > 1:
            yield [one.pixels for one in recent]


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
    adam = optimizer.state_dict()["state"]
    tensors = {
        **{f"network.{name}": value for name, value in network.state_dict().items()},
        **{f"adam.{i}.{name}": value for i, kept in adam.items() for name, value in kept.items()},
    }
    artifacts.write_checkpoint(folder, tensors, {"epoch": epoch})


def _resume(folder: Path, network: TempoNet, optimizer: torch.optim.Optimizer) -> int:
    """Read a checkpoint, if there is one; return after how many epochs it was written."""
    if not (folder / artifacts.CHECKPOINT).is_file():
        return 0
    tensors, place = artifacts.read_checkpoint(folder)
    artifacts.load_weights(network, tensors, "network.", folder)
    kept: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "adam":
            number, _, key = rest.partition(".")
            kept.setdefault(int(number), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": kept, "param_groups": groups})
    return int(place["epoch"])


def _grown(patch: Pixels, factor: float) -> Pixels:
    """Scale up the middle of a patch, uint8[t, p, p]."""
    side = patch.shape[-1]
    kept = max(2, round(side / factor))
    start = (side - kept) // 2
    middle = patch[:, start : start + kept, start : start + kept]
    larger = interpolate(
        torch.from_numpy(middle[None].astype(np.float32)),
        (side, side),
        mode="bilinear",
        align_corners=False,
    )
    return larger[0].round().to(torch.uint8).numpy()
