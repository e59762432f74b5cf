"""Sections of the configuration: types, ranges, and what does not fit together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nearfar.config import (
    Backbone,
    ContrastiveObjective,
    ConvNet,
    Denoising,
    Inpainting,
    NeighborSearch,
    Optim,
    RelationalObjective,
    SplitBrain,
    TrainConfig,
    recipe,
)
from nearfar.errors import NearfarError


@pytest.mark.parametrize(
    ("section", "options", "culprit"),
    [
        (RelationalObjective, {"neighbors": 0}, "neighbors=0: expected at least 1"),
        (RelationalObjective, {"weights": "0.5,0.5"}, "loss_weights='0.5,0.5': expected 3 values"),
        (RelationalObjective, {"pixel_weight": None}, "pixel_weight=None: expected a number"),
        (RelationalObjective, {"pixel_weight": -1}, "pixel_weight=-1.0: expected at least 0"),
        (RelationalObjective, {"weights": 1}, "weights=1: expected 3 values"),
        (RelationalObjective, {"weights": (0.5, 0.5)}, "expected 3 values"),
        (RelationalObjective, {"weights": (0.5, 0.5, 0.5)}, "sum to 1.5"),
        (RelationalObjective, {"end_weights": (0.5, 0.2, 0.3)}, "weight_schedule"),
        (RelationalObjective, {"reduction": "max"}, "reduction='max': expected sum or mean"),
        (RelationalObjective, {"refresh_reference_every": -1}, "refresh_reference_every=-1"),
        (RelationalObjective, {"reference": "lenet"}, "reference='lenet': expected alexnet or"),
        (RelationalObjective, {"reference_weights": "file"}, "needs a named `reference`"),
        (
            RelationalObjective,
            {"reference": "timm:resnet18", "refresh_reference_every": 1},
            "refresh_reference_every=1 with an external reference, .*expected 0",
        ),
        (RelationalObjective, {"search": 3}, "search=3: expected NeighborSearch"),
        (NeighborSearch, {"clusters": "3"}, "clusters='3': expected a whole number"),
        (NeighborSearch, {"clusters": 0}, "clusters=0: expected at least 1"),
        (NeighborSearch, {"far_share": 0}, "far_share=0.0: expected more than 0 and at most 1"),
        (NeighborSearch, {"finder": ["exact"]}, "expected clustered or exact"),
        (NeighborSearch, {"finder": "fast"}, "finder='fast': expected clustered or exact"),
        (NeighborSearch, {"similarity": "dot"}, "similarity='dot': expected cosine or"),
        (
            NeighborSearch,
            {"relative_to": "image", "search_every": "step"},
            "search_every='step' with relative_to='image'",
        ),
        (ContrastiveObjective, {"temperature": 0.0}, "temperature=0"),
        (ContrastiveObjective, {"far_share": 1.5}, "far_share=1.5"),
        (ContrastiveObjective, {"neighbor_prob": -0.1}, "neighbor_prob=-0.1"),
        (ContrastiveObjective, {"identity_prob": 1.1}, "identity_prob=1.1"),
        (ContrastiveObjective, {"augmentation": "cutout"}, "augmentation='cutout': expected auto"),
        (ContrastiveObjective, {"neighbors": 0}, "neighbors=0"),
        (ContrastiveObjective, {"refresh_neighbors_every": 0.5}, "refresh_neighbors_every=0.5"),
        (Denoising, {"noise": "salt"}, "noise='salt': expected masking or gaussian"),
        (Denoising, {"noise_level": 1.0}, "noise_level=1.0: expected at least 0 and less than 1"),
        (Inpainting, {"holes": "left"}, "holes='left': expected center or random"),
        (ConvNet, {"embedding_size": 0}, "embedding_size=0"),
        (ConvNet, {"embedding_size": True}, "embedding_size=True: expected a whole number"),
        (ConvNet, {"widths": (8, 2.5)}, "widths=.*expected a whole number"),
        (ConvNet, {"widths": 8}, "widths=8: expected a list"),
        (ConvNet, {"widths": (8, 0)}, "widths=.*expected at least 1"),
        (ConvNet, {"hidden": 5}, "hidden=5 without batch_norm"),
        (ConvNet, {"batch_norm": 1}, "batch_norm=1: expected bool"),
        (Backbone, {"name": "resnet18"}, "backbone='resnet18': expected alexnet or timm:resnet18"),
        (Backbone, {"name": "alexnet", "weights": (1, 0, 0)}, "weights=.*: expected text"),
        (Backbone, {"name": "alexnet", "freeze_batch_norm": 1}, "freeze_batch_norm=1"),
        (Optim, {"batch_size": 0}, "batch_size=0"),
        (Optim, {"epochs": 2.5}, "epochs=2.5: expected a whole number"),
        (Optim, {"epochs": -1}, "epochs=-1"),
        (Optim, {"epochs": 0, "pretrain_epochs": 0}, "nothing to train"),
        (Optim, {"lr": "fast"}, "lr='fast': expected a number"),
        (Optim, {"lr": 0}, "lr=0"),
        (Optim, {"head_lr_scale": 0}, "head_lr_scale=0"),
        (Optim, {"lr": float("nan")}, "lr=nan"),
        (Optim, {"weight_decay": -1.0}, "weight_decay=-1"),
        (Optim, {"lr_schedule": "step"}, "lr_schedule='step': expected constant or one-cycle"),
        (TrainConfig, {"device": 3}, "device=3: expected text"),
        (TrainConfig, {"precision": "16"}, "precision='16': expected 32 or bf16"),
        (TrainConfig, {"seed": 2**32}, "seed=4294967296"),
        (TrainConfig, {"seed": -1}, "seed=-1"),
        (TrainConfig, {"objective": "contrastive"}, "expected RelationalObjective or"),
        (
            TrainConfig,
            {"pretext": SplitBrain(), "network": Backbone(name="timm:resnet18")},
            "pretext='split-brain' needs a ConvNet",
        ),
    ],
)
def test_section_refuses(section, options, culprit):
    with pytest.raises(NearfarError, match=culprit) as caught:
        section(**options)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_converted():
    assert Optim(epochs=np.int64(3), lr=np.float32(0.5)) == Optim(epochs=3, lr=0.5)
    assert ConvNet(widths=np.array([4, 8])) == ConvNet(widths=(4, 8))
    objective = RelationalObjective(weights=np.array([1, 0, 0]))
    assert objective == RelationalObjective(weights=(1.0, 0.0, 0.0))
    json.dumps(TrainConfig(objective=objective, optim=Optim(lr=np.float64(1))).to_dict())


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (recipe("paper"), "NRE"),
        (recipe("nearfar"), "nearfar"),
        (recipe("paper", epochs=0), "autoencoder"),
        (recipe("paper", pretext="denoising"), "NRE"),
        (recipe("paper", objective=dict), "dict"),
    ],
)
def test_method_is_that_of_the_objective(config, method):
    assert config.method == method


@pytest.mark.parametrize(
    ("saved", "culprit"),
    [
        ({}, "KeyError"),
        ([], "TypeError"),
        ({"objective": {}}, "KeyError"),
        (recipe("paper").to_dict() | {"objective": {"kind": "unknown"}}, "unknown"),
        (recipe("paper").to_dict() | {"optim": {"speed": 1}}, "speed"),
        (recipe("paper").to_dict() | {"optim": {"lr": "fast"}}, "lr='fast'"),
        (recipe("paper").to_dict() | {"pretext": None}, "AttributeError"),
    ],
)
def test_from_dict_refuses_anything_else(saved, culprit):
    with pytest.raises(NearfarError, match=culprit):
        TrainConfig.from_dict(saved)
