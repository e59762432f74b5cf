"""timm models without classifiers: construction, description and feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.config import TIMM
from nearfar.errors import NearfarError, reason, require
from nearfar.models.receptive_field import FeatureGrid


@dataclass(frozen=True)
class ModelInfo:
    """Description of a timm model.

    Parameters
    ----------
    channels : int
        Number of channels of the last feature map.
    pooled : int
        Dimension of the embeddings: the number of outputs of the pooling layer.
    stride : int
        Stride of the last feature map, in pixels.
    size : tuple of int
        Image height and width for which the pretrained weights were trained.
    mean, std : tuple of float
        Mean and standard deviation of each input channel, used to normalize images.
    """

    channels: int
    pooled: int
    stride: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_timm(name: str) -> bool:
    """Return whether the name of a backbone is the name of a timm model ("timm:NAME")."""
    return name.startswith(TIMM)


def build_model(name: str, **options: Any) -> nn.Module:
    """Build a timm model without a classifier.

    Random weights are drawn from the global random generator of torch.

    Parameters
    ----------
    name : str
        "timm:" followed by the name of the model in timm.
    **options
        Further arguments of ``timm.create_model``.

    Raises
    ------
    NearfarError
        If timm is not installed or has no such model.
    """
    timm = require("timm", extra="timm")
    model = name.removeprefix(TIMM)
    if not timm.is_model(model.split(".")[0]):
        raise NearfarError(
            f"timm has no model {model!r}: expected one of timm.list_models(), such as "
            f"{TIMM}resnet18"
        )
    try:  # transformers that adapt to other image sizes
        return timm.create_model(model, num_classes=0, dynamic_img_size=True, **options)
    except TypeError:
        return timm.create_model(model, num_classes=0, **options)


@lru_cache(maxsize=32)
def describe_model(name: str) -> ModelInfo:
    """Return the description of the timm model with the given name.

    Raises
    ------
    NearfarError
        See `build_model`.
    """
    with torch.random.fork_rng(), torch.device("meta"):
        model: Any = build_model(name)
    config = model.pretrained_cfg
    channels, height, width = config["input_size"]
    return ModelInfo(
        channels=model.num_features,
        pooled=getattr(model, "head_hidden_size", model.num_features),
        stride=grids_of_model(model)[-1].stride,
        size=(height, width),
        mean=tuple(config["mean"])[:channels],
        std=tuple(config["std"])[:channels],
    )


def grids_of_model(model: Any) -> list[FeatureGrid]:
    """Return the grid of the feature map of each stage of a timm model.

    If the cell centers cannot be derived from the layers, the cells are assumed to divide the image
    evenly.
    """
    after = FeatureGrid().after_each(model)
    grids = list[FeatureGrid]()
    for stage in getattr(model, "feature_info", None) or ():
        stride = stage["reduction"]
        grid = after.get(stage["module"])
        if grid is None or grid.stride != stride:
            grid = FeatureGrid(stride, (stride / 2, stride / 2))
        grids.append(grid)
    return grids or [after[""]]


def final_map(model: Any, images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """Return the final feature map (float[b, k, h', w']) and the feature maps of all stages.

    Parameters
    ----------
    model : timm model
        Model without a classifier.
    images : Tensor
        Normalized images (float[b, c, h, w]).

    Raises
    ------
    NearfarError
        If the model has no feature maps.
    """
    try:
        last, maps = model.forward_intermediates(images)
        height, width = maps[-1].shape[2:]
        if last.ndim == 3:  # tokens; prefix tokens, such as the class token, come first
            last = last[:, -height * width :].mT.unflatten(2, (height, width))
        elif getattr(model, "output_fmt", None) == "NHWC":
            last = last.permute(0, 3, 1, 2)
    except (AttributeError, RuntimeError, AssertionError) as error:
        raise NearfarError(
            f"timm's {type(model).__name__} has no feature map for these images ({reason(error)}): "
            "use another backbone"
        ) from error
    return last, maps
