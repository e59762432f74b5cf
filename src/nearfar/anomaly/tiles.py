"""Tiling of photographs that are scaled to a known range of sizes, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from nearfar.anomaly.clips import Pixels
from nearfar.anomaly.patches import Indices, ScoreMap
from nearfar.data import to_unit

#: Side of a tile in pixels, as expected by pretrained encoders.
TILE = 224
#: Side of a cell of a tile's scores in pixels; tiles start at multiples of it.
CELL = 8
#: Shortest side to which images are downscaled, in pixels.
MAX_SHORT_SIDE = 448
#: Minimum overlap of tiles, in pixels.
_OVERLAP = 56
#: Standard deviation of the Gaussian smoothing of heat maps, in pixels (Roth et al., CVPR 2022).
SMOOTHING = 4.0
#: Tiles per batch.
_BATCH = 8


@dataclass(frozen=True)
class Tiling:
    """Overlapping square tiles that cover a scaled image.

    The shorter side is upscaled to at least 224 pixels and, with `downscale`, downscaled to at most
    448. The aspect ratio is kept, up to rounding to multiples of 8 pixels.

    Parameters
    ----------
    size : (height, width)
        Size of the image in pixels.
    downscale : bool
        Whether to downscale large images.

    Examples
    --------
    >>> tiling = Tiling((103, 289))
    >>> tiling.scaled, tiling.tops, tiling.lefts
    ((224, 632), array([0]), array([  0, 136, 272, 408]))
    """

    size: tuple[int, int]
    downscale: bool = True

    @cached_property
    def scaled(self) -> tuple[int, int]:
        """Height and width of the scaled image, which are multiples of 8 pixels."""
        short = min(self.size)
        wanted = max(TILE, min(short, MAX_SHORT_SIDE) if self.downscale else short)
        height, width = (
            max(TILE, CELL * round(side * wanted / short / CELL)) for side in self.size
        )
        return height, width

    @cached_property
    def tops(self) -> Indices:
        """First pixel row of each row of tiles."""
        return _starts(self.scaled[0])

    @cached_property
    def lefts(self) -> Indices:
        """First pixel column of each column of tiles."""
        return _starts(self.scaled[1])

    def extract(self, image: Pixels) -> Iterator[Tensor]:
        """Yield the tiles row by row, in batches.

        Parameters
        ----------
        image : uint8[h, w] or uint8[h, w, 3]
            Image of the size `size`, in grayscale or color.

        Yields
        ------
        float32[b, 3, 224, 224]
            RGB tiles, with values in [0, 1].
        """
        color = Image.fromarray(image).convert("RGB")
        pixels = np.asarray(color.resize(self.scaled[::-1], Image.Resampling.BILINEAR))
        places = [(top, left) for top in self.tops for left in self.lefts]
        for start in range(0, len(places), _BATCH):
            tiles = [
                pixels[top : top + TILE, left : left + TILE]
                for top, left in places[start : start + _BATCH]
            ]
            yield to_unit(torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).contiguous())

    def stitch(self, scores: Iterable[Tensor]) -> ScoreMap:
        """Join the scores of tiles into a heat map of the image.

        Overlapping tiles are averaged, with less weight near their borders. The map is resized
        bilinearly, and smoothed with a Gaussian of standard deviation 4 pixels in the scaled image.

        Parameters
        ----------
        scores : iterable of float[b, 28, 28]
            Scores of the cells of each tile, in the order of `extract`.

        Returns
        -------
        float32[h, w]
            Heat map at the original size of the image.

        Examples
        --------
        >>> tiling = Tiling((64, 100))
        >>> tiles = tiling.extract(np.full((64, 100), 255, np.uint8))
        >>> heat = tiling.stitch(each.mean(1)[:, ::8, ::8] for each in tiles)
        >>> heat.shape, round(float(heat.max()), 3)
        ((64, 100), 1.0)
        """
        height, width = (side // CELL for side in self.scaled)
        total, weights = torch.zeros(height, width), torch.zeros(height, width)
        side = TILE // CELL
        ramp = torch.minimum(torch.arange(side), torch.arange(side).flip(0)) + 0.5
        weight = torch.minimum(ramp[:, None], ramp)
        each = (tile for batch in scores for tile in batch)
        for row in self.tops // CELL:
            for column in self.lefts // CELL:
                here = np.s_[row : row + side, column : column + side]
                total[here] += weight * next(each)
                weights[here] += weight
        cells = (total / weights)[None, None]
        scaled = interpolate(cells, size=self.scaled, mode="bilinear", align_corners=False)
        smooth = torch.from_numpy(gaussian_filter(scaled[0, 0].numpy(), SMOOTHING))[None, None]
        own = interpolate(smooth, size=self.size, mode="bilinear", align_corners=False)
        return own[0, 0].numpy()


def _starts(length: int) -> Indices:
    """Return evenly spaced tile positions along a side, which are multiples of 8 pixels."""
    count = 1 + -(-(length - TILE) // (TILE - _OVERLAP))
    return CELL * np.rint(np.linspace(0, (length - TILE) // CELL, count)).astype(np.int64)
