"""``nearfar denoise``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, OverwriteFiles, Run, Seed, bars

if TYPE_CHECKING:
    from torch import Tensor


def denoise(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The folder to write PNG files to.")],
    add_noise: bool = False,
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Write images without their noise, each as a PNG file of the run's size.

    cat.jpg becomes cat.jpg.png.

    Any run will do; one trained with --pretext denoising does best. The file comparison.png shows
    some of them beside what was given.

    **For example**

        nearfar denoise run scans --out clean
        nearfar denoise run mnist:test --out clean --add-noise

    Parameters
    ----------
    add_noise
        Add the noise that the run was trained with first, and say how much of it is taken away.
        For a run that was trained with --pretext denoising.
    seed
        Decides the noise.
    """
    import torch

    from nearfar.data import in_order, load, to_unit
    from nearfar.errors import NearfarError
    from nearfar.files import claim_output
    from nearfar.models import resolve_device
    from nearfar.models.inference import INFERENCE_BATCH
    from nearfar.report.restoration import psnr, write_restored
    from nearfar.runs import read_run
    from nearfar.training.config import TrainConfig
    from nearfar.training.objective import make_corruption

    claim_output(out, overwrite=overwrite, folder=True)
    trained = read_run(run)
    config = TrainConfig.from_dict(trained.config.train)
    if add_noise and config.pretext != "denoising":
        raise NearfarError(
            f"--add-noise, and run {str(run)!r} was trained with pretext={config.pretext!r}, "
            "without noise: expected one from train --pretext denoising, or no --add-noise"
        )
    track = bars()
    source = images.open_for(trained.config, data, track)
    target = resolve_device(device)
    network = trained.autoencoder.to(target)
    noise = make_corruption(config, network)
    quality: list[Tensor] = []

    def steps() -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
        batches = in_order(range(len(source)), INFERENCE_BATCH)
        for rows, pixels in track(load(source, batches), "denoising", len(batches)):
            given = {"original": to_unit(pixels.to(target))}
            if add_noise:
                given["noisy"] = noise(given["original"]).images
            (*_, seen) = given.values()
            denoised = network(seen).reconstruction.clamp(0, 1)
            if add_noise:
                quality.append(torch.stack([psnr(x, given["original"]) for x in (seen, denoised)]))
            yield rows, {**given, "denoised": denoised}

    torch.manual_seed(seed)
    with torch.no_grad():
        write_restored(out, source.names(), steps())
    print(f"{len(source)} denoised images are in {out}")
    if add_noise:
        before, after = torch.cat(quality, dim=1).mean(1).tolist()
        print(f"PSNR {before:.1f} dB with noise, {after:.1f} dB denoised (mean over the images)")
