"""Command ``nearfar search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import DataOptions, Device, Overwrite, bars, shown
from nearfar.errors import NearfarError, printable
from nearfar.files import try_output

EMBEDDINGS_HELP = "A .parquet of embeddings, from nearfar encode."


def search(
    embeddings: Annotated[str, Parameter(help=EMBEDDINGS_HELP)],
    *,
    query: Annotated[list[str], Parameter(consume_multiple=True)],
    out: Path | None = None,
    count: int = 10,
    images: DataOptions = DataOptions(),
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Find the nearest and farthest images among stored embeddings.

    **For example**

        nearfar search photos.parquet --query cats/1.jpg cats/2.jpg
        nearfar search photos.parquet --query new_photo.jpg --count 20
        nearfar search photos.parquet --query others.parquet --out near.parquet

    Parameters
    ----------
    query
        Names of images in EMBEDDINGS, or their row numbers; a .parquet file of embeddings from the
        same encoder, each of which is a query; or image files or folders, which are encoded first.
        If a query is an image in EMBEDDINGS, it is excluded from its own results.
    out
        A .parquet file for the results, with the columns query, side (near or far), rank, file, row
        and similarity. Default: near images are printed.
    count
        Number of nearest and farthest images per query.
    """
    if out is not None:
        if out.suffix != ".parquet":
            raise NearfarError(f"--out {str(out)!r}: expected a name that ends in .parquet")
        try_output(out, overwrite=overwrite)

    from nearfar.search import search_stored

    track = bars()
    result = search_stored(
        embeddings,
        query,
        count=count,
        open_source=lambda encoder, source: images.open_like(encoder, source, track),
        device=device,
        track=track,
    )
    if out is not None:
        result.write(out)
        number = len(result.queries)
        queries = "1 query" if number == 1 else f"{number} queries"
        print(f"near and far images of {queries} are in {shown(out)}")
        return
    for row, name in enumerate(result.queries):
        print(f"{printable(name)}\n  similarity  file")
        for near, similarity in zip(
            result.near[row], result.hits.near_similarity[row], strict=True
        ):
            print(f"  {similarity:10.3f}  {printable(near)}")
