"""Pretext tasks: corruptions that the autoencoder learns to undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from nearfar.fields import check_fields, check_ranges


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Reconstruct the image as it is.

    Examples
    --------
    >>> Plain().kind
    'plain'
    """

    kind: ClassVar[str] = "plain"


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """Reconstruct the image from a noisy copy.

    Parameters
    ----------
    noise : {"masking", "gaussian", "adversarial"}
        "masking": some values are set to zero. "gaussian": Gaussian noise. "adversarial": uniform
        noise, followed by the perturbation that increases the reconstruction error most.
    noise_level : float
        Fraction of values that are set to zero; standard deviation of the Gaussian noise; or
        maximum of the uniform noise and of the perturbation. Pixel values are in [0, 1], and the
        level is less than 1.

    Examples
    --------
    >>> Denoising(noise="gaussian").noise_level
    0.25
    """

    kind: ClassVar[str] = "denoising"

    noise: Literal["masking", "gaussian", "adversarial"] = "masking"
    noise_level: float = 0.25

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, noise_level="[0, 1)")


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    """Reconstruct the image from a copy with holes, as in context encoders.

    Parameters
    ----------
    holes : {"center", "random"}
        "center": the center of the image is missing. "random": four blocks at random positions are
        missing. In both cases, about a quarter of the area is missing.

    Examples
    --------
    >>> Inpainting(holes="random").kind
    'inpainting'
    """

    kind: ClassVar[str] = "inpainting"

    holes: Literal["center", "random"] = "center"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class SplitBrain:
    """Predict the image's luminance from its color, and its color from its luminance.

    Examples
    --------
    >>> SplitBrain().kind
    'split-brain'
    """

    kind: ClassVar[str] = "split-brain"


Pretext = Plain | Denoising | Inpainting | SplitBrain
