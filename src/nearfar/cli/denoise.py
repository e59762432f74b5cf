"""Command ``nearfar denoise``."""

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


def denoise(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="Folder to write PNG files to.")],
    add_noise: bool = False,
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Remove noise from images, and write PNG files at the run's image size.

    cat.jpg becomes cat.jpg.png. comparison.png shows some images before and after denoising.

    This works with any run, and best with a run trained with --pretext denoising.

    **For example**

        nearfar denoise run scans --out clean
        nearfar denoise run mnist:test --out clean --add-noise

    Parameters
    ----------
    add_noise
        First add the noise that the run was trained with, and report the PSNR before and after
        denoising. Requires a run trained with --pretext denoising.
    """
    try_output(out, overwrite=overwrite, folder=True)
    track = bars_after_torch()

    import torch

    from nearfar import restoration
    from nearfar.report import write_restored
    from nearfar.runs import read_run

    trained, quality = read_run(run), restoration.MeanPSNR()
    source = images.open_for(trained.config, data, track)
    torch.manual_seed(seed)
    batches = restoration.denoise(trained, source, add_noise=add_noise, device=device, track=track)
    with remove_on_failure(out):
        write_restored(out, source.names(), quality.measure(batches))
    print(f"{len(source)} denoised images are in {shown(out)}")
    if add_noise:
        mean = quality.result()
        print(
            f"PSNR {mean['noisy']:.1f} dB with noise, {mean['denoised']:.1f} dB denoised "
            "(mean over the images)"
        )
