"""Command ``nearfar neighbors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    Data,
    DataOptions,
    Device,
    EncoderName,
    EncoderOptions,
    OverwriteFiles,
    bars,
    shown,
)
from nearfar.files import atomic_path, remove_on_failure, try_output, write_json


def neighbors(
    encoder: EncoderName,
    data: Data,
    *,
    query: Annotated[list[str], Parameter(consume_multiple=True)],
    out: Path = Path("neighbors"),
    count: int = 6,
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Find the images nearest to and farthest from queries.

    **For example**

        nearfar neighbors run photos --query photos/cat.jpg photos/car.jpg
        nearfar neighbors run mnist:test --query 0 17 42 --out neighbors
        nearfar neighbors embeddings.npz photos --query 0

    Parameters
    ----------
    query
        At most 32 query images: names of images in DATA, or their numbers from 0; or image files,
        folders or array files.
    out
        Folder to write neighbors.png and neighbors.json to.
    count
        Number of nearest and farthest images per query.
    """
    try_output(out, overwrite=overwrite, folder=True)

    track = bars()
    opened = model.open(encoder, track)

    from nearfar import search
    from nearfar.report.figures import neighbor_sheet, save_figure

    source = images.open_like(opened, data, track)
    queries = search.open_queries(
        query, source, open_source=lambda text: images.open_like(opened, text, track)
    )
    result = search.find_neighbors(opened, queries, source, count=count, device=device, track=track)
    sheet = neighbor_sheet(
        queries.pixels.numpy(),
        result.pixels(result.near),
        result.pixels(result.far),
        names=result.names(),
    )
    figure, rows = out / "neighbors.png", out / "neighbors.json"
    with remove_on_failure(out):
        with atomic_path(figure) as path:
            save_figure(sheet, path)
        write_json(rows, {"encoder": encoder, **result.to_dict()})
    print(f"near and far images are in {shown(figure)} and {shown(rows)}")
