"""Encoders with weights that others trained."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nearfar.errors import NearfarError
from nearfar.models import pretrained_encoder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18().eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(model.state_dict(), path)
    return model, path


@torch.no_grad()
def test_pretrained_encoder_gives_the_embeddings_of_torchvision(resnet):
    from torchvision.transforms.functional import normalize

    model, path = resnet
    model.fc = nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    right = model(normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(pretrained_encoder("resnet18", path)(images), right)


@torch.no_grad()
@pytest.mark.parametrize("name", ["alexnet", "vit-small"])
def test_pretrained_encoder_finds_the_layers_of_other_backbones(name, tmp_path):
    from torchvision.models import VisionTransformer, alexnet

    model = (
        alexnet() if name == "alexnet" else VisionTransformer(224, 16, 12, 6, 384, 1536)
    ).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    encoder = pretrained_encoder(name, tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 224, 224)
    if name == "alexnet":
        features = encoder.head(encoder.features(images))
        right = model.classifier[:6](model.avgpool(model.features(images)).flatten(1))
    else:
        model.encoder.register_forward_hook(lambda _, __, tokens: tokens)
        features = encoder.head(encoder.features(images))
        first = model.class_token.expand(1, -1, -1)
        right = model.encoder(torch.cat([first, model._process_input(images)], 1))[:, 1:].mean(1)
    torch.testing.assert_close(features, right)


def test_pretrained_encoder_refuses_other_weights(tmp_path, resnet):
    with pytest.raises(NearfarError, match=r"none' cannot be read: expected a safetensors file"):
        pretrained_encoder("resnet18", tmp_path / "none")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(NearfarError, match=r"text' cannot be read: expected a safetensors file"):
        pretrained_encoder("resnet18", tmp_path / "text")
    with pytest.raises(NearfarError, match="weights of resnet18: expected those of resnet50"):
        pretrained_encoder("resnet50", resnet[1])
    with pytest.raises(NearfarError, match="publishes no weights of vit-small"):
        pretrained_encoder("vit-small")
