"""Command ``nearfar encode``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    Data,
    DataOptions,
    Device,
    EncoderName,
    EncoderOptions,
    Overwrite,
    bars,
    shown,
)
from nearfar.files import check_room, try_output


def encode(
    encoder: EncoderName,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="Output, .parquet or .npz.")],
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Encode images, and write their embeddings, file names and any labels.

    A .parquet output is a folder of files that programs read as one table, with the columns file,
    embedding, label, width, height and checksum. After an interruption, run the same command again
    to continue. With torchrun, each process writes a share of the images. An .npz file contains the
    arrays embeddings and names, and labels and classes if available.

    **For example**

        nearfar encode run photos --out photos.parquet
        nearfar encode timm:tf_efficientnet_lite0 photos --size 128 --out photos.parquet
        torchrun --nproc-per-node 2 -m nearfar encode run photos --out photos.parquet
    """
    from nearfar import search
    from nearfar.embeddings import check_embeddings_path, has_all_parts

    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    check_embeddings_path(out)
    if out.suffix == ".npz" or out.is_file():
        try_output(out, overwrite=overwrite)
    else:
        incomplete = world_size > 1 or not has_all_parts(out)
        try_output(out, overwrite=overwrite or incomplete, folder=True)
    track = bars()
    opened = model.open(encoder, track)
    source = images.open_like(opened, data, track)
    length = opened.embedding_size or 0
    check_room(out, 4 * len(source) * length, f"embeddings of {len(source)} images")
    complete = search.encode_to(
        out,
        opened,
        source,
        rank=rank,
        world_size=world_size,
        device=device,
        overwrite=overwrite,
        track=track,
    )
    if complete:
        print(f"{len(source)} embeddings of length {length} are in {shown(out)}")
