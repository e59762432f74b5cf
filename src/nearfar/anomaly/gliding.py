"""Patches in which what moves glides along, as nothing does that walks.

Who walks swings arms and legs; who rides, skates or drives keeps a pose. A picture of a walker,
cut out of one frame and pushed along at the walker's own speed, is such a thing: it looks and
measures like what is normal, and only how it moves tells that it is not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.signal import correlate

from nearfar.anomaly.clips import Pixels
from nearfar.anomaly.patches import Map

#: Gray levels by which what is in front differs from the background, and the pixels around it that
#: belong to it.
FRONT, RIM = 12, 2
#: The least way, in pixels, of something that glides.
LEAST = 3


def surroundings(
    frames: Pixels, top: int, left: int, patch: int
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Cut a patch and half of its side around it out of frames, uint8[t, h, w].

    Returns
    -------
    pixels : uint8[t, 2p, 2p]
        What is outside of the frame is as its border.
    inside : bool[2p, 2p]
        What is not.
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
    """Let what moves in the middle of a window glide as far as it goes there.

    What differs from the background in one of the frames is moved over it in equal steps; what is
    painted has the camera's noise.

    Parameters
    ----------
    window : uint8[t, 2p, 2p]
        See `surroundings`.
    past : uint8[n, 2p, 2p]
        The same place in earlier frames, of which the median is the background.
    inside : bool[2p, 2p]
        What is known.

    Returns
    -------
    uint8[t, p, p], optional
        None if nothing moves far enough, or all of it does.
    """
    frames, side = len(window), window.shape[1]
    border = side // 4
    inner = np.s_[..., border : border + side // 2, border : border + side // 2]
    background = np.median(past, axis=0).astype(np.float32)
    front = window - background
    seen = np.abs(uniform_filter(front, (0, 3, 3))) > FRONT
    seen = maximum_filter(seen, (1, 2 * RIM + 1, 2 * RIM + 1)) & inside
    way = _way((front * seen)[0][inner], (front * seen)[-1][inner], border)
    unseen = ~(seen[1:] | seen[:-1])
    if np.abs(way).max() < LEAST or not unseen.any():
        return None
    noise = np.diff(window.astype(np.float32), axis=0)[unseen].std() / np.sqrt(2)
    painted = background[inner] + generator.normal(0, noise, window[inner].shape)
    own = np.where(seen[inner], painted, window[inner])
    pose = int(generator.integers(frames))
    for frame in range(frames):
        shift = np.rint(way * (frame - pose) / (frames - 1)).astype(int)
        moved = np.roll(front[pose] * seen[pose], shift, (0, 1))[inner]
        where = np.roll(seen[pose], shift, (0, 1))[inner]
        own[frame][where] = (painted[frame] + moved)[where]
    return np.rint(own.clip(0, 255)).astype(np.uint8)


def _way(before: Map, after: Map, farthest: int) -> npt.NDArray[np.int64]:
    """How far, down and right, one image is most like the other: the peak of their correlation."""
    likeness = correlate(after, before, mode="same", method="fft")
    center = np.array(likeness.shape) // 2
    start = center - farthest
    near = likeness[start[0] : center[0] + farthest + 1, start[1] : center[1] + farthest + 1]
    return np.stack(np.unravel_index(near.argmax(), near.shape)) - farthest
