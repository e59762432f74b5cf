"""Patches to learn motion from: as they are, and what nothing normal is, made of the same.

Nothing abnormal is needed to make abnormal samples of what is normal. Every second or third frame
of a clip shows its people at two and three times their speed [1]_, the middle of a patch scaled up
shows them too large, and a picture of them pushed along shows them gliding, which none of them
does.

References
----------
.. [1] M. Astrid et al., "Synthetic temporal anomaly guided end-to-end video anomaly detection",
   ICCV workshops 2021: skipped frames as anomalies, there for an autoencoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.gliding import glide, surroundings
from nearfar.anomaly.patches import Grid, Places
from nearfar.errors import NearfarError

#: Mean change of the middle of a patch, in gray levels, from which on it is taken to move.
MOVING = 4
#: How many times too fast the fast patches are, and how many times too large the grown ones.
SPEEDS = (2, 3)
GROWTH = (1.6, 2.2)
#: Abnormal samples of each kind, as a share of the normal ones.
FAR = {"fast": 0.5, "grown": 0.5, "gliding": 0.5}
#: Normal samples.
SAMPLES = 24_000
#: Patches drawn from the same window; those that glide take longer to make.
TOGETHER, GLIDING_TOGETHER = 24, 8
#: The background comes from so many frames at most, and half as many at least, one of every four.
PAST, PAST_EVERY = 16, 4


def moving(window: Sequence[Pixels] | Pixels, grid: Grid) -> Places:
    """Which patches change in their middle between the last two frames of a window, int64[n]."""
    change = np.abs(window[-1].astype(np.int16) - window[-2]).astype(np.float32)
    quarter = grid.patch // 4
    inner = change[quarter:-quarter, quarter:-quarter]
    means = Grid(inner.shape, grid.patch - 2 * quarter, 1).means(inner)
    return np.flatnonzero(means[grid.tops[:, None], grid.lefts] > MOVING)


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
    """Draw moving patches of normal clips, as they are, played too fast, grown, and gliding.

    The clips are read once, a frame at a time. Those of fewer than 30 frames tell too little of the
    background for anything to glide over it.

    Parameters
    ----------
    count : int
        How many normal samples, at most.
    far : mapping of str to float
        How many abnormal ones of each kind for a normal one: of `FAR`.

    Raises
    ------
    NearfarError
        If nothing moves in the clips, or their frames are of another size than the grid's.
    """
    generator = np.random.default_rng(seed)
    most = {"normal": count} | {kind: round(count * share) for kind, share in far.items()}
    shape = frames, grid.patch, grid.patch
    pools = {kind: Reservoir(size, shape, generator) for kind, size in most.items()}
    longest = (frames - 1) * max(SPEEDS) + 1
    for clip in clips:
        past: deque[Pixels] = deque(maxlen=PAST)
        for number, recent in enumerate(_histories(clip, grid, longest)):
            if number % PAST_EVERY == 0:
                past.append(recent[-1])
            # Whether it moves is judged at the true speed, for all kinds alike.
            found = moving(recent[-2:], grid)
            for kind, pool in pools.items():
                step = int(generator.choice(SPEEDS)) if kind == "fast" else 1
                if len(recent) < (frames - 1) * step + 1:
                    continue
                window = np.stack(recent[-1 - (frames - 1) * step :: step])
                chosen = generator.permutation(found)[:TOGETHER]
                made: Iterable[tuple[int, Pixels]] = (
                    _gliding(window, past, grid, chosen[:GLIDING_TOGETHER], generator)
                    if kind == "gliding"
                    else zip(chosen, grid.cut(window, chosen), strict=True)
                )
                for place, patch in made:
                    if kind == "grown":
                        patch = _grown(patch, generator.uniform(*GROWTH))
                    if generator.random() < 0.5:
                        patch = patch[:, :, ::-1]
                    pool.offer(patch, grid.depths[place])
    if not all(pool.seen for kind, pool in pools.items() if kind != "gliding"):
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


def _gliding(
    window: Pixels,
    past: Sequence[Pixels],
    grid: Grid,
    chosen: Places,
    generator: np.random.Generator,
) -> Iterator[tuple[int, Pixels]]:
    """Let what moves in some patches glide, where that can be told from the past."""
    if len(past) < PAST // 2:
        return
    before = np.stack(past)
    for place in chosen:
        row, column = divmod(int(place), grid.shape[1])
        at = int(grid.tops[row]), int(grid.lefts[column]), grid.patch
        near, inside = surroundings(window, *at)
        earlier, _ = surroundings(before, *at)
        patch = glide(near, earlier, inside, generator)
        if patch is not None:
            yield place, patch
