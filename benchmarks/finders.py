"""Finders against faiss and scikit-learn, and the clustered finder against the exact one."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median

import faiss
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.turns import in_turns, ratio, seconds
from nearfar.neighbors import (
    ClusteredFinder,
    ExactFinder,
    allocate_rows,
    compare_finders,
    fit_similarity,
)
from nearfar.training.estimate import peak_memory

ROUNDS = 3
BATCH = 256
STEPS = 50
PIECE = 65_536
SAMPLE = 1000


def exact_against_faiss_and_sklearn(n: int = 60_000, d: int = 128) -> dict[str, float]:
    """Near and far rows of all of n embeddings, beside the near rows alone from others.

    scikit-learn searches for every tenth embedding, and its time counts ten times.
    """
    bank = _smooth_embeddings(n, d)
    keys = normalize(bank).numpy()
    query_rows = torch.arange(n)
    index = faiss.IndexFlatIP(d)
    index.add(keys)
    brute = NearestNeighbors(metric="cosine", algorithm="brute").fit(bank.numpy())
    results: dict[str, float] = {}
    for count in (1, 5):
        finder = ExactFinder(count).fit(bank, fit_similarity("cosine", bank))
        taken = in_turns(
            {
                "ours": partial(seconds, finder.search, bank, query_rows),
                "faiss": partial(seconds, index.search, keys, count),
                "sklearn": partial(seconds, brute.kneighbors, bank[::10].numpy(), count),
            },
            ROUNDS,
        )
        ours, theirs, slow = taken.values()
        results |= {
            f"exact, T={count}: seconds": median(ours),
            f"exact, T={count}: speed ÷ faiss's, near only": ratio(theirs, ours),
            f"exact, T={count}: speed ÷ scikit-learn's, near only": 10 * ratio(slow, ours),
        }
    return results


def clustered(n: int, d: int, clusters: int) -> dict[str, float]:
    """The clustered finder with T = 1 beside the exact one, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        measured = process.submit(_clustered, n, d, clusters).result()
    return {f"clustered, n={n:,} d={d} K={clusters}: {k}": v for k, v in measured.items()}


def _clustered(n: int, d: int, clusters: int) -> dict[str, float]:
    bank = blobs(n, d)
    similarity = fit_similarity("cosine", bank)
    start = time.perf_counter()
    finder = ClusteredFinder(1, clusters).fit(bank, similarity)
    fitting = time.perf_counter() - start
    start = time.perf_counter()
    for rows in torch.arange(n).split(PIECE):
        finder.search(bank[rows], rows)
    searching = time.perf_counter() - start
    peak = peak_memory() / 2**30

    batches = torch.randint(n, (STEPS, BATCH), generator=torch.Generator().manual_seed(1))
    steps = []
    for rows in batches:
        queries = bank[rows]
        start = time.perf_counter()
        finder.search(queries, rows)
        steps.append(time.perf_counter() - start)

    exact = ExactFinder(1).fit(bank, similarity)
    some = torch.linspace(0, n - 1, SAMPLE).long()
    start = time.perf_counter()
    exact.search(bank[some], some)
    exactly = (time.perf_counter() - start) * n / SAMPLE
    quality = compare_finders(finder, exact, bank[some], some)
    return {
        "fit, seconds": fitting,
        "search for all, seconds": searching,
        "search for all: speed ÷ exact finder's": exactly / searching,
        f"search for {BATCH}, milliseconds": median(steps) * 1000,
        "peak memory, GiB": peak,
        "of which the bank, GiB": bank.nbytes / 2**30,
        "recall@1": quality.recall,
        "far hubs": quality.far_hubs,
        "far hubs of the exact finder": quality.exact_far_hubs,
    }


def _smooth_embeddings(n: int, d: int) -> Tensor:
    """Embeddings like those of a small autoencoder: a few factors, some noise, a ReLU."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(n, 16, generator=generator) @ torch.randn(16, d, generator=generator)
    return (factors + 0.3 * torch.randn(n, d, generator=generator) + 0.5).relu_()


def blobs(n: int, d: int, blobs: int = 1000) -> Tensor:
    """Embeddings around some centers, made piece by piece."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(blobs, d, generator=generator)
    bank = allocate_rows(n, d)
    for piece in bank.split(10_000):
        around = centers[torch.randint(blobs, (len(piece),), generator=generator)]
        piece.copy_((around + 0.7 * torch.randn(piece.shape, generator=generator)).relu_())
    return bank
