"""Export of trained encoders to formats that do not require nearfar."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nearfar.data import Images, Subset, conform_images, load_batches, sequential_batches, to_unit
from nearfar.errors import NearfarError, require
from nearfar.files import atomic_path, write_json
from nearfar.models import TimmEncoder, apply_to_all, timm_state_dict
from nearfar.runs import Run, write_tensors

ExportFormat = Literal["onnx", "torch", "timm"]

#: File of each format.
EXPORTED: dict[ExportFormat, str] = {
    "onnx": "model.onnx",
    "torch": "model.pt2",
    "timm": "model.safetensors",
}
#: File with the settings of a timm model, next to its weights.
TIMM_CONFIG = "config.json"
#: Number of images on which to compare an export, and their batches.
_COMPARED, _BATCH = 64, 24


@dataclass(frozen=True)
class Export:
    """Result of an export, with a comparison of the exported encoder and the original.

    Attributes
    ----------
    to : {"onnx", "torch", "timm"}
        Format of the export.
    path : Path
        File of the exported encoder.
    images : int
        Number of images that both encoders were applied to.
    difference : float
        Largest absolute difference between embeddings by the two encoders.
    largest : float
        Largest absolute value in the original embeddings.

    Examples
    --------
    >>> Export("onnx", Path("model.onnx"), images=64, difference=2e-6, largest=3.1).images
    64
    """

    to: ExportFormat
    path: Path
    images: int
    difference: float
    largest: float


def export_encoder(
    run: Run, folder: str | os.PathLike[str], to: ExportFormat, images: Images | npt.ArrayLike
) -> Export:
    """Export the encoder of a run, and compare embeddings before and after the export.

    For the comparison, the exported encoder is loaded with onnxruntime, torch or timm, and applied
    to images in batches of several sizes.

    Parameters
    ----------
    run : Run
        Trained run.
    folder : str or path
        Output folder. It is created if needed.
    to : {"onnx", "torch", "timm"}
        Format. "onnx": ``model.onnx``. "torch": ``model.pt2``, for ``torch.export.load``. Both take
        images (float32[b, c, h, w], for any b) with values in [0, 1] and normalize them internally.
        "timm": ``model.safetensors`` and ``config.json``, for
        ``timm.create_model("local-dir:FOLDER", pretrained=True)``. Images must be normalized with
        the mean and the standard deviation in ``config.json``.
    images : Images or array
        Images for the comparison. The first 64 are used.

    Raises
    ------
    NearfarError
        If the format is unknown, if the libraries for it are not installed, or if timm cannot
        represent the encoder.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar import recipe, train
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(20, 1, 8, 8))
    >>> run = train(images, recipe("paper", pretrain_epochs=1, epochs=1, clusters=3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export = export_encoder(run, folder, "torch", images)
    >>> export.path.name, export.images, export.difference < 1e-4
    ('model.pt2', 20, True)
    """
    if to not in get_args(ExportFormat):
        raise NearfarError(f"to={to!r}: expected one of {', '.join(get_args(ExportFormat))}")
    images = conform_images(images, run.config.data.shape)
    some = Subset(images, range(min(len(images), _COMPARED)))
    encoder = deepcopy(run.network.encoder).cpu().eval()
    encoder.to(memory_format=torch.contiguous_format)  # as exported programs are saved
    path = Path(folder) / EXPORTED[to]
    check_export(encoder, to)
    path.parent.mkdir(parents=True, exist_ok=True)
    embed = _WRITERS[to](encoder, path, images.shape)
    ours = apply_to_all(encoder, some, device=torch.device("cpu")).numpy()
    theirs = np.concatenate(
        [
            embed(to_unit(pixels))
            for size in (1, _BATCH)
            for rows, pixels in load_batches(
                some, sequential_batches(range(size if size == 1 else len(some)), size)
            )
        ]
    )
    ours = np.concatenate([ours[:1], ours])
    difference, largest = np.abs(ours - theirs).max(), np.abs(ours).max()
    return Export(to, path, len(some), float(difference), float(largest))


def check_export(encoder: nn.Module, to: ExportFormat) -> None:
    """Check that an encoder can be exported to a format.

    Raises
    ------
    NearfarError
        If the libraries for the format are not installed, or timm cannot represent the encoder.

    Examples
    --------
    >>> check_export(nn.Flatten(), "torch")
    """
    if to == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            require(module, extra="onnx")
    if to == "timm":
        require("timm", extra="timm")
        if not isinstance(encoder, TimmEncoder) or encoder.embedding_size != encoder.pooled:
            raise NearfarError(
                "the encoder is not a plain timm model: expected --to onnx or torch, or a run with "
                "--backbone timm:NAME and its own embedding size"
            )


Embed = Callable[[Tensor], npt.NDArray[np.float32]]


def _program(encoder: nn.Module, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """Return an encoder as a `torch.export.ExportedProgram` for any number of images."""
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        return torch.export.export(
            encoder, (torch.rand(3, *shape),), dynamic_shapes=({0: batch},), strict=False
        )


def _write_torch(encoder: nn.Module, path: Path, shape: tuple[int, ...]) -> Embed:
    content = io.BytesIO()  # torch's own writer aborts the process if the disk is full
    torch.export.save(_program(encoder, shape), content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())
    network = torch.export.load(path).module()
    return lambda images: network(images).detach().numpy()


def _write_onnx(encoder: nn.Module, path: Path, shape: tuple[int, ...]) -> Embed:
    runtime = require("onnxruntime", extra="onnx")
    program = torch.onnx.export(
        _program(encoder, shape),
        input_names=["images"],
        output_names=["embeddings"],
        external_data=False,
        verbose=False,
    )
    assert program is not None  # noqa: S101 - for the type alone
    with atomic_path(path) as temporary:
        program.save(temporary, external_data=False)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["embeddings"], {"images": images.numpy()})[0]


def _write_timm(encoder: nn.Module, path: Path, shape: tuple[int, ...]) -> Embed:
    timm = require("timm", extra="timm")
    assert isinstance(encoder, TimmEncoder)  # noqa: S101 - for the type alone
    model: Any = encoder.features
    mean, std = (encoder.get_buffer(name).flatten().tolist() for name in ("mean", "std"))
    write_tensors(path, timm_state_dict(encoder), {})
    inputs = {"mean": mean, "std": std, "input_size": [len(mean), *shape[1:]]}
    settings = {
        "architecture": model.pretrained_cfg["architecture"],
        "num_classes": 0,
        "num_features": model.num_features,
        "pretrained_cfg": {"custom_load": False, "num_classes": 0, "crop_pct": 1.0, **inputs},
    }
    write_json(path.with_name(TIMM_CONFIG), settings)
    restored = timm.create_model(f"local-dir:{path.parent}", pretrained=True).eval()
    stored = json.loads(path.with_name(TIMM_CONFIG).read_text())["pretrained_cfg"]
    center, scale = (torch.tensor(stored[name]).view(-1, 1, 1) for name in ("mean", "std"))

    def embed(images: Tensor) -> npt.NDArray[np.float32]:
        images = images.expand(-1, len(center), -1, -1)
        with torch.no_grad():
            return restored((images - center) / scale).numpy()

    return embed


_WRITERS: dict[ExportFormat, Callable[[nn.Module, Path, tuple[int, ...]], Embed]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
    "timm": _write_timm,
}
