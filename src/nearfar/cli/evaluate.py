"""``nearfar evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nearfar.cli.options import DATA_HELP, DataOptions, Overwrite, Run, Seed, bars


def evaluate(
    run: Run,
    *,
    train: Annotated[str, Parameter(help=f"Labeled training images. {DATA_HELP}")],
    test: str | None = None,
    json: Path | None = None,
    images: DataOptions = DataOptions(),
    rbf_samples: int = 10_000,
    seed: Seed = 0,
    device: str = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Compare a run with raw pixels and the plain autoencoder on labeled images.

    A run without a plain autoencoder is compared with its untrained network.

    **For example**

        nearfar evaluate run --train mnist:train --test mnist:test --json scores.json
        nearfar evaluate run --train photos

    Parameters
    ----------
    test
        Labeled test images. Default: a fifth of each class of --train, which is held out.
    json
        File of the scores. The run folder keeps them, too, for its report.
    rbf_samples
        Most training images of the RBF SVM, whose time grows with their square.
    """
    from rich.console import Console

    from nearfar.evaluation import evaluate_run
    from nearfar.files import try_output, write_json
    from nearfar.models import resolve_device
    from nearfar.runs import EVALUATION, read_run, write_evaluation

    if json is not None:
        try_output(json, overwrite=overwrite)
    else:
        try_output(run / EVALUATION, overwrite=True)
    trained = read_run(run)
    track = bars()
    evaluation = evaluate_run(
        trained,
        images.open_for(trained.config, train, track),
        None if test is None else images.open_for(trained.config, test, track),
        device=resolve_device(device),
        rbf_samples=rbf_samples,
        seed=seed,
        track=track,
    )
    result = {"run": str(run), "train": train, "test": test, **evaluation.to_dict()}
    Console().print(evaluation.to_rich())
    if json is not None:
        write_json(json, result)
    write_evaluation(run, result)
