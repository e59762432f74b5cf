"""Random views of images: what may change while an image stays what it is.

A batch is changed at once, each image in its own way, on the device where it is. What is random is
drawn from torch's global generator of that device.
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
from nearfar.data import MIN_SIDE, Shape

#: Points a side of the grid whose random displacements bend an image.
BEND_GRID = 5

Row = tuple[Tensor, Tensor, Tensor]


class Augmentation(Protocol):
    """Shows each image of a batch in a random way."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """From float[b, c, h, w], where 0…1 is black…white, to the same."""
        ...


@dataclass(frozen=True)
class NoAugmentation:
    """Every image as it is."""

    def __call__(self, images: Tensor) -> Tensor:
        """See `Augmentation`."""
        return images


@dataclass(frozen=True)
class ShapeAugmentation:
    """Augmentation for drawn shapes such as digits, letters and symbols on a plain ground.

    Each is turned, scaled, sheared and shifted, and then bent smoothly [1]_. What lies outside of
    the image is ground: of the median color of the border.

    Parameters
    ----------
    turn : float
        Largest angle, in degrees.
    scale : float
        Largest change of either side, as a share of it.
    shear : float
        Largest horizontal shear, as a share of the height.
    shift : float
        Largest shift along each side, as a share of it.
    bend : float
        Standard deviation of the displacements on a coarse grid, as a share of half a side.

    References
    ----------
    .. [1] P. Simard, D. Steinkraus, J. Platt, "Best practices for convolutional neural networks
       applied to visual document analysis", ICDAR 2003.
    """

    turn: float = 15.0
    scale: float = 0.15
    shear: float = 0.2
    shift: float = 0.12
    bend: float = 0.06

    def __call__(self, images: Tensor) -> Tensor:
        """See `Augmentation`."""
        angle = _between(-self.turn, self.turn, images) * math.pi / 180
        shear = _between(-self.shear, self.shear, images)
        across, down = (_between(1 - self.scale, 1 + self.scale, images) for _ in range(2))
        right, below = (_between(-self.shift, self.shift, images) * 2 for _ in range(2))
        cosine, sine = angle.cos(), angle.sin()
        columns = cosine * across, shear - sine * down, right
        places = _places(images, columns, (sine * across, cosine * down, below))
        coarse = images.new_empty(len(images), 2, BEND_GRID, BEND_GRID).normal_(std=self.bend)
        places = places + _smooth(coarse, *images.shape[-2:])
        ground = _border(images).median(2).values[..., None, None]
        return grid_sample(images - ground, places, align_corners=False) + ground


@dataclass(frozen=True)
class PhotoAugmentation:
    """Augmentation for photographs: random crops, flips and color jitter.

    Parameters
    ----------
    smallest : float
        The smallest share of the area that is seen.
    aspect : float
        The part seen is at most so many times as wide, or as high, as the image is.
    light : float
        Largest change of brightness, contrast and saturation, as a share.
    gray : float
        The probability that an image is seen without color.

    References
    ----------
    .. [1] T. Chen et al., "A simple framework for contrastive learning of visual
       representations", ICML 2020.
    """

    smallest: float = 0.25
    aspect: float = 4 / 3
    light: float = 0.4
    gray: float = 0.2

    def __call__(self, images: Tensor) -> Tensor:
        """See `Augmentation`."""
        side = _between(self.smallest, 1, images).sqrt()
        ratio = (_between(-1, 1, images) * math.log(self.aspect)).exp().sqrt()
        width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
        right, below = (_between(-1, 1, images) * (1 - part) for part in (width, height))
        mirror = torch.where(_between(0, 1, images) < 0.5, -1.0, 1.0)
        none = torch.zeros_like(width)
        seen = grid_sample(
            images,
            _places(images, (width * mirror, none, right), (none, height, below)),
            padding_mode="reflection",
            align_corners=False,
        )
        return self._relit(seen).clamp(0, 1)

    def _relit(self, images: Tensor) -> Tensor:
        brightness, contrast, saturation = (
            _between(1 - self.light, 1 + self.light, images).view(-1, 1, 1, 1) for _ in range(3)
        )
        images = images * brightness
        images = _blend(images, images.mean((1, 2, 3), keepdim=True), contrast)
        if images.shape[1] == 1:
            return images
        colored = (_between(0, 1, images) >= self.gray).view(-1, 1, 1, 1)
        return _blend(images, images.mean(1, keepdim=True), saturation * colored)


def make_augmentation(
    augmentation: AugmentationName | Callable[[Tensor], Tensor], shape: Shape
) -> Augmentation:
    """Return the augmentation for images of a shape (c, h, w): by name, or your own.

    Examples
    --------
    >>> make_augmentation("auto", (3, 32, 32))
    PhotoAugmentation(smallest=0.25, aspect=1.3333333333333333, light=0.4, gray=0.2)
    """
    if callable(augmentation):
        return augmentation
    kinds = {"none": NoAugmentation, "shapes": ShapeAugmentation, "photos": PhotoAugmentation}
    return kinds[augmentation_name(augmentation, shape)]()


def augmentation_name(name: AugmentationName, shape: Shape) -> AugmentationName:
    """Resolve "auto": photos for color images, shapes for gray ones, none for features.

    Examples
    --------
    >>> augmentation_name("auto", (1, 28, 28))
    'shapes'
    """
    if name != "auto":
        return name
    if min(shape[1:]) < MIN_SIDE:
        return "none"
    return "shapes" if shape[0] == 1 else "photos"


def _between(low: float, high: float, images: Tensor) -> Tensor:
    """A number for each image, float[b]."""
    return images.new_empty(len(images)).uniform_(low, high)


def _border(images: Tensor) -> Tensor:
    """The outermost pixels of each image, float[b, c, p]."""
    sides = images[..., [0, -1], :], images[..., [0, -1]]
    return torch.cat([side.flatten(2) for side in sides], dim=2)


def _smooth(coarse: Tensor, height: int, width: int) -> Tensor:
    """Interpolate displacements float[b, 2, n, n] bicubically, to float[b, height, width, 2].

    By a matrix for each side: torch's own interpolation of a batch is slow on CPUs.
    """
    points = coarse.shape[-1]
    single = torch.eye(points, device=coarse.device)[None, None]
    rows, columns = (
        interpolate(single, (side, points), mode="bicubic", align_corners=True)[0, 0]
        for side in (height, width)
    )
    return torch.einsum("hi,bcij,wj->bhwc", rows, coarse, columns)


def _places(images: Tensor, horizontal: Row, vertical: Row) -> Tensor:
    """Where each pixel comes from, float[b, h, w, 2] in −1…1, by affine maps of coordinates."""
    maps = torch.stack([torch.stack(horizontal, 1), torch.stack(vertical, 1)], 1)
    return affine_grid(maps, list(images.shape), align_corners=False)


def _blend(images: Tensor, ground: Tensor, share: Tensor) -> Tensor:
    return ground + share * (images - ground)
