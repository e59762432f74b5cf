"""Image corruptions that a network is trained to reverse: noise [1]_ and holes [2]_.

Random numbers come from the global generator of torch on the device of the images.

References
----------
.. [1] P. Vincent et al., "Extracting and composing robust features with denoising autoencoders",
   ICML 2008; "Stacked denoising autoencoders", JMLR 11, 2010.
.. [2] D. Pathak et al., "Context encoders: feature learning by inpainting", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from nearfar.config import Denoising, Inpainting, Pretext

#: Blocks per image in random holes.
BLOCKS = 4
#: Side of a block, as a share of the image side: four blocks cover at most a quarter of the area.
BLOCK_FRACTION = 0.25


class _Output(Protocol):
    """Protocol of the network output, with the attribute that adversarial noise requires."""

    @property
    def reconstruction(self) -> Tensor: ...


class CorruptedImages(NamedTuple):
    """Corrupted images, masks of the changed pixels, and weights of the pixels in the loss.

    Attributes
    ----------
    images : Tensor
        Corrupted images (float[b, c, h, w]), with values in [0, 1].
    mask : Tensor
        True for pixels that were changed: bool[b, c, h, w], or bool[b, 1, h, w] if the mask is the
        same for all channels.
    weights : Tensor or None
        Weight of the squared error of each pixel (float[b, 1, h, w]). The mean weight of each image
        is 1. None for equal weights.

    Examples
    --------
    >>> import torch
    >>> from nearfar.pretext import CentralHole
    >>> CentralHole()(torch.rand(2, 3, 8, 8)).mask.shape
    torch.Size([2, 1, 8, 8])
    """

    images: Tensor
    mask: Tensor
    weights: Tensor | None = None


class Corruption(Protocol):
    """Protocol of corruptions, which take images and return `CorruptedImages`.

    The images are float[b, c, h, w], with values in [0, 1].

    Examples
    --------
    A custom corruption, which hides the upper half:

    >>> import torch
    >>> from nearfar.pretext import CorruptedImages
    >>> def hide_upper_half(images):
    ...     mask = torch.zeros_like(images, dtype=torch.bool)
    ...     mask[..., : images.shape[2] // 2, :] = True
    ...     return CorruptedImages(images.masked_fill(mask, 0), mask)
    >>> hide_upper_half(torch.ones(1, 1, 8, 8)).images.mean().item()
    0.5
    """

    def __call__(self, images: Tensor) -> CorruptedImages:
        """Return corrupted copies of the images, with masks and weights."""
        ...


@dataclass(frozen=True)
class Identity:
    """Corruption that leaves the images unchanged, for a plain autoencoder.

    Examples
    --------
    >>> Identity()(torch.ones(1, 1, 8, 8)).mask.any().item()
    False
    """

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`."""
        return CorruptedImages(images, torch.zeros_like(images, dtype=torch.bool))


@dataclass(frozen=True)
class MaskingNoise:
    """Masking noise, which sets random values to zero.

    Parameters
    ----------
    level : float
        Probability that a value is set to zero, in [0, 1].

    Examples
    --------
    >>> MaskingNoise(level=1.0)(torch.ones(1, 1, 8, 8)).images.sum().item()
    0.0
    """

    level: float

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`."""
        mask = torch.rand_like(images) < self.level
        return CorruptedImages(images.masked_fill(mask, 0), mask)


@dataclass(frozen=True)
class GaussianNoise:
    """Additive Gaussian noise. The noisy values are clipped to [0, 1].

    Parameters
    ----------
    level : float
        Standard deviation of the noise before clipping, for pixel values in [0, 1].

    Examples
    --------
    >>> GaussianNoise(level=0.1)(torch.zeros(1, 1, 8, 8)).images.min().item()
    0.0
    """

    level: float

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`."""
        noisy = (images + self.level * torch.randn_like(images)).clamp(0, 1)
        return CorruptedImages(noisy, torch.ones_like(images, dtype=torch.bool))


@dataclass(frozen=True)
class AdversarialNoise:
    """Adversarial noise by N-FGSM [1]_: uniform noise, then a step that increases the pixel error.

    The step follows the sign of the gradient of the pixel error. Noise and step have the same
    magnitude, which is drawn uniformly from 0 to `level` for each image, so that the network is
    also trained on nearly clean images.

    Parameters
    ----------
    level : float
        Maximum magnitude of the noise and of the step, for pixel values in [0, 1].
    network : callable
        Network that is being trained. Gradients are computed with the current weights.

    References
    ----------
    .. [1] P. de Jorge et al., "Make some noise: reliable and efficient single-step adversarial
       training", NeurIPS 2022.

    Examples
    --------
    >>> from torch import nn
    >>> from nearfar.models import Autoencoder
    >>> network = Autoencoder(nn.Identity(), nn.Identity())
    >>> noisy = AdversarialNoise(0.1, network)(torch.full((1, 1, 8, 8), 0.5)).images
    >>> ((noisy - 0.5).abs() <= 0.2).all().item()
    True
    """

    level: float
    network: Callable[[Tensor], _Output]

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
    """Hole in the center of each image, about half as high and half as wide as the image.

    Examples
    --------
    >>> CentralHole()(torch.rand(1, 3, 8, 8)).mask.sum().item()
    16
    """

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`. The hole and the rest of the image have the same total weight."""
        height, width = images.shape[-2:]
        hole = torch.zeros(len(images), 1, height, width, dtype=torch.bool, device=images.device)
        top, left = round(height / 4), round(width / 4)
        hole[..., top : height - top, left : width - left] = True
        return _with_hole(images, hole)


@dataclass(frozen=True)
class RandomHoles:
    """Random holes: four blocks per image, which may overlap.

    The blocks cover at most a quarter of the image.


    Examples
    --------
    >>> 4 <= RandomHoles()(torch.rand(1, 3, 8, 8)).mask.sum().item() <= 16
    True
    """

    def __call__(self, images: Tensor) -> CorruptedImages:
        """See `Corruption`. The holes and the rest of the image have the same total weight."""
        height, width = images.shape[-2:]
        size = (len(images), BLOCKS, 1)
        down, across = (_intervals(side, size, images.device) for side in (height, width))
        hole = (down.unsqueeze(-1) & across.unsqueeze(-2)).any(1)
        return _with_hole(images, hole.unsqueeze(1))


def fill_missing(images: Tensor, missing: Tensor) -> Tensor:
    """Return copies of images, with the missing pixels set to the mean color of the other pixels.

    Context encoders [2]_ use the mean color of all images instead.

    Parameters
    ----------
    images : Tensor
        Images (float[b, c, h, w]).
    missing : Tensor
        True for missing pixels (bool[b, 1, h, w]).

    Examples
    --------
    >>> images = torch.tensor([[[[1.0, 3.0, 9.0]]]])
    >>> fill_missing(images, torch.tensor([[[[False, False, True]]]]))
    tensor([[[[1., 3., 2.]]]])
    """
    known = ~missing
    total = (images * known).sum((2, 3), keepdim=True)
    mean = total / known.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(missing, mean, images)


def make_corruption(pretext: Pretext, network: Callable[[Tensor], _Output]) -> Corruption:
    """Return the corruption of a pretext task.

    Parameters
    ----------
    pretext : Plain, Denoising, Inpainting or SplitBrain
        Pretext task, see `nearfar.config`. `Plain` and `SplitBrain` do not corrupt images.
    network : callable
        Network that is being trained. Adversarial noise attacks this network.

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
    """Return the weighted and the unweighted mean squared pixel error.

    Parameters
    ----------
    reconstruction, images : Tensor
        Reconstructions and clean images (float[b, c, h, w]), with values in [0, 1].
    corrupted : CorruptedImages
        Result of the corruption, which contains the pixel weights.

    Returns
    -------
    weighted, plain : Tensor
        Weighted and unweighted error (float32 scalars). The weighted error is the training loss.

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


def _intervals(side: int, size: tuple[int, ...], device: torch.device) -> Tensor:
    """Return masks of random intervals with the side of a block (bool[b, blocks, side])."""
    length = max(1, round(side * BLOCK_FRACTION))
    start = torch.randint(side - length + 1, size, device=device)
    place = torch.arange(side, device=device)
    return (place >= start) & (place < start + length)


def _with_hole(images: Tensor, hole: Tensor) -> CorruptedImages:
    share = hole.float().mean((1, 2, 3), keepdim=True)
    weights = torch.where(hole, 0.5 / share, 0.5 / (1 - share))
    return CorruptedImages(fill_missing(images, hole), hole, weights)
