"""``nearfar reconstruct``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, OverwriteFiles, Run, bars


def reconstruct(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The folder to write PNG files to.")],
    images: DataOptions = DataOptions(),
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Write what the network makes of each image, as a PNG file of the run's size.

    cat.jpg becomes cat.jpg.png.

    **For example**

        nearfar reconstruct run photos --out reconstructions
    """
    from nearfar.data.export import write_images
    from nearfar.files import claim_output
    from nearfar.models import apply, resolve_device
    from nearfar.runs import read_run

    claim_output(out, overwrite=overwrite, folder=True)
    trained = read_run(run)
    track = bars()
    source = images.open_for(trained.config, data, track)
    target = resolve_device(device)
    network = trained.autoencoder.to(target)
    names = source.names()
    results = apply(
        lambda batch: network(batch).reconstruction,
        source,
        device=target,
        track=track,
        description="reconstructing",
    )
    for rows, pictures in results:
        write_images(out, [names[row] for row in rows.tolist()], pictures)
    print(f"{len(names)} reconstructions are in {out}")
