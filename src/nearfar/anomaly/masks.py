"""Ground truth: masks of abnormal pixels, and which clip and frame they belong to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from nearfar.anomaly.clips import MASK_SUFFIX, Clip, FolderClip, StoredClip, image_files
from nearfar.data import Size, UnreadableError, check_size, open_image_file
from nearfar.errors import NearfarError

Mask = npt.NDArray[np.bool_]

#: Suffixes that a mask's name may add to the name of its image.
_SUFFIXES = ("_mask", MASK_SUFFIX)
#: Lowest white value in a JPEG, which blurs the border of black and white.
_JPEG_WHITE = 128


class Masks:
    """Masks of the frames of a clip, bool[h, w]; read on demand.

    Parameters
    ----------
    files : sequence of Path, optional
        One image per frame. Pixels that are not black are abnormal; in a JPEG, those at least half
        as bright as white. None if no frame is abnormal.
    size : int or (height, width), optional
        Size that masks are scaled to cover, cropped at the center.

    Raises
    ------
    NearfarError
        If a file is unreadable, or masks differ in size.

    Examples
    --------
    >>> bool(Masks(None).of(0, "camera", (32, 48)).any())
    False
    """

    def __init__(self, files: Sequence[Path] | None, size: Size | None = None) -> None:
        self._files, self._size = files, check_size(size)
        self.shape = self._size
        for file in files or ():
            mask = _read_abnormal(file, self._size)
            if self.shape not in (None, mask.shape):
                raise NearfarError(
                    f"{str(file)!r} is {mask.shape[0]}x{mask.shape[1]} pixels, the masks before it "
                    f"{self.shape[0]}x{self.shape[1]}: expected masks of one size"
                )
            self.shape = mask.shape[0], mask.shape[1]

    def of(self, number: int, name: str, shape: tuple[int, ...]) -> Mask:
        """Return the mask of a frame.

        Parameters
        ----------
        number : int
            Number of the frame.
        name : str
            Name of the clip, for the message.
        shape : (height, width)
            Shape of the frame.

        Raises
        ------
        NearfarError
            If the clip has more frames than there are masks, or of another shape.
        """
        if self._files is None:
            return np.zeros(shape, bool)
        if number >= len(self._files) or self.shape not in (None, shape):
            raise NearfarError(
                f"{name!r} has frame {number} of shape {shape}, its masks are {len(self._files)} "
                f"of shape {self.shape}: expected one mask of the same shape per frame"
            )
        return _read_abnormal(self._files[number], self._size)


def find_masks(
    clips: Sequence[Clip], folder: str | os.PathLike[str] | None = None, size: Size | None = None
) -> list[Masks | None]:
    """Find the masks of clips.

    Masks belong to the frames whose names they have, with or without ``_mask``; if names differ,
    they belong to the frames in order.

    Parameters
    ----------
    clips : sequence of Clip
        Clips from `open_clips`.
    folder : str or path, optional
        Folder of the masks of a single clip; or of folders named like the clips, where a clip
        without a folder is normal. Default: for each clip the folder beside its frames with the
        suffix ``_gt``, if there is one.
    size : int or (height, width), optional
        Size that the clips were opened with.

    Returns
    -------
    list of Masks or None
        One per clip; None for a clip without ground truth.

    Raises
    ------
    NearfarError
        As `Masks`; or if `folder` holds no masks, or a clip's masks are not one per frame.

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> find_masks([ArrayClip(np.zeros((3, 32, 48), np.uint8))])
    [None]
    """
    if folder is None:
        return [_pair(clip, beside, size) if (beside := _beside(clip)) else None for clip in clips]
    folder = Path(folder)
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
            f"{str(folder)!r} holds no masks: expected images for a single clip, or folders named "
            f"like the clips ({inner[0].name}, …)"
        )
    others = [path for path in folder.iterdir() if path.is_dir() and path not in inner]
    if missing and any(image_files(path) for path in others):
        raise NearfarError(
            f"{str(folder)!r} holds {min(others).name!r}, which is no clip, and nothing for "
            f"{missing[0].name!r}: expected folders named like the clips"
        )
    return [
        _pair(clip, path, size) if path.is_dir() else Masks(None)
        for clip, path in zip(clips, inner, strict=True)
    ]


def _beside(clip: Clip) -> Path | None:
    if not isinstance(clip, FolderClip) or clip.folder is None:
        return None
    folder = clip.folder.with_name(clip.folder.name + MASK_SUFFIX)
    # Path.is_dir raises if the name is too long.
    return folder if os.path.isdir(folder) else None  # noqa: PTH112


def _pair(clip: Clip, folder: Path, size: Size | None) -> Masks:
    """Pair frames with masks by name, or if names differ, in order."""
    files = image_files(folder)
    if not files:
        raise NearfarError(f"{str(folder)!r} holds no images: expected the masks of {clip.name!r}")
    if clip.total is not None and len(files) != clip.total:
        raise NearfarError(
            f"{str(folder)!r} holds {len(files)} masks, {clip.name!r} {clip.total} frames: "
            "expected one mask per frame"
        )
    if isinstance(clip, FolderClip):
        by_name = {_without_suffix(file.stem): file for file in files}
        stems = [file.stem for file in clip.files]
        if len(by_name) == len(files) and by_name.keys() == set(stems):
            files = [by_name[stem] for stem in stems]
    return Masks(files, size)


def _without_suffix(stem: str) -> str:
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _read_abnormal(file: Path, size: tuple[int, int] | None) -> Mask:
    """Read abnormal pixels from raw values, whatever colors a palette gives them; not from alpha.

    Unlike `nearfar.data.read_binary_mask`, any value counts: masks may hold small class numbers.
    """
    try:
        with open_image_file(file) as image:
            image.load()
            least = _JPEG_WHITE if image.format == "JPEG" else 1
            bands = [band for band in image.getbands() if band != "A"]
            values = np.asarray(image).reshape(image.height, image.width, -1)[..., : len(bands)]
            mask: Mask = np.any(values >= least, axis=2)
    except UnreadableError as error:
        raise NearfarError(
            f"mask {str(file)!r} cannot be read ({error}): replace the file"
        ) from error
    if size is None or mask.shape == size:
        return mask
    # Keep thin regions: a pixel is abnormal if any part of it is.
    shares = Image.fromarray(mask.astype(np.float32))
    scaled = ImageOps.fit(shares, size[::-1], Image.Resampling.BOX)
    return np.asarray(scaled) > 0
