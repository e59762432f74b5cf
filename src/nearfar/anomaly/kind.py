"""Detection of whether a folder contains frames of a video or photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from nearfar.anomaly.clips import Clip, FolderClip
from nearfar.data import UnreadableError, read_image

#: Fraction of comparisons with other files in which neighbors must be more similar. Measured: UCSD
#: Ped2 1.00, at a tenth of its rate 0.98, CamVid at one frame per second 0.99; photographs of solar
#: cells (ELPV), sorted by module, 0.86, of faces, sorted by person, 0.72, of flowers 0.57.
_VIDEO_FRACTION = 0.95
#: The same for files two and three places away, since motion may repeat, e.g. on a conveyor belt.
_MOTION_FRACTION, _LAGS = 0.85, (2, 3)
#: Maximum difference between identical scenes, in gray levels, since nothing may move for a while.
_SAME = 1.0
#: Side of the compared images, in pixels.
_SIDE = 32
#: Maximum number of pairs of neighbors and of clips from which they come, number of other files
#: with which each is compared, and minimum number of comparisons for a decision.
_PAIRS, _CLIPS, _OTHERS, _FEWEST = 48, 8, 15, 12

Kind = Literal["video", "photographs"]
Small = npt.NDArray[np.float32]
_T = TypeVar("_T")


class Continuity(NamedTuple):
    """Whether clips are a video or photographs, and the reason for this result.

    Attributes
    ----------
    kind : {"video", "photographs"}
        "photographs" if there are too few files to tell.
    reason : str
        Reason, as a clause that can follow "because".

    Examples
    --------
    >>> Continuity("video", "'camera.mp4' is a video").kind
    'video'
    """

    kind: Kind
    reason: str


def continuity(clips: Sequence[Clip]) -> Continuity:
    """Distinguish a video from photographs by the similarity of consecutive files.

    A folder contains frames of a video if most of its files, in natural order, are more similar to
    the next file than to other files in the folder, or than to the files after the next one. Clips
    that are not folders of images are videos.

    Parameters
    ----------
    clips : sequence of Clip
        Clips from `open_clips`.

    Returns
    -------
    Continuity

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> continuity([ArrayClip(np.zeros((3, 32, 48), np.uint8))]).kind
    'video'
    """
    for clip in clips:
        if not isinstance(clip, FolderClip):
            return Continuity("video", f"{clip.name!r} is a video")
    chosen = _evenly_spaced([clip for clip in clips if isinstance(clip, FolderClip)], _CLIPS)
    most = max(2, _PAIRS // max(1, len(chosen)))
    far: list[bool] = []
    close: list[bool] = []
    for clip in chosen:
        pairs = _pairs(clip, most)
        far += _compare_far(pairs)
        close += _compare_close(clip, pairs)
    if len(far) < _FEWEST:
        return Continuity("photographs", "there are too few files to tell")
    if np.mean(far) >= _VIDEO_FRACTION or np.mean(close) >= _MOTION_FRACTION:
        return Continuity("video", "consecutive files look alike")
    return Continuity("photographs", "consecutive files do not look alike")


class _Pair(NamedTuple):
    """Number of a file, its image, and the difference between the image and the next one."""

    number: int
    picture: Small
    step: float


def _pairs(clip: FolderClip, max_pairs: int) -> list[_Pair]:
    pairs = []
    for number in _evenly_spaced(range(len(clip.files) - 1), max_pairs):
        one, following = _small(clip, number), _small(clip, number + 1)
        if one is not None and following is not None:
            pairs.append(_Pair(number, one, _difference(one, following)))
    return pairs


def _compare_far(pairs: Sequence[_Pair]) -> Iterator[bool]:
    """Yield whether each file is more similar to the next one than to other files."""
    generator = np.random.default_rng(0)
    for number, picture, step in pairs:
        others = [pair.picture for pair in pairs if abs(pair.number - number) > 1]
        for other in generator.permutation(len(others))[:_OTHERS]:
            yield step < _SAME or step < _difference(picture, others[other])


def _compare_close(clip: FolderClip, pairs: Sequence[_Pair]) -> Iterator[bool]:
    """Yield whether each file is more similar to the next one than to files soon after."""
    for number, picture, step in pairs:
        for lag in _LAGS:
            if number + lag < len(clip.files):
                other = _small(clip, number + lag)
                if other is not None:
                    yield step < _SAME or step < _difference(picture, other)


def _small(clip: FolderClip, number: int) -> Small | None:
    try:
        pixels = read_image(clip.files[number], (1, _SIDE, _SIDE))
    except UnreadableError:
        return None
    return pixels[0].numpy().astype(np.float32)


def _difference(one: Small, other: Small) -> float:
    return float(np.abs(one - other).mean())


def _evenly_spaced(items: Sequence[_T], max_items: int) -> list[_T]:
    """Return at most `max_items` items, evenly spaced."""
    places = np.unique(np.linspace(0, len(items) - 1, min(max_items, len(items))).astype(int))
    return [items[place] for place in places]
