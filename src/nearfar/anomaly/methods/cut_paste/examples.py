"""Synthetic anomalies: normal images with pasted patches, scars and stains."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfar.anomaly.clips import Pixels

#: Maximum half length of a change, as a fraction of the image side; the minimum is 2 pixels.
_MAX_HALF = 0.4
#: Minimum width of a change, as a fraction of its length.
_MIN_ASPECT = 0.05
#: Fraction of changes that are stains; the others are pasted.
_STAINS = 0.3
#: Brightness of stains, and of pasted content.
_DARKER, _BRIGHTER, _SIMILAR = (0.3, 0.85), (1.15, 1.8), (0.7, 1.3)
#: Slopes of the border: from a hard edge to a smooth blend.
_SLOPES = (1.0, 30.0)
#: Minimum difference, in gray levels, at which a pixel counts as changed.
_CHANGED = 10.0


class Example(NamedTuple):
    """Normal image with an artificial change.

    Attributes
    ----------
    image : uint8[s, s, 3]
        Changed image.
    mask : bool[s, s]
        Whether each pixel changed visibly.

    Examples
    --------
    >>> Example(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)).image.shape
    (8, 8, 3)
    """

    image: Pixels
    mask: npt.NDArray[np.bool_]


def change(image: Pixels, donor: Pixels, generator: np.random.Generator) -> Example:
    """Change a random region of a normal image.

    The region is a rectangle or an ellipse of any orientation, from a thin scratch to a patch. It
    is filled with a part of another normal image [1]_, or made darker or brighter, like a stain.
    The border of the region is sharp or blended [2]_.

    Parameters
    ----------
    image, donor : uint8[s, s, 3]
        Normal image to change, and normal image to copy from.
    generator : numpy.random.Generator
        Random generator for the change.

    Returns
    -------
    Example

    References
    ----------
    .. [1] C.-L. Li et al., "CutPaste", CVPR 2021.
    .. [2] H. M. Schlüter et al., "Natural synthetic anomalies for self-supervised anomaly
       detection and localization", ECCV 2022.

    Examples
    --------
    >>> gray, white = np.full((64, 64, 3), 90, np.uint8), np.full((64, 64, 3), 255, np.uint8)
    >>> example = change(gray, white, np.random.default_rng(0))
    >>> bool((example.image[~example.mask] < 101).all()), bool(example.mask.any())
    (True, True)
    """
    weight = _shape(len(image), generator)[..., None]
    if generator.random() < _STAINS:
        gain = generator.uniform(*(_DARKER if generator.random() < 0.5 else _BRIGHTER))
        content = image * gain
    else:
        shift = tuple(generator.integers(0, len(image), 2))
        content = np.roll(donor, shift, (0, 1)) * generator.uniform(*_SIMILAR)
    result = (weight * content + (1 - weight) * image).clip(0, 255)
    mask = np.abs(result - image).mean(2) > _CHANGED
    return Example(np.rint(result).astype(np.uint8), mask)


def _shape(side: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the weight of the new content at each pixel (float[side, side], in [0, 1])."""
    half = np.exp(generator.uniform(np.log(2), np.log(_MAX_HALF * side)))
    width = max(1.0, half * np.exp(generator.uniform(np.log(_MIN_ASPECT), 0)))
    angle = generator.uniform(0, np.pi)
    rows, columns = np.mgrid[:side, :side] - generator.uniform(0, side, (2, 1, 1))
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / half
    across = (rows * np.cos(angle) - columns * np.sin(angle)) / width
    distance = (
        np.maximum(np.abs(along), np.abs(across))
        if generator.random() < 0.5
        else np.hypot(along, across)
    )
    slope = np.exp(generator.uniform(*np.log(_SLOPES)))
    return ((1 - distance) * slope).clip(0, 1)
