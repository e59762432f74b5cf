"""Normal patches, and pseudo-anomalies that move too fast, are too large, or glide.

Pseudo-anomalies are made from normal patches, so that no abnormal samples are needed. Skipping
frames doubles or triples the speed of normal motion [1]_. Scaling up the center of a patch makes
objects too large. Moving a still image of an object along the object's original path makes it
glide. Riders, skaters and vehicles also glide, whereas pedestrians move their arms and legs.

References
----------
.. [1] M. Astrid et al., "Synthetic temporal anomaly guided end-to-end video anomaly detection",
   ICCV workshops 2021: uses skipped frames as anomalies, for an autoencoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import maximum_filter, uniform_filter
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.anomaly.patches import Grid, Indices, ScoreMap
from nearfar.errors import NearfarError

#: Minimum mean change at the center of a moving patch, in gray levels.
_MIN_CHANGE = 4
#: Speed factors of fast patches, and range of size factors of grown patches.
SPEEDS = (2, 3)
GROWTH = (1.6, 2.2)
#: Pseudo-anomalies of each kind per normal sample.
PSEUDO_ANOMALIES = {"fast": 0.5, "grown": 0.5, "gliding": 0.5}
#: Maximum number of patches per window, and of gliding patches, which are slow to make.
_PER_WINDOW, _GLIDING_PER_WINDOW = 24, 8
#: The background is the median of up to 16 earlier frames, one of every 4; at least 8.
_MAX_PAST, _PAST_EVERY = 16, 4
#: Gray level difference between foreground and background, and width of the foreground's rim.
_MIN_CONTRAST, _RIM = 12, 2
#: Shortest path of a gliding object, in pixels.
_MIN_PATH = 3


def find_moving(window: Sequence[Pixels] | Pixels, grid: Grid) -> Indices:
    """Return the indices (int64[n]) of patches whose central pixels change.

    The last two frames of the window are compared.

    Examples
    --------
    >>> window = np.zeros((2, 32, 64), np.uint8)
    >>> window[1, :, 32:] = 200
    >>> find_moving(window, Grid((32, 64), 32, 32))
    array([1])
    """
    change = np.abs(window[-1].astype(np.int16) - window[-2]).astype(np.float32)
    quarter = grid.patch // 4
    inner = change[quarter:-quarter, quarter:-quarter]
    means = Grid(inner.shape, grid.patch - 2 * quarter, 1).means(inner)
    return np.flatnonzero(means[grid.tops[:, None], grid.lefts] > _MIN_CHANGE)


@dataclass(frozen=True)
class MotionSamples:
    """Training patches of a motion classifier.

    Parameters
    ----------
    patches : uint8[n, t, p, p]
        Patches of t frames.
    positions : float32[n]
        Vertical positions of the patches in the frame, in [0, 1].
    abnormal : bool[n]
        Whether each patch is a pseudo-anomaly.

    Examples
    --------
    >>> empty = torch.zeros(2, 5, 48, 48, dtype=torch.uint8)
    >>> MotionSamples(empty, torch.tensor([0.2, 0.8]), torch.tensor([False, True])).abnormal.sum()
    tensor(1)
    """

    patches: Tensor
    positions: Tensor
    abnormal: Tensor


def draw_samples(
    clips: Iterable[Clip],
    grid: Grid,
    frames: int,
    *,
    count: int,
    seed: int = 0,
    fractions: Mapping[str, float] = PSEUDO_ANOMALIES,
) -> MotionSamples:
    """Draw moving patches from normal clips, unchanged and as pseudo-anomalies.

    The clips are read once, one frame at a time. Gliding patches require a background, so they
    cannot be made from clips with fewer than 30 frames.

    Parameters
    ----------
    clips : iterable of Clip
        Normal clips from one camera.
    grid : Grid
        Positions of the patches.
    frames : int
        Number of frames per patch, at least 2.
    count : int
        Maximum number of normal samples.
    seed : int
        Random seed for the sampling.
    fractions : mapping of str to float
        Number of pseudo-anomalies per normal sample, by kind: "fast", "grown" (enlarged) or
        "gliding".

    Returns
    -------
    MotionSamples

    Raises
    ------
    NearfarError
        If nothing moves in the clips, or the frame size differs from the grid's.

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> video = np.zeros((20, 32, 96), np.uint8)
    >>> for number, frame in enumerate(video):
    ...     frame[8:24, 4 * number : 4 * number + 8] = 200
    >>> samples = draw_samples([ArrayClip(video)], Grid((32, 96), 16, 8), 2, count=10)
    >>> samples.patches.shape, int(samples.abnormal.sum())
    (torch.Size([20, 2, 16, 16]), 10)
    """
    generator = np.random.default_rng(seed)
    most = {"normal": count} | {
        kind: round(count * fraction) for kind, fraction in fractions.items()
    }
    shape = frames, grid.patch, grid.patch
    pools = {kind: _Reservoir(size, shape, generator) for kind, size in most.items()}
    longest = (frames - 1) * max(SPEEDS) + 1
    for clip in clips:
        past: deque[Pixels] = deque(maxlen=_MAX_PAST)
        for number, recent in enumerate(_histories(clip, grid, longest)):
            if number % _PAST_EVERY == 0:
                past.append(recent[-1])
            # Motion is detected at the true speed, for all kinds.
            moving = find_moving(recent[-2:], grid)
            for kind, pool in pools.items():
                step = int(generator.choice(SPEEDS)) if kind == "fast" else 1
                if len(recent) < (frames - 1) * step + 1:
                    continue
                window = np.stack(recent[-1 - (frames - 1) * step :: step])
                chosen = generator.permutation(moving)[:_PER_WINDOW]
                patches: Iterable[tuple[int, Pixels]] = (
                    _glide_patches(window, past, grid, chosen[:_GLIDING_PER_WINDOW], generator)
                    if kind == "gliding"
                    else zip(chosen, grid.extract(window, chosen), strict=True)
                )
                for index, patch in patches:
                    if kind == "grown":
                        patch = _grow(patch, generator.uniform(*GROWTH))
                    if generator.random() < 0.5:
                        patch = patch[:, :, ::-1]
                    pool.offer(patch, grid.positions[index])
    if not all(pool.seen for kind, pool in pools.items() if kind != "gliding"):
        raise NearfarError(
            f"nothing moves in the normal clips, or they are shorter than {longest} frames: "
            "expected normal motion"
        )
    return MotionSamples(
        torch.from_numpy(np.concatenate([pool.patches for pool in pools.values()])),
        torch.from_numpy(np.concatenate([pool.positions for pool in pools.values()])),
        torch.tensor([kind != "normal" for kind, pool in pools.items() for _ in pool.positions]),
    )


class _Reservoir:
    """Uniform random sample of a stream of patches (reservoir sampling)."""

    def __init__(
        self, most: int, shape: tuple[int, int, int], generator: np.random.Generator
    ) -> None:
        self.seen, self._generator = 0, generator
        self._patches = np.empty((most, *shape), np.uint8)
        self._positions = np.empty(most, np.float32)

    def offer(self, patch: Pixels, position: float) -> None:
        """Add a patch to the sample, or drop it."""
        place = self.seen
        self.seen += 1
        if place >= len(self._positions):
            place = int(self._generator.integers(self.seen))
        if place < len(self._positions):
            self._patches[place], self._positions[place] = patch, position

    @property
    def patches(self) -> Pixels:
        """Patches in the sample (uint8[n, t, p, p])."""
        return self._patches[: self.seen]

    @property
    def positions(self) -> npt.NDArray[np.float32]:
        """Vertical positions of the patches in the sample (float32[n])."""
        return self._positions[: self.seen]


def _histories(clip: Clip, grid: Grid, longest: int) -> Iterator[list[Pixels]]:
    """Yield, for each frame of a clip, that frame and the frames before it.

    Each list has 2 to `longest` frames.
    """
    recent: deque[Frame] = deque(maxlen=longest)
    for frame in clip:
        grid.check(frame.pixels.shape, clip.name)
        if recent and not frame.follows(recent[-1]):
            recent.clear()  # objects would seem to jump across a gap
        recent.append(frame)
        if len(recent) > 1:
            yield [each.pixels for each in recent]


def _grow(patch: Pixels, factor: float) -> Pixels:
    """Scale up the center of a patch (uint8[t, p, p])."""
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


def _glide_patches(
    window: Pixels,
    past: Sequence[Pixels],
    grid: Grid,
    chosen: Indices,
    generator: np.random.Generator,
) -> Iterator[tuple[int, Pixels]]:
    """Yield gliding versions of patches.

    Patches are left out if there are too few earlier frames to estimate the background.
    """
    if len(past) < _MAX_PAST // 2:
        return
    before = np.stack(past)
    for index in chosen:
        row, column = divmod(int(index), grid.shape[1])
        at = int(grid.tops[row]), int(grid.lefts[column]), grid.patch
        around, inside = cut_surroundings(window, *at)
        earlier, _ = cut_surroundings(before, *at)
        patch = glide(around, earlier, inside, generator)
        if patch is not None:
            yield index, patch


def cut_surroundings(
    frames: Pixels, top: int, left: int, patch: int
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Crop a patch from frames (uint8[t, h, w]), with a margin of half the patch's side.

    Returns
    -------
    pixels : uint8[t, 2p, 2p]
        Pixels of the patch and the margin. Outside the frame, the pixels at its border are
        repeated.
    inside : bool[2p, 2p]
        Whether each pixel is inside the frame.
    """
    rows, columns = (np.arange(2 * patch) - patch // 2 + start for start in (top, left))
    height, width = frames.shape[1:]
    near = rows.clip(0, height - 1), columns.clip(0, width - 1)
    inside = (rows == near[0])[:, None] & (columns == near[1])
    return frames[:, near[0][:, None], near[1]], inside


def glide(
    window: Pixels,
    past: Pixels,
    inside: npt.NDArray[np.bool_],
    generator: np.random.Generator,
) -> Pixels | None:
    """Replace a moving object with a still image of the object that moves along the same path.

    The foreground of one frame is moved over the background in equal steps. Camera noise is added
    where background is uncovered.

    Parameters
    ----------
    window : uint8[t, 2p, 2p]
        Patch of consecutive frames. See `cut_surroundings`.
    past : uint8[n, 2p, 2p]
        The same region in earlier frames. Their median is the background.
    inside : bool[2p, 2p]
        Whether each pixel is inside the frame.
    generator : numpy.random.Generator
        Random generator for the pose and the noise.

    Returns
    -------
    uint8[t, p, p] or None
        Gliding patch, or None if the path is too short or everything moves.
    """
    frames, side = len(window), window.shape[1]
    border = side // 4
    inner = np.s_[..., border : border + side // 2, border : border + side // 2]
    background = np.median(past, axis=0).astype(np.float32)
    front = window - background
    seen = np.abs(uniform_filter(front, (0, 3, 3))) > _MIN_CONTRAST
    seen = maximum_filter(seen, (1, 2 * _RIM + 1, 2 * _RIM + 1)) & inside
    path = _estimate_shift((front * seen)[0][inner], (front * seen)[-1][inner], border)
    unseen = ~(seen[1:] | seen[:-1])
    if np.abs(path).max() < _MIN_PATH or not unseen.any():
        return None
    noise = np.diff(window.astype(np.float32), axis=0)[unseen].std() / np.sqrt(2)
    painted = background[inner] + generator.normal(0, noise, window[inner].shape)
    result = np.where(seen[inner], painted, window[inner])
    pose = int(generator.integers(frames))
    for frame in range(frames):
        shift = np.rint(path * (frame - pose) / (frames - 1)).astype(int)
        moved = np.roll(front[pose] * seen[pose], shift, (0, 1))[inner]
        where = np.roll(seen[pose], shift, (0, 1))[inner]
        result[frame][where] = (painted[frame] + moved)[where]
    return np.rint(result.clip(0, 255)).astype(np.uint8)


def _estimate_shift(before: ScoreMap, after: ScoreMap, farthest: int) -> npt.NDArray[np.int64]:
    """Return the shift (down, right) between two images, at the peak of their cross-correlation."""
    from scipy.signal import correlate  # 50 MB, which most detectors do not need

    correlation = correlate(after, before, mode="same", method="fft")
    center = np.array(correlation.shape) // 2
    start = center - farthest
    near = correlation[start[0] : center[0] + farthest + 1, start[1] : center[1] + farthest + 1]
    return np.stack(np.unravel_index(near.argmax(), near.shape)) - farthest
