"""What is known to be abnormal in the frames of a clip."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nearfar.anomaly.clips import MASKS, Clip, FolderClip, StoredClip, image_files
from nearfar.data.decoding import UnreadableError, open_image_file
from nearfar.data.sizes import Size, check_size
from nearfar.errors import NearfarError

Mask = npt.NDArray[np.bool_]

#: What the name of a mask may have after that of its image.
SUFFIXES = ("_mask", MASKS)
#: JPEG blurs the border of black and white: from here on it is white.
WHITE = 128


class Masks:
    """A mask for each frame of a clip, bool[h, w], read when it is asked for.

    Parameters
    ----------
    files : sequence of Path, optional
        Images that are not black where something is abnormal, JPEGs at least half as bright as
        white; None if nothing is in any frame.
    size : int or (height, width), optional
        Scales them to cover it, cropped at the center.

    Raises
    ------
    NearfarError
        One cannot be read or is of another size than the others.
    """

    def __init__(self, files: Sequence[Path] | None, size: Size | None = None) -> None:
        self._files, self._size = files, check_size(size)
        self.shape = self._size
        for file in files or ():
            mask = _read(file, self._size)
            if self.shape not in (None, mask.shape):
                raise NearfarError(
                    f"{str(file)!r} is {mask.shape[0]}x{mask.shape[1]} pixels, the masks before it "
                    f"{self.shape[0]}x{self.shape[1]}: expected masks of one size"
                )
            self.shape = mask.shape[0], mask.shape[1]

    def of(self, number: int, name: str, shape: tuple[int, ...]) -> Mask:
        """Read the mask of a frame.

        Raises
        ------
        NearfarError
            If the clip, called `name`, has more frames than there are masks, or of another shape.
        """
        if self._files is None:
            return np.zeros(shape, bool)
        if number >= len(self._files) or self.shape not in (None, shape):
            raise NearfarError(
                f"{name!r} has frame {number} of shape {shape}, its masks are {len(self._files)} "
                f"of shape {self.shape}: expected one of the same shape for each"
            )
        return _read(self._files[number], self._size)


def find_masks(
    clips: Sequence[Clip], folder: Path | None = None, size: Size | None = None
) -> list[Masks | None]:
    """Find the masks of some clips.

    Parameters
    ----------
    clips : sequence of Clip
        The frames.
    folder : Path, optional
        Holds the masks; of several clips, those of each in a folder with its name, and a clip
        without one is normal. If not given, masks are beside the frames, in a folder whose name
        ends in ``_gt``, and a clip without it has None.
    size : int or (height, width), optional
        As the clips were opened with.

    Raises
    ------
    NearfarError
        As `Masks`; there are none in `folder`; or those of a clip are not as many as its frames and
        not called like them.
    """
    if folder is None:
        return [_pair(clip, beside, size) if (beside := _beside(clip)) else None for clip in clips]
    if not folder.is_dir():
        raise NearfarError(f"{str(folder)!r} does not exist: expected a folder of masks")
    if len(clips) == 1 and image_files(folder):
        return [_pair(clips[0], folder, size)]
    inner = [
        folder / (clip.path.name if isinstance(clip, StoredClip) else clip.name) for clip in clips
    ]
    missing = [path for path in inner if not path.is_dir()]
    if len(missing) == len(inner):
        raise NearfarError(
            f"{str(folder)!r} holds no masks: expected images for a single clip, or folders called "
            f"like the clips ({inner[0].name}, …)"
        )
    others = [path for path in folder.iterdir() if path.is_dir() and path not in inner]
    if missing and any(image_files(path) for path in others):
        raise NearfarError(
            f"{str(folder)!r} holds {min(others).name!r}, which is no clip, and nothing for "
            f"{missing[0].name!r}: expected folders called like the clips"
        )
    return [
        _pair(clip, path, size) if path.is_dir() else Masks(None)
        for clip, path in zip(clips, inner, strict=True)
    ]


def _beside(clip: Clip) -> Path | None:
    if not isinstance(clip, FolderClip) or clip.folder is None:
        return None
    folder = clip.folder.with_name(clip.folder.name + MASKS)
    # Unlike Path.is_dir, it knows that nothing has a name that is too long.
    return folder if os.path.isdir(folder) else None  # noqa: PTH112


def _pair(clip: Clip, folder: Path, size: Size | None) -> Masks:
    """Give each frame the mask with its name, or if names differ, the one in its place."""
    files = image_files(folder)
    if not files:
        raise NearfarError(f"{str(folder)!r} holds no images: expected the masks of {clip.name!r}")
    if clip.total is not None and len(files) != clip.total:
        raise NearfarError(
            f"{str(folder)!r} holds {len(files)} masks, {clip.name!r} {clip.total} frames: "
            "expected a mask for each frame"
        )
    if isinstance(clip, FolderClip):
        by_name = {_without_suffix(file.stem): file for file in files}
        stems = [file.stem for file in clip.files]
        if len(by_name) == len(files) and by_name.keys() == set(stems):
            files = [by_name[stem] for stem in stems]
    return Masks(files, size)


def _without_suffix(stem: str) -> str:
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _read(file: Path, size: tuple[int, int] | None) -> Mask:
    """The values themselves tell, not the colors that a palette gives them, nor transparency."""
    try:
        with open_image_file(file) as image:
            image.load()
            least = WHITE if image.format == "JPEG" else 1
            bands = [band for band in image.getbands() if band != "A"]
            values = np.asarray(image).reshape(image.height, image.width, -1)[..., : len(bands)]
            mask: Mask = np.any(values >= least, axis=2)
    except UnreadableError as error:
        raise NearfarError(f"mask {str(file)!r} cannot be read ({error}): mend it") from error
    if size is None or mask.shape == size:
        return mask
    # What is thin is not lost: a pixel is marked if a marked one has any part in it.
    shares = Image.fromarray(mask.astype(np.float32))
    scaled = ImageOps.fit(shares, size[::-1], Image.Resampling.BOX)
    return np.asarray(scaled) > 0
