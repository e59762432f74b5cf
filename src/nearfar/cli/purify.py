"""``nearfar purify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    Data,
    DataOptions,
    OverwriteFiles,
    PurifierOptions,
    Run,
    Seed,
    bars,
    shown,
)


def purify(
    run: Run,
    data: Data,
    *,
    out: Annotated[Path, Parameter(help="The folder to write to.")],
    clean: str | None = None,
    false_positive_rate: float | None = None,
    purification: PurifierOptions = PurifierOptions(),
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Purify images; write PNG files of the run's size, and reconstruction errors.

    cat.jpg becomes cat.jpg.png. suspicion.csv holds the mean squared error of each reconstruction
    and, with --clean, whether the image is rejected. With --votes, the mean of the nearest
    embeddings is reconstructed. (A defended classifier in Python averages its predictions on the
    reconstructions of these embeddings instead.)

    **For example**

        nearfar purify run uploads --out purified
        nearfar purify run uploads --out purified --clean mnist:test

    Parameters
    ----------
    clean
        Clean images that the run was not trained on; at the default rate, 100 or more. They set
        the threshold: images with a larger reconstruction error are rejected.
    false_positive_rate
        Largest share of the clean images that may be rejected. Default: 0.01.
    """
    import torch

    from nearfar import defense
    from nearfar.errors import NearfarError
    from nearfar.files import try_output
    from nearfar.models import resolve_device
    from nearfar.runs import read_config

    if clean is None and false_positive_rate is not None:
        raise NearfarError("--false-positive-rate needs --clean: give --clean, too")
    try_output(out, overwrite=overwrite, folder=True)
    config, track = read_config(run), bars()
    purifier = purification.load(run).to(resolve_device(device))
    source = images.open_for(config, data, track)
    torch.manual_seed(seed)
    threshold = float("inf")
    if clean is not None:
        rate = defense.FALSE_POSITIVE_RATE if false_positive_rate is None else false_positive_rate
        clean_images = images.open_for(config, clean, track)
        threshold = defense.error_threshold(purifier, clean_images, rate, track=track)
    batches = defense.purify(purifier, source, threshold=threshold, track=track)
    rejected = defense.write_purified(out, source.names(), batches, with_rejected=clean is not None)
    print(f"{len(source)} purified images are in {shown(out)}")
    if clean is not None:
        print(f"{rejected} of them are rejected: their error is above {threshold:.4g}")
