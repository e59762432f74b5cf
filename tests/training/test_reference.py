"""A frozen network that others trained as the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from nearfar.training.config import TrainConfig
from nearfar.training.loop import Interrupted
from nearfar.training.relation import Relation
from safetensors.torch import load_file, save_file
from torch import nn

from nearfar import runs
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import pretrained_encoder
from nearfar.training.train import train

QUICK = TrainConfig(
    pretrain_epochs=1, epochs=2, batch_size=8, embedding_size=12, clusters=2, device="cpu", lr=1e-3
)


@pytest.fixture
def images():
    return ArrayImages(np.random.default_rng(0).integers(0, 256, (24, 3, 32, 32), np.uint8))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18().eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(model.state_dict(), path)
    return model, path


@torch.no_grad()
def test_weights_in_a_file_make_torchvisions_codes(resnet):
    from torchvision.transforms.functional import normalize

    model, path = resnet
    model.fc = nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    right = model(normalize(images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    torch.testing.assert_close(pretrained_encoder("resnet18", path)(images), right)


@torch.no_grad()
@pytest.mark.parametrize("name", ["alexnet", "vit-small"])
def test_layers_of_other_backbones_find_their_place(name, tmp_path):
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


def test_the_bank_holds_the_codes_of_the_reference(images, resnet, monkeypatch, tmp_path):
    banks = []
    make_bank = Relation._make_bank
    monkeypatch.setattr(
        Relation, "_make_bank", lambda self: banks.append(make_bank(self)) or banks[-1]
    )
    config = TrainConfig.from_dict(
        {**vars(QUICK), "reference": "resnet18", "reference_weights": str(resnet[1])}
    )
    trained = train(images, config, folder=tmp_path / "run")
    with torch.no_grad():
        pixels = images.batch(range(24)).float() / 255
        right = pretrained_encoder("resnet18", resnet[1])(pixels)
    torch.testing.assert_close(banks[0], right)
    assert trained.embeddings.shape == (24, 12)
    assert runs.read_run(tmp_path / "run").embeddings.shape == (24, 12)


def test_a_module_is_a_reference_that_stays_as_it_is_and_is_resumed(images, tmp_path):
    torch.manual_seed(1)
    reference = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 7))
    before = {k: v.clone() for k, v in reference.state_dict().items()}

    def stop(items, description="", total=None):
        for number, item in enumerate(items):
            if description == "relational" and number == 4:
                raise KeyboardInterrupt
            yield item

    train(images, QUICK, folder=tmp_path / "whole", reference=reference)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        train(images, QUICK, folder=tmp_path / "parts", reference=reference, track=stop)
    train(images, QUICK, folder=tmp_path / "parts", reference=reference, resume=True)
    assert all(torch.equal(before[k], v) for k, v in reference.state_dict().items())
    whole, parts = (load_file(tmp_path / run / runs.MODEL) for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    own = train(images, QUICK)
    assert not torch.equal(own.embeddings, train(images, QUICK, reference=reference).embeddings)


def test_references_that_do_not_fit_are_refused(images, tmp_path):
    with pytest.raises(NearfarError, match="the reference does not take images"):
        train(images, QUICK, reference=nn.Conv2d(1, 2, 3))
    with pytest.raises(NearfarError, match="the reference does not take images"):
        train(images, QUICK, reference=nn.GRU(32, 5))
    with pytest.raises(NearfarError, match=r"embeddings \(1, 2, 30, 30\) of an image"):
        train(images, QUICK, reference=nn.Conv2d(3, 2, 3))
    with pytest.raises(NearfarError, match="too small for backbone='alexnet'"):
        train(images, TrainConfig(reference="alexnet", device="cpu", clusters=2))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    with pytest.raises(NearfarError, match="expected refresh=0"):
        train(images, replace(QUICK, refresh=1), reference=encoder)


def test_wrong_weights_are_refused(tmp_path, resnet):
    with pytest.raises(NearfarError, match=r"none' cannot be read: expected a safetensors file"):
        pretrained_encoder("resnet18", tmp_path / "none")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(NearfarError, match=r"text' cannot be read: expected a safetensors file"):
        pretrained_encoder("resnet18", tmp_path / "text")
    with pytest.raises(NearfarError, match="weights of resnet18: expected those of resnet50"):
        pretrained_encoder("resnet50", resnet[1])
    with pytest.raises(NearfarError, match="publishes no weights of vit-small"):
        pretrained_encoder("vit-small")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reference": "resnet18", "refresh": 1}, "expected refresh=0"),
        (
            {"reference": "resnet18", "relation": "embeddings"},
            "expected relation='reconstructions'",
        ),
        ({"reference_weights": "file"}, "expected a reference"),
    ],
)
def test_choices_that_do_not_go_with_a_reference_are_refused(wrong, message):
    with pytest.raises(NearfarError, match=message):
        TrainConfig(**wrong)
