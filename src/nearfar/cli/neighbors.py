"""``nearfar neighbors``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, OverwriteFiles, Run, bars


def neighbors(
    run: Run,
    data: Data,
    *,
    query: Annotated[list[str], Parameter(consume_multiple=True)],
    out: Path = Path("neighbors"),
    count: int = 6,
    images: DataOptions = DataOptions(),
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Find the nearest and farthest images of queries.

    **For example**

        nearfar neighbors run photos --query photos/cat.jpg photos/car.jpg
        nearfar neighbors run mnist:test --query 0 17 42 --out neighbors

    Parameters
    ----------
    query
        Image files, folders or array files with at most 32 images in all, or numbers of images in
        DATA, from 0.
    out
        The folder to write neighbors.png and neighbors.json to.
    count
        Number of nearest and of farthest images per query.
    """
    from nearfar import search
    from nearfar.files import atomic_path, try_output, write_json
    from nearfar.report.figures import neighbor_sheet, save_figure
    from nearfar.runs import read_run

    try_output(out, overwrite=overwrite, folder=True)
    trained, track = read_run(run), bars()
    source = images.open_for(trained.config, data, track)
    queries = search.open_queries(
        query, source, open_source=lambda text: images.open_for(trained.config, text, track)
    )
    result = search.find_neighbors(
        trained, queries, source, count=count, device=device, track=track
    )
    sheet = neighbor_sheet(
        queries.pixels.numpy(), result.pixels(result.near), result.pixels(result.far)
    )
    with atomic_path(out / "neighbors.png") as path:
        save_figure(sheet, path)
    write_json(out / "neighbors.json", {"run": str(run), **result.to_dict()})
    print(f"near and far images are in {out / 'neighbors.png'} and {out / 'neighbors.json'}")
