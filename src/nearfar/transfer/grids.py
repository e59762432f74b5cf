"""Pixel grids of labels: the image as stored, or rotated upright by EXIF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from nearfar.data import UnreadableError, open_image_file
from nearfar.errors import NearfarError

#: PIL's transforms that turn stored pixels upright, by EXIF orientation.
_TURNS = {
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
    """Pixel grid of an image file, and its rotation to upright.

    Images are read upright. Depending on the annotation program, labels are on the upright grid or
    on the stored grid. Their size determines the grid, unless both grids have the same size.

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
    >>> grid.turn_boxes(np.array([[0.0, 0.0, 10.0, 20.0]]))
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
        """Return whether labels with this size (height, width) are on one of the grids."""
        return size in (self.stored, self.upright)

    def is_stored(self, size: tuple[int, int] | None) -> bool | None:
        """Return whether labels with this size are on the stored grid; None if ambiguous."""
        if self.orientation == 1:
            return False
        return None if size is None or self.stored == self.upright else size == self.stored

    def turn_boxes(self, boxes: Boxes) -> Boxes:
        """Transform boxes, [m, 4], from the stored grid to the upright grid."""
        height, width = self.stored
        x, y = boxes[:, 0::2], boxes[:, 1::2]
        if self.orientation in (2, 3, 7, 8):
            x = width - x
        if self.orientation in (3, 4, 6, 7):
            y = height - y
        if self.orientation in _SIDES_SWAPPED:
            x, y = y, x
        return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)

    def turn_image(self, image: Image.Image) -> Image.Image:
        """Transform an image from the stored grid to the upright grid."""
        return image if self.orientation == 1 else image.transpose(_TURNS[self.orientation])

    def __str__(self) -> str:
        """Return the size and the EXIF orientation, unless upright, for error messages."""
        height, width = self.stored
        turned = f", turned by its EXIF orientation {self.orientation}"
        return f"{width}x{height} pixels" + (turned if self.orientation != 1 else "")


def read_grid(path: Path) -> Grid:
    """Read the grid of an image file without decoding it.

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
    """Return the EXIF orientation of an open file, 1 to 8; 1 for TIFF, which PIL rotates itself.

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
    return orientation if orientation in _TURNS else 1
