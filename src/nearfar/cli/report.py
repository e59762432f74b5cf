"""``nearfar report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import (
    DATA_HELP,
    DataOptions,
    Device,
    EncoderName,
    EncoderOptions,
    OverwriteFiles,
    Seed,
    bars,
    shown,
)


def report(
    encoder: EncoderName,
    *,
    data: Annotated[str | None, Parameter(help=DATA_HELP)] = None,
    out: Path | None = None,
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Write a report on an encoder: an HTML page with figures.

    **For example**

        nearfar report run
        nearfar report run --data mnist:test --out report
        nearfar report timm:tf_efficientnet_lite0 --data photos --size 96

    Parameters
    ----------
    data
        Images to show. Default: the run's training images.
    out
        Folder to write the report to. Default: the run's report folder; without a run, the current
        folder.
    """
    from nearfar.evaluation import read_scores
    from nearfar.files import try_output
    from nearfar.models import resolve_device
    from nearfar.report import report_encoder
    from nearfar.runs import REPORT

    opened = model.open(encoder)
    run = None if opened.run is None else Path(encoder)
    folder = (run or Path()) / REPORT if out is None else out
    try_output(folder, overwrite=overwrite, folder=True)
    track = bars()
    page = report_encoder(
        opened,
        images.open_like(opened, data, track),
        folder,
        evaluation=None if run is None else read_scores(run),
        device=resolve_device(device),
        seed=seed,
        track=track,
    )
    print(f"the report is {shown(page)}")
