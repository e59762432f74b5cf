"""Image sets from folders, arrays and named data sets, with one common interface."""

from nearfar.data.arrays import PIXEL_TOLERANCE, ArrayImages, as_array, images_from_array
from nearfar.data.conform import conform_images
from nearfar.data.darkness import warn_if_dark
from nearfar.data.datasets import DATASETS, default_data_root
from nearfar.data.decoding import (
    image_extensions,
    open_image_file,
    read_binary_mask,
    read_header,
    read_image,
)
from nearfar.data.encoded import Encoded, UndefinedColorsError, UnreadableError
from nearfar.data.export import write_images
from nearfar.data.folders import FolderImages
from nearfar.data.images import Images, Shape, to_unit
from nearfar.data.kind import ImageKind, kind_of
from nearfar.data.labels import class_name, labels_like, require_labels, stratified_split
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
from nearfar.data.listing import FileItem, Item, Listing
from nearfar.data.loader import is_waiting_for_images, load_batches, sequential_batches
from nearfar.data.open import open_images
from nearfar.data.sizes import MIN_SIDE, Channels, Size, check_size
from nearfar.data.stored import StoredImages, map_in_threads
from nearfar.data.subset import Subset
from nearfar.data.video import (
    VIDEO_EXTENSIONS,
    VIDEO_FORMATS,
    choose_stream,
    frame_reformatter,
    hdr_transfer,
    is_video,
    open_video,
    pixel_aspect,
    rotate_frame,
    shown_packets,
    video_reason,
    video_streams,
)

__all__ = [
    "DATASETS",
    "MIN_SIDE",
    "PIXEL_TOLERANCE",
    "VIDEO_EXTENSIONS",
    "VIDEO_FORMATS",
    "ArrayImages",
    "Channels",
    "Decoding",
    "Encoded",
    "FileItem",
    "FolderImages",
    "ImageKind",
    "Images",
    "Item",
    "Layout",
    "Listing",
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
    "class_name",
    "conform_images",
    "default_data_root",
    "frame_reformatter",
    "hdr_transfer",
    "image_extensions",
    "images_from_array",
    "images_from_rows",
    "images_to_array",
    "is_video",
    "is_waiting_for_images",
    "kind_of",
    "labels_like",
    "layout_of",
    "load_batches",
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
    "rotate_frame",
    "sequential_batches",
    "shape_of_rows",
    "shown_packets",
    "stratified_split",
    "to_unit",
    "video_reason",
    "video_streams",
    "warn_about_scale",
    "warn_if_dark",
    "write_images",
]
