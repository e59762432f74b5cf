"""Exact and near duplicates.

Candidates are found by comparing a few crops of each image, and are verified by alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate, normalize

from nearfar.curation.alignment import verify_pairs
from nearfar.curation.thumbnails import Thumbnails
from nearfar.data import Images, StoredImages
from nearfar.neighbors import ExactFinder, fit_similarity
from nearfar.progress import Track, silent

#: Minimum score at which a pair counts as near duplicates, see `verify_pairs`.
NEAR_DUPLICATE = 0.85
#: Maximum color difference from gray, in [0, 1], in any part of an image that counts as grayscale,
#: and minimum cosine similarity between the colors of duplicates if neither is grayscale.
_GRAY, _SAME_COLORS = 0.02, 0.5

#: Descriptors: central crops of these relative sizes, in grayscale, resized to this side.
_PARTS, _DESCRIPTOR = (1.0, 0.9, 0.8), 8
#: Candidates per image, and their minimum cosine similarity.
_CANDIDATES, _LEAST_SIMILARITY = 10, 0.6
#: Maximum number of images whose mirror images are counted.
_LOOKED_AT = 500
#: Pairs per step of the progress display.
_PAIRS = 1024


class Duplicates(NamedTuple):
    """Pairs of duplicates.

    Attributes
    ----------
    pairs : int64[m, 2]
        Row numbers of the two images in each pair.
    scores : float32[m]
        Agreement of the pixels of each pair, or 1 if the thumbnails are equal. See `verify_pairs`.
    exact : bool[m]
        Whether all pixels of the two image files are equal.
    mirrored : bool[m]
        Whether one image of each pair is the mirror image of the other.

    Examples
    --------
    >>> none = np.empty(0, bool)
    >>> len(Duplicates(np.empty((0, 2), int), np.empty(0), none, none).pairs)
    0
    """

    pairs: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    exact: npt.NDArray[np.bool_]
    mirrored: npt.NDArray[np.bool_]


def find_duplicates(
    thumbnails: Thumbnails,
    sources: Sequence[tuple[Images, int]],
    *,
    embeddings: npt.NDArray[np.float32] | None = None,
    mirrored: bool = False,
    track: Track = silent,
) -> Duplicates:
    """Find duplicates: exact copies, and resized, compressed, cropped, framed or watermarked ones.

    Candidates are the images with the most similar pixels in one of three central crops and, if
    given, with the most similar embeddings. Each candidate is verified by comparing pixels, so that
    similar photographs do not count as duplicates.

    Parameters
    ----------
    thumbnails : Thumbnails
        Thumbnails of the images. See `thumbnails`.
    sources : sequence of (Images, int)
        Image set and row of each thumbnail. If thumbnails are equal, all pixels of these images are
        compared.
    embeddings : float32[n, d], optional
        Embeddings of the images, used to find additional candidates.
    mirrored : bool
        Whether mirror images count as duplicates.

    Examples
    --------
    >>> from nearfar.curation import thumbnails
    >>> from nearfar.data import images_from_array
    >>> pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    >>> pixels[7] = pixels[3]
    >>> images = images_from_array(pixels)
    >>> find_duplicates(thumbnails(images), [(images, row) for row in range(20)]).pairs
    array([[3, 7]])
    """
    first_of, equal = _equal_thumbnails(thumbnails.gray)
    own = torch.from_numpy(np.unique(first_of))
    some, sizes = thumbnails.gray[own], thumbnails.sizes[own]
    every = torch.arange(len(some))
    points = None if embeddings is None else embeddings[own.numpy()]
    candidates = _candidates(some, points, every)
    flipped = torch.zeros(len(candidates), dtype=torch.bool)
    if mirrored:
        mirror = _candidates(some, None, every, mirrored=True)
        candidates = torch.cat([candidates, mirror])
        flipped = torch.cat([flipped, torch.ones(len(mirror), dtype=torch.bool)])
    pieces = torch.arange(len(candidates)).split(_PAIRS)
    verified = [
        verify_pairs(some, sizes, candidates[piece], flipped[piece])
        for piece in track(pieces, "verifying duplicates", len(pieces))
    ]
    scores = torch.cat([torch.empty(0), *verified])
    near = scores >= NEAR_DUPLICATE
    near[near.clone()] = _same_colors(thumbnails.colors[own], candidates[near], flipped[near])
    pairs = np.concatenate([equal, own[candidates[near]].numpy()])
    exact = np.zeros(len(pairs), bool)
    exact[: len(equal)] = _equal_pixels(equal, sources)
    return Duplicates(
        pairs,
        np.concatenate([np.ones(len(equal), np.float32), scores[near].numpy()]),
        exact,
        np.concatenate([np.zeros(len(equal), bool), flipped[near].numpy()]),
    )


def count_mirrored(thumbnails: Thumbnails, *, seed: int = 0) -> tuple[int, int]:
    """Return how many of at most 500 sampled images have a mirror image, and the sample size.

    A pair that is also a duplicate without mirroring is not counted.

    Examples
    --------
    >>> from nearfar.curation import thumbnails
    >>> from nearfar.data import images_from_array
    >>> pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    >>> pixels[7] = pixels[3, :, ::-1]
    >>> count_mirrored(thumbnails(images_from_array(pixels)))
    (2, 20)
    """
    n = len(thumbnails.gray)
    rows = np.random.default_rng(seed).choice(n, min(n, _LOOKED_AT), replace=False)
    some = torch.from_numpy(rows)
    pairs = _candidates(thumbnails.gray, None, some, mirrored=True)
    flipped = torch.ones(len(pairs), dtype=torch.bool)
    gray, colors, sizes = thumbnails
    near = verify_pairs(gray, sizes, pairs, flipped) >= NEAR_DUPLICATE
    near[near.clone()] = _same_colors(colors, pairs[near], flipped[near])
    # Duplicates of a symmetric object are mirror images, too.
    near[near.clone()] = ~(verify_pairs(gray, sizes, pairs[near], ~flipped[near]) >= NEAR_DUPLICATE)
    return int(np.isin(rows, pairs[near].numpy()).sum()), len(rows)


def group_duplicates(duplicates: Duplicates, n: int) -> npt.NDArray[np.int64]:
    """Return the group of each image (int64[n]), or −1 for images in no pair.

    Images that are connected by a chain of pairs belong to the same group.

    Examples
    --------
    >>> none = np.zeros(2, bool)
    >>> pairs = Duplicates(np.array([[1, 4], [2, 4]]), np.ones(2, np.float32), none, none)
    >>> group_duplicates(pairs, 5)
    array([-1,  0,  0, -1,  0])
    """
    first, second = duplicates.pairs.T
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(n, n))
    component = connected_components(graph, directed=False)[1]
    sizes = np.bincount(component, minlength=1)
    group = np.full(n, -1, np.int64)
    members = sizes[component] > 1
    group[members] = np.unique(component[members], return_inverse=True)[1]
    return group


def _equal_thumbnails(
    thumbnails: Tensor,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return, for each row, the first row with the same thumbnail, and the pairs of such rows."""
    seen: dict[bytes, int] = {}
    first_of = np.array(
        [
            seen.setdefault(sha256(pixels.tobytes()).digest(), row)
            for row, pixels in enumerate(thumbnails.numpy())
        ],
        np.int64,
    )
    rows = np.flatnonzero(first_of != np.arange(len(first_of)))
    return first_of, np.stack([first_of[rows], rows], 1)


def _same_colors(colors: Tensor, pairs: Tensor, mirrored: Tensor) -> Tensor:
    """Return whether the images of each pair have similar colors (bool[m]).

    This is also true if one image is grayscale.
    """
    first, second = (colors[pairs[:, side]].float() for side in (0, 1))
    second = torch.where(mirrored[:, None, None, None], second.flip(3), second)
    most = (each.norm(dim=1).amax((1, 2)) for each in (first, second))
    similarity = cosine_similarity(first.flatten(1), second.flatten(1))
    return (torch.minimum(*most) < _GRAY) | (similarity >= _SAME_COLORS)


def _equal_pixels(
    pairs: npt.NDArray[np.int64], sources: Sequence[tuple[Images, int]]
) -> npt.NDArray[np.bool_]:
    """Return whether all pixels of the images in each pair are equal (bool[m])."""
    checksums = {row: _checksum(*sources[row]) for row in np.unique(pairs).tolist()}
    return np.array([checksums[a] == checksums[b] for a, b in pairs.tolist()], bool)


def _checksum(images: Images, row: int) -> bytes:
    """Return a checksum of an image's pixels, at full size if the image is stored in a file."""
    pixels = images.full_size(row) if isinstance(images, StoredImages) else images[row]
    return sha256(repr(pixels.shape).encode() + pixels.numpy().tobytes()).digest()


def _candidates(
    thumbnails: Tensor,
    embeddings: npt.NDArray[np.float32] | None,
    rows: Tensor,
    *,
    mirrored: bool = False,
) -> Tensor:
    """Return candidate pairs (int64[m, 2]) of one of the given rows and any other row."""
    n = len(thumbnails)
    count = min(_CANDIDATES, n - 1)
    if count < 1:
        return torch.empty(0, 2, dtype=torch.int64)
    queries = _descriptors(thumbnails[rows], 1.0)
    views = thumbnails.flip(2) if mirrored else thumbnails
    pairs = [_nearest(queries, rows, _descriptors(views, part), count) for part in _PARTS]
    if embeddings is not None and not mirrored:
        points = normalize(torch.from_numpy(embeddings))
        pairs.append(_nearest(points[rows], rows, points, count))
    return torch.cat(pairs).sort(1).values.unique(dim=0)


def _descriptors(thumbnails: Tensor, part: float) -> Tensor:
    """Return the pixels of downsampled central crops as unit vectors (float[n, 64])."""
    margin = round(thumbnails.shape[1] * (1 - part) / 2)
    inner = thumbnails[:, margin : thumbnails.shape[1] - margin]
    inner = inner[:, :, margin : thumbnails.shape[2] - margin]
    small = torch.cat(
        [
            interpolate(some.float().unsqueeze(1), size=(_DESCRIPTOR, _DESCRIPTOR), mode="area")
            for some in inner.split(4096)
        ]
    ).flatten(1)
    return normalize(small - small.mean(1, keepdim=True))


def _nearest(queries: Tensor, rows: Tensor, bank: Tensor, count: int) -> Tensor:
    """Return pairs of each query's row and the rows of its nearest neighbors.

    Neighbors that are not similar enough are left out.
    """
    similarity = fit_similarity("cosine", bank)
    near = ExactFinder(count).fit(bank, similarity).search(queries, rows).near
    pairs = torch.stack([rows[:, None].expand_as(near), near], 2).flatten(0, 1)
    similar = similarity(queries.repeat_interleave(count, 0), bank[pairs[:, 1]])
    return pairs[similar >= _LEAST_SIMILARITY]
