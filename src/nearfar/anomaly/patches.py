"""Patches of frames: positions, cropping, and conversion of patch scores to pixel maps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from nearfar.anomaly.clips import Clip, Frame, Pixels
from nearfar.data import ArrayImages, to_unit
from nearfar.errors import NearfarError

#: Default memory limit for patches, above which a random sample is drawn.
MAX_PATCH_BYTES = 2**29

Indices = npt.NDArray[np.int64]
ScoreMap = npt.NDArray[np.float32]


class ShortClipError(NearfarError):
    """Raised if a clip has too few consecutive frames for a window."""


@dataclass(frozen=True)
class Grid:
    """Rows and columns of square patches that cover a frame.

    Parameters
    ----------
    size : (height, width)
        Size of the frame in pixels.
    patch : int
        Side of a patch in pixels.
    stride : int
        Distance between patches in pixels. The last row and column of patches are aligned with the
        border of the frame.

    Raises
    ------
    NearfarError
        If the frame is smaller than a patch, or if the stride would leave gaps between patches.

    Examples
    --------
    >>> Grid((240, 360), patch=30, stride=15).shape
    (15, 23)
    """

    size: tuple[int, int]
    patch: int
    stride: int

    def __post_init__(self) -> None:
        if min(self.size) < self.patch:
            raise NearfarError(
                f"frames of {self.size[0]}x{self.size[1]} pixels are smaller than a patch of "
                f"{self.patch}: expected larger frames, or a size to scale them to"
            )
        if not 1 <= self.stride <= self.patch:
            raise NearfarError(
                f"stride={self.stride}: expected 1…{self.patch}, so that patches leave no gaps"
            )

    def check(self, size: tuple[int, ...], name: str) -> None:
        """Check the size of frames.

        Parameters
        ----------
        size : (height, width)
            Size to check.
        name : str
            Name of the clip, for error messages.

        Raises
        ------
        NearfarError
            If the size differs from the grid's.
        """
        if size != self.size:
            raise NearfarError(
                f"{name!r} has frames of {size[0]}x{size[1]} pixels, expected "
                f"{self.size[0]}x{self.size[1]}: use clips of one camera, or a size to scale to"
            )

    @cached_property
    def tops(self) -> Indices:
        """First pixel row of each row of patches."""
        return _starts(self.size[0], self.patch, self.stride)

    @cached_property
    def lefts(self) -> Indices:
        """First pixel column of each column of patches."""
        return _starts(self.size[1], self.patch, self.stride)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns of patches."""
        return len(self.tops), len(self.lefts)

    @cached_property
    def positions(self) -> npt.NDArray[np.float64]:
        """Vertical position of the center of each patch (float[n]): 0 is the top, 1 the bottom.

        Patches are counted row by row.
        """
        middles = (self.tops + self.patch / 2) / self.size[0]
        return middles.repeat(len(self.lefts))

    def extract(self, frames: Pixels, indices: Indices | None = None) -> Pixels:
        """Extract patches from consecutive frames.

        Parameters
        ----------
        frames : uint8[t, h, w]
            Frames of the grid's size.
        indices : int64[n], optional
            Indices of the patches to extract, counted row by row. Default: all.

        Returns
        -------
        uint8[n, t, p, p]

        Examples
        --------
        >>> Grid((64, 96), 32, 16).extract(np.zeros((5, 64, 96), np.uint8)).shape
        (15, 5, 32, 32)
        """
        if indices is None:
            indices = np.arange(len(self.tops) * len(self.lefts))
        rows, columns = np.divmod(indices, len(self.lefts))
        every = sliding_window_view(frames, (self.patch, self.patch), axis=(1, 2))
        return np.ascontiguousarray(every[:, self.tops[rows], self.lefts[columns]].swapaxes(0, 1))

    def means(self, image: ScoreMap) -> ScoreMap:
        """Return the mean of an image (float[h, w]) over each patch (float32[rows, columns]).

        Examples
        --------
        >>> Grid((2, 4), 2, 2).means(np.arange(8.0).reshape(2, 4))
        array([[2.5, 4.5]], dtype=float32)
        """
        if self.patch == 1:
            return image.astype(np.float32)
        sums = np.pad(image, ((1, 0), (1, 0))).cumsum(0, dtype=np.float64).cumsum(1)
        top, left, p = self.tops[:, None], self.lefts, self.patch
        total = sums[top + p, left + p] - sums[top, left + p] - sums[top + p, left]
        return ((total + sums[top, left]) / p**2).astype(np.float32)

    def upsample(self, scores: ScoreMap, size: tuple[int, int] | None = None) -> ScoreMap:
        """Return a pixel map in which each pixel has the score of the nearest patch.

        Parameters
        ----------
        scores : float[rows, columns]
            Scores of patches.
        size : (height, width), optional
            Size of the map. Default: the size of the grid.

        Returns
        -------
        float32[h, w]

        Examples
        --------
        >>> Grid((2, 4), 2, 2).upsample(np.array([[1, 9]], np.float32))
        array([[1., 1., 9., 9.],
               [1., 1., 9., 9.]], dtype=float32)
        """
        height, width = size or self.size
        zooms = height / self.size[0], width / self.size[1]
        rows = _nearest((self.tops + self.patch / 2) * zooms[0] - 0.5, height)
        columns = _nearest((self.lefts + self.patch / 2) * zooms[1] - 0.5, width)
        return scores[rows[:, None], columns]


def windows(
    frames: Iterable[Frame], length: int, name: str = "the stream", *, step: int = 1
) -> Iterator[tuple[Frame, Pixels]]:
    """Yield each frame with a window, which consists of that frame and frames before it.

    The first frames share the first complete window. After each window, the next `step - 1` frames
    share that window. Windows do not span gaps in frame numbers or timestamps. Runs of frames that
    are shorter than a window are left out.

    Parameters
    ----------
    frames : iterable of Frame
        Frames of one size.
    length : int
        Number of frames per window.
    name : str
        Name of the clip, for error messages.
    step : int
        Distance between consecutive frames of a window.

    Yields
    ------
    frame : Frame
        Last frame of the window, or a frame that shares the window.
    pixels : uint8[length, h, w]
        Pixels of the window.

    Raises
    ------
    NearfarError
        If no run of consecutive frames is as long as a window, or if the frame size changes.

    Examples
    --------
    >>> frames = [Frame(number, np.full((8, 8), number, np.uint8)) for number in range(4)]
    >>> [(frame.number, window[:, 0, 0].tolist()) for frame, window in windows(frames, 2)]
    [(0, [0, 1]), (1, [0, 1]), (2, [1, 2]), (3, [2, 3])]
    """
    span = (length - 1) * step + 1
    recent: deque[Frame] = deque(maxlen=span)
    waiting: list[Frame] = []
    longest = age = 0
    for frame in frames:
        if recent and frame.pixels.shape != recent[0].pixels.shape:
            before, now = recent[0].pixels.shape, frame.pixels.shape
            raise NearfarError(
                f"frame {frame.number} of {name!r} is {now[0]}x{now[1]} pixels, those before it "
                f"{before[0]}x{before[1]}: expected frames of one size"
            )
        if recent and not frame.follows(recent[-1]):
            recent.clear()
            waiting.clear()
            age = 0
        recent.append(frame)
        longest = max(longest, len(recent))
        if len(recent) < span:
            waiting.append(frame)
            continue
        if age % step == 0:
            window = np.stack([each.pixels for each in islice(recent, 0, None, step)])
        age += 1
        for each in (*waiting, frame):
            yield each, window
        waiting.clear()
    if longest < span:
        raise ShortClipError(
            f"{name!r} has {longest} frames in a row, fewer than the {span} of a window: "
            "expected a longer clip"
        )


def gather_patches(
    clips: Iterable[Clip],
    patch: int,
    stride: int,
    frames: int,
    *,
    name: str,
    seed: int = 0,
    max_bytes: int = MAX_PATCH_BYTES,
    border: int = 0,
) -> ArrayImages:
    """Return the patches of all windows of clips as images.

    The clips are read once, one frame at a time. If all patches together exceed `max_bytes`, each
    patch is kept with the same probability (reservoir sampling).

    Parameters
    ----------
    clips : iterable of Clip
        Normal clips from one camera.
    patch, stride : int
        Side of a patch and distance between patches, in pixels.
    frames : int
        Number of frames per window.
    name : str
        Name of the images.
    seed : int
        Random seed for the sampling.
    max_bytes : int
        Memory limit for the patches, in bytes.
    border : int
        Number of pixels excluded on each side of a frame.

    Returns
    -------
    ArrayImages
        Images (uint8[frames, patch, patch]). The channels are the frames of a window.

    Raises
    ------
    NearfarError
        See `Clip` and `windows`. Also if clips differ in frame size.

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> clip = ArrayClip(np.zeros((10, 64, 96), np.uint8))
    >>> images = gather_patches([clip], 32, 32, 2, name="normal patches")
    >>> len(images), images.shape
    (60, (2, 32, 32))
    """
    most = max(1, max_bytes // (frames * patch**2))
    generator = np.random.default_rng(seed)
    kept = np.empty((0, frames, patch, patch), np.uint8)
    filled = seen = 0
    grid: Grid | None = None
    for clip in clips:
        for _, window in windows(clip, frames, clip.name):
            height, width = window.shape[1:]
            inner = window[:, border : height - border, border : width - border]
            if grid is None:
                grid = Grid((height - 2 * border, width - 2 * border), patch, stride)
            grid.check(inner.shape[1:], clip.name)
            cut = grid.extract(inner)
            places = np.arange(seen, seen + len(cut))
            late = places >= most
            places[late] = generator.integers(0, places[late] + 1)
            chosen = places < most
            filled = min(seen + len(cut), most)
            if filled > len(kept):
                larger = np.empty((min(2 * filled, most), *kept.shape[1:]), np.uint8)
                larger[: len(kept)] = kept
                kept = larger
            kept[places[chosen]] = cut[chosen]
            seen += len(cut)
    if not seen:
        raise NearfarError(f"{name!r}: the normal clips hold no frames")
    return ArrayImages(kept[:filled], name=name)


@torch.no_grad()
def score_patches(
    function: Callable[[Tensor], Tensor], window: Pixels, grid: Grid, *, batch_size: int = 512
) -> ScoreMap:
    """Score the patches of a window in batches.

    Parameters
    ----------
    function : callable
        Function that takes patches (float32[b, t, p, p], in [0, 1]) and returns scores
        (float32[b]).
    window : uint8[t, h, w]
        Consecutive frames.
    grid : Grid
        Positions of the patches.
    batch_size : int
        Number of patches per call of `function`.

    Returns
    -------
    float32[rows, columns]

    Examples
    --------
    >>> window = np.full((1, 16, 16), 255, np.uint8)
    >>> score_patches(lambda patches: patches.mean((1, 2, 3)), window, Grid((16, 16), 8, 8))
    array([[1., 1.],
           [1., 1.]], dtype=float32)
    """
    patches = torch.from_numpy(grid.extract(window)).split(batch_size)
    return torch.cat([function(to_unit(each)) for each in patches]).view(grid.shape).numpy()


def sample_batches(batches: Iterable[Tensor], max_rows: int, seed: int) -> Tensor:
    """Return a uniform random sample of at most `max_rows` rows from batches.

    The batches are read once (reservoir sampling).

    Parameters
    ----------
    batches : iterable of Tensor
        Batches of shape [b, …], with rows of the same shape and type.
    max_rows : int
        Maximum number of rows.
    seed : int
        Random seed for the sampling.

    Returns
    -------
    Tensor
        Sampled rows, of shape [n, …].

    Raises
    ------
    NearfarError
        If there are no rows.

    Examples
    --------
    >>> sample_batches([torch.arange(3), torch.arange(3, 6)], max_rows=4, seed=0).shape
    torch.Size([4])
    """
    generator = np.random.default_rng(seed)
    kept: Tensor | None = None
    seen = 0
    for batch in batches:
        places = np.arange(seen, seen + len(batch))
        late = places >= max_rows
        places[late] = generator.integers(0, places[late] + 1)
        seen += len(batch)
        if kept is None:
            # Memory that is never written to is never occupied.
            kept = batch.new_empty((max_rows, *batch.shape[1:]))
        chosen = places < max_rows
        kept[torch.from_numpy(places[chosen])] = batch[torch.from_numpy(chosen)]
    if kept is None or not seen:
        raise NearfarError("the normal clips hold no images: expected at least one")
    return kept[: min(seen, max_rows)]


def sample_rows(n: int, max_rows: int, seed: int) -> Indices:
    """Return at most `max_rows` of `n` row numbers, sampled without replacement and sorted.

    Examples
    --------
    >>> sample_rows(10, 20, seed=0).tolist() == list(range(10))
    True
    """
    return np.sort(np.random.default_rng(seed).permutation(n)[:max_rows])


def _starts(length: int, patch: int, stride: int) -> Indices:
    last = length - patch
    return np.unique(np.append(np.arange(0, last + 1, stride), last))


def _nearest(centers: npt.NDArray[np.floating], length: int) -> Indices:
    """Return, for each of `length` pixels, the index of the nearest center."""
    between = (centers[1:] + centers[:-1]) / 2
    return np.searchsorted(between, np.arange(length))
