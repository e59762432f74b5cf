"""Curation of images: duplicates, outliers, label errors, leaks, clusters and selections."""

from nearfar.curation.alignment import verify_pairs
from nearfar.curation.curate import Curation, curate, default_encoder
from nearfar.curation.duplicates import (
    NEAR_DUPLICATE,
    Duplicates,
    count_mirrored,
    find_duplicates,
    group_duplicates,
)
from nearfar.curation.labels import LabelErrors, find_label_errors
from nearfar.curation.outliers import DEVIATIONS, Outliers, find_outliers
from nearfar.curation.output import (
    CURATED,
    LEAVE_OUT,
    SUMMARY,
    class_name,
    describe,
    write_curation,
)
from nearfar.curation.selection import cluster, select
from nearfar.curation.thumbnails import (
    THUMBNAILS,
    CuratedImages,
    Thumbnails,
    thumbnails,
    write_thumbnails,
)

__all__ = [
    "CURATED",
    "DEVIATIONS",
    "LEAVE_OUT",
    "NEAR_DUPLICATE",
    "SUMMARY",
    "THUMBNAILS",
    "CuratedImages",
    "Curation",
    "Duplicates",
    "LabelErrors",
    "Outliers",
    "Thumbnails",
    "class_name",
    "cluster",
    "count_mirrored",
    "curate",
    "default_encoder",
    "describe",
    "find_duplicates",
    "find_label_errors",
    "find_outliers",
    "group_duplicates",
    "select",
    "thumbnails",
    "verify_pairs",
    "write_curation",
    "write_thumbnails",
]
