"""Coreset selection: choice of a few points such that every other point is close to one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.progress import Track, silent

#: Dimensions of the random projection in which distances are compared.
_DIMENSIONS = 64


@torch.no_grad()
def choose_centers(points: Tensor, count: int, *, seed: int = 0, track: Track = silent) -> Tensor:
    """Choose centers greedily: each is the point farthest from all earlier centers [1]_.

    The largest distance from a point to the nearest center is at most twice the minimum over all
    choices, up to the error of a random projection to 64 dimensions [2]_.

    Parameters
    ----------
    points : float32[n, d]
        Points.
    count : int
        Number of centers. If there are fewer points, all of them are chosen.
    seed : int
        Random seed for the projection and the first center.
    track : Track
        Progress display. See `nearfar.progress.Track`.

    Returns
    -------
    int64[min(count, n)]
        Row numbers of the centers, in the order of selection.

    References
    ----------
    .. [1] T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical
       Computer Science 38, 1985.
    .. [2] S. Dasgupta, A. Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss",
       Random Structures and Algorithms 22(1), 2003.

    Examples
    --------
    >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1], [9.0]])
    >>> sorted(points[choose_centers(points, 3)].round().flatten().tolist())
    [0.0, 5.0, 9.0]
    """
    generator = torch.Generator().manual_seed(seed)
    n, d = points.shape
    if d > _DIMENSIONS:
        points = points @ (torch.randn(d, _DIMENSIONS, generator=generator) / _DIMENSIONS**0.5)
    norms = points.square().sum(1)
    distances = torch.full((n,), torch.inf)
    chosen = torch.empty(min(count, n), dtype=torch.int64)
    next_center = int(torch.randint(n, (), generator=generator))
    for i in track(range(len(chosen)), "choosing patches", len(chosen)):
        chosen[i] = next_center
        from_center = torch.addmv(norms, points, points[next_center], alpha=-2)
        torch.minimum(distances, from_center.add_(norms[next_center]), out=distances)
        distances[next_center] = -torch.inf  # chosen only once, even among equal points
        next_center = int(distances.argmax())
    return chosen
