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
    """Write the embeddings of images, with their names and their labels if they have any.

    An .npz file has arrays embeddings, names, and labels and classes if there are any; a .parquet
    file the columns name, embedding and label.

    **For example**

        nearfar encode run photos --out embeddings.npz
        nearfar encode run mnist:test --out embeddings.parquet
    """
    from nearfar.data.export import check_embeddings_path, write_embeddings
    from nearfar.files import claim_output
    from nearfar.models import apply_to_all, resolve_device
    from nearfar.runs import read_run

    check_embeddings_path(out)
    claim_output(out, overwrite=overwrite)
    trained = read_run(run)
    track = bars()
    source = images.open_for(trained.config, data, track)
    target = resolve_device(device)
    encoder = trained.autoencoder.encoder.to(target)
    embeddings = apply_to_all(encoder, source, device=target, track=track)
    write_embeddings(out, embeddings.numpy(), source)
    print(f"{len(embeddings)} embeddings of length {embeddings.shape[1]} are in {out}")
