"""``nearfar encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, Overwrite, Run, bars


def encode(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The file to write: .npz or .parquet.")],
    images: DataOptions = DataOptions(),
    device: str = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Encode images; write their embeddings, names, and labels if any.

    An .npz file has arrays embeddings, names, and labels and classes if any; a .parquet file has
    columns name, embedding and label.

    **For example**

        nearfar encode run photos --out embeddings.npz
        nearfar encode run mnist:test --out embeddings.parquet
    """
    from nearfar import search
    from nearfar.data import check_embeddings_path, write_embeddings
    from nearfar.files import check_room, try_output
    from nearfar.runs import read_run

    check_embeddings_path(out)
    try_output(out, overwrite=overwrite)
    trained, track = read_run(run), bars()
    source = images.open_for(trained.config, data, track)
    needed = 4 * len(source) * trained.embeddings.shape[1]
    check_room(out, needed, f"embeddings of {len(source)} images")
    embeddings = search.encode(trained, source, device=device, track=track)
    write_embeddings(out, embeddings, source)
    print(f"{len(embeddings)} embeddings of length {embeddings.shape[1]} are in {out}")
