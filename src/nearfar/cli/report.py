"""``nearfar report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import DATA_HELP, DataOptions, OverwriteFiles, Run, Seed, bars


def report(
    run: Run,
    *,
    data: Annotated[str | None, Parameter(help=DATA_HELP)] = None,
    out: Path | None = None,
    images: DataOptions = DataOptions(),
    seed: Seed = 0,
    device: str = "auto",
    overwrite: OverwriteFiles = False,
) -> None:
    """Write a report of a run: an HTML page and its figures.

    **For example**

        nearfar report run
        nearfar report run --data mnist:test --out report

    Parameters
    ----------
    data
        Images to show. Default: the training images.
    out
        Folder of the report. Default: the folder report in the run.
    seed
        Seed of the choice of images.
    """
    from nearfar.evaluation import read_scores
    from nearfar.files import try_output
    from nearfar.models import resolve_device
    from nearfar.report import report_run
    from nearfar.runs import REPORT, read_run

    trained = read_run(run)
    folder = run / REPORT if out is None else out
    try_output(folder, overwrite=overwrite, folder=True)
    track = bars()
    page = report_run(
        trained,
        images.open_for(trained.config, data, track),
        folder,
        evaluation=read_scores(run),
        device=resolve_device(device),
        seed=seed,
        track=track,
    )
    print(f"the report is {page}")
