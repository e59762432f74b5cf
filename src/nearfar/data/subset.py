"""Subsets of image sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfar.data.arrays import as_index
from nearfar.data.images import Images


class Subset(Images):
    """Selected images of an image set, in any order. The images are not copied.

    Parameters
    ----------
    images : Images
        Full image set.
    rows : int64[m]
        Indices in the full set. Indices may repeat.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import Subset, images_from_array
    >>> images = images_from_array(np.zeros((10, 28, 28), np.uint8), labels=np.arange(10))
    >>> Subset(images, [7, 2]).labels
    array([7, 2])
    """

    def __init__(self, images: Images, rows: npt.ArrayLike | Tensor) -> None:
        self.images, self.rows = images, torch.as_tensor(rows)
        self.name, self.shape, self.classes = images.name, images.shape, images.classes
        self.in_memory = images.in_memory
        self.labels = None if images.labels is None else images.labels[self.rows.numpy()]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`."""
        return self.images.batch(self.rows[as_index(indices)])

    def content(self, indices: Sequence[int] | Tensor) -> Iterator[bytes]:
        """See `Images`."""
        return self.images.content(self.rows[as_index(indices)])

    def sizes(self, indices: Sequence[int] | Tensor) -> npt.NDArray[np.int32]:
        """See `Images`."""
        return self.images.sizes(self.rows[as_index(indices)])

    def uncropped(self, side: int) -> Images:
        """See `Images`."""
        return Subset(self.images.uncropped(side), self.rows)

    def names(self) -> list[str]:
        """See `Images`. Names are those in the full set."""
        names = self.images.names()
        return [names[row] for row in self.rows.tolist()]
