"""Pixel grids of labels: the image as it is stored, or rotated upright by its EXIF orientation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from nearfar.data import UnreadableError, open_image_file
from nearfar.errors import NearfarError

#: Transforms of PIL that rotate stored pixels upright, by EXIF orientation.
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED = {5, 6, 7, 8}

Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Pixel grid of an image file, before and after the image is rotated upright.

    Images are always read upright. Depending on the annotation program, boxes and masks refer to
    the upright pixels or to the stored pixels. The size stated with the boxes, or the size of the
    mask, determines which of the two, unless both grids have the same size.

    Parameters
    ----------
    stored : tuple of int
        Height and width of the stored pixels.
    orientation : int
        EXIF orientation, from 1 (upright) to 8.

    Examples
    --------
    >>> grid = Grid((64, 96), orientation=6)
    >>> grid.upright
    (96, 64)
    >>> grid.is_stored((64, 96)), grid.is_stored((96, 64))
    (True, False)
    >>> grid.rotate_boxes(np.array([[0.0, 0.0, 10.0, 20.0]]))
    array([[44.,  0., 64., 10.]])
    """

    stored: tuple[int, int]
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the upright image."""
        height, width = self.stored
        return (width, height) if self.orientation in _SIDES_SWAPPED else self.stored

    def fits(self, size: tuple[int, int]) -> bool:
        """Return whether `size` (height, width) is the size of the stored or the upright image."""
        return size in (self.stored, self.upright)

    def is_stored(self, size: tuple[int, int] | None) -> bool | None:
        """Return whether labels of an image with `size` refer to the stored pixels.

        Return None if this cannot be known, because `size` is None or both grids have this size.
        """
        if self.orientation == 1:
            return False
        return None if size is None or self.stored == self.upright else size == self.stored

    def rotate_boxes(self, boxes: Boxes) -> Boxes:
        """Return boxes on the upright image, given boxes on the stored pixels ([m, 4])."""
        height, width = self.stored
        x, y = boxes[:, 0::2], boxes[:, 1::2]
        if self.orientation in (2, 3, 7, 8):
            x = width - x
        if self.orientation in (3, 4, 6, 7):
            y = height - y
        if self.orientation in _SIDES_SWAPPED:
            x, y = y, x
        return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)

    def rotate_image(self, image: Image.Image) -> Image.Image:
        """Return an image that is stored on this grid, rotated upright."""
        return image if self.orientation == 1 else image.transpose(_TRANSPOSES[self.orientation])

    def __str__(self) -> str:
        """Return the size and, if the image is not upright, the orientation, for error messages."""
        height, width = self.stored
        turned = f", turned by its EXIF orientation {self.orientation}"
        return f"{width}x{height} pixels" + (turned if self.orientation != 1 else "")


def read_grid(path: Path) -> Grid:
    """Return the pixel grid of an image file, without decoding the pixels.

    Raises
    ------
    NearfarError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
    ...     exif = Image.Exif()
    ...     exif[ExifTags.Base.Orientation] = 6
    ...     Image.new("L", (30, 20)).save(file.name, exif=exif)
    ...     read_grid(Path(file.name))
    Grid(stored=(20, 30), orientation=6)
    """
    try:
        with open_image_file(path) as image:
            width, height = image.size
            return Grid((height, width), orientation_of(image))
    except UnreadableError as error:
        raise NearfarError(f"{str(path)!r} cannot be read ({error})") from error


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an open image file, from 1 (upright) to 8.

    For TIFF files, the result is 1, because PIL itself rotates TIFF images upright.

    Examples
    --------
    >>> orientation_of(Image.new("L", (3, 2)))
    1
    """
    if image.format == "TIFF":
        return 1
    try:
        # PngImageFile.getexif would decode the pixels.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # pixels may be intact although the EXIF block is damaged
        return 1
    return orientation if orientation in _TRANSPOSES else 1
