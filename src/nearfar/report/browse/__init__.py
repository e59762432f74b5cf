"""Interactive maps of images, in an HTML page or as a table."""

from nearfar.report.browse.html import browser
from nearfar.report.browse.image_map import MAX_BROWSED, ImageMap, choose_rows, map_images
from nearfar.report.browse.projection import MIN_MAP_IMAGES, project
from nearfar.report.browse.table import write_map_table

__all__ = [
    "MAX_BROWSED",
    "MIN_MAP_IMAGES",
    "ImageMap",
    "browser",
    "choose_rows",
    "map_images",
    "project",
    "write_map_table",
]
