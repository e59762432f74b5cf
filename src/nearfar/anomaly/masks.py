"""What is known to be abnormal in the frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearfar.anomaly.clips import MASKS, Clip, FolderClip
from nearfar.data.shapes import Size
from nearfar.errors import NearfarError

Mask = npt.NDArray[np.bool_]


class Masks:
    """A mask for each frame of a clip, bool[h, w], read when it is asked for.

    Parameters
    ----------
    folder : Path
        Images that are not black where something is abnormal, one a frame, in the natural order
        of their names.
    size : int or (height, width), optional
        Scales them to cover it, cropped at the center.

    Attributes
    ----------
    shape : (int, int)
        Height and width of all of them.

    Raises
    ------
    NearfarError
        One cannot be read or is of another size; or there are none.
    """

    def __init__(self, folder: Path, size: Size | None = None) -> None:
        self._images = FolderClip(folder, size)
        for frame in self._images:
            self.shape: Sequence[int] = frame.pixels.shape
        if self._images.skipped:
            raise NearfarError(f"a mask cannot be read, {self._images.skipped[0]}: mend it")

    def __len__(self) -> int:
        return len(self._images.files)

    def __getitem__(self, number: int) -> Mask:
        mask: Mask = self._images.read(number) > 0
        return mask


def read_masks(clip: Clip, folder: Path | None = None, size: Size | None = None) -> Masks | None:
    """Find the masks of a clip.

    Parameters
    ----------
    clip : Clip
        The frames.
    folder : Path, optional
        The masks. If not given, the folder beside that of the frames, whose name ends in ``_gt``;
        None is returned if there is none.
    size : int or (height, width), optional
        As the clip was opened with.

    Raises
    ------
    NearfarError
        As `Masks`, or their number is not that of the frames.
    """
    if folder is None:
        if not isinstance(clip, FolderClip) or not clip.files:
            return None
        frames = clip.files[0].parent
        folder = frames.with_name(frames.name + MASKS)
        if not folder.is_dir():
            return None
    masks = Masks(folder, size)
    if clip.total is not None and len(masks) != clip.total:
        raise NearfarError(
            f"{str(folder)!r} holds {len(masks)} masks, {clip.name!r} {clip.total} frames: "
            "expected a mask for each frame"
        )
    return masks
