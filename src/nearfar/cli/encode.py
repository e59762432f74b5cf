"""``nearfar encode``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    Data,
    DataOptions,
    EncoderName,
    EncoderOptions,
    Overwrite,
    bars,
    shown,
)


def encode(
    encoder: EncoderName,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="What to write: .parquet or .npz.")],
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    device: str = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Encode images; write their embeddings with file names, and labels if any.

    A .parquet is a folder of parts, which programs read as one table: file, embedding, label,
    width, height and checksum. The same command continues after an interruption, and each process
    of torchrun writes its share. An .npz file has arrays embeddings, names, and labels and classes
    if any.

    **For example**

        nearfar encode run photos --out photos.parquet
        nearfar encode timm:tf_efficientnet_lite0 photos --size 128 --out photos.parquet
        torchrun --nproc-per-node 2 -m nearfar encode run photos --out photos.parquet
    """
    from nearfar import search
    from nearfar.data import check_embeddings_path
    from nearfar.files import check_room, try_output

    check_embeddings_path(out)
    if out.suffix == ".npz":
        try_output(out, overwrite=overwrite)
    elif not out.is_file():
        try_output(out, overwrite=True, folder=True)
    opened, track = model.open(encoder), bars()
    source = images.open_like(opened, data, track)
    length = opened.embedding_size or 0
    check_room(out, 4 * len(source) * length, f"embeddings of {len(source)} images")
    share = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    complete = search.encode_to(
        out, opened, source, share=share, device=device, overwrite=overwrite, track=track
    )
    if complete:
        print(f"{len(source)} embeddings of length {length} are in {shown(out)}")
