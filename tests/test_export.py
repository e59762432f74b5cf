"""Exported encoders: what onnxruntime, torch and timm compute with them, and the model card."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nearfar.config import configure
from nearfar.data import FolderImages
from nearfar.errors import NearfarError
from nearfar.export import EXPORTED, ExportFormat, export_encoder
from nearfar.runs import Run, read_run
from nearfar.search import encode
from nearfar.training import train
from program import run as call
from trainings import QUICK

FORMATS = list(EXPORTED)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> FolderImages:
    """Smooth pictures, 36×32."""
    root, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    root.mkdir()
    for number in range(30):
        pixels = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((36, 32), Image.Resampling.BICUBIC).save(
            root / f"{number:02}.png"
        )
    return FolderImages(root, size=(32, 36), channels=3)


@pytest.fixture(scope="module")
def continued(photos: FolderImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a model of timm."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = {"backbone": "timm:test_efficientnet", "epochs": 1, "batch_size": 10}
    train(photos, configure({**options, "device": "cpu"}), folder=folder)
    return folder


@pytest.fixture(scope="module")
def plain(photos: FolderImages) -> Run:
    """A run with the paper's network."""
    return train(photos, configure({"clusters": 2, "batch_size": 10, "epochs": 1}, base=QUICK))


def require(to: ExportFormat) -> None:
    for module in {"onnx": ["onnx", "onnxscript", "onnxruntime"], "timm": ["timm"]}.get(to, []):
        pytest.importorskip(module)


@pytest.mark.parametrize("to", FORMATS)
def test_embeddings_are_those_of_the_run(
    continued: Path, photos: FolderImages, tmp_path: Path, to: ExportFormat
) -> None:
    require(to)
    export = export_encoder(read_run(continued), tmp_path / to, to, photos)
    assert export.path == tmp_path / to / EXPORTED[to]
    assert export.path.is_file()
    assert export.images == 30
    assert export.difference <= 1e-4
    assert export.largest > 0.1


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_networks_of_the_paper_can_be_exported(
    plain: Run, photos: FolderImages, tmp_path: Path, to: ExportFormat
) -> None:
    require(to)
    assert export_encoder(plain, tmp_path, to, photos).difference <= 1e-4


def test_file_is_enough_for_torch(plain: Run, photos: FolderImages, tmp_path: Path) -> None:
    path = export_encoder(plain, tmp_path, "torch", photos).path
    images = photos.batch(range(7)).float() / 255
    found = torch.export.load(path).module()(images).detach().numpy()
    np.testing.assert_allclose(found, encode(plain, photos, device="cpu")[:7], atol=1e-4)


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_failed_export_leaves_the_earlier_one(
    plain: Run, photos: FolderImages, tmp_path: Path, to: ExportFormat
) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    path = export_encoder(plain, tmp_path, to, photos).path
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, limits[1]))  # as a full disk
    try:
        with pytest.raises((NearfarError, OSError, RuntimeError)):
            export_encoder(plain, tmp_path, to, photos)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_timm_holds_only_its_own_models(plain: Run, photos: FolderImages, tmp_path: Path) -> None:
    with pytest.raises(NearfarError, match="not a plain timm model: expected --to onnx or torch"):
        export_encoder(plain, tmp_path / "out", "timm", photos)
    assert not (tmp_path / "out").exists()
    with pytest.raises(NearfarError, match="to='tflite': expected one of onnx, torch, timm"):
        export_encoder(plain, tmp_path / "out", "tflite", photos)


def test_command_says_the_difference_and_writes_a_card(
    continued: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require("timm")
    command = ("export", continued, "--to", "timm", "--out", tmp_path / "exported")
    assert call(*command) == 0
    assert "largest difference between embeddings on 30 images: " in capsys.readouterr().out
    _, head, card = (tmp_path / "exported/README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-feature-extraction"
    assert yaml.safe_load(head)["library_name"] == "timm"
    assert "30 images of 36×32 pixels in color" in card
    assert "backbone: timm:test_efficientnet" in card
    assert "Not evaluated." in card
    assert "The weights are yours" in card
    assert call(*command) == 2
    assert "exists already" in capsys.readouterr().err
