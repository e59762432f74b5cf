"""Command ``nearfar index``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import Overwrite, shown
from nearfar.cli.search import EMBEDDINGS_HELP
from nearfar.files import try_output


def index(
    embeddings: Annotated[str, Parameter(help=EMBEDDINGS_HELP)],
    *,
    out: Annotated[Path, Parameter(help="File to write, .faiss or .usearch.")],
    factory: str = "Flat",
    overwrite: Overwrite = False,
) -> None:
    """Write a faiss or usearch index of embeddings, with row numbers as keys.

    **For example**

        nearfar index photos.parquet --out photos.faiss
        nearfar index photos.parquet --out photos.faiss --factory IVF1024,Flat
        nearfar index photos.parquet --out photos.usearch

    Parameters
    ----------
    factory
        Type of the faiss index, as a string for faiss.index_factory.
    """
    try_output(out, overwrite=overwrite)

    from nearfar.search import Index, write_index

    made = Index.load(embeddings)
    write_index(out, made, factory=factory)
    print(f"{len(made)} embeddings are in {shown(out)}")
