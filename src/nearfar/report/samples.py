"""Some images with their near and far samples, as a network's embeddings see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from nearfar.config import SimilarityName
from nearfar.data import Images, to_unit
from nearfar.neighbors import ExactFinder, Similarity, fit_similarity
from nearfar.report.figures import neighbor_sheet


@dataclass(frozen=True)
class NearFarSamples:
    """Queries with what is near to and far from them among some images.

    Attributes
    ----------
    names : list of str
        What each query is called.
    queries : Tensor
        Pixels, float[q, c, h, w], where 0…1 is black…white.
    images : Images
        Where near and far samples come from.
    near, far : Tensor
        Their rows, int64[q, T].
    near_similarity, far_similarity : Tensor
        How similar their embeddings are to the query's, float[q, T].
    """

    names: list[str]
    queries: Tensor
    images: Images
    near: Tensor
    far: Tensor
    near_similarity: Tensor
    far_similarity: Tensor

    def figure(self) -> Figure:
        """Draw the queries, each with its samples."""
        return neighbor_sheet(self.queries.numpy(), self._pixels(self.near), self._pixels(self.far))

    def to_dict(self) -> dict[str, Any]:
        """Return names, rows and similarities, as JSON holds them."""
        names = self.images.names()
        sides = {
            "near": (self.near.tolist(), self.near_similarity.tolist()),
            "far": (self.far.tolist(), self.far_similarity.tolist()),
        }
        return {
            "data": self.images.name,
            "queries": [
                {"query": query}
                | {
                    side: [
                        {"row": row, "name": names[row], "similarity": similarity}
                        for row, similarity in zip(rows[i], values[i], strict=True)
                    ]
                    for side, (rows, values) in sides.items()
                }
                for i, query in enumerate(self.names)
            ],
        }

    def _pixels(self, rows: Tensor) -> Any:
        pixels = to_unit(self.images.batch(rows.flatten().tolist()))
        return pixels.unflatten(0, rows.shape).numpy()


def find_samples(
    names: Sequence[str],
    queries: Tensor,
    query_embeddings: Tensor,
    own: Sequence[int],
    images: Images,
    embeddings: Tensor,
    *,
    count: int,
    similarity: SimilarityName | Callable[..., Similarity],
) -> NearFarSamples:
    """Find the `count` most and least similar images to each query.

    Parameters
    ----------
    queries, query_embeddings : Tensor
        Pixels float[q, c, h, w] and embeddings float[q, d].
    own : sequence of int
        The row of each query among the images, −1 if it is not one of them.
    embeddings : Tensor
        Embeddings of the images, float[n, d].

    Raises
    ------
    NearfarError
        If there are not so many images.
    """
    measure = fit_similarity(similarity, embeddings)
    finder = ExactFinder(count).fit(embeddings, measure)
    found = finder.search(query_embeddings, torch.tensor(own, dtype=torch.int64))
    each = query_embeddings.unsqueeze(1)
    return NearFarSamples(
        list(names),
        queries,
        images,
        found.near,
        found.far,
        measure(each, embeddings[found.near]),
        measure(each, embeddings[found.far]),
    )
