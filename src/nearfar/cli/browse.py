"""Command ``nearfar browse``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    DataOptions,
    Device,
    EncoderName,
    EncoderOptions,
    Overwrite,
    Seed,
    ShownData,
    bars,
)
from nearfar.errors import NearfarError
from nearfar.files import try_output


def browse(
    encoder: EncoderName,
    *,
    out: Annotated[Path, Parameter(help="Output file, .html or .parquet.")],
    data: ShownData = None,
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Write a browsable map of images. Click on an image to see near and far images.

    An .html page works offline and shows up to 20,000 images. A .parquet file has no such limit.
    Its columns are those that embedding-atlas reads: file, label, cluster, projection_x,
    projection_y and neighbors.

    **For example**

        nearfar browse run --out images.html
        nearfar browse photos.parquet --data photos --out photos.html
        nearfar browse photos.parquet --data photos --out map.parquet

    Parameters
    ----------
    seed
        Random seed for the choice of images, the map and the clusters.
    """
    if out.suffix not in {".html", ".parquet"}:
        raise NearfarError(f"{str(out)!r}: expected a name that ends in .html or .parquet")
    try_output(out, overwrite=overwrite)

    track = bars()
    opened = model.open(encoder, track)

    from nearfar.report import write_map

    source = images.open_like(opened, data, track)
    shown = write_map(out, opened, source, seed=seed, device=device, track=track)
    part = "" if shown == len(source) else f"{shown} of "
    print(f"{part}{len(source)} images are in {out}")
