"""Images in a folder, at any depth."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from nearfar.data.decoding import image_extensions, is_dicom
from nearfar.data.levels import AS_STATED, Decoding
from nearfar.data.listing import FileItem, Listing, merge
from nearfar.data.parquet_files import PARQUET_EXTENSION, find_rows
from nearfar.data.shards import TAR_EXTENSION, find_members
from nearfar.data.sizes import Channels, Size
from nearfar.data.stored import Read, StoredImages
from nearfar.data.video import VIDEO_EXTENSIONS, find_frames
from nearfar.errors import NearfarError, printable, reason
from nearfar.files import normal_form
from nearfar.progress import Track, silent

#: Folders of thumbnails and deleted files, from network storage, Windows and macOS.
SYSTEM_FOLDERS = {"@eadir", "@recycle", "#recycle", "$recycle.bin", "__macosx"}
#: Maximum number of extensions that a message lists.
SHOWN_EXTENSIONS = 8
#: Files of a run, whose reports hold images.
RUN_FILES = frozenset({"config.json", "log.jsonl"})
#: Common names of data set splits, which are not classes.
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


class FolderImages(StoredImages):
    """Images in a folder and its subfolders, sorted by path.

    See `StoredImages` for how images are read and kept.

    Parameters
    ----------
    root : str or path
        The folder.
    files : sequence of str, optional
        Paths of image files, relative to the folder. Default: every visible file with an image
        extension; DICOM files without an extension; and all images in tar files, in Parquet files
        with image bytes and, if `frame_rate` is given, in videos.
    name : str, optional
        Name of the folder, as given by the user.
    size : int or (height, width), optional
        Size in pixels, at least 8: images are scaled to cover it, then center-cropped. Default: the
        size of the images if all have the same size, of at most 128 pixels per side; otherwise 64.
    channels : {1, 3}, optional
        1 for grayscale, 3 for RGB. Default: 1 if all images are grayscale.
    strict : bool
        Whether an unreadable file raises an error; otherwise it is listed in `skipped`.
    progress : Track
        Progress display during reading. See `nearfar.progress.Track`.
    frame_rate : float, optional
        Number of frames to use per second of video. Default: videos are not used.
    decoding : Decoding
        How pixel values are mapped to gray levels.
    read : callable, optional
        Function that takes a path and a shape (c, h, w), and returns the decoded image
        (uint8[c, h, w]), such as `read_binary_mask`. Default: `read_image`.

    Attributes
    ----------
    root : Path
        The folder.
    files : list of str
        Path of each image, relative to the folder.
    labels : int64[n] or None
        Class numbers. Labels in tar and Parquet files are used if there are any; otherwise, each
        top-level subfolder is a class. None if any image has no label. Subfolder names that differ
        only in Unicode normalization are the same class.

    Raises
    ------
    NearfarError
        See `StoredImages`.

    Warns
    -----
    UserWarning
        If some files have no image extension, or if a symbolic link leads to a folder that is read
        anyway. Also see `StoredImages`.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat", "dog"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("L", (28, 28)).save(Path(folder, name, "1.png"))
    ...     images = FolderImages(folder)
    >>> images.shape, images.files, images.labels
    ((1, 28, 28), ['cat/1.png', 'dog/1.png'], array([0, 1]))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        files: Sequence[str] | None = None,
        *,
        name: str | None = None,
        size: Size | None = None,
        channels: Channels | None = None,
        strict: bool = False,
        progress: Track = silent,
        frame_rate: float | None = None,
        decoding: Decoding = AS_STATED,
        read: Read | None = None,
    ) -> None:
        self.root = Path(root)
        if files is None:
            listing = find_images(self.root, frame_rate)
        else:
            listing = Listing([FileItem(self.root, file) for file in files], _classes_of(files))
        super().__init__(
            listing,
            name=name or str(root),
            size=size,
            channels=channels,
            strict=strict,
            progress=progress,
            decoding=decoding,
            read=read,
        )

    @property
    def files(self) -> list[str]:
        """See `FolderImages`."""
        return [item.name for item in self.items]


def find_images(root: Path, frame_rate: float | None = None) -> Listing:
    """Find the images in a folder and its subfolders.

    Images in tar files, in Parquet files with image bytes and, if a frame rate is given, in videos
    are included. A folder that several links lead to is read once.
    """
    parts = [Listing()]
    files, links = _walk(root, parts[0])
    places: list[str] = []  # of each image
    others: list[str] = []
    for file in files:
        path, named = str(file.relative_to(root)), _is_named_like_an_image(file)
        visible = _is_visible(file.name)
        if visible and (named or (not file.suffix and is_dicom(file))):
            parts[-1].items.append(FileItem(root, path))
            places.append(path)
            continue
        part = _images_in(file, path, frame_rate) if visible else None
        if part is not None:
            places += [path] * len(part.items)
            parts += [part, Listing()]
        elif visible or named:
            others.append(path)
    listing = merge(parts)
    if listing.labels is None:
        listing.labels = _classes_of(places)
    if listing.labels is not None and SPLITS.issuperset(
        str(each).lower() for each in listing.labels
    ):
        listing.notes.append(
            "its sub-folders are named like splits, and are used as classes: open one of them for "
            "its classes"
        )
    if others:
        listing.notes.append(_describe_others(others))
    videos = sum(Path(file).suffix.lower() in VIDEO_EXTENSIONS for file in others)
    if videos and frame_rate is None:
        listing.notes.append(
            f"frames of videos ({videos}) are not used: choose some by --frame-rate"
        )
    if links:
        listing.notes.append(
            f"{len(links)} links to folders that are read anyway are not followed "
            f"({printable(links[0])!r}{', …' * (len(links) > 1)})"
        )
    listing.unread += [f"{link!r}: a link to a folder that is read anyway" for link in links]
    listing.unread += [f"{file!r}: not named like an image" for file in others]
    return listing


def _images_in(file: Path, path: str, frame_rate: float | None) -> Listing | None:
    """Return the images in a tar, Parquet or video file, or None for other files."""
    extension = file.suffix.lower()
    try:
        if extension == TAR_EXTENSION:
            return find_members(file, f"{path}/")
        if extension == PARQUET_EXTENSION:
            return find_rows(file, path, f"{path}/")
        if extension in VIDEO_EXTENSIONS and frame_rate is not None:
            return find_frames(file, frame_rate, path)
    except NearfarError as error:
        return Listing(skipped=[f"{path!r}: {error}"])
    return None


def _walk(root: Path, listing: Listing) -> tuple[list[Path], list[str]]:
    """Return the files in a folder and its subfolders, and the links that are not followed."""
    visited: set[Path] = set()
    files: list[Path] = []
    links: list[str] = []

    def skip_folder(error: OSError) -> None:
        place = str(Path(error.filename).relative_to(root))
        listing.skipped.append(f"{place!r}: {reason(error)}")

    # Links are followed last, since they may lead to folders that are also reached without them.
    waiting = deque([root])
    while waiting:
        for place, subfolders, names in os.walk(waiting.popleft(), onerror=skip_folder):
            folder = Path(place)
            if folder.resolve() in visited:
                links.append(str(folder.relative_to(root)))
                subfolders.clear()
                continue
            visited.add(folder.resolve())
            if folder != root and RUN_FILES.issubset(names):
                place = printable(str(folder.relative_to(root)))
                listing.notes.append(f"{place!r} is a run: its images are not used")
                listing.unread.append(f"{place!r}: a run, with its reports")
                subfolders.clear()
                continue
            for name in filter(_is_of_the_system, sorted(subfolders)):
                place = printable(str((folder / name).relative_to(root)))
                listing.unread.append(f"{place!r}: thumbnails or deleted files")
            subfolders[:] = sorted(
                name for name in subfolders if _is_visible(name) and not _is_of_the_system(name)
            )
            waiting += filter(Path.is_symlink, (folder / name for name in subfolders))
            files += (folder / name for name in names)
    return sorted(files), links


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _is_of_the_system(folder: str) -> bool:
    return folder.lower() in SYSTEM_FOLDERS


def _is_named_like_an_image(path: Path) -> bool:
    return path.suffix.lower() in image_extensions()


def _describe_others(files: Sequence[str]) -> str:
    """Return a sentence with the number of unread files per extension."""
    extensions = Counter(
        printable(Path(file).suffix.lower()) or "no extension"
        if _is_visible(Path(file).name)
        else "hidden"
        for file in files
    )
    listed = [
        f"{extension} ({count})" for extension, count in extensions.most_common(SHOWN_EXTENSIONS)
    ]
    more = ", …" if len(extensions) > SHOWN_EXTENSIONS else ""
    what = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    return f"{what} not named like images: {', '.join(listed)}{more}"


def _classes_of(files: Sequence[str]) -> list[str | None] | None:
    """Return the top-level subfolder of each file.

    Return None if at least half of the files are in no subfolder.
    """
    folders = [
        printable(normal_form(file.partition(os.sep)[0])) if os.sep in file else None
        for file in files
    ]
    return folders if folders.count(None) < len(folders) / 2 else None
