"""Weights from k-means: each layer's are typical patches of what it sees [1]_.

References
----------
.. [1] P. Krähenbühl, C. Doersch, J. Donahue, T. Darrell, "Data-dependent initializations of
   convolutional neural networks", ICLR 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, unfold

from nearfar.data import Images, to_unit
from nearfar.errors import NearfarError
from nearfar.models.backbones import Backbone
from nearfar.progress import Track, silent

#: How many images are looked at, and how many of them at once.
SAMPLE, BATCH = 500, 16
#: Patches that the weights of a layer are learned from, at least, and for each of them.
PATCHES, PATCHES_A_UNIT = 5_000, 5
#: Values in the patches held at once.
MOST_VALUES = 2**27
#: What each unit is shifted by to begin mostly active.
KMEANS_SHIFT = 0.1
SMALLEST_VARIANCE = 1e-3


def draw_kmeans_rows(count: int, seed: int) -> list[int]:
    """Return the rows of the images to learn from: 500 by chance, or all where there are fewer."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:SAMPLE].tolist()


def check_convolutional(backbone: Backbone) -> None:
    """Refuse backbones that k-means cannot initialize.

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


@torch.no_grad()
def initialize_by_kmeans(
    backbone: Backbone, images: Images, seed: int, track: Track = silent
) -> None:
    """Set the weights of all convolutions and linear layers, one after the other.

    The weights of a layer are the centers of its whitened input patches, scaled so that each unit
    has variance 1 over the images. Where there are fewer patches than units, the weights are random
    and scaled alike: a linear layer has one patch an image, so that those of AlexNet, with their
    4,096 units, always are. The paper's second step, which levels the gradients of layers, is left
    out: Adam does that.

    Parameters
    ----------
    backbone : Backbone
        Changed in place.
    images : Images
        See `draw_sample`.
    seed : int
        Of the random patches, and of k-means.

    Raises
    ------
    NearfarError
        See `check_convolutional`.
    """
    check_convolutional(backbone)
    generator = torch.Generator().manual_seed(seed)
    training = backbone.training
    backbone.eval()
    layers = [each for each in backbone.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    for layer in track(layers, "k-means of patches", len(layers)):
        units = len(layer.weight)
        count = max(PATCHES, PATCHES_A_UNIT * units)
        each = math.ceil(min(count, MOST_VALUES // layer.weight[0].numel()) / len(images))
        inputs = _inputs(backbone, layer, images)
        patches = torch.cat([_patches(layer, some, each, generator) for some in inputs])
        weights = torch.randn(units, patches.shape[1], generator=generator)
        if len(patches) > units:
            weights = _centers(patches - patches.mean(0), units, seed)
        layer.weight.copy_(weights.view_as(layer.weight))
        _level(layer, _inputs(backbone, layer, images))
    backbone.train(training)


class _Reached(Exception):  # noqa: N818 - it is no error
    """The layer that is looked for, on the way through a network."""


def _inputs(backbone: Backbone, layer: nn.Module, images: Images) -> Iterator[Tensor]:
    """What a layer is given, a batch of images after the other; what lies behind it is not run."""

    def stop(_: nn.Module, given: tuple[Tensor]) -> None:
        raise _Reached(given[0])

    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        hook = layer.register_forward_pre_hook(stop)
        try:
            backbone(to_unit(images.batch(rows)))
        except _Reached as reached:
            inputs: Tensor = reached.args[0]
        finally:
            hook.remove()
        yield inputs


def _patches(
    layer: nn.Conv2d | nn.Linear, inputs: Tensor, each: int, generator: torch.Generator
) -> Tensor:
    """Random ones of the vectors that a unit of the layer is multiplied with, so many an image."""
    if isinstance(layer, nn.Linear):
        return inputs
    assert not isinstance(layer.padding, str)  # noqa: S101 - no backbone has "same"
    found = []
    for image in inputs:
        windows = unfold(image, layer.kernel_size, layer.dilation, layer.padding, layer.stride).T
        found.append(windows[torch.randperm(len(windows), generator=generator)[:each]])
    return torch.cat(found)


def _level(layer: nn.Conv2d | nn.Linear, inputs: Iterable[Tensor]) -> None:
    """Scale and shift the outputs of a layer to the same mean and deviation for each unit."""
    if layer.bias is not None:
        layer.bias.zero_()
    count, sums = 0, torch.zeros(2, len(layer.weight), dtype=torch.float64)
    for some in inputs:
        outputs = layer(some).transpose(0, 1).flatten(1).double()
        count += outputs.shape[1]
        sums += torch.stack([outputs.sum(1), outputs.square().sum(1)])
    mean, square = sums / count
    deviation = (square - mean.square()).clamp_min(0).sqrt().clamp_min(1e-6)
    layer.weight /= deviation.view(-1, *[1] * (layer.weight.ndim - 1))
    if layer.bias is not None:
        layer.bias.copy_(KMEANS_SHIFT - mean / deviation)


def _centers(patches: Tensor, units: int, seed: int) -> Tensor:
    """The centers of whitened patches on the sphere, as weights for patches as they are."""
    from scipy.linalg import eigh
    from sklearn.cluster import MiniBatchKMeans

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
