"""``nearfar export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nearfar.cli.options import DATA_HELP, DataOptions, OverwriteFiles, Run, bars


def export(
    run: Run,
    *,
    to: Literal["onnx", "torch", "timm"],
    out: Annotated[Path, Parameter(help="The folder to write the encoder and README.md to.")],
    data: Annotated[str | None, Parameter(help=DATA_HELP)] = None,
    images: DataOptions = DataOptions(),
    overwrite: OverwriteFiles = False,
) -> None:
    """Export the encoder of a run for other programs, with a model card.

    Normalization of the images is inside, and any number of images can be encoded at once. The
    files are read again by onnxruntime, torch or timm, and compared with the run on real images.

    **For example**

        nearfar export run --to onnx --out exported

    Parameters
    ----------
    to
        onnx writes model.onnx; torch model.pt2, for torch.export.load; timm model.safetensors and
        config.json, for timm.create_model, if the run continued a model of timm.
    data
        Images to compare embeddings on. Default: the training images of the run.
    """
    from nearfar.evaluation import read_scores
    from nearfar.export import check_export, export_encoder
    from nearfar.files import try_output
    from nearfar.report import write_model_card
    from nearfar.runs import read_run

    try_output(out, overwrite=overwrite, folder=True)
    trained = read_run(run)
    check_export(trained.network.encoder, to)
    source = images.open_for(trained.config, data, bars())
    exported = export_encoder(trained, out, to, source)
    write_model_card(out, trained, exported, evaluation=read_scores(run))
    print(f"the encoder is {exported.path}")
    print(
        f"largest difference of embeddings on {exported.images} images: {exported.difference:.1e} "
        f"(largest value: {exported.largest:.3g})"
    )
