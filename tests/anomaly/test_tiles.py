"""Tiles of photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.anomaly.tiles import CELL, MAX_SHORT_SIDE, TILE, Tiling

SIZES = [(103, 289), (289, 103), (150, 150), (32, 1000), (225, 224), (1500, 900), (460, 3000)]


def brightness(tiling: Tiling, image: np.ndarray) -> np.ndarray:
    return tiling.stitch(
        torch.nn.functional.avg_pool2d(tiles.mean(1), CELL) for tiles in tiling.extract(image)
    )


@pytest.mark.parametrize("size", SIZES)
def test_tiles_cover_the_image_at_bounded_scale(size):
    tiling = Tiling(size)
    assert TILE <= min(tiling.scaled) <= MAX_SHORT_SIDE
    aspect = (size[0] / size[1]) / (tiling.scaled[0] / tiling.scaled[1])
    assert 0.97 < aspect < 1.03
    for starts, side in ((tiling.tops, tiling.scaled[0]), (tiling.lefts, tiling.scaled[1])):
        assert starts[0] == 0
        assert starts[-1] + TILE == side
        assert (np.diff(starts) < TILE).all()
        assert (starts % CELL == 0).all()
    assert min(Tiling(size, downscale=False).scaled) >= min(size) - CELL // 2


@pytest.mark.parametrize("size", SIZES)
def test_heat_map_shows_a_block_anywhere_in_its_place(size):
    tiling = Tiling(size)
    block = max(4, min(size) // 8)
    for place in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.0, 1.0), (0.7, 0.3)):
        top, left = (round(p * (side - block)) for p, side in zip(place, size, strict=True))
        image = np.zeros((*size, 3), np.uint8)
        image[top : top + block, left : left + block] = 255
        heat = brightness(tiling, image)
        assert heat.shape == size
        row, column = np.unravel_index(heat.argmax(), size)
        assert top - 1 <= row <= top + block
        assert left - 1 <= column <= left + block
        assert heat.max() > 0.2


def test_stitched_tiles_show_no_seams():
    tiling = Tiling((460, 700))
    image = np.full((460, 700), 100, np.uint8)
    np.testing.assert_allclose(brightness(tiling, image), 100 / 255, atol=1e-5)
