"""k-means initialization: the initial weights of a layer are typical patches of its input [1]_.

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
from nearfar.models.backbones import BackboneEncoder
from nearfar.progress import Track, silent

#: Number of images from which patches are drawn.
IMAGES = 500
#: Images per batch.
IMAGES_PER_BATCH = 16
#: Minimum number of patches per layer.
MIN_PATCHES = 5_000
#: Patches per unit of a layer.
PATCHES_PER_UNIT = 5
#: Maximum number of patch values in memory at once.
MAX_VALUES = 2**27
#: Mean output of a unit, in standard deviations, so that units are initially mostly active.
KMEANS_SHIFT = 0.1
#: Minimum variance in whitening, relative to the maximum.
MIN_VARIANCE_FRACTION = 1e-3


def draw_kmeans_rows(count: int, seed: int) -> list[int]:
    """Return the row numbers of at most 500 random images for k-means initialization.

    Parameters
    ----------
    count : int
        Number of images.
    seed : int
        Seed of the random choice.

    Examples
    --------
    >>> len(draw_kmeans_rows(60_000, seed=0)), sorted(draw_kmeans_rows(3, seed=0))
    (500, [0, 1, 2])
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:IMAGES].tolist()


def check_convolutional(backbone: BackboneEncoder) -> None:
    """Check that a backbone supports k-means initialization.

    Raises
    ------
    NearfarError
        If `backbone.features` contains grouped convolutions, or linear layers, as in transformers.

    Examples
    --------
    >>> from nearfar.config import Backbone
    >>> from nearfar.models import build_network
    >>> check_convolutional(build_network(Backbone(name="alexnet"), (3, 64, 64)).encoder)
    """
    for layer in backbone.features.modules():
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups > 1):
            raise NearfarError(
                f"{backbone.name} cannot start from k-means, which needs plain convolutions: "
                "expected other weights, or another backbone"
            )


@torch.no_grad()
def initialize_by_kmeans(
    backbone: BackboneEncoder, images: Images, seed: int, track: Track = silent
) -> None:
    """Initialize all convolutions and linear layers by k-means, layer by layer.

    The weights of a layer are the k-means centers of whitened patches of the layer input. They are
    scaled so that the output of each unit has variance 1 over the images. Layers with fewer patches
    than units get random weights of the same scale. A linear layer has only one patch per image, so
    the linear layers of AlexNet, with 4,096 units, are among them. The second step of [1]_, which
    equalizes gradients, is omitted, because Adam has the same effect.

    Parameters
    ----------
    backbone : BackboneEncoder
        Encoder to initialize in place.
    images : Images
        Images from which patches are drawn, see `draw_kmeans_rows`.
    seed : int
        Seed for drawing patches and for k-means.
    track : Track
        Progress display, see `nearfar.progress.Track`.

    Raises
    ------
    NearfarError
        See `check_convolutional`.

    Examples
    --------
    >>> from torch import nn
    >>> from nearfar.data import ArrayImages
    >>> head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> backbone = BackboneEncoder("alexnet", nn.Conv2d(3, 4, 3), head, channels=4)
    >>> initialize_by_kmeans(backbone, ArrayImages(torch.rand(4, 3, 16, 16)), seed=0)
    >>> backbone.features.weight.shape
    torch.Size([4, 3, 3, 3])
    """
    check_convolutional(backbone)
    generator = torch.Generator().manual_seed(seed)
    training = backbone.training
    backbone.eval()
    layers = [each for each in backbone.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    for layer in track(layers, "k-means of patches", len(layers)):
        units = len(layer.weight)
        count = max(MIN_PATCHES, PATCHES_PER_UNIT * units)
        each = math.ceil(min(count, MAX_VALUES // layer.weight[0].numel()) / len(images))
        inputs = _inputs(backbone, layer, images)
        patches = torch.cat([_patches(layer, some, each, generator) for some in inputs])
        weights = torch.randn(units, patches.shape[1], generator=generator)
        if len(patches) > units:
            weights = _centers(patches - patches.mean(0), units, seed)
        layer.weight.copy_(weights.view_as(layer.weight))
        _equalize(layer, _inputs(backbone, layer, images))
    backbone.train(training)


class _LayerInput(Exception):  # noqa: N818 - not an error
    """Exception that stops the forward pass at a layer and carries the input of the layer."""


def _inputs(backbone: BackboneEncoder, layer: nn.Module, images: Images) -> Iterator[Tensor]:
    """Yield the input of a layer for each batch of images, without running the later layers."""

    def stop(_: nn.Module, inputs: tuple[Tensor]) -> None:
        raise _LayerInput(inputs[0])

    for start in range(0, len(images), IMAGES_PER_BATCH):
        rows = range(start, min(start + IMAGES_PER_BATCH, len(images)))
        hook = layer.register_forward_pre_hook(stop)
        try:
            backbone(to_unit(images.batch(rows)))
        except _LayerInput as error:
            inputs: Tensor = error.args[0]
        finally:
            hook.remove()
        yield inputs


def _patches(
    layer: nn.Conv2d | nn.Linear, inputs: Tensor, each: int, generator: torch.Generator
) -> Tensor:
    """Return at most `each` random patches per image, with the kernel size of the layer."""
    if isinstance(layer, nn.Linear):
        return inputs
    assert not isinstance(layer.padding, str)  # noqa: S101 - no backbone has "same"
    patches = []
    for image in inputs:
        windows = unfold(image, layer.kernel_size, layer.dilation, layer.padding, layer.stride).T
        patches.append(windows[torch.randperm(len(windows), generator=generator)[:each]])
    return torch.cat(patches)


def _equalize(layer: nn.Conv2d | nn.Linear, inputs: Iterable[Tensor]) -> None:
    """Scale the weights and set the biases so that all units have the same mean and variance.

    `inputs` are batches of inputs of the layer, over which mean and variance are computed.
    """
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
    """Return the k-means centers of whitened patches, as weights that apply to raw patches."""
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
    floor = MIN_VARIANCE_FRACTION * variances.max().clamp_min(1e-6)
    whitening = directions * (variances.clamp_min(0) + floor).rsqrt()
    whitened = normalize(patches @ whitening)
    kmeans = MiniBatchKMeans(units, batch_size=4 * units, n_init=1, random_state=seed)
    centers = kmeans.fit(whitened.numpy()).cluster_centers_
    return torch.from_numpy(centers).to(whitening) @ whitening.T
