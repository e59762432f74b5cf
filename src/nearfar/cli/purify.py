"""Command ``nearfar purify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    Data,
    DataOptions,
    Device,
    OverwriteFiles,
    PurifierOptions,
    Run,
    Seed,
    bars_after_torch,
    shown,
)
from nearfar.errors import NearfarError
from nearfar.files import remove_on_failure, try_output


def purify(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="Folder to write to.")],
    clean: str | None = None,
    false_positive_rate: float | None = None,
    purification: PurifierOptions = PurifierOptions(),
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Remove adversarial perturbations from images, and write PNG files and reconstruction errors.

    cat.jpg becomes cat.jpg.png, at the run's image size. suspicion.csv contains the mean squared
    error of each reconstruction and, with --clean, whether the image is rejected. With --votes, the
    mean of the nearest training embeddings is decoded. (In Python, a defended classifier does not
    average embeddings, but the predictions for their reconstructions.)

    **For example**

        nearfar purify run uploads --out purified
        nearfar purify run uploads --out purified --clean mnist:test

    Parameters
    ----------
    clean
        Clean images that the run was not trained on, at least 100 at the default rate. They are
        used to set the rejection threshold of the reconstruction error.
    false_positive_rate
        Maximum fraction of clean images that may be rejected. Default: 0.01.
    """
    if clean is None and false_positive_rate is not None:
        raise NearfarError("--false-positive-rate needs --clean: add --clean")
    try_output(out, overwrite=overwrite, folder=True)
    track = bars_after_torch()

    import torch

    from nearfar import defense
    from nearfar.models import resolve_device
    from nearfar.runs import read_config

    config = read_config(run)
    purifier = purification.load(run).to(resolve_device(device))
    source = images.open_for(config, data, track)
    torch.manual_seed(seed)
    threshold = float("inf")
    if clean is not None:
        rate = defense.FALSE_POSITIVE_RATE if false_positive_rate is None else false_positive_rate
        clean_images = images.open_for(config, clean, track)
        threshold = defense.error_threshold(purifier, clean_images, rate, track=track)
    batches = defense.purify(purifier, source, threshold=threshold, track=track)
    with remove_on_failure(out):
        rejected = defense.write_purified(
            out, source.names(), batches, with_rejected=clean is not None
        )
    print(f"{len(source)} purified images are in {shown(out)}")
    if clean is not None:
        print(f"{rejected} of them are rejected, with an error above {threshold:.4g}")
