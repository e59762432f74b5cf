"""Command ``nearfar evaluate``."""

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
    Overwrite,
    Seed,
    bars,
)
from nearfar.files import try_output, write_json


def evaluate(
    encoder: EncoderName,
    *,
    train: Annotated[str, Parameter(help=f"Labeled training images. {DATA_HELP}")],
    test: str | None = None,
    beside: Annotated[list[str], Parameter(consume_multiple=True)] = [],  # noqa: B006
    json: Path | None = None,
    images: DataOptions = DataOptions(),
    model: EncoderOptions = EncoderOptions(),
    rbf_samples: int = 10_000,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Compare an encoder with raw pixels and, for a run, its starting point, on labeled images.

    The starting point of a run is a plain autoencoder, a pretrained encoder, or an untrained
    network.

    **For example**

        nearfar evaluate run --train mnist:train --test mnist:test --json scores.json
        nearfar evaluate run --train photos
        nearfar evaluate run --train photos --beside timm:tf_efficientnet_lite0
        nearfar evaluate timm:tf_efficientnet_lite0 --train photos --size 96

    Parameters
    ----------
    test
        Labeled test images. Default: a fifth of each class of --train is held out.
    beside
        Additional encoders to compare, on the same images at the same size.
    json
        File to write the scores to. For a run, scores are also stored in the run folder, for the
        report.
    rbf_samples
        Maximum number of training images for the RBF SVM. Its time grows quadratically.
    """
    if json is not None:
        try_output(json, overwrite=overwrite)

    track = bars()
    opened, *others = model.open_all([encoder, *beside], track)

    from rich.console import Console

    from nearfar.evaluation import evaluate_encoder
    from nearfar.models import resolve_device
    from nearfar.runs import EVALUATION, write_evaluation

    if json is None and opened.run is not None:
        try_output(Path(encoder) / EVALUATION, overwrite=True)
    evaluation = evaluate_encoder(
        opened,
        images.open_like(opened, train, track),
        None if test is None else images.open_like(opened, test, track),
        beside=others,
        device=resolve_device(device),
        rbf_samples=rbf_samples,
        seed=seed,
        track=track,
    )
    result = {"encoder": encoder, "train": train, "test": test, **evaluation.to_dict()}
    Console().print(evaluation.to_rich())
    if json is not None:
        write_json(json, result)
    if opened.run is not None:
        write_evaluation(Path(encoder), result)
