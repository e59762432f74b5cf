"""``nearfar purify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import Data, DataOptions, OverwriteFiles, PurifierOptions, Run, Seed, bars


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
    """Write images as a guarded classifier sees them, and how suspicious each one is.

    Each image becomes a PNG file of the run's size, cat.jpg for one cat.jpg.png; suspicion.csv has
    the mean squared error of its reconstruction and, with --clean, whether it is rejected. With
    --neighbors, the mean of the nearest embeddings is reconstructed; a classifier that is guarded
    in Python is asked about each of them instead.

    **For example**

        nearfar purify run uploads --out purified
        nearfar purify run uploads --out purified --clean mnist:test

    Parameters
    ----------
    clean
        Clean images that the run was not trained on, 100 or more at the rate below: an image is
        rejected if its error is above that of all but that share of these.
    false_positive_rate
        The share of clean images that may be rejected; 0.01 if not given.
    """
    import csv

    import torch

    from nearfar.data.export import write_images
    from nearfar.defense.guard import highest_accepted
    from nearfar.defense.purifier import FALSE_POSITIVE_RATE, ReconstructionError
    from nearfar.errors import NearfarError
    from nearfar.files import atomic_path, claim_output
    from nearfar.models import apply, apply_to_all, resolve_device
    from nearfar.runs import read_config

    if clean is None and false_positive_rate is not None:
        raise NearfarError("--false-positive-rate is of clean images: give --clean, too")
    claim_output(out, overwrite=overwrite, folder=True)
    config, target, track = read_config(run), resolve_device(device), bars()
    purifier = purification.load(run).to(target)
    source = images.open_for(config, data, track)
    torch.manual_seed(seed)
    threshold = float("inf")
    if clean is not None:
        errors = apply_to_all(
            ReconstructionError(purifier),
            images.open_for(config, clean, track),
            device=target,
            track=track,
            description="clean images",
        )
        rate = FALSE_POSITIVE_RATE if false_positive_rate is None else false_positive_rate
        threshold = highest_accepted(errors, rate)

    names, rejected = source.names(), 0
    out.mkdir(parents=True, exist_ok=True)
    with (
        atomic_path(out / "suspicion.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["name", "error", *(["rejected"] if clean else [])])

        results = apply(
            lambda batch: torch.stack([batch, purifier(batch)], 1),
            source,
            device=target,
            track=track,
            description="purifying",
        )
        for rows, both in results:
            before, after = both.unbind(1)
            called = [names[row] for row in rows.tolist()]
            write_images(out, called, after)
            errors = (after - before).square().flatten(1).mean(1)
            for name, error in zip(called, errors.tolist(), strict=True):
                above = error > threshold
                rejected += above
                table.writerow([name, f"{error:.6g}", *([int(above)] if clean else [])])
    print(f"{len(names)} purified images are in {out}")
    if clean is not None:
        print(f"{rejected} of them are rejected, by an error above {threshold:.4g}")
