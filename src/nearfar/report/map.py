"""Map of images by the embeddings of an encoder, as an HTML page or a table."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from nearfar.data import Images, Subset
from nearfar.encoders import Encoder
from nearfar.errors import NearfarError
from nearfar.progress import Track, silent, tracked
from nearfar.report.browse import choose_rows, map_images, write_map_table
from nearfar.report.html import Section, write_report


def write_map(
    path: str | os.PathLike[str],
    encoder: Encoder,
    images: Images,
    *,
    seed: int = 0,
    device: str = "auto",
    track: Track = silent,
) -> int:
    """Write an interactive map of images, and return the number of images on the map.

    Parameters
    ----------
    path : str or path
        Output path, ending in .html or .parquet. An .html page works offline and shows at most
        20,000 random images. For a .parquet file of all images, see `write_map_table`.
    encoder : Encoder
        Encoder, see `nearfar.encoders.open_encoder`.
    images : Images
        Images with the image size of the encoder.
    seed : int
        Seed for the selection of images, the projection and the clustering.
    device : str
        Device of the encoder.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        If the path has another extension, or there are fewer than 5 images.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from nearfar.data import images_from_array
    >>> from nearfar.encoders import open_encoder
    >>> images = images_from_array(np.random.default_rng(0).random((9, 32, 32)))
    >>> encoder = open_encoder("timm:resnet18", weights="random")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_map(f"{folder}/map.html", encoder, images, device="cpu")
    9
    """
    path = Path(path)
    if path.suffix not in {".html", ".parquet"}:
        raise NearfarError(f"{str(path)!r}: expected a name that ends in .html or .parquet")
    shown = Subset(images, choose_rows(images, seed=seed)) if path.suffix == ".html" else images
    embeddings = encoder.embed(shown, device=device, track=track)
    draw = partial(map_images, shown, embeddings, similarity=encoder.similarity, seed=seed)
    image_map = tracked(track, "drawing the map", draw)
    if path.suffix == ".parquet":
        write_map_table(path, image_map)
    else:
        section = Section(
            "Map",
            "Similar images lie close together. Clusters come from k-means on the embeddings.",
            image_map,
        )
        part = "" if len(shown) == len(images) else f"{len(shown):,} of "
        lead = f"{part}{len(images):,} images by the embeddings of {encoder.name}."
        write_report(
            path.parent,
            title=images.name,
            lead=lead,
            sections=[section],
            name=path.name,
            track=track,
        )
    return len(shown)
