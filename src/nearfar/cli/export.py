"""Command ``nearfar export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nearfar.cli.options import DATA_HELP, DataOptions, OverwriteFiles, Run, bars_after_torch
from nearfar.files import try_output
from nearfar.progress import tracked


def export(
    run: Run,
    *,
    to: Literal["onnx", "torch", "timm"],
    out: Annotated[Path, Parameter(help="Folder to write the encoder and README.md to.")],
    data: Annotated[
        str | None,
        Parameter(
            help=f"Images to compare embeddings on. Default: the run's training images. {DATA_HELP}"
        ),
    ] = None,
    images: DataOptions = DataOptions(),
    overwrite: OverwriteFiles = False,
) -> None:
    """Export the encoder of a run for other programs, with a model card.

    The exported encoder normalizes images itself, and accepts batches of any size. It is checked by
    loading it with onnxruntime, torch or timm, and comparing embeddings of images with those of the
    run.

    **For example**

        nearfar export run --to onnx --out exported

    Parameters
    ----------
    to
        Format. onnx: model.onnx. torch: model.pt2, for torch.export.load. timm: model.safetensors
        and config.json, for timm.create_model, if the run started from a timm model.
    """
    try_output(out, overwrite=overwrite, folder=True)
    track = bars_after_torch()

    from nearfar.evaluation import read_scores
    from nearfar.export import check_export, export_encoder
    from nearfar.report import write_model_card
    from nearfar.runs import read_run

    trained = read_run(run)
    check_export(trained.network.encoder, to)
    source = images.open_for(trained.config, data, track)
    exported = tracked(
        track, f"exporting to {to}", lambda: export_encoder(trained, out, to, source)
    )
    write_model_card(out, trained, exported, evaluation=read_scores(run))
    print(f"the encoder is {exported.path}")
    print(
        f"largest difference between embeddings on {exported.images} images: "
        f"{exported.difference:.1e} "
        f"(largest value: {exported.largest:.3g})"
    )
