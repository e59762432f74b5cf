"""Augmentation: random transforms that preserve the content of images.

A batch of images is transformed on its device, each image differently. Random numbers come from
torch's global generator of that device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from nearfar.config import AugmentationName
from nearfar.data import ImageKind, Images, kind_of

#: Size of the grid of random displacements for elastic distortion.
_ELASTIC_GRID = 5

#: Augmentation chosen by "auto", by kind of images.
_OF_KIND: dict[ImageKind, AugmentationName] = {
    "photographs": "photos",
    "gray photographs": "photos",
    "shapes": "shapes",
    "features": "none",
}

_AffineRow = tuple[Tensor, Tensor, Tensor]


class Augmentation(Protocol):
    """Random transform of a batch of images, which differs from image to image.

    Examples
    --------
    A custom augmentation that changes the brightness:

    >>> def brighten(images):
    ...     return (images * torch.empty(len(images), 1, 1, 1).uniform_(0.5, 1.5)).clamp(0, 1)
    >>> brighten(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __call__(self, images: Tensor, /) -> Tensor:
        """Return transformed copies of images (float[b, c, h, w]) with values in [0, 1]."""
        ...


@dataclass(frozen=True)
class NoAugmentation:
    """No augmentation: images are returned unchanged.

    Examples
    --------
    >>> images = torch.rand(2, 3, 8, 8)
    >>> torch.equal(NoAugmentation()(images), images)
    True
    """

    def __call__(self, images: Tensor) -> Tensor:
        """See `Augmentation`."""
        return images


@dataclass(frozen=True)
class ShapeAugmentation:
    """Augmentation for shapes such as digits, letters and symbols on a plain background.

    Images are rotated, scaled, sheared, shifted and elastically distorted [1]_. Areas outside an
    image are filled with the median color of the image border.

    Parameters
    ----------
    degrees : float
        Maximum rotation in either direction, in degrees.
    scale : float
        Maximum relative change of width and of height.
    shear : float
        Maximum horizontal shear, as a fraction of the height.
    translate : float
        Maximum horizontal and vertical shift, as a fraction of the image side.
    elastic : float
        Standard deviation of the random displacements on a 5×5 grid, as a fraction of half the
        image side.

    Examples
    --------
    >>> ShapeAugmentation(degrees=30)(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])

    References
    ----------
    .. [1] P. Simard, D. Steinkraus, J. Platt, "Best practices for convolutional neural networks
       applied to visual document analysis", ICDAR 2003.
    """

    degrees: float = 15.0
    scale: float = 0.15
    shear: float = 0.2
    translate: float = 0.12
    elastic: float = 0.06

    def __call__(self, images: Tensor) -> Tensor:
        """See `Augmentation`."""
        angle = _between(-self.degrees, self.degrees, images) * math.pi / 180
        shear = _between(-self.shear, self.shear, images)
        across, down = (_between(1 - self.scale, 1 + self.scale, images) for _ in range(2))
        right, below = (_between(-self.translate, self.translate, images) * 2 for _ in range(2))
        cosine, sine = angle.cos(), angle.sin()
        columns = cosine * across, shear - sine * down, right
        places = _places(images, columns, (sine * across, cosine * down, below))
        coarse = images.new_empty(len(images), 2, _ELASTIC_GRID, _ELASTIC_GRID).normal_(
            std=self.elastic
        )
        places = places + _smooth(coarse, *images.shape[-2:])
        background = _border(images).median(2).values[..., None, None]
        return grid_sample(images - background, places, align_corners=False) + background


@dataclass(frozen=True)
class PhotoAugmentation:
    """Augmentation for photographs: random crops, flips and color jitter [1]_.

    Parameters
    ----------
    min_area : float
        Minimum area of a crop, as a fraction of the image area.
    aspect : float
        Maximum factor by which the aspect ratio changes.
    color_jitter : float
        Maximum relative change of brightness, contrast and saturation.
    grayscale_prob : float
        Probability, in [0, 1], that an image is converted to grayscale.

    Examples
    --------
    >>> PhotoAugmentation(min_area=0.5)(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 3, 64, 64])

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.
    """

    min_area: float = 0.25
    aspect: float = 4 / 3
    color_jitter: float = 0.4
    grayscale_prob: float = 0.2

    def __call__(self, images: Tensor) -> Tensor:
        """See `Augmentation`."""
        side = _between(self.min_area, 1, images).sqrt()
        ratio = (_between(-1, 1, images) * math.log(self.aspect)).exp().sqrt()
        width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
        right, below = (_between(-1, 1, images) * (1 - part) for part in (width, height))
        mirror = torch.where(_between(0, 1, images) < 0.5, -1.0, 1.0)
        none = torch.zeros_like(width)
        crops = grid_sample(
            images,
            _places(images, (width * mirror, none, right), (none, height, below)),
            padding_mode="reflection",
            align_corners=False,
        )
        return self._jitter(crops).clamp(0, 1)

    def _jitter(self, images: Tensor) -> Tensor:
        """Change brightness, contrast and saturation; convert some images to grayscale."""
        brightness, contrast, saturation = (
            _between(1 - self.color_jitter, 1 + self.color_jitter, images).view(-1, 1, 1, 1)
            for _ in range(3)
        )
        images = images * brightness
        images = _blend(images, images.mean((1, 2, 3), keepdim=True), contrast)
        if images.shape[1] == 1:
            return images
        colored = (_between(0, 1, images) >= self.grayscale_prob).view(-1, 1, 1, 1)
        return _blend(images, images.mean(1, keepdim=True), saturation * colored)


def make_augmentation(
    augmentation: AugmentationName | Callable[[Tensor], Tensor], images: Images
) -> Augmentation:
    """Return the augmentation with a given name.

    Parameters
    ----------
    augmentation : {"auto", "shapes", "photos", "none"} or callable
        Name of the augmentation. "auto" selects "photos" for photographs, in color or grayscale;
        "shapes" for shapes on a plain background; and "none" for images below 8×8 pixels, such as
        feature vectors. See `nearfar.data.kind_of`. A callable is returned unchanged.
    images : Images
        Images to augment.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.zeros(5, 1, 28, 28))
    >>> make_augmentation("auto", images)
    ShapeAugmentation(degrees=15.0, scale=0.15, shear=0.2, translate=0.12, elastic=0.06)
    >>> make_augmentation(torch.relu, images) is torch.relu
    True
    """
    if callable(augmentation):
        return augmentation
    kinds: dict[AugmentationName, type[Augmentation]] = {
        "none": NoAugmentation,
        "shapes": ShapeAugmentation,
        "photos": PhotoAugmentation,
    }
    return kinds[augmentation_name(augmentation, images)]()


def augmentation_name(name: AugmentationName, images: Images) -> AugmentationName:
    """Return the name of an augmentation, with "auto" resolved as in `make_augmentation`.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> augmentation_name("auto", ArrayImages(torch.zeros(5, 1, 28, 28)))
    'shapes'
    """
    return _OF_KIND[kind_of(images)] if name == "auto" else name


def _between(low: float, high: float, images: Tensor) -> Tensor:
    """Return a random number, uniform between `low` and `high`, for each image (float[b])."""
    return images.new_empty(len(images)).uniform_(low, high)


def _border(images: Tensor) -> Tensor:
    """Return the outermost pixels of each image (float[b, c, p])."""
    sides = images[..., [0, -1], :], images[..., [0, -1]]
    return torch.cat([side.flatten(2) for side in sides], dim=2)


def _smooth(coarse: Tensor, height: int, width: int) -> Tensor:
    """Interpolate displacements (float[b, 2, n, n]) to all pixels (float[b, height, width, 2]).

    Bicubic interpolation is computed by one matrix product per side, since torch's implementation
    is slow on CPUs.
    """
    points = coarse.shape[-1]
    single = torch.eye(points, device=coarse.device)[None, None]
    rows, columns = (
        interpolate(single, (side, points), mode="bicubic", align_corners=True)[0, 0]
        for side in (height, width)
    )
    return torch.einsum("hi,bcij,wj->bhwc", rows, coarse, columns)


def _places(images: Tensor, horizontal: _AffineRow, vertical: _AffineRow) -> Tensor:
    """Return the source positions of all pixels under affine maps.

    Positions (float[b, h, w, 2]) are in [−1, 1].
    """
    maps = torch.stack([torch.stack(horizontal, 1), torch.stack(vertical, 1)], 1)
    return affine_grid(maps, list(images.shape), align_corners=False)


def _blend(images: Tensor, background: Tensor, weight: Tensor) -> Tensor:
    """Return images blended with a background that has weight 1 − `weight`."""
    return background + weight * (images - background)
