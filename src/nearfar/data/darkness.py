"""Warning about images that use only the dark end of their value range."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt
from torch import Tensor

#: Fraction of white below which the brightest pixel of a set is suspicious.
DARK = 1 / 16


def warn_if_dark(
    batches: Iterable[Tensor | npt.NDArray[Any]], white: float, name: str, *, stacklevel: int
) -> None:
    """Warn if the brightest pixel of all images is below 1/16 of white.

    Very dark images are rarely intended. Typical causes are 12-bit pixels in 16-bit files, masks of
    0 and 1 in uint8, and pixels that were divided by 255 twice.

    Parameters
    ----------
    batches : iterable of Tensor or array
        Batches of images. Reading stops at the first batch with a bright pixel.
    white : float
        Pixel value of white. Black is 0.
    name : str
        Name of the images, for the warning.
    stacklevel : int
        See `warnings.warn`. With 1, the warning names the line that calls this function.

    Examples
    --------
    >>> import numpy as np
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_if_dark([np.array([0, 1])], 255, "masks.npy", stacklevel=1)
    >>> print(caught[0].message)
    'masks.npy': the brightest pixel is 1, where white is 255: scale the images if they are not dark
    """
    brightest = 0.0
    for batch in batches:
        brightest = max(brightest, float(batch.max()))
        if brightest >= white * DARK:
            return
    warnings.warn(
        f"{name!r}: the brightest pixel is {brightest:g}, where white is {white:g}: scale the "
        "images if they are not dark",
        stacklevel=stacklevel + 1,
    )
