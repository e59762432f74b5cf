"""Command ``nearfar report``."""

from __future__ import annotations

from pathlib import Path

from nearfar.cli.options import (
    DataOptions,
    Device,
    EncoderName,
    EncoderOptions,
    OverwriteFiles,
    Seed,
    ShownData,
    bars,
    shown,
)
from nearfar.files import try_output
from nearfar.runs import REPORT, is_finished


def report(
    encoder: EncoderName,
    *,
    data: ShownData = None,
    out: Path | None = None,
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Write an HTML report on an encoder, with figures.

    **For example**

        nearfar report run
        nearfar report run --data mnist:test --out report
        nearfar report timm:tf_efficientnet_lite0 --data photos --size 96

    Parameters
    ----------
    out
        Folder to write the report to. Default: the folder report in the run folder or, without a
        run, in the current folder.
    """
    run = Path(encoder) if is_finished(encoder) else None
    folder = (run or Path()) / REPORT if out is None else out
    try_output(folder, overwrite=overwrite, folder=True)

    track = bars()
    opened = model.open(encoder, track)

    from nearfar.evaluation import read_scores
    from nearfar.models import resolve_device
    from nearfar.report import report_encoder

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
