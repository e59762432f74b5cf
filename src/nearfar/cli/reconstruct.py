"""Command ``nearfar reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    Data,
    DataOptions,
    Device,
    OverwriteFiles,
    Run,
    bars_after_torch,
    shown,
)
from nearfar.files import remove_on_failure, try_output


def reconstruct(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="Folder to write PNG files to.")],
    images: DataOptions = DataOptions(),
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Reconstruct images with a run's network, and write PNG files at the run's image size.

    cat.jpg becomes cat.jpg.png.

    **For example**

        nearfar reconstruct run photos --out reconstructions
    """
    try_output(out, overwrite=overwrite, folder=True)
    track = bars_after_torch()

    from nearfar import restoration
    from nearfar.report import write_restored
    from nearfar.runs import read_run

    trained = read_run(run)
    source = images.open_for(trained.config, data, track)
    batches = restoration.reconstruct(trained, source, device=device, track=track)
    with remove_on_failure(out):
        write_restored(out, source.names(), batches, sheet=False)
    print(f"{len(source)} reconstructions are in {shown(out)}")
