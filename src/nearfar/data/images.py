"""What a set of images is to the rest of the library."""

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

Shape = tuple[int, int, int]


class Images(Dataset[Tensor]):
    """A torch data set of n images of one shape, read when they are asked for.

    Attributes
    ----------
    name : str
        Where the images come from, as the user wrote it.
    shape : tuple of int
        Channels, height, width.
    labels : int64[n] or None
        Class numbers, if the source has any.
    classes : list of str or None
        The name of each class number.
    in_memory : bool
        Whether an image costs no reading or decoding; if not, loaders use worker processes.
    skipped : list of str
        One line for each file that could not be read, with the reason.
    origin : mapping
        How they were opened, for the record of a run; see `nearfar.runs.RunData`.
    """

    name: str
    shape: Shape
    labels: npt.NDArray[np.int64] | None = None
    classes: list[str] | None = None
    in_memory: bool = True
    skipped: Sequence[str] = ()
    origin: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Several images, [b, c, h, w]: uint8, or float32 where 0…1 is black…white."""

    def names(self) -> list[str]:
        """What each image is called: its path in the folder, or else its number."""
        digits = len(str(max(len(self) - 1, 0)))
        return [f"{row:0{digits}}" for row in range(len(self))]

    def content(self, indices: Sequence[int] | Tensor) -> Iterator[bytes]:
        """What tells these images from others on any machine, in pieces: their pixels.

        Of files it is what they hold, as decoders differ in the last digits.
        """
        yield self.batch(indices).numpy().tobytes()

    def __getitems__(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Several images, as torch's data loaders ask for them; see `batch`."""
        return self.batch(indices)

    def __getitem__(self, index: int) -> Tensor:
        """One image, [c, h, w]."""
        return self.batch([index])[0]


def to_unit(images: Tensor) -> Tensor:
    """Float32 pixels on the scale where 0…1 is black…white, as networks take and give them."""
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    return images.to(torch.float32)
