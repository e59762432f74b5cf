"""What is unusual about patches: their reconstruction and their embeddings; and where."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d
from torch import Tensor, nn

from nearfar.anomaly.clips import Pixels
from nearfar.anomaly.patches import Grid, Map
from nearfar.data import to_unit
from nearfar.models import Autoencoder

#: Patches that a network sees at once.
BATCH = 512
#: The share of normal patches of a row that its scale lets pass.
USUAL = 0.995
#: Rows of patches that share their scale.
ROWS_TOGETHER = 5
#: The least scale of a row, as a share of the largest of all rows, and of a part, as a share of its
#: highest score: where hardly anything happens, nearly anything would look unusual.
QUIETEST = 0.3
#: Where a Gaussian ends, in standard deviations.
REACH = 2
#: The most normal maps that a scale is taken from, and the most normal scores.
MOST_MAPS, MOST_SCORES = 4096, 2**20


class Scorer(Protocol):
    """Scores every patch of a window: the higher, the more abnormal, ≥ 0."""

    def __call__(self, window: Pixels, grid: Grid) -> Map:
        """From uint8[t, h, w] to float32[rows, columns]."""
        ...


class ReconstructionError:
    """Mean squared difference of a patch and its reconstruction, ‖X − X̂‖² (§4.5)."""

    def __init__(self, network: Autoencoder) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def __call__(self, window: Pixels, grid: Grid) -> Map:
        """See `Scorer`."""
        errors = [
            (self.network(patches).reconstruction - patches).square().flatten(1).mean(1)
            for patches in batches(window, grid)
        ]
        return as_map(errors, grid)


class CodeDistance:
    """Euclidean distance from a patch's embedding to the nearest one in a bank of normal ones.

    Parameters
    ----------
    encoder : nn.Module
        From patches to embeddings, float[b, d].
    bank : float32[n, d]
        Embeddings of normal patches.
    """

    def __init__(self, encoder: nn.Module, bank: Tensor) -> None:
        self.encoder, self.bank = encoder.eval(), bank

    @torch.no_grad()
    def __call__(self, window: Pixels, grid: Grid) -> Map:
        """See `Scorer`."""
        nearest = [
            torch.cdist(self.encoder(patches), self.bank).amin(1)
            for patches in batches(window, grid)
        ]
        return as_map(nearest, grid)


class Scale:
    """What is usual for each part, and maybe for each row of patches.

    Parameters
    ----------
    scale : float32[parts, rows] or float32[parts, 1]
        What scores are divided by.
    """

    def __init__(self, scale: Map) -> None:
        self.scale = scale

    @classmethod
    def of_parts(cls, maps: Iterable[Map], above: float) -> Scale:
        """Take as scale of a part what its highest score is above in so few normal frames.

        Parameters
        ----------
        maps : iterable of float[parts, rows, columns]
            Of normal frames.
        above : float
            The share of them.
        """
        highest = np.stack(thin((scores.max((1, 2)) for scores in maps), MOST_SCORES))
        level = np.quantile(highest, 1 - above, axis=0, method="higher")
        level = np.maximum(level, QUIETEST * highest.max(0))
        return cls(np.where(level > 0, level, 1).astype(np.float32)[:, None])

    @classmethod
    def of_rows(cls, maps: Iterable[Map]) -> Scale:
        """Take the scale of each row from maps of normal frames, float[parts, rows, columns].

        Things that are near look larger and faster.
        """
        kept = np.stack(thin(maps, MOST_MAPS))
        usual = np.quantile(kept, USUAL, axis=(0, 3))
        smooth = uniform_filter1d(usual, ROWS_TOGETHER, axis=1, mode="nearest")
        least = QUIETEST * smooth.max(1, keepdims=True)
        scale = np.maximum(smooth, np.where(least > 0, least, 1))
        return cls(scale.astype(np.float32))

    def __call__(self, maps: Map) -> Map:
        """Divide, float[parts, rows, columns]."""
        return maps / self.scale[:, :, None]


class Numbered(NamedTuple):
    """Scores of the patches of a frame: its number, and float32[…]."""

    number: int
    scores: Map


def smoothed(maps: Iterable[Numbered], deviation: float) -> Iterator[Numbered]:
    """Average over time with Gaussian weights, cut off after two standard deviations.

    Each frame comes out when as many after it have come in as it is averaged with. Where numbers
    are missing, there is nothing to average.

    Parameters
    ----------
    deviation : float
        Standard deviation in frames; 0 leaves everything as it is.
    """
    reach = int(np.ceil(REACH * deviation))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(deviation, 1e-9)) ** 2)
    recent: deque[Numbered | None] = deque([None] * reach, maxlen=2 * reach + 1)

    def average() -> Iterator[Numbered]:
        center = recent[reach]
        if len(recent) == 2 * reach + 1 and center is not None:
            near = [(w, m.scores) for w, m in zip(weights, recent, strict=True) if m is not None]
            total = sum(w for w, _ in near)
            yield Numbered(center.number, sum(w * s for w, s in near) / total)

    last: int | None = None
    for item in maps:
        missing = 0 if last is None else item.number - last - 1
        for _ in range(min(missing, 2 * reach + 1)):
            recent.append(None)
            yield from average()
        last = item.number
        recent.append(item)
        yield from average()
    for _ in range(reach):
        recent.append(None)
        yield from average()


def thin(items: Iterable[Map], most: int) -> Sequence[Map]:
    """Keep every k-th item, with the smallest k = 1, 2, 4, … that keeps at most so many."""
    kept: list[Map] = []
    every = 1
    for number, item in enumerate(items):
        if number % every == 0:
            kept.append(item)
        if len(kept) > most:
            kept, every = kept[::2], 2 * every
    return kept


def batches(window: Pixels, grid: Grid) -> Iterator[Tensor]:
    """Cut patches of a window as a network takes them, float32[b, t, p, p]."""
    yield from map(to_unit, torch.from_numpy(grid.cut(window)).split(BATCH))


def as_map(scores: Sequence[Tensor], grid: Grid) -> Map:
    """Arrange scores of all patches, float[b] for each of `batches`, as the patches lie."""
    return torch.cat(list(scores)).view(grid.shape).numpy()
