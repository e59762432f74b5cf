"""Object size and frame rate of a camera, and clips rescaled to fit patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, label, uniform_filter

from nearfar.anomaly.clips import Clip, Frame, Pixels, scale
from nearfar.errors import NearfarError

#: Gray level difference between moving objects and the background.
_MIN_CONTRAST = 12
#: Maximum number of frames in which objects are measured, and of clips from which they are taken.
_FRAMES, _CLIPS = 32, 8
#: Longest side of the frames in which objects are measured, in pixels.
_MAX_SIDE = 640
#: Smallest factor by which frames are downscaled; below 1, they are enlarged.
_MIN_ZOOM = 0.5
#: Maximum mismatch, as a factor, at which frames are not rescaled.
_TOLERANCE = 1.3


class Camera(NamedTuple):
    """Frame size, object size and frame rate of clips from one camera.

    Attributes
    ----------
    size : (height, width)
        Size of frames in pixels.
    height : float or None
        Median height of moving objects in pixels, weighted by area. None if nothing moves.
    rate : float or None
        Frames per second, if known.

    Examples
    --------
    >>> Camera(size=(360, 640), height=109.0, rate=25.0).zoom(43, min_side=48)
    2.5
    """

    size: tuple[int, int]
    height: float | None
    rate: float | None

    def zoom(self, height: float, min_side: int) -> float:
        """Return the factor by which to downscale frames so that objects have a given height.

        The factor is 1 if objects are already close to that height, since scaling blurs.

        Parameters
        ----------
        height : float
            Desired height of objects, in pixels.
        min_side : int
            Minimum side of a downscaled frame, in pixels.
        """
        factor = round(max((self.height or height) / height, _MIN_ZOOM), 1)
        max_zoom = max(1.0, min(self.size) / min_side)
        return 1.0 if 1 / _TOLERANCE < factor < _TOLERANCE else min(factor, max_zoom)

    def step(self, rate: float) -> int:
        """Return the frame step that results in about `rate` frames per second.

        Return 1 if the frame rate is unknown.
        """
        return max(1, round((self.rate or rate) / rate))


def measure_camera(clips: Sequence[Clip]) -> Camera:
    """Measure the size of moving objects in clips from one fixed camera.

    Objects are connected regions in which a frame differs from the temporal median.

    Parameters
    ----------
    clips : sequence of Clip
        Normal clips.

    Returns
    -------
    Camera

    Raises
    ------
    NearfarError
        If there are no clips, or a clip has no readable frame.

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> video = np.zeros((20, 64, 96), np.uint8)
    >>> for number, frame in enumerate(video):
    ...     frame[8:40, 4 * number : 4 * number + 8] = 200
    >>> measure_camera([ArrayClip(video, rate=25)])
    Camera(size=(64, 96), height=34.0, rate=25)
    """
    if not clips:
        raise NearfarError("there are no clips: expected normal clips")
    size = next(iter(clips[0])).pixels.shape
    heights: list[float] = []
    areas: list[int] = []
    for clip in clips[:: -(-len(clips) // _CLIPS)]:
        frames, factor = _spread(clip)
        background = np.median(frames, axis=0)
        for frame in frames:
            front = np.abs(uniform_filter(frame - background, 3)) > _MIN_CONTRAST
            numbered, _ = label(front, np.ones((3, 3)))
            tall = [place[0].stop - place[0].start for place in find_objects(numbered)]
            heights += [factor * pixels for pixels in tall]
            areas += np.bincount(numbered.ravel())[1:].tolist()
    rate = next((clip.rate for clip in clips if clip.rate), None)
    return Camera(size, _weighted_median(heights, areas), rate)


def _spread(clip: Clip) -> tuple[npt.NDArray[np.float32], float]:
    """Return evenly spaced frames of a clip, and the factor by which they were downscaled."""
    kept: list[Pixels] = []
    every, factor = 1, 1.0
    for place, frame in enumerate(clip):
        height, width = frame.pixels.shape
        factor = max(1.0, max(height, width) / _MAX_SIDE)
        if place % every == 0:
            kept.append(scale(frame.pixels, (round(height / factor), round(width / factor))))
        if len(kept) > _FRAMES:
            kept, every = kept[::2], 2 * every
    return np.stack(kept).astype(np.float32), factor


def _weighted_median(values: Sequence[float], weights: Sequence[float]) -> float | None:
    if not values:
        return None
    order = np.argsort(values)
    total = np.cumsum(np.asarray(weights, float)[order])
    return float(np.asarray(values)[order][np.searchsorted(total, total[-1] / 2)])


class View(Clip):
    """Clip that consists of every `step`-th frame of another clip, resized.

    Parameters
    ----------
    clip : Clip
        Clip whose frames are used.
    size : (height, width)
        Size to which frames are scaled.
    first, step : int
        Number of the first frame to use, and distance between frames.
    """

    def __init__(self, clip: Clip, size: tuple[int, int], first: int, step: int) -> None:
        super().__init__(clip.size)
        self.clip, self.first, self.step, self.to = clip, first, step, size
        self.name, self.rate = clip.name, clip.rate and clip.rate / step
        self.nominal_total = clip.nominal_total // step
        self.total = None if clip.total is None else len(range(first, clip.total, step))

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        lost = 0
        for frame in self.clip:
            lost += frame.lost
            if frame.number % self.step == self.first:
                number, pixels = frame.number // self.step, scale(frame.pixels, self.to)
                yield frame._replace(number=number, pixels=pixels, lost=-(-lost // self.step))
                lost = 0


def views(clips: Sequence[Clip], size: tuple[int, int], step: int) -> list[Clip]:
    """Split each clip into `step` clips, which contain every `step`-th frame, resized.

    Parameters
    ----------
    clips : sequence of Clip
        Clips with the same frame size.
    size : (height, width)
        Size to which frames are scaled.
    step : int
        Distance between consecutive frames of a window.

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> clip = ArrayClip(np.zeros((5, 64, 96), np.uint8))
    >>> [[frame.pixels.shape for frame in view] for view in views([clip], (32, 48), 2)]
    [[(32, 48), (32, 48), (32, 48)], [(32, 48), (32, 48)]]
    """
    return [View(clip, size, first, step) for clip in clips for first in range(step)]
