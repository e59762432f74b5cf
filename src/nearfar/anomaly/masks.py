"""Ground truth: masks of abnormal pixels, matched to clips and frames."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps
from scipy.io import loadmat

from nearfar.anomaly.clips import MASK_SUFFIX, Clip, FolderClip, StoredClip, image_files
from nearfar.anomaly.video import VideoClip
from nearfar.data import Size, UnreadableError, check_size, open_image_file, read_header
from nearfar.errors import NearfarError, printable
from nearfar.files import normal_form

Mask = npt.NDArray[np.bool_]

#: Suffixes that a mask's name may add to its image's name.
_SUFFIXES = ("_mask", MASK_SUFFIX)
#: Names of folders of normal images, which need no masks.
_NORMAL = frozenset({"good", "normal", "ok"})
#: End of the name of a file of masks in CUHK Avenue, and its variable.
_VOLUME_SUFFIX, _VOLUME = "_label.mat", "volLabel"
#: Maximum number of names in a message.
_SHOWN = 3
#: Formats that may blur the border between black and white, and the lowest value that counts as
#: white in them.
_LOSSY, _LOSSY_WHITE = {"AVIF", "JPEG", "JPEG2000", "MPO", "WEBP"}, 128
#: Fraction of abnormal pixels in all masks above which masks may be inverted.
_MANY_ABNORMAL = 0.5


class MaskError(NearfarError):
    """Raised if masks do not match the frames, so that all results would be wrong."""


class Masks:
    """Masks (bool[h, w]) for the frames of a clip, read when needed.

    Parameters
    ----------
    files : sequence of Path, optional
        One image per frame. Pixels that are not black are abnormal. In JPEG and other lossy
        formats, pixels are abnormal if they are at least half as bright as white. None if no frame
        is abnormal.
    size : int or (height, width), optional
        Size to which masks are resized, without cropping.
    frames : sequence of (height, width) or None
        Original sizes of the frames, where known. If masks are resized, they must have the same
        aspect ratio as the original frames.
    same_size : bool
        Whether all masks must have the same size, as frames of a video do.

    Raises
    ------
    NearfarError
        If a file is unreadable, or if masks differ in size or aspect ratio where this is not
        allowed.

    Warns
    -----
    UserWarning
        If more than half of all pixels are abnormal, as in inverted masks.

    Examples
    --------
    >>> bool(Masks(None).mask(0, "camera", (32, 48)).any())
    False
    """

    def __init__(
        self,
        files: Sequence[Path] | None,
        size: Size | None = None,
        frames: Sequence[tuple[int, int] | None] | None = None,
        *,
        same_size: bool = True,
    ) -> None:
        self._files, self._size = files, check_size(size)
        self.shape = self._size
        shares = []
        for number, file in enumerate(files or ()):
            frame = frames[number] if frames else None
            mask = _read_abnormal(file, self._size, frame)
            shares.append(mask.mean())
            if not same_size:
                continue
            if self.shape not in (None, mask.shape):
                raise NearfarError(
                    f"{str(file)!r} is {mask.shape[0]}x{mask.shape[1]} pixels, the masks before it "
                    f"{self.shape[0]}x{self.shape[1]}: expected masks of one size"
                )
            self.shape = mask.shape[0], mask.shape[1]
        if files and np.mean(shares) > _MANY_ABNORMAL:
            warnings.warn(
                f"{str(files[0].parent)!r}: {np.mean(shares):.0%} of the pixels of all masks are "
                "abnormal: expected black for normal pixels; invert the masks if it is white",
                stacklevel=2,
            )

    def mask(self, number: int, name: str, shape: tuple[int, ...]) -> Mask:
        """Return the mask of a frame.

        Parameters
        ----------
        number : int
            Number of the frame.
        name : str
            Name of the clip, for error messages.
        shape : (height, width)
            Shape of the frame.

        Raises
        ------
        NearfarError
            If the clip has more frames than there are masks, or frames of a different shape.
        """
        if self._total is None:
            return np.zeros(shape, bool)
        if number >= self._total or self.shape not in (None, shape):
            raise MaskError(
                f"{name!r} has frame {number} of shape {shape}, its masks are {self._total} of "
                f"shape {self.shape}: expected one mask of the same shape per frame"
            )
        mask = self._read(number)
        if self._files is not None and mask.shape != shape:
            raise MaskError(
                f"mask {str(self._files[number])!r} is {mask.shape[0]}x{mask.shape[1]} pixels, its "
                f"image {shape[0]}x{shape[1]}: expected the same size"
            )
        return mask

    def check_end(self, last: int, name: str) -> None:
        """Check that there are no masks after the last frame of a clip.

        Raises
        ------
        NearfarError
            If there are masks after the last frame.
        """
        if self._total is not None and last + 1 < self._total:
            raise MaskError(
                f"{name!r} has {last + 1} frames and {self._total} masks: expected one mask per "
                "frame"
            )

    @property
    def _total(self) -> int | None:
        """Number of masks. None if no frame is abnormal."""
        return None if self._files is None else len(self._files)

    def _read(self, number: int) -> Mask:
        files = self._files or ()
        return _read_abnormal(files[number], self._size)


class VolumeMasks(Masks):
    """Masks of all frames of a clip, stored in one MATLAB file as in CUHK Avenue.

    Parameters
    ----------
    file : Path
        File with the variable ``volLabel``, a cell array with one mask per frame.
    size : int or (height, width), optional
        Size to which masks are resized.

    Raises
    ------
    NearfarError
        If the file is unreadable or does not contain the variable.

    Examples
    --------
    >>> VolumeMasks(Path("1_label.mat"))
    Traceback (most recent call last):
    nearfar.errors.NearfarError: masks '1_label.mat' cannot be read: expected a MATLAB file with ...
    """

    def __init__(self, file: Path, size: Size | None = None) -> None:
        super().__init__(None, size)
        try:
            masks = [np.asarray(mask) > 0 for mask in loadmat(file)[_VOLUME].ravel()]
            ((height, width),) = {mask.shape for mask in masks}
        except Exception as error:  # a damaged file raises errors of many kinds
            raise NearfarError(
                f"masks {str(file)!r} cannot be read: expected a MATLAB file with {_VOLUME!r}, one "
                "mask of the same size per frame"
            ) from error
        self.shape = self._shape = self.shape or (height, width)
        self._packed = [np.packbits(_resize(mask, self._shape)) for mask in masks]

    @property
    def _total(self) -> int:
        return len(self._packed)

    def _read(self, number: int) -> Mask:
        height, width = self._shape
        bits = np.unpackbits(self._packed[number], count=height * width)
        return bits.astype(bool).reshape(height, width)


def find_masks(
    clips: Sequence[Clip],
    folder: str | os.PathLike[str] | None = None,
    size: Size | None = None,
    *,
    same_size: bool = True,
) -> list[Masks | None]:
    """Find the masks of clips.

    A mask belongs to the frame with the same name, with or without ``_mask`` or ``_gt``. If no
    names match, it belongs to the frame with the same number in its name. For videos, in which
    frames have no names, masks are numbered from 0 or 1. There must be a mask for every frame, and
    a frame for every mask.

    Parameters
    ----------
    clips : sequence of Clip
        Clips from `open_clips`.
    folder : str or path, optional
        Folder with the masks of a single clip. For several clips, folder with subfolders named like
        the clips, or with files ``CLIP_label.mat`` as in CUHK Avenue. Clips without masks are
        normal. Default: for each clip, the folder next to it with the same name and the suffix
        ``_gt``, if any.
    size : int or (height, width), optional
        Size to which frames were resized when the clips were opened.
    same_size : bool
        Whether all masks of a clip must have the same size. Masks of photographs may differ.

    Returns
    -------
    list of Masks or None
        Masks of each clip, or None for a clip without ground truth.

    Raises
    ------
    NearfarError
        See `Masks`. Also if `folder` contains no masks, or a clip does not have one mask per frame.

    Warns
    -----
    UserWarning
        See `Masks`. Also if a clip without masks is not named good, normal or ok.

    Examples
    --------
    >>> from nearfar.anomaly import ArrayClip
    >>> find_masks([ArrayClip(np.zeros((3, 32, 48), np.uint8))])
    [None]
    """
    if folder is None:
        return [
            _pair(clip, beside, size, same_size=same_size) if (beside := _beside(clip)) else None
            for clip in clips
        ]
    folder = Path(folder)
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise NearfarError(f"{str(folder)!r} {what}: expected a folder of masks")
    if len(clips) == 1 and image_files(folder):
        return [_pair(clips[0], folder, size, same_size=same_size)]
    inner = [_masks_of(clip, folder) for clip in clips]
    missing = [path for path in inner if not _holds_masks(path)]
    if len(missing) == len(inner):
        raise NearfarError(
            f"{str(folder)!r} holds no masks: expected images for a single clip, or folders named "
            f"like the clips ({printable(inner[0].name)}, …)"
        )
    others = [path for path in folder.iterdir() if _holds_masks(path) and path not in inner]
    if missing and any(path.is_file() or image_files(path) for path in others):
        raise NearfarError(
            f"{str(folder)!r} holds {min(others).name!r}, which is not a clip, and nothing for "
            f"{missing[0].name!r}: expected folders named like the clips"
        )
    unnamed = [path.name for path in missing if path.name.lower() not in _NORMAL]
    if unnamed:
        warnings.warn(
            f"{str(folder)!r} holds no masks of {len(unnamed)} of {len(clips)} clips (first "
            f"{printable(unnamed[0])!r}): all of their frames count as normal",
            stacklevel=2,
        )
    return [
        _pair(clip, path, size, same_size=same_size) if _holds_masks(path) else Masks(None)
        for clip, path in zip(clips, inner, strict=True)
    ]


def _holds_masks(path: Path) -> bool:
    return path.is_dir() or (path.name.endswith(_VOLUME_SUFFIX) and path.is_file())


def _masks_of(clip: Clip, folder: Path) -> Path:
    """Return the folder or MATLAB file in `folder` that is named like a clip."""
    if not isinstance(clip, StoredClip):
        return folder / clip.name
    names = [clip.path.name, clip.path.stem] if isinstance(clip, VideoClip) else [clip.path.name]
    names.append(f"{clip.path.stem}{_VOLUME_SUFFIX}")
    present = {normal_form(path.name): path for path in folder.iterdir() if _holds_masks(path)}
    found = (present[normal_form(name)] for name in names if normal_form(name) in present)
    return next(found, folder / names[0])


def _beside(clip: Clip) -> Path | None:
    if isinstance(clip, FolderClip):
        if clip.folder is None:
            return None
        name = clip.folder.name
    elif isinstance(clip, StoredClip):
        name = clip.path.stem
    else:
        return None
    folder = clip.path.with_name(name + MASK_SUFFIX)
    # Path.is_dir raises if the name is too long.
    return folder if os.path.isdir(folder) else None  # noqa: PTH112


def _pair(clip: Clip, folder: Path, size: Size | None, *, same_size: bool) -> Masks:
    """Pair each frame with its mask: by name, or by number for frames of a video."""
    if folder.is_file():
        return VolumeMasks(folder, size)
    files = image_files(folder)
    if not files:
        raise NearfarError(f"{str(folder)!r} holds no images: expected the masks of {clip.name!r}")
    if isinstance(clip, FolderClip):
        sizes = [_own_size(file) for file in clip.files] if size is not None else None
        paired = _by_name(clip, files, folder)
        for image, mask in zip(clip.files, paired, strict=True):
            _check_turned_alike(image, mask)
        return Masks(paired, size, sizes, same_size=same_size)
    files = _by_number(clip, files, folder)
    sizes = None
    if size is not None and isinstance(clip, VideoClip):
        first = next(iter(VideoClip(clip.path)))
        sizes = [(first.pixels.shape[0], first.pixels.shape[1])] * len(files)
    return Masks(files, size, sizes)


def _by_name(clip: FolderClip, files: Sequence[Path], folder: Path) -> list[Path]:
    found: dict[Path, Path] = {}
    kinds: list[tuple[Callable[[Path], str], Callable[[Path], str]]] = [
        (lambda image: image.name, lambda mask: mask.name),
        (lambda image: image.name, lambda mask: _without_suffix(mask.stem)),
        (lambda image: image.stem, lambda mask: mask.stem),
        (lambda image: image.stem, lambda mask: _without_suffix(mask.stem)),
    ]
    for name_of_image, name_of_mask in kinds:
        used = set(found.values())
        _match(found, clip.files, name_of_image, [f for f in files if f not in used], name_of_mask)
    if not found:
        _match(found, clip.files, _number, files, _number)
    used = set(found.values())
    lonely = [file for file in clip.files if file not in found]
    unused = [file for file in files if file not in used]
    if lonely or unused:
        reasons = [f"no mask for {_names(lonely)}"] * bool(lonely)
        reasons += [f"no frame for {_names(unused)}"] * bool(unused)
        raise MaskError(
            f"{str(folder)!r} holds {len(files)} masks, {clip.name!r} {len(clip.files)} frames: "
            f"{' and '.join(reasons)}; expected one mask per frame, named like it"
        )
    return [found[file] for file in clip.files]


def _match(
    found: dict[Path, Path],
    images: Sequence[Path],
    name_of_image: Callable[[Path], str],
    masks: Sequence[Path],
    name_of_mask: Callable[[Path], str],
) -> None:
    """Add each pair of an image and a mask with the same name, if no others have that name."""
    by_name: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for image in images:
        if image not in found:
            by_name[normal_form(name_of_image(image))][0].append(image)
    for mask in masks:
        by_name[normal_form(name_of_mask(mask))][1].append(mask)
    for name, (some, others) in by_name.items():
        if name and len(some) == len(others) == 1:
            found[some[0]] = others[0]


def _by_number(clip: Clip, files: Sequence[Path], folder: Path) -> list[Path]:
    """Return masks sorted by the numbers in their names, for frames without names."""
    total = clip.nominal_total if clip.total is None else clip.total
    if total and len(files) != total:
        raise MaskError(
            f"{str(folder)!r} holds {len(files)} masks, {clip.name!r} {total} frames: expected one "
            "mask per frame"
        )
    numbers = [int(_number(file) or -1) for file in files]
    by_number = dict(zip(numbers, files, strict=True))
    first = min(numbers)
    expected = range(first, first + len(files))
    missing = next((number for number in expected if number not in by_number), None)
    if first not in (0, 1) or missing is not None or len(by_number) < len(files):
        what = "" if missing is None else f", and there is no {missing}"
        raise MaskError(
            f"{str(folder)!r} has masks from {files[0].name!r} to {files[-1].name!r}{what}: "
            f"expected masks numbered from 0 or 1 without gaps, since frames of {clip.name!r} have "
            "no names"
        )
    return [by_number[number] for number in expected]


def _number(file: Path) -> str:
    """Return the last number in a file name, without leading zeros."""
    digits = re.findall(r"[0-9]+", _without_suffix(file.stem))
    return str(int(digits[-1][-18:])) if digits else ""


def _without_suffix(stem: str) -> str:
    for suffix in _SUFFIXES:
        stem = stem.removesuffix(suffix)
    return stem


def _names(files: Iterable[Path]) -> str:
    shown = [printable(file.name) for file in files]
    return ", ".join(map(repr, shown[:_SHOWN])) + f" and {len(shown) - _SHOWN} others" * (
        len(shown) > _SHOWN
    )


def _check_turned_alike(image: Path, mask: Path) -> None:
    """Raise an error if EXIF rotation of an image leaves open how its mask is oriented.

    If rotation swaps height and width, the size of the mask shows whether it was drawn before or
    after rotation.
    """
    try:
        header, own = read_header(image), read_header(mask)
    except UnreadableError:  # reported where they are read
        return
    height, width = header.size
    if header.orientation == 1 or own.orientation != 1:
        return
    if height == width or header.orientation not in (5, 6, 7, 8):
        raise MaskError(
            f"mask {str(mask)!r} was drawn before or after the EXIF orientation "
            f"{header.orientation} turns its image, and its size does not tell: remove the "
            "orientation if before, turn the pixels instead if after"
        )


def _own_size(file: Path) -> tuple[int, int] | None:
    try:
        return read_header(file).size
    except UnreadableError:
        return None


def _read_abnormal(
    file: Path, size: tuple[int, int] | None, frame: tuple[int, int] | None = None
) -> Mask:
    """Read a mask from raw pixel values, ignoring palette colors and alpha.

    Unlike in `nearfar.data.read_binary_mask`, any nonzero value is abnormal, since pixel values may
    be small class numbers.
    """
    try:
        with open_image_file(file) as image:
            mask = _abnormal(image)
    except UnreadableError as error:
        raise NearfarError(
            f"mask {str(file)!r} cannot be read ({error}): replace the file"
        ) from error
    if frame is not None and abs(mask.shape[0] * frame[1] / frame[0] - mask.shape[1]) > 1:
        raise MaskError(
            f"mask {str(file)!r} is {mask.shape[0]}x{mask.shape[1]} pixels, its frame "
            f"{frame[0]}x{frame[1]}: expected a mask that was drawn on the frame"
        )
    return mask if size is None else _resize(mask, size)


def _resize(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize a mask.

    A pixel is abnormal if any part of it is, so that thin regions are preserved.
    """
    if mask.shape == size:
        return mask
    coverage = Image.fromarray(mask.astype(np.float32))
    return np.asarray(coverage.resize(size[::-1], Image.Resampling.BOX)) > 0


def _abnormal(image: Image.Image) -> Mask:
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":
        raise UnreadableError(f"{pages} images in one file")
    image.load()
    least: float = _LOSSY_WHITE if image.format in _LOSSY else 1
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I") and tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
        raise UnreadableError("white is zero in 16 bits: expected zero for normal pixels")
    bands = [band for band in image.getbands() if band != "A"]
    upright = ImageOps.exif_transpose(image)
    values = np.asarray(upright).reshape(upright.height, upright.width, -1)
    values, alpha = values[..., : len(bands)], values[..., len(bands) :]
    if len(np.unique(alpha)) > 1 and (values == values[0, 0]).all():
        raise UnreadableError("only its transparency varies: expected black for normal pixels")
    if image.format in _LOSSY and 0 < values.max() < _LOSSY_WHITE:
        raise UnreadableError(
            f"values up to {values.max()} in a lossy format: expected a PNG, or white for abnormal "
            "pixels"
        )
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise UnreadableError("NaN or infinite values")
        least = float(np.finfo(np.float32).tiny)
    if values.dtype.kind in "if" and values.min() < 0:
        raise UnreadableError("negative values: expected zero for normal pixels")
    marked: Mask = np.any(values >= least, axis=2)
    return marked
