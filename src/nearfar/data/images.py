"""Base class of image sets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

#: Channels, height, width.
Shape = tuple[int, int, int]


class Images(Dataset[Tensor]):
    """Base class of all image sets: n images of the same shape, read on demand.

    A subclass sets `name` and `shape`, and defines ``__len__`` and `batch`. Instances can be used
    as map-style torch datasets.

    Attributes
    ----------
    name : str
        Source of the images, as given by the user.
    shape : tuple of int
        Shape (channels, height, width) of each image.
    labels : int64[n] or None
        Class numbers, if the source has labels.
    classes : list of str or None
        Name of each class number.
    in_memory : bool
        Whether images are already decoded in memory. Otherwise, data loaders use worker processes.
    skipped : list of str
        One line per unreadable file, with the reason.
    unread : list of str
        One line per file without an image extension, and per array that was not read.
    origin : mapping
        Options with which the images were opened. They are recorded in runs. See
        `nearfar.runs.RunData`.

    Examples
    --------
    >>> import torch
    >>> from nearfar.data import Images
    >>> class Noise(Images):
    ...     name, shape = "noise", (1, 8, 8)
    ...     def __len__(self):
    ...         return 100
    ...     def batch(self, indices):
    ...         return torch.rand(len(indices), *self.shape)
    >>> Noise().batch([3, 1]).shape
    torch.Size([2, 1, 8, 8])
    """

    name: str
    shape: Shape
    labels: npt.NDArray[np.int64] | None = None
    classes: list[str] | None = None
    in_memory: bool = True
    skipped: Sequence[str] = ()
    unread: Sequence[str] = ()
    origin: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return a batch of images ([b, c, h, w]): uint8, or float32 with values in [0, 1]."""

    def names(self) -> list[str]:
        """Return the name of each image.

        The name is the path relative to the folder or, for other sources, the image's number.
        """
        digits = len(str(max(len(self) - 1, 0)))
        return [f"{row:0{digits}}" for row in range(len(self))]

    def sizes(self, indices: Sequence[int] | Tensor) -> npt.NDArray[np.int32]:
        """Return the original heights and widths, in pixels, of some images (int32[b, 2])."""
        return np.tile(np.array(self.shape[1:], np.int32), (len(indices), 1))

    def uncropped(self, side: int) -> Images:
        """Return the same images without cropping.

        Images that would be cropped when read are stretched to squares instead.

        Parameters
        ----------
        side : int
            Side length of the squares, in pixels.
        """
        return self

    def unused(self) -> list[str]:
        """Return one line for each unused file or array, stating why it is unused."""
        return [*self.skipped, *self.unread]

    def content(self, indices: Sequence[int] | Tensor) -> Iterator[bytes]:
        """Yield bytes that identify images on any machine.

        For most image sets, the bytes are the pixels. For images in files, they are the contents
        of the files, since decoders on other machines may round differently.
        """
        yield self.batch(indices).numpy().tobytes()

    def __getitems__(self, indices: Sequence[int] | Tensor) -> list[Tensor]:
        """Return a list of images ([c, h, w]), for torch's data loaders."""
        return list(self.batch(indices))

    def __getitem__(self, index: int) -> Tensor:
        """Return one image ([c, h, w])."""
        return self.batch([index])[0]


def to_unit(images: Tensor) -> Tensor:
    """Convert pixels to float32 values in [0, 1], the input range of the networks.

    Parameters
    ----------
    images : Tensor
        uint8 values in [0, 255], or floats in [0, 1].

    Examples
    --------
    >>> to_unit(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([0., 1.])
    """
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    return images.to(torch.float32)
