"""Clips from a video, an image or a folder, with a report of unused files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nearfar.anomaly.clips import MASK_SUFFIX, Clip, FolderClip, image_files, visible
from nearfar.anomaly.video import AnimationClip, VideoClip, is_animation
from nearfar.data import VIDEO_EXTENSIONS, Size, image_extensions, is_video
from nearfar.errors import NearfarError, printable

#: Extensions of images that are often animated.
_ANIMATED_EXTENSIONS = frozenset({".gif", ".webp", ".apng", ".avif", ".avifs"})
#: Extensions of files that are never opened as videos: files next to frames, and photographs.
_NO_VIDEO_EXTENSIONS = frozenset(
    {
        *(".txt", ".csv", ".json", ".xml", ".yaml", ".yml", ".md", ".mat", ".m", ".npy", ".npz"),
        *(".zip", ".gz", ".tar", ".html", ".log", ".py", ".srt", ".vtt", ".ini", ".thm", ".pdf"),
        *(".db", ".parquet", ".heic", ".heif", ".raw", ".dng", ".cr2", ".nef", ".svg"),
        *(".wav", ".mp3"),
    }
)
#: Number of frames assumed for a video when compared with loose images in the same folder.
_VIDEO_FRAMES = 100


class Clips(list[Clip]):
    """List of clips, with a report of unused files and folders.

    Attributes
    ----------
    skipped : list of str
        One line per kind of unused file or folder.

    Examples
    --------
    >>> Clips().skipped
    []
    """

    def __init__(self, clips: Iterable[Clip] = (), skipped: Iterable[str] = ()) -> None:
        super().__init__(clips)
        self.skipped = list(skipped)


def open_clips(source: str | os.PathLike[str], *, size: Size | None = None) -> Clips:
    """Open a video, an image or a folder as clips.

    Parameters
    ----------
    source : str or path
        A video or animated image; an image; a folder of images, which are the frames of one clip;
        or a folder of several videos or folders of images, such as ``Train`` and ``Test`` of the
        UCSD data sets. Files are opened regardless of their extensions. Folders with names that end
        in ``_gt`` contain masks and are ignored. If a folder contains both images and clips, only
        the kind with more frames is used.
    size : int or (height, width), optional
        Size to which frames are resized. They are not cropped, so the aspect ratio may change.

    Returns
    -------
    Clips
        List of clips. The attribute `skipped` reports unused content of the folder.

    Raises
    ------
    NearfarError
        If `source` does not exist or contains no frames.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     for number in range(3):
    ...         Image.new("L", (48, 32)).save(Path(folder) / f"{number}.png")
    ...     (clip,) = open_clips(folder)
    ...     [(frame.number, frame.pixels.shape) for frame in clip]
    [(0, (32, 48)), (1, (32, 48)), (2, (32, 48))]
    """
    path = Path(source)
    with suppress(RuntimeError):  # unknown user
        path = path.expanduser()
    path = Path(os.path.normpath(path.absolute()))  # "." and ".." get names, too
    if path.is_dir():
        return _open_folder(path, source, size)
    if not os.path.lexists(path):
        raise NearfarError(f"{str(source)!r} does not exist: expected a video or a folder")
    if path.suffix.lower() in image_extensions():
        return Clips([AnimationClip(path, size) if is_animation(path) else FolderClip(path, size)])
    if path.suffix.lower() not in VIDEO_EXTENSIONS and not is_video(path):
        raise NearfarError(
            f"{str(source)!r} is not a readable video: expected a video, an image, or a folder"
        )
    return Clips([VideoClip(path, size)])


def _open_folder(path: Path, source: str | os.PathLike[str], size: Size | None) -> Clips:
    images = image_files(path)
    animated = {f for f in images if f.suffix.lower() in _ANIMATED_EXTENSIONS and is_animation(f)}
    loose = [file for file in images if file not in animated]
    clips: list[Clip] = []
    unused: list[Path] = []
    for inner in visible(path):
        extension = inner.suffix.lower()
        if inner.is_dir():
            if inner.name.endswith(MASK_SUFFIX):
                continue
            if image_files(inner):
                clips.append(FolderClip(inner, size))
            else:
                unused.append(inner)
        elif inner in animated:
            clips.append(AnimationClip(inner, size))
        elif extension in image_extensions():
            continue
        elif extension in VIDEO_EXTENSIONS or (
            extension not in _NO_VIDEO_EXTENSIONS and is_video(inner)
        ):
            clips.append(VideoClip(inner, size))
        else:
            unused.append(inner)
    if not clips and not loose:
        also = f" ({_count(unused)})" if unused else ""
        raise NearfarError(
            f"{str(source)!r} holds no frames: expected images, folders of images, or videos{also}"
        )
    skipped: list[str] = []
    if loose and len(loose) > sum(_frames(clip) for clip in clips):
        if clips:
            skipped = [f"beside the images of {path.name!r}: {_count_clips(clips)}"]
        clips = [FolderClip(path, size, loose)]
    elif loose:
        skipped = [f"beside the clips of {path.name!r}: {len(loose)} images ({loose[0].name}, …)"]
    if unused:
        skipped.append(f"in {path.name!r}, as no image or video: {_count(unused)}")
    return Clips(clips, map(printable, skipped))


def _frames(clip: Clip) -> int:
    return _VIDEO_FRAMES if isinstance(clip, VideoClip) else clip.nominal_total


def _count_clips(clips: Iterable[Clip]) -> str:
    names = [clip.name for clip in clips]
    return f"{len(names)} folders or videos ({names[0]}{', …' * (len(names) > 1)})"


def _count(paths: Iterable[Path]) -> str:
    """Return the number of paths per extension as text, the most frequent first.

    An example is '.txt (9), .csv (1)'.
    """
    kinds = Counter(
        "folders without images" if path.is_dir() else path.suffix or "without extension"
        for path in paths
    )
    return ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
