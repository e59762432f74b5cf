"""Corruptions of images: noise [1]_ [3]_ and holes [2]_, for a network to undo.

What is random is drawn from torch's global generator of the images' device.

References
----------
.. [1] P. Vincent et al., "Extracting and composing robust features with denoising autoencoders",
   ICML 2008; "Stacked denoising autoencoders", JMLR 11, 2010.
.. [2] D. Pathak et al., "Context encoders: feature learning by inpainting", CVPR 2016.
.. [3] P. de Jorge et al., "Make some noise: reliable and efficient single-step adversarial
   training", NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nearfar.config import Denoising, Inpainting, Pretext
from nearfar.models import Output

#: Random holes: so many blocks, each of this share of the sides, cover at most a quarter.
BLOCKS = 4
BLOCK_SHARE = 0.25


class CorruptedImages(NamedTuple):
    """What a corruption makes of images.

    Attributes
    ----------
    images : Tensor
        float[b, c, h, w], where 0…1 is black…white, as the clean ones.
    changed : Tensor
        Where pixels were changed, bool[b, c, h, w] or, alike in all channels, bool[b, 1, h, w].
    weights : Tensor or None
        How much the squared error of each pixel counts, float[b, 1, h, w] of mean 1 over each
        image; None if all count alike.
    """

    images: Tensor
    changed: Tensor
    weights: Tensor | None = None


class Corruption(Protocol):
    """Changes images float[b, c, h, w], where 0…1 is black…white."""

    def __call__(self, images: Tensor) -> CorruptedImages:
        """Return changed copies of the images."""
        ...


@dataclass(frozen=True)
class Identity:
    """Changes nothing: plain autoencoding."""

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`."""
        return CorruptedImages(images, torch.zeros_like(images, dtype=torch.bool))


@dataclass(frozen=True)
class MaskingNoise:
    """Sets each value to zero with a probability.

    Parameters
    ----------
    level : float
        The probability, 0…1.
    """

    level: float

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`."""
        changed = torch.rand_like(images) < self.level
        return CorruptedImages(images.masked_fill(changed, 0), changed)


@dataclass(frozen=True)
class GaussianNoise:
    """Adds Gaussian noise to each value, and cuts off what leaves 0…1, as an image file would.

    Parameters
    ----------
    level : float
        Standard deviation of the noise before that, on the scale of 0…1.
    """

    level: float

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`."""
        noisy = (images + self.level * torch.randn_like(images)).clamp(0, 1)
        return CorruptedImages(noisy, torch.ones_like(images, dtype=torch.bool))


@dataclass(frozen=True)
class AdversarialNoise:
    """Adds uniform noise, and the change that then harms the reconstruction most (N-FGSM [3]_).

    How large they are is drawn for each image anew, so that clean ones are learned from as well.

    Parameters
    ----------
    level : float
        The largest noise, and the largest change after it, on the scale of 0…1.
    network : callable
        The network that reconstructs, as it is when images are changed.
    """

    level: float
    network: Callable[[Tensor], Output]

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`."""
        level = self.level * torch.rand(len(images), 1, 1, 1, device=images.device)
        noise = torch.empty_like(images).uniform_(-1, 1) * level
        noisy = (images + noise).clamp(0, 1).requires_grad_()
        with torch.enable_grad():
            error = (self.network(noisy).reconstruction - images).square().sum()
            (gradient,) = torch.autograd.grad(error, noisy)
        harmful = (noisy.detach() + level * gradient.sign()).clamp(0, 1)
        return CorruptedImages(harmful, torch.ones_like(images, dtype=torch.bool))


@dataclass(frozen=True)
class CentralHole:
    """Takes out the middle of each image: about half of both sides, a quarter of the area."""

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`; the hole counts as much as all around it."""
        height, width = images.shape[-2:]
        hole = torch.zeros(len(images), 1, height, width, dtype=torch.bool, device=images.device)
        top, left = round(height / 4), round(width / 4)
        hole[..., top : height - top, left : width - left] = True
        return _with_hole(images, hole)


@dataclass(frozen=True)
class RandomHoles:
    """Takes out blocks at random places, which may overlap: together at most about a quarter."""

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`; the holes count as much as all around them."""
        height, width = images.shape[-2:]
        size = (len(images), BLOCKS, 1)
        down, across = (_stretches(side, size, images.device) for side in (height, width))
        hole = (down.unsqueeze(-1) & across.unsqueeze(-2)).any(1)
        return _with_hole(images, hole.unsqueeze(1))


def fill_missing(images: Tensor, missing: Tensor) -> Tensor:
    """Fill what is missing of images by the mean of what is left, a color for each.

    The source fills holes with zeros in zero-centered images, which is the mean of all images.

    Parameters
    ----------
    images : Tensor
        float[b, c, h, w].
    missing : Tensor
        bool[b, 1, h, w].
    """
    known = ~missing
    total = (images * known).sum((2, 3), keepdim=True)
    mean = total / known.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(missing, mean, images)


def make_corruption(pretext: Pretext, network: Callable[[Tensor], Output]) -> Corruption:
    """Build the corruption of a pretext task.

    Parameters
    ----------
    pretext : Plain, Denoising, Inpainting or SplitBrain
        The task, see `nearfar.config`. `Plain` and `SplitBrain` leave images as they are.
    network : callable
        The network in training, which adversarial noise is directed against.

    Examples
    --------
    >>> from nearfar.config import Denoising
    >>> make_corruption(Denoising(noise="gaussian", noise_level=0.1), network=None)
    GaussianNoise(level=0.1)
    """
    if isinstance(pretext, Inpainting):
        return CentralHole() if pretext.holes == "center" else RandomHoles()
    if not isinstance(pretext, Denoising):
        return Identity()
    if pretext.noise == "adversarial":
        return AdversarialNoise(pretext.noise_level, network)
    if pretext.noise == "masking":
        return MaskingNoise(pretext.noise_level)
    return GaussianNoise(pretext.noise_level)


def pixel_errors(
    reconstruction: Tensor, images: Tensor, corrupted: CorruptedImages
) -> tuple[Tensor, Tensor]:
    """Compute the mean squared pixel error, weighted by the corruption and plain.

    Parameters
    ----------
    reconstruction, images : Tensor
        float[b, c, h, w], where 0…1 is black…white.
    corrupted : CorruptedImages
        Holds the weights.

    Returns
    -------
    weighted, plain : Tensor
        Scalars, float32; the former is the loss of training.

    Examples
    --------
    >>> clean = torch.zeros(1, 1, 8, 8)
    >>> weighted, plain = pixel_errors(clean + 0.5, clean, CentralHole()(clean))
    >>> weighted.item(), plain.item()
    (0.25, 0.25)
    """
    reconstruction = reconstruction.float()
    plain = mse_loss(reconstruction, images)
    if corrupted.weights is None:
        return plain, plain
    return (corrupted.weights * (reconstruction - images).square()).mean(), plain


def _stretches(side: int, size: tuple[int, ...], device: torch.device) -> Tensor:
    """Stretches of a block's length at random places of a side, bool[b, blocks, side]."""
    length = max(1, round(side * BLOCK_SHARE))
    start = torch.randint(side - length + 1, size, device=device)
    place = torch.arange(side, device=device)
    return (place >= start) & (place < start + length)


def _with_hole(images: Tensor, hole: Tensor) -> CorruptedImages:
    share = hole.float().mean((1, 2, 3), keepdim=True)
    weights = torch.where(hole, 0.5 / share, 0.5 / (1 - share))
    return CorruptedImages(fill_missing(images, hole), hole, weights)
