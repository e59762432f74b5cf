"""Map of images as a table with the columns that the program embedding-atlas reads."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow
from pyarrow import parquet

from nearfar.files import atomic_path
from nearfar.report.browse.image_map import ImageMap


def write_map_table(path: str | os.PathLike[str], image_map: ImageMap) -> None:
    """Write a map of images to a .parquet file with one row per image.

    The columns are `file`, the columns of the map, `projection_x`, `projection_y` and `neighbors`.
    `neighbors` is a struct of `ids` (row numbers) and `distances` (1 − similarity).

    Parameters
    ----------
    path : str or path
        Output path.
    image_map : ImageMap
        Map of images.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> from nearfar.report import map_images
    >>> pixels = np.random.default_rng(0).random((20, 8, 8))
    >>> image_map = map_images(images_from_array(pixels), pixels.reshape(20, -1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_map_table(f"{folder}/map.parquet", image_map)
    ...     parquet.read_table(f"{folder}/map.parquet").column_names
    ['file', 'cluster', 'projection_x', 'projection_y', 'neighbors']
    """
    near, similarity = image_map.hits.near, image_map.hits.near_similarity
    lists = [
        pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), near.shape[1])
        for values in (near, 1 - similarity)
    ]
    x, y = image_map.places.T
    table = pyarrow.table(
        {
            "file": image_map.images.names(),
            **{name: pyarrow.array(each) for name, each in image_map.columns.items()},
            "projection_x": x,
            "projection_y": y,
            "neighbors": pyarrow.StructArray.from_arrays(lists, ["ids", "distances"]),
        }
    )
    with atomic_path(Path(path)) as temporary:
        parquet.write_table(table, temporary)
