"""Weights from k-means: each layer's are typical patches of what it sees [1]_.

References
----------
.. [1] P. Krähenbühl, C. Doersch, J. Donahue, T. Darrell, "Data-dependent initializations of
   convolutional neural networks", ICLR 2016.
"""

from __future__ import annotations

import math

import torch
from scipy.linalg import eigh
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn.functional import normalize, unfold

from nearfar.errors import NearfarError
from nearfar.models.backbones import Backbone

#: Patches that the weights of a layer are learned from, at least, and for each of them.
PATCHES, PATCHES_A_UNIT = 5_000, 5
#: Values in the patches held at once.
MOST_VALUES = 2**27
#: What each unit is shifted by to begin mostly active.
SHIFT = 0.1
SMALLEST_VARIANCE = 1e-3


@torch.no_grad()
def initialize_by_kmeans(backbone: Backbone, images: Tensor, seed: int) -> None:
    """Set the weights of all convolutions and linear layers, one after the other.

    The weights of a layer are the centers of its whitened input patches, scaled so that each unit
    has variance 1 over the images. The paper's second step, which levels the gradients of layers,
    is left out: Adam does that.

    Parameters
    ----------
    backbone : Backbone
        Changed in place.
    images : float[b, 3, h, w]
        In 0…1; some hundreds will do.
    seed : int
        Of the random patches, and of k-means.

    Raises
    ------
    NearfarError
        If the backbone is a transformer.
    """
    if any(isinstance(layer, nn.MultiheadAttention) for layer in backbone.modules()):
        raise NearfarError(
            "a transformer cannot begin from k-means, which is for convolutional backbones: "
            "expected random weights"
        )
    generator = torch.Generator().manual_seed(seed)
    training = backbone.training
    backbone.eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _initialize(layer, _inputs(backbone, layer, images), generator, seed)
    backbone.train(training)


def _inputs(backbone: Backbone, layer: nn.Module, images: Tensor) -> Tensor:
    """What a layer is given."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    backbone(images)
    hook.remove()
    return seen[0]


def _initialize(
    layer: nn.Conv2d | nn.Linear, inputs: Tensor, generator: torch.Generator, seed: int
) -> None:
    units = len(layer.weight)
    patches = _patches(layer, inputs, max(PATCHES, PATCHES_A_UNIT * units), generator)
    patches = patches - patches.mean(0)
    weights = torch.randn(units, patches.shape[1], generator=generator)
    if len(patches) > units:
        weights = _centers(patches, units, seed)
    layer.weight.copy_(weights.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.zero_()
    outputs = layer(inputs).transpose(0, 1).flatten(1)
    deviation = outputs.std(1).clamp_min(1e-6)
    layer.weight /= deviation.view(-1, *[1] * (layer.weight.ndim - 1))
    if layer.bias is not None:
        layer.bias.copy_(SHIFT - outputs.mean(1) / deviation)


def _patches(
    layer: nn.Conv2d | nn.Linear, inputs: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Random ones of the vectors that a unit of the layer is multiplied with."""
    if isinstance(layer, nn.Linear):
        return inputs
    assert not isinstance(layer.padding, str)  # noqa: S101 - no backbone has "same"
    count = min(count, MOST_VALUES // layer.weight[0].numel())
    each = math.ceil(count / len(inputs))
    found = []
    for image in inputs:
        windows = unfold(image, layer.kernel_size, layer.dilation, layer.padding, layer.stride).T
        found.append(windows[torch.randperm(len(windows), generator=generator)[:each]])
    return torch.cat(found)


def _centers(patches: Tensor, units: int, seed: int) -> Tensor:
    """The centers of whitened patches on the sphere, as weights for patches as they are."""
    size = patches.shape[1]
    variances, directions = (
        torch.from_numpy(each).float()
        for each in eigh(
            (patches.T @ patches / len(patches)).numpy(),
            subset_by_index=(max(0, size - units), size - 1),
        )
    )
    floor = SMALLEST_VARIANCE * variances.max().clamp_min(1e-6)
    whitening = directions * (variances.clamp_min(0) + floor).rsqrt()
    whitened = normalize(patches @ whitening)
    kmeans = MiniBatchKMeans(units, batch_size=4 * units, n_init=1, random_state=seed)
    centers = kmeans.fit(whitened.numpy()).cluster_centers_
    return torch.from_numpy(centers).to(whitening) @ whitening.T
