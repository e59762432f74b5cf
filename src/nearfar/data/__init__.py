"""Image sets from folders, arrays and named data sets, with one common interface."""

from nearfar.data.arrays import PIXEL_TOLERANCE, ArrayImages, as_array, images_from_array
from nearfar.data.conform import conform_images
from nearfar.data.darkness import warn_if_dark
from nearfar.data.datasets import NAMED, default_data_root
from nearfar.data.decoding import (
    image_endings,
    open_image_file,
    read_binary_mask,
    read_header,
    read_image,
)
from nearfar.data.encoded import Encoded, UndefinedColorsError, UnreadableError
from nearfar.data.export import write_images
from nearfar.data.folders import FolderImages
from nearfar.data.found import FileItem, Found, Item
from nearfar.data.images import Images, Shape, to_unit
from nearfar.data.kind import ImageKind, kind_of
from nearfar.data.labels import hold_out, labels_like, require_labels
from nearfar.data.layouts import (
    Layout,
    images_from_rows,
    images_to_array,
    layout_of,
    pixel_range_of,
    shape_of_rows,
    warn_about_scale,
)
from nearfar.data.levels import Decoding, Window
from nearfar.data.loader import in_order, is_waiting_for_images, load
from nearfar.data.open import open_images
from nearfar.data.sizes import MIN_SIDE, Channels, Size, check_size
from nearfar.data.stored import StoredImages, map_in_threads
from nearfar.data.subset import Subset
from nearfar.data.video import (
    VIDEO_ENDINGS,
    VIDEO_FORMATS,
    choose_stream,
    frame_reformatter,
    hdr_transfer,
    is_video,
    open_video,
    pixel_aspect,
    shown_packets,
    turn_frame,
    video_reason,
    video_streams,
)

__all__ = [
    "MIN_SIDE",
    "NAMED",
    "PIXEL_TOLERANCE",
    "VIDEO_ENDINGS",
    "VIDEO_FORMATS",
    "ArrayImages",
    "Channels",
    "Decoding",
    "Encoded",
    "FileItem",
    "FolderImages",
    "Found",
    "ImageKind",
    "Images",
    "Item",
    "Layout",
    "Shape",
    "Size",
    "StoredImages",
    "Subset",
    "UndefinedColorsError",
    "UnreadableError",
    "Window",
    "as_array",
    "check_size",
    "choose_stream",
    "conform_images",
    "default_data_root",
    "frame_reformatter",
    "hdr_transfer",
    "hold_out",
    "image_endings",
    "images_from_array",
    "images_from_rows",
    "images_to_array",
    "in_order",
    "is_video",
    "is_waiting_for_images",
    "kind_of",
    "labels_like",
    "layout_of",
    "load",
    "map_in_threads",
    "open_image_file",
    "open_images",
    "open_video",
    "pixel_aspect",
    "pixel_range_of",
    "read_binary_mask",
    "read_header",
    "read_image",
    "require_labels",
    "shape_of_rows",
    "shown_packets",
    "to_unit",
    "turn_frame",
    "video_reason",
    "video_streams",
    "warn_about_scale",
    "warn_if_dark",
    "write_images",
]
