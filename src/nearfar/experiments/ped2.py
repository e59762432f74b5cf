"""UCSD Ped2: video clips, and patches of normal clips on which networks are trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nearfar.anomaly import (
    ArrayClip,
    Clip,
    DetectorConfig,
    Frame,
    Mask,
    Masks,
    find_masks,
    gather_patches,
    open_clips,
)
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.progress import Track

FOLDER = Path("UCSD_Anomaly_Dataset.v1p2") / "UCSDped2"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Settings for reading clips and for cutting normal clips into patches.

    Parameters
    ----------
    rows : (int, int), optional
        First row and end row (exclusive) of the pixels to read in each frame. Default: all.
    frames : int, optional
        Number of random normal frames to cut into patches. Default: all.
    stride : int
        Distance between patches of normal frames, in pixels.
    """

    rows: tuple[int, int] | None = None
    frames: int | None = None
    stride: int = DetectorConfig.paper().stride

    def open(self, root: Path, part: str) -> list[Clip]:
        """Return the clips in a part of the data set: "Train" (normal clips) or "Test".

        Raises
        ------
        NearfarError
            If the data set is not in the data root.
        """
        folder = root / FOLDER
        if not folder.is_dir():
            raise NearfarError(
                f"{str(folder)!r} does not exist: put UCSD Ped2 there, or give --data-root"
            )
        clips = open_clips(folder / part)
        if self.rows is None:
            return clips
        known = zip(clips, find_masks(clips), strict=True)
        return [CroppedClip(clip, masks, *self.rows) for clip, masks in known]

    def patches(self, normal: Sequence[Clip], frames: int, track: Track) -> ArrayImages:
        """Return patches of normal clips, each with `frames` consecutive frames."""
        if self.frames is not None:
            normal = [_drawn(normal, self.frames, track)]
        return gather_patches(
            track(normal, "cutting patches", len(normal)),
            DetectorConfig.paper().patch,
            self.stride,
            frames,
            name="normal patches of UCSD Ped2",
        )


class CroppedClip(Clip):
    """Clip cropped to some rows of pixels, together with the masks of the clip.

    Parameters
    ----------
    clip : Clip
        Clip to crop.
    masks : Masks or None
        Masks of the uncropped clip; None if it has no masks.
    top, bottom : int
        First row and end row (exclusive) of the pixels to keep.

    Examples
    --------
    >>> clip = CroppedClip(ArrayClip(np.zeros((2, 240, 360), np.uint8)), None, 100, 240)
    >>> next(iter(clip)).pixels.shape
    (140, 360)
    """

    def __init__(self, clip: Clip, masks: Masks | None, top: int, bottom: int) -> None:
        super().__init__()
        self.clip, self.masks, self.top, self.bottom = clip, masks, top, bottom
        self.name, self.total, self.rate = clip.name, clip.total, clip.rate
        self.nominal_total = clip.nominal_total

    def __iter__(self) -> Iterator[Frame]:
        """See `Clip`."""
        for frame in self.clip:
            yield frame._replace(pixels=frame.pixels[self.top : self.bottom])
        self.skipped, self.notes = self.clip.skipped, self.clip.notes

    def mask(self, number: int, name: str, shape: tuple[int, ...]) -> Mask:
        """Return the cropped mask of a frame (bool[h, w]), see `Masks.mask`."""
        if self.masks is None:
            return np.zeros(shape, bool)
        return self.masks.mask(number, name, self._whole)[self.top : self.bottom]

    @cached_property
    def _whole(self) -> tuple[int, ...]:
        return next(iter(self.clip)).pixels.shape


def _drawn(clips: Sequence[Clip], count: int, track: Track) -> ArrayClip:
    """Return `count` random frames of the clips, as a single clip."""
    frames = [frame.pixels for clip in track(clips, "reading", len(clips)) for frame in clip]
    rows = np.random.default_rng(0).permutation(len(frames))[:count]
    return ArrayClip(np.stack([frames[row] for row in np.sort(rows)]))
