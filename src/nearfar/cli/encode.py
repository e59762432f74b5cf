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
    """Write the codes of images, with their names and their labels if they have any.

    An .npz file has arrays codes, names, and labels and classes if there are any; a .parquet file
    the columns name, code and label.

    **For example**

        nearfar encode run photos --out codes.npz
        nearfar encode run mnist:test --out codes.parquet
    """
    from nearfar.artifacts import read_run
    from nearfar.data.export import check_table_path, write_table
    from nearfar.files import claim_output
    from nearfar.models import apply_to_all, resolve_device

    check_table_path(out)
    claim_output(out, overwrite=overwrite)
    trained = read_run(run)
    track = bars()
    source = images.open_for(trained.config, data, track)
    target = resolve_device(device)
    encoder = trained.autoencoder.encoder.to(target)
    codes = apply_to_all(encoder, source, device=target, track=track)
    write_table(out, codes.numpy(), source)
    print(f"{len(codes)} codes of length {codes.shape[1]} are in {out}")
