"""Backbones by weights of a run, a file or torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from nearfar.config import Backbone, recipe
from nearfar.data import ArrayImages, images_from_array
from nearfar.errors import NearfarError
from nearfar.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from nearfar.training import train
from nearfar.transfer import (
    open_backbone,
)
from nearfar.transfer.backbones import backbone_of

SMALL = Backbone(name="alexnet", embedding_size=16, widths=(24,)), (3, 64, 64)
LARGE = Backbone(name="alexnet", embedding_size=16, widths=(24,)), (3, 224, 224)


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def as_images(pixels: torch.Tensor) -> ArrayImages:
    return ArrayImages(pixels.numpy())


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "resnet50"])
def test_open_backbone_equals_torchvision(name, tmp_path):
    network = torchvision.models.get_model(name).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    backbone = open_backbone(str(tmp_path / "weights.safetensors"))
    network.get_submodule("classifier" if name == "alexnet" else "")
    if name == "alexnet":
        network.classifier[6] = nn.Identity()
    else:
        network.fc = nn.Identity()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = network((images(2, 224) - mean) / std)
        assert torch.allclose(backbone(images(2, 224)), expected, atol=1e-4)


def test_open_backbone_of_timm():
    """Weights of EfficientNet-lite0 come with a package."""
    backbone = open_backbone("timm:tf_efficientnet_lite0")
    assert (backbone.embedding_size, backbone.training) == (1280, False)
    assert backbone.features.bn1.running_var.std() > 0


def test_open_backbone_raises_for_bad_weights(tmp_path):
    def refused(weights) -> str:
        with pytest.raises(NearfarError) as caught:
            open_backbone(str(weights))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "not a run folder, file or name" in refused("AlexNet_Weights.NONE")
    for name in ("somewhere", "alexnet.safetensors", "resnet.pth"):
        assert "not a run folder, file or name" in refused(name)
    torch.save({}, tmp_path / "weights.pth")
    assert "no weights of torchvision" in refused(tmp_path / "weights.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "no weights of torchvision" in refused(tmp_path / "other.safetensors")
    state = torchvision.models.resnet34().state_dict()
    save_file(state, tmp_path / "resnet34.safetensors")
    line = refused(tmp_path / "resnet34.safetensors")
    assert "do not fit timm:resnet18" in line
    assert len(line) < 500
    assert "does not exist" in refused(tmp_path / "none" / "..") or "not a run" in refused(tmp_path)


def test_open_backbone_of_run(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    config = recipe(
        "paper",
        backbone="alexnet",
        widths=(24,),
        embedding_size=16,
        pretrain_epochs=1,
        epochs=0,
        batch_size=6,
        device="cpu",
    )
    trained = train(images_from_array(pixels), config, folder=tmp_path / "run")
    backbone = open_backbone(str(tmp_path / "run"))
    expected = trained.network.encoder.eval()
    assert torch.allclose(backbone(images(2)), expected(images(2)))
    assert backbone_of("kmeans", tmp_path / "run") == SMALL
    assert open_backbone("random", like=tmp_path / "run").embedding_size == 16


def test_backbone_of_raises_for_run_without_backbone(tmp_path):
    pixels = np.zeros((8, 16, 16), np.uint8)
    config = recipe(
        "paper", pretrain_epochs=1, epochs=0, embedding_size=4, clusters=1, device="cpu"
    )
    train(images_from_array(pixels), config, folder=tmp_path / "run")
    with pytest.raises(NearfarError, match="--backbone"):
        backbone_of(str(tmp_path / "run"))


def test_open_backbone_raises_for_missing_like(tmp_path):
    with pytest.raises(NearfarError, match="'.*nowhere' does not exist"):
        open_backbone("random", like=tmp_path / "nowhere")
    with pytest.raises(NearfarError, match="expected random or kmeans"):
        open_backbone("AlexNet_Weights.DEFAULT", like=tmp_path)
