"""Backbones for other tasks: their weights, their heads, and the k-means initialization."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from nearfar.data import ArrayImages, Subset, images_from_array
from nearfar.errors import NearfarError
from nearfar.models import Architecture
from nearfar.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from nearfar.models.kmeans_init import KMEANS_SHIFT, draw_kmeans_rows, initialize_by_kmeans
from nearfar.training.config import TrainConfig
from nearfar.training.train import train
from nearfar.transfer.heads import convolutional_head, region_head
from nearfar.transfer.weights import build, describe, open_backbone

SMALL = Architecture((3, 64, 64), 16, (24,), backbone="alexnet")
LARGE = Architecture((3, 224, 224), 16, (24,), backbone="alexnet")


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def as_images(pixels: torch.Tensor) -> ArrayImages:
    return ArrayImages(pixels.numpy())


# --- heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "vit-small"])
def test_the_last_of_the_feature_maps_is_the_feature_map(name):
    backbone = build(Architecture((3, 64, 64), 16, backbone=name), 0).eval()
    maps = backbone.feature_maps(images(2))
    sides = [each.shape[-1] for each in maps.values()]
    assert sides == {"alexnet": [15, 7, 3], "resnet18": [32, 16, 8, 4, 2], "vit-small": [4]}[name]
    assert torch.equal(maps[backbone.grid], backbone.feature_map(images(2)))


def test_the_head_over_whole_images_is_the_head_where_they_have_its_size():
    for architecture, size in ((SMALL, 64), (LARGE, 224)):
        backbone = build(architecture, 0).eval()
        feature_map = backbone.feature_map(images(2, size))
        made = convolutional_head(backbone)(feature_map)
        middle = made[:, :, made.shape[2] // 2 - (made.shape[2] == 6), :]
        column = middle[:, :, made.shape[3] // 2 - (made.shape[3] == 6)]
        assert torch.allclose(column, backbone.head(feature_map), atol=1e-4)


def test_the_head_on_regions_of_its_own_grid_is_the_head():
    backbone = build(LARGE, 0).eval()
    pooled = torch.rand(3, 256, 6, 6)
    behind = backbone.head[list(dict(backbone.head.named_children())).index("flatten") :]
    assert torch.allclose(region_head(backbone)(pooled), behind(pooled), atol=1e-5)


@pytest.mark.parametrize("size", [(63, 63), (64, 64), (127, 127), (127, 63), (64, 128)])
def test_the_head_on_regions_sees_the_mean_of_what_a_smaller_grid_saw(size):
    backbone = build(Architecture((3, *size), 16, (24,), backbone="alexnet"), 0).eval()
    grid = backbone.head.grid.output_size
    pooled = torch.rand(3, 256, 6, 6)
    smaller = nn.functional.adaptive_avg_pool2d(pooled, grid)
    behind = backbone.head[list(dict(backbone.head.named_children())).index("flatten") :]
    assert torch.allclose(region_head(backbone)(pooled), behind(smaller), atol=1e-5)


def test_heads_of_backbones_without_fully_connected_layers():
    backbone = build(Architecture((3, 64, 64), 512, backbone="resnet18"), 0).eval()
    assert backbone.embedding_size == 512
    pooled = torch.rand(2, 512, 6, 6)
    assert torch.allclose(region_head(backbone)(pooled), pooled.mean((2, 3)), atol=1e-6)
    assert torch.equal(convolutional_head(backbone)(pooled), pooled)


# --- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "resnet50"])
def test_torchvisions_weights_give_torchvisions_codes(name, tmp_path):
    network = torchvision.models.get_model(name).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    backbone = open_backbone(str(tmp_path / "weights.safetensors"))
    network.get_submodule("classifier" if name == "alexnet" else "")
    if name == "alexnet":
        network.classifier[6] = nn.Identity()
    else:
        network.fc = nn.Identity()
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        expected = network((images(2, 224) - mean) / deviation)
        assert torch.allclose(backbone(images(2, 224)), expected, atol=1e-4)


def test_weights_of_a_vision_transformer(tmp_path):
    network = torchvision.models.VisionTransformer(224, 16, 12, 6, 384, 1536)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    backbone = open_backbone(str(tmp_path / "weights.safetensors"))
    assert (backbone.name, backbone.embedding_size, backbone.training) == ("vit-small", 384, False)
    positions = backbone.features.transformer.encoder.pos_embedding
    assert torch.equal(positions, network.encoder.pos_embedding)


def test_weights_that_cannot_be_used(tmp_path):
    def refused(weights) -> str:
        with pytest.raises(NearfarError) as caught:
            open_backbone(str(weights))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no run folder, file or name" in refused("AlexNet_Weights.NONE")
    for name in ("somewhere", "alexnet.safetensors", "resnet.pth"):
        assert "no run folder, file or name" in refused(name)
    torch.save({}, tmp_path / "weights.pth")
    assert "safetensors.torch.save_file" in refused(tmp_path / "weights.pth")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "no weights of torchvision" in refused(tmp_path / "other.safetensors")
    state = torchvision.models.resnet34().state_dict()
    save_file(state, tmp_path / "resnet34.safetensors")
    line = refused(tmp_path / "resnet34.safetensors")
    assert "other weights than torchvision's of resnet18" in line
    assert len(line) < 500
    assert "does not exist" in refused(tmp_path / "none" / "..") or "not a run" in refused(tmp_path)


def test_a_run_gives_its_trained_encoder_and_its_architecture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    config = TrainConfig(
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
    expected = trained.autoencoder.encoder.eval()
    assert torch.allclose(backbone(images(2)), expected(images(2)))
    assert describe("kmeans", tmp_path / "run") == SMALL
    assert open_backbone("random", like=tmp_path / "run").embedding_size == 16


def test_a_run_without_a_backbone_is_refused(tmp_path):
    pixels = np.zeros((8, 16, 16), np.uint8)
    config = TrainConfig(pretrain_epochs=1, epochs=0, embedding_size=4, clusters=1, device="cpu")
    train(images_from_array(pixels), config, folder=tmp_path / "run")
    with pytest.raises(NearfarError, match="--backbone"):
        describe(str(tmp_path / "run"))


# --- initialization ------------------------------------------------------------------------------


def test_kmeans_makes_every_unit_of_every_layer_vary_alike():
    backbone = build(SMALL, 0)
    sample = images(40)
    together = []
    hook = backbone.register_forward_pre_hook(lambda _, given: together.append(len(given[0])))
    initialize_by_kmeans(backbone, as_images(sample), seed=0)
    hook.remove()
    assert max(together) < 40
    seen = {}
    for name, layer in backbone.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(
                lambda _, __, made, name=name: seen.update({name: made.clone()})
            )
    with torch.no_grad():
        backbone.eval()(sample)
    assert len(seen) == 7
    for values in seen.values():
        units = values.transpose(0, 1).flatten(1)
        assert torch.allclose(units.std(1), torch.ones(len(units)), atol=0.02)
        assert torch.allclose(units.mean(1), torch.full((len(units),), KMEANS_SHIFT), atol=0.02)


def test_kmeans_finds_the_two_patches_that_there_are():
    """Of images that are stripes or checks, the first layer's weights tell which."""
    stripes = torch.zeros(64, 64)
    stripes[::2] = 1
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    both = torch.stack([stripes, checks.float()]).repeat(30, 1, 1)[:, None].expand(-1, 3, -1, -1)
    backbone = build(SMALL, 0)
    initialize_by_kmeans(backbone, as_images(both.clone()), seed=0)
    with torch.no_grad():
        first = backbone.features[0](backbone._normalize(both))
    inside = first[:, :, 4:-4, 4:-4].mean((2, 3))
    apart = (inside[::2].mean(0) - inside[1::2].mean(0)).abs()
    assert apart.max() > 0.5


def test_kmeans_is_the_same_for_the_same_seed():
    first, again, other = (build(SMALL, 0) for _ in range(3))
    for backbone, seed in ((first, 1), (again, 1), (other, 2)):
        initialize_by_kmeans(backbone, as_images(images(20)), seed=seed)
    assert torch.equal(first.head.fc6.weight, again.head.fc6.weight)
    assert not torch.equal(first.head.fc6.weight, other.head.fc6.weight)


def test_training_begins_from_kmeans_and_goes_on_from_where_it_was(tmp_path):
    sample = as_images(images(24))
    config = TrainConfig(
        **{
            "backbone": "alexnet",
            "widths": (24,),
            "embedding_size": 16,
            "initialization": "kmeans",
        },
        **{"pretrain_epochs": 1, "epochs": 1, "pretrain_lr": 1e-12, "lr": 1e-12, "clusters": 1},
        **{"batch_size": 12, "device": "cpu", "seed": 1},
    )
    trained = train(sample, config).autoencoder.encoder
    expected = build(SMALL, 0)
    initialize_by_kmeans(expected, Subset(sample, draw_kmeans_rows(24, 1)), 1)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value)

    def stop(items, description, total):
        for number, item in enumerate(items):
            if description == "relational" and number == 1:
                raise KeyboardInterrupt
            yield item

    whole = train(sample, replace(config, lr=1e-3), folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(sample, replace(config, lr=1e-3), folder=tmp_path / "parts", track=stop)
    parts = train(sample, replace(config, lr=1e-3), folder=tmp_path / "parts", resume=True)
    assert torch.equal(whole.embeddings, parts.embeddings)


@pytest.mark.parametrize("backbone", [None, "vit-small"])
def test_only_convolutional_backbones_begin_from_kmeans(backbone):
    with pytest.raises(NearfarError, match="expected a convolutional backbone"):
        TrainConfig(backbone=backbone, initialization="kmeans")


def test_kmeans_learns_from_some_of_all_images():
    drawn = draw_kmeans_rows(2000, seed=0)
    assert len(set(drawn)) == 500
    assert max(drawn) > 1500
    assert drawn == draw_kmeans_rows(2000, seed=0) != draw_kmeans_rows(2000, seed=1)
    assert sorted(draw_kmeans_rows(7, seed=0)) == list(range(7))


def test_a_transformer_does_not_begin_from_kmeans():
    backbone = build(Architecture((3, 32, 32), 384, backbone="vit-small"), 0)
    with pytest.raises(NearfarError, match="transformer"):
        initialize_by_kmeans(backbone, as_images(images(4)), seed=0)


def test_a_network_to_be_like_must_be_there(tmp_path):
    with pytest.raises(NearfarError, match="'.*nowhere' does not exist"):
        open_backbone("random", like=tmp_path / "nowhere")
    with pytest.raises(NearfarError, match="expected random or kmeans"):
        open_backbone("AlexNet_Weights.DEFAULT", like=tmp_path)
