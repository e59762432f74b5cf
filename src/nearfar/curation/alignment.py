"""Verification of duplicates, by aligning thumbnails and comparing them tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

#: Initial scales of an alignment, since one image may be cropped or padded.
_SCALES = (1.0, 0.9, 0.8, 1 / 0.9, 1 / 0.8)
_COARSE, _FIRST_STEPS, _COARSE_STEPS, _FINE_STEPS = 32, 4, 6, 6
#: Maximum change of a parameter per step, as a fraction of half the image side.
_MAX_STEP = 0.1
#: Residual, in median absolute residuals, beyond which pixels have little weight.
_CAUCHY = 3.0
#: Window size of the subtracted local mean, as a fraction of the image side.
_LOCAL = 9 / 64
#: Tiles per side, and the variance below which a tile counts as blank.
_TILES, _FLAT = 4, 4e-4
#: Tiles per side to measure how much of an image is not blank, and the minimum fraction required:
#: an object in front of a plain sky agrees with too many others.
_FINE_TILES, _LEAST_SHOWN = 8, 0.35
#: Correlation after the first steps, and coarse score, below which a pair is rejected.
_UNRELATED, _HOPELESS = 0.7, 0.2
#: Number of pairs to align at once.
_PAIRS = 256


def verify_pairs(thumbnails: Tensor, sizes: Tensor, pairs: Tensor, mirrored: Tensor) -> Tensor:
    """Return how well the pixels of each pair of images agree (float32[m]).

    The second image of a pair is aligned with the first by an affine map, which minimizes a robust
    difference between the normalized pixels (Gauss–Newton method with Cauchy weights). Then the
    correlation of the local contrast is computed in each of 4×4 tiles. The score is the smaller of
    two numbers: the lower quartile over all tiles, which a watermark does not lower, and the median
    over the four inner tiles, which a common frame does not raise. The score is about 1 for copies,
    near 0 for different images, and NaN if two thirds or more of the area is blank.

    Parameters
    ----------
    thumbnails : uint8[n, s, s]
        Grayscale thumbnails of the images, stretched to squares.
    sizes : int32[n, 2]
        Original height and width of each image.
    pairs : int64[m, 2]
        Row numbers of the images in each pair.
    mirrored : bool[m]
        Whether to mirror the second image of each pair before comparing.

    Examples
    --------
    >>> image = torch.randint(256, (1, 16, 16), dtype=torch.uint8).repeat_interleave(4, 1)
    >>> images = torch.cat([image, image.flip(1)]).repeat_interleave(4, 2)
    >>> pairs, sizes = torch.tensor([[0, 0], [0, 1]]), torch.full((2, 2), 64)
    >>> verify_pairs(images, sizes, pairs, torch.tensor([False, False])).round() + 0
    tensor([1., 0.])
    """
    scores, aspects = torch.empty(len(pairs)), sizes[:, 1] / sizes[:, 0]
    with _one_thread():
        for start in range(0, len(pairs), _PAIRS):
            some = torch.arange(start, min(start + _PAIRS, len(pairs)))
            first, second = pairs[some].T
            stretch = aspects[second] / aspects[first]
            scores[some] = _verify(thumbnails[first], thumbnails[second], stretch, mirrored[some])
    return scores


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread of torch: each operation is so small that several would mostly wait.

    threadpoolctl does not limit the matrix products of torch, whose MKL is linked statically.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _verify(first: Tensor, second: Tensor, aspects: Tensor, mirrored: Tensor) -> Tensor:
    """Return the scores of a batch of pairs (float32[b]). Most pairs are rejected early."""
    scores = torch.zeros(len(first))
    second = torch.where(mirrored[:, None, None], second.flip(2), second)
    first, second = first.float() / 255, second.float() / 255
    small, other = _shrink(first, _COARSE), _shrink(second, _COARSE)
    maps = _align(small, other, _start(small, other, aspects), _FIRST_STEPS)
    left = (_agreement(small, other, maps) >= _UNRELATED).nonzero().squeeze(1)
    if len(left):
        small, other = small[left], other[left]
        maps = _align(small, other, maps[left], _COARSE_STEPS)
        scores[left] = _compare(small, other, maps)
        close = ~(scores[left] < _HOPELESS)
        left, maps = left[close], maps[close]
    if len(left):
        first, second = first[left], second[left]
        scores[left] = _compare(first, second, _align(first, second, maps, _FINE_STEPS))
    return scores


def _agreement(first: Tensor, second: Tensor, maps: Tensor) -> Tensor:
    """Return the correlation of images after alignment (float[m])."""
    warped, inside = _warp(second, maps)
    return (_unit(first, inside) * _unit(warped, inside)).sum((1, 2))


def _shrink(images: Tensor, side: int) -> Tensor:
    return interpolate(images.unsqueeze(1), size=(side, side), mode="area").squeeze(1)


def _start(first: Tensor, second: Tensor, aspects: Tensor) -> Tensor:
    """Return the affine maps (float[m, 2, 3]) with the best initial scale for each pair.

    The last two candidate scales are for pairs in which one image is a crop of the other along one
    side. `aspects` are the aspect ratios of the second images relative to the first ones.
    """
    ones = torch.ones_like(aspects)
    scales = [(scale * ones, scale * ones) for scale in _SCALES]
    scales += [(1 / aspects, ones), (ones, aspects)]
    maps = torch.zeros(len(scales), len(aspects), 2, 3)
    for each, (across, down) in zip(maps, scales, strict=True):
        each[:, 0, 0], each[:, 1, 1] = across, down
    agreement = [_agreement(first, second, each) for each in maps]
    return maps[torch.stack(agreement).argmax(0), torch.arange(len(aspects))]


def _warp(images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mapped images and the masks of their valid pixels (both float[m, s, s])."""
    grid = affine_grid(maps, [len(images), 1, *images.shape[1:]], align_corners=False)
    warped = grid_sample(images.unsqueeze(1), grid, align_corners=False, padding_mode="border")
    return warped.squeeze(1), (grid.abs() <= 1).all(-1).float()


def _unit(images: Tensor, inside: Tensor) -> Tensor:
    """Return images shifted and scaled to mean 0 and norm 1 within a mask."""
    mean = (images * inside).sum((1, 2), keepdim=True) / inside.sum((1, 2), keepdim=True).clamp(1)
    centered = (images - mean) * inside
    return centered / centered.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-6)


def _align(first: Tensor, second: Tensor, maps: Tensor, steps: int) -> Tensor:
    """Improve affine maps (float[m, 2, 3]) by Gauss–Newton steps with Cauchy weights."""
    side = first.shape[1]
    places = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = places[:, None], places
    for _ in range(steps):
        warped, inside = _warp(second, maps)
        target, warped = _unit(first, inside), _unit(warped, inside)
        down, right = (slope * (side / 2) * inside for slope in torch.gradient(warped, dim=(1, 2)))
        columns = [right * x, right * y, right, down * x, down * y, down]
        jacobian = torch.stack(columns, -1).flatten(1, 2)
        residual = (target - warped).flatten(1).unsqueeze(2)
        scale = _CAUCHY * residual.abs().median(1, keepdim=True).values.clamp(min=1e-6)
        weighted = jacobian / (1 + (residual / scale).square())  # watermarks have little weight
        normal = weighted.mT @ jacobian
        damping = 1e-3 * normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-6)
        normal += damping[:, None, None] * torch.eye(6)
        step = torch.linalg.solve(normal, weighted.mT @ residual)
        maps = maps + step.view(-1, 2, 3).clamp(-_MAX_STEP, _MAX_STEP)
    return maps


def _compare(first: Tensor, second: Tensor, maps: Tensor) -> Tensor:
    """Return the scores that `verify_pairs` describes for aligned images (float[m])."""
    warped, inside = _warp(second, maps)
    side = first.shape[1]
    a, b = _contrast(first), _contrast(warped)

    def per_tile(values: Tensor, tiles: int = _TILES) -> Tensor:
        return avg_pool2d((values * inside).unsqueeze(1), side // tiles).squeeze(1)

    area = per_tile(inside)
    variances = per_tile(a * a), per_tile(b * b)
    correlations = per_tile(a * b) / (variances[0] * variances[1]).sqrt().clamp(min=1e-9)
    shown = (area > 0.5) & (torch.maximum(*variances) > _FLAT * area)
    correlations = correlations.where(shown, torch.nan)
    middle = slice(_TILES // 4, _TILES - _TILES // 4)
    inner = correlations[:, middle, middle].flatten(1)
    quartile = torch.nanquantile(correlations.flatten(1), 0.25, dim=1)
    score = torch.fmin(quartile, torch.nanquantile(inner, 0.5, dim=1))
    contrast = torch.maximum(per_tile(a * a, _FINE_TILES), per_tile(b * b, _FINE_TILES))
    content = contrast > _FLAT * per_tile(inside, _FINE_TILES)
    return score.where(content.flatten(1).float().mean(1) >= _LEAST_SHOWN, torch.nan)


def _contrast(images: Tensor) -> Tensor:
    """Return images minus their local mean."""
    width = round(_LOCAL * images.shape[1]) | 1
    local = avg_pool2d(images.unsqueeze(1), width, 1, width // 2, count_include_pad=False)
    return images - local.squeeze(1)
