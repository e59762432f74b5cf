"""Projection of embeddings to two dimensions by t-SNE."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from nearfar.errors import NearfarError
from nearfar.neighbors import ExactFinder, fit_similarity

#: Smallest number of images on a map.
MIN_MAP_IMAGES = 5
#: Most embeddings for t-SNE; the others are placed between their nearest ones on the map.
_MOST, _BETWEEN = 20_000, 3
#: Most embeddings for t-SNE in one thread.
_FEW = 2_000
#: Number of principal components for t-SNE, perplexity, and iterations.
_COMPONENTS, _PERPLEXITY, _ITERATIONS = 50, 30.0, 500


def project(embeddings: npt.NDArray[np.floating[Any]], *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return a 2-D projection of embeddings by t-SNE with cosine distance (float32[n, 2]).

    With more than 20,000 embeddings, t-SNE is computed for a random sample. Each other embedding is
    placed at the mean position of the three most similar embeddings in the sample.

    Parameters
    ----------
    embeddings : float[n, d]
        At least 5 embeddings.
    seed : int
        Seed of the sample and of t-SNE.

    Raises
    ------
    NearfarError
        If there are fewer than 5 embeddings.

    Examples
    --------
    >>> project(np.random.default_rng(0).random((20, 8))).shape
    (20, 2)
    """
    n = len(embeddings)
    if n < MIN_MAP_IMAGES:
        raise NearfarError(f"a map of {n} images: expected at least {MIN_MAP_IMAGES}")
    unit = normalize(np.asarray(embeddings, np.float32))
    if n <= _MOST:
        return _t_sne(unit, seed)
    sample = np.sort(np.random.default_rng(seed).choice(n, _MOST, replace=False))
    places = np.empty((n, 2), np.float32)
    places[sample] = _t_sne(unit[sample], seed)
    others = np.setdiff1d(np.arange(n), sample)
    bank = torch.from_numpy(unit[sample])
    finder = ExactFinder(_BETWEEN, includes_queries=False).fit(bank, fit_similarity("cosine", bank))
    queries = torch.from_numpy(unit[others])
    near = finder.search(queries, torch.full((len(others),), -1)).near.numpy()
    places[others] = places[sample][near].mean(1)
    return places


def _t_sne(unit: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    """Return the t-SNE of unit vectors, float32[n, 2].

    The squared Euclidean distance of unit vectors is twice their cosine distance.
    """
    # Principal components of identical embeddings are NaN, and t-SNE would crash the process.
    differ = unit.shape[1] > 1 and np.ptp(unit, axis=0).max() > 1e-6
    if min(unit.shape) > _COMPONENTS and differ:
        unit = PCA(_COMPONENTS, random_state=seed).fit_transform(unit)
    t_sne = TSNE(
        init="pca" if differ else "random",
        perplexity=min(_PERPLEXITY, (len(unit) - 1) / 3),
        max_iter=_ITERATIONS,
        random_state=seed,
    )
    # The steps of few embeddings are too small to share: on a busy machine, waiting takes longer.
    with threadpool_limits(1 if len(unit) <= _FEW else None):
        return t_sne.fit_transform(unit)
