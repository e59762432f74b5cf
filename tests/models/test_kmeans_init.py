"""K-means initialization of backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nearfar.config import Backbone, recipe
from nearfar.data import ArrayImages, Subset
from nearfar.errors import NearfarError
from nearfar.models import draw_kmeans_rows, initialize_by_kmeans
from nearfar.models.kmeans_init import KMEANS_SHIFT
from nearfar.training import train
from nearfar.transfer import new_backbone

SMALL = Backbone(name="alexnet", embedding_size=16, widths=(24,)), (3, 64, 64)


def images(count: int, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def as_images(pixels: torch.Tensor) -> ArrayImages:
    return ArrayImages(pixels.numpy())


def test_kmeans_init_equalizes_variance_of_units():
    backbone = new_backbone(*SMALL)
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


def test_kmeans_init_finds_typical_patches():
    """Of images that are stripes or checks, the first layer's weights tell which."""
    stripes = torch.zeros(64, 64)
    stripes[::2] = 1
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    both = torch.stack([stripes, checks.float()]).repeat(30, 1, 1)[:, None].expand(-1, 3, -1, -1)
    backbone = new_backbone(*SMALL)
    initialize_by_kmeans(backbone, as_images(both.clone()), seed=0)
    with torch.no_grad():
        first = backbone.features[0](backbone._normalize(both))
    inside = first[:, :, 4:-4, 4:-4].mean((2, 3))
    apart = (inside[::2].mean(0) - inside[1::2].mean(0)).abs()
    assert apart.max() > 0.5


def test_kmeans_init_depends_only_on_seed():
    first, again, other = (new_backbone(*SMALL) for _ in range(3))
    for backbone, seed in ((first, 1), (again, 1), (other, 2)):
        initialize_by_kmeans(backbone, as_images(images(20)), seed=seed)
    assert torch.equal(first.head.fc6.weight, again.head.fc6.weight)
    assert not torch.equal(first.head.fc6.weight, other.head.fc6.weight)


def test_training_starts_from_kmeans_and_resumes(tmp_path):
    sample = as_images(images(24))
    options = {
        **{"backbone": "alexnet", "widths": (24,), "embedding_size": 16, "weights": "kmeans"},
        **{"pretrain_epochs": 1, "epochs": 1, "pretrain_lr": 1e-12, "lr": 1e-12},
        **{"clusters": 1, "batch_size": 12, "device": "cpu", "seed": 1},
    }
    config, longer = recipe("paper", **options), recipe("paper", **options | {"lr": 1e-3})
    trained = train(sample, config).network.encoder
    expected = new_backbone(*SMALL)
    initialize_by_kmeans(expected, Subset(sample, draw_kmeans_rows(24, 1)), 1)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value)

    def stop(items, description, total):
        for number, item in enumerate(items):
            if description == "train" and number == 1:
                raise KeyboardInterrupt
            yield item

    whole = train(sample, longer, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(sample, longer, folder=tmp_path / "parts", track=stop)
    parts = train(sample, longer, folder=tmp_path / "parts", resume=True)
    assert np.array_equal(whole.embeddings, parts.embeddings)


def test_kmeans_needs_a_backbone():
    with pytest.raises(NearfarError, match="weights=kmeans belongs to network backbone"):
        recipe("paper", weights="kmeans")


def test_draw_sample_draws_from_all_images():
    drawn = draw_kmeans_rows(2000, seed=0)
    assert len(set(drawn)) == 500
    assert max(drawn) > 1500
    assert drawn == draw_kmeans_rows(2000, seed=0) != draw_kmeans_rows(2000, seed=1)
    assert sorted(draw_kmeans_rows(7, seed=0)) == list(range(7))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "tf_efficientnet_lite0"])
def test_kmeans_init_raises_for_other_layers_than_plain_convolutions(name, tmp_path):
    config = recipe("paper", backbone=f"timm:{name}", weights="kmeans", clusters=1, device="cpu")
    with pytest.raises(NearfarError, match=f"timm:{name} cannot start from k-means"):
        train(as_images(images(4, 32)), config, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
