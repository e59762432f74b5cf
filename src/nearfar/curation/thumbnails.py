"""Thumbnails of images, used to find and verify duplicates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow
import torch
from pyarrow import parquet
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.data import Images, load_batches, sequential_batches, to_unit
from nearfar.errors import NearfarError, reason
from nearfar.files import atomic_path
from nearfar.progress import Track, silent

#: File of the thumbnails in a result.
THUMBNAILS = "thumbnails.parquet"

#: Sides of grayscale and color thumbnails, in pixels.
_SIDE, _COLOR_SIDE = 64, 8
_BATCH = 256
#: Luma weights of red, green and blue (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


class Thumbnails(NamedTuple):
    """Thumbnails of n images, which are not cropped, but stretched to squares.

    Attributes
    ----------
    gray : uint8[n, 64, 64]
        Grayscale pixels.
    colors : float16[n, 2, 8, 8]
        Red minus green, and blue minus green, in [−1, 1]. 0 for grayscale images.
    sizes : int32[n, 2]
        Height and width of each image, in pixels.

    Examples
    --------
    >>> Thumbnails(torch.zeros(1, 64, 64), torch.zeros(1, 2, 8, 8), torch.tensor([[30, 40]])).sizes
    tensor([[30, 40]])
    """

    gray: Tensor
    colors: Tensor
    sizes: Tensor


class CuratedImages(Images):
    """Images of an earlier curation. Only names and thumbnails are available.

    Parameters
    ----------
    folder : str or path
        Folder written by `write_curation`.

    Raises
    ------
    NearfarError
        If the folder contains no thumbnails, or the file of thumbnails is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from nearfar.curation import curate, default_encoder, write_curation
    >>> from nearfar.data import images_from_array
    >>> images = images_from_array(np.random.default_rng(0).random((9, 32, 32)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_curation(folder, curate(images, default_encoder(network=False)))
    ...     len(CuratedImages(folder))
    9
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.name, self.shape = str(folder), (1, _SIDE, _SIDE)
        path = Path(folder) / THUMBNAILS
        try:
            table = parquet.read_table(path)
            self._names = [str(name) for name in table["file"].to_pylist()]
            gray, colors = (b"".join(table[name].to_pylist()) for name in ("gray", "colors"))
            self.thumbnails = Thumbnails(
                torch.tensor(np.frombuffer(gray, np.uint8)).view(-1, _SIDE, _SIDE),
                torch.tensor(np.frombuffer(colors, np.float16)).view(
                    -1, 2, _COLOR_SIDE, _COLOR_SIDE
                ),
                torch.tensor(np.stack([table["height"], table["width"]], 1), dtype=torch.int32),
            )
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise NearfarError(
                f"{str(path)!r} cannot be read ({reason(error)}): expected the folder of an "
                "earlier curate"
            ) from error

    def __len__(self) -> int:
        return len(self._names)

    def batch(self, indices: Sequence[int] | Tensor) -> Tensor:
        """See `Images`. The images are the grayscale thumbnails."""
        return self.thumbnails.gray[torch.as_tensor(indices)].unsqueeze(1)

    def sizes(self, indices: Sequence[int] | Tensor) -> npt.NDArray[np.int32]:
        """See `Images`."""
        return self.thumbnails.sizes[torch.as_tensor(indices)].numpy()

    def names(self) -> list[str]:
        """See `Images`."""
        return list(self._names)


def write_thumbnails(
    path: str | os.PathLike[str], names: Sequence[str], thumbnails: Thumbnails
) -> None:
    """Write thumbnails and the names of their images to a .parquet file, for `CuratedImages`.

    Examples
    --------
    >>> import tempfile
    >>> gray, colors = torch.zeros(1, 64, 64, dtype=torch.uint8), torch.zeros(1, 2, 8, 8)
    >>> some = Thumbnails(gray, colors, torch.tensor([[480, 640]]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_thumbnails(f"{folder}/{THUMBNAILS}", ["cat.jpg"], some)
    ...     CuratedImages(folder).names()
    ['cat.jpg']
    """
    gray, colors = thumbnails.gray.numpy(), thumbnails.colors.half().numpy()
    table = pyarrow.table(
        {
            "file": list(names),
            "gray": [pixels.tobytes() for pixels in gray],
            "colors": [pixels.tobytes() for pixels in colors],
            "height": thumbnails.sizes[:, 0].numpy(),
            "width": thumbnails.sizes[:, 1].numpy(),
        }
    )
    with atomic_path(Path(path)) as temporary:
        parquet.write_table(table, temporary, use_dictionary=False)


def thumbnails(images: Images, *, track: Track = silent) -> Thumbnails:
    """Compute thumbnails of images.

    Examples
    --------
    >>> from nearfar.data import images_from_array
    >>> thumbnails(images_from_array(np.full((2, 32, 32), 255, np.uint8))).gray[:, 0, 0]
    tensor([255, 255], dtype=torch.uint8)
    """
    if isinstance(images, CuratedImages):
        return images.thumbnails
    gray = torch.empty(len(images), _SIDE, _SIDE, dtype=torch.uint8)
    colors = torch.zeros(len(images), 2, _COLOR_SIDE, _COLOR_SIDE, dtype=torch.float16)
    sizes = torch.from_numpy(images.sizes(range(len(images))))
    whole, batches = images.uncropped(_SIDE), sequential_batches(range(len(images)), _BATCH)
    for rows, pixels in track(load_batches(whole, batches), "comparing pixels", len(batches)):
        unit = to_unit(pixels)
        small = interpolate(unit, size=(_SIDE, _SIDE), mode="area")
        weights = torch.tensor(_LUMA if unit.shape[1] == 3 else (1.0,))
        gray[rows] = (255 * torch.einsum("bchw,c->bhw", small, weights)).round().byte()
        if unit.shape[1] == 3:
            small = interpolate(unit, size=(_COLOR_SIDE, _COLOR_SIDE), mode="area")
            colors[rows] = (small[:, ::2] - small[:, 1:2]).half()
    return Thumbnails(gray, colors, sizes)
