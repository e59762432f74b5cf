"""Images in: folders, arrays and named data sets behind one small protocol."""

from __future__ import annotations

from nearfar.data.arrays import ArrayImages, images_from_array
from nearfar.data.conform import conform_images
from nearfar.data.folders import FolderImages
from nearfar.data.images import Images, Shape, to_unit
from nearfar.data.loader import in_order, load
from nearfar.data.open import open_images, require_labels
from nearfar.data.subset import Subset

__all__ = [
    "ArrayImages",
    "FolderImages",
    "Images",
    "Shape",
    "Subset",
    "conform_images",
    "images_from_array",
    "in_order",
    "load",
    "open_images",
    "require_labels",
    "to_unit",
]
