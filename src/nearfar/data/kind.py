"""Classification of image sets into kinds, such as photographs, by their pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nearfar.data.images import Images, to_unit
from nearfar.data.sizes import MIN_SIDE

#: Photographs in color; photographs without color, such as X-rays, surfaces and microscopy; shapes
#: on a plain background, such as digits and letters; or features, which are not images.
ImageKind = Literal["photographs", "gray photographs", "shapes", "features"]

#: Maximum number of images to examine.
_SAMPLE = 256
#: Minimum mean difference between the color channels of a photograph, in [0, 1].
_COLOR = 0.01
#: Gray levels that count as one level.
_LEVELS = 64
#: Minimum fraction of pixels with the most common level, in images of shapes.
_BACKGROUND = 0.35


def kind_of(images: Images) -> ImageKind:
    """Classify images as photographs, gray photographs, shapes or feature vectors.

    Images are classified as shapes if more than a third of the pixels have the same gray level,
    that of the background. Grayscale photographs stored as RGB count as gray photographs.

    Parameters
    ----------
    images : Images
        Images to classify. At most 256 images, evenly spaced, are read.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> random = np.random.default_rng(0)
    >>> kind_of(images_from_array(random.random((9, 32, 32, 3))))
    'photographs'
    >>> drawn = np.zeros((9, 28, 28))
    >>> drawn[:, 8:20, 12:16] = 1
    >>> kind_of(images_from_array(drawn))
    'shapes'
    """
    if min(images.shape[1:]) < MIN_SIDE:
        return "features"
    rows = np.unique(np.linspace(0, len(images) - 1, _SAMPLE).astype(int))
    pixels = to_unit(images.batch(rows.tolist()))
    if pixels.shape[1] == 3 and float((pixels.amax(1) - pixels.amin(1)).mean()) > _COLOR:
        return "photographs"
    plain = torch.stack([_background(image) for image in pixels.mean(1)])
    return "shapes" if float(plain.median()) > _BACKGROUND else "gray photographs"


def _background(image: Tensor) -> Tensor:
    """Return the fraction of an image's pixels that have the most common gray level."""
    levels = (image * (_LEVELS - 1)).round().long().flatten()
    return torch.bincount(levels, minlength=_LEVELS).max() / levels.numel()
