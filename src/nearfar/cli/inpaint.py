"""Command ``nearfar inpaint``."""

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
    Seed,
    bars_after_torch,
    shown,
)
from nearfar.files import remove_on_failure, try_output


def inpaint(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="Folder to write PNG files to.")],
    masks: Path | None = None,
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Fill the missing pixels of images, and write PNG files at the run's image size.

    cat.jpg becomes cat.jpg.png. comparison.png shows some images before and after filling.

    The run must have been trained with --pretext inpainting and, for the use of --masks, with
    --holes random. All other pixels are unchanged.

    **For example**

        nearfar inpaint run photos --out filled --masks masks
        nearfar inpaint run mnist:test --out filled

    Parameters
    ----------
    masks
        A mask that is white where pixels are missing, or a folder with one mask per image, with the
        same name up to the extension. Masks are resized to the run's image size. Every pixel that
        is at least partly white is filled. Default: holes as in training.
    """
    try_output(out, overwrite=overwrite, folder=True)
    track = bars_after_torch()

    import torch

    from nearfar import restoration
    from nearfar.report import write_restored
    from nearfar.runs import read_run

    trained = read_run(run)
    source = images.open_for(trained.config, data, track)
    opened = None if masks is None else restoration.open_masks(masks, source, track=track)
    torch.manual_seed(seed)
    batches = restoration.inpaint(trained, source, masks=opened, device=device, track=track)
    with remove_on_failure(out):
        write_restored(out, source.names(), batches)
    print(f"{len(source)} filled images are in {shown(out)}")
