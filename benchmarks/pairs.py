"""All near pairs of a million embeddings, beside faiss; and queries against a file of them."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch

from nearfar.embeddings import EmbeddingTable, write_embedding_table
from nearfar.neighbors import near_pairs
from nearfar.search import search_stored

#: Share of rows with an altered copy, cosine similarity of the copies, and threshold.
COPIES, LIKENESS, THRESHOLD = 0.1, 0.95, 0.9
#: Queries that faiss searches; its time counts in proportion.
FAISS_QUERIES = 50_000
CLUSTERS, PROBES = 1000, 4
QUERIES = 8


def all_pairs(n: int = 1_000_000, d: int = 256) -> dict[str, float]:
    """Near pairs in a process of its own, whose memory is measured; processor seconds of all cores.

    faiss searches an IVF index of as many clusters and probes for some of the rows.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        ours = process.submit(_ours, n, d).result()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        theirs = process.submit(_faiss, n, d).result()
    ratio = theirs["faiss IVF: processor seconds"] / ours["processor seconds"]
    return {
        f"near pairs, n={n:,} d={d}: {name}": value
        for name, value in {**ours, **theirs, "speed ÷ faiss IVF's": ratio}.items()
    }


def _ours(n: int, d: int) -> dict[str, float]:
    embeddings = embeddings_with_copies(n, d)
    found, wall, processor = _timed(lambda: near_pairs(embeddings, THRESHOLD, probes=PROBES))
    return {
        "seconds": found.seconds,
        "seconds with measuring recall": wall,
        "processor seconds": processor,
        "recall": found.recall,
        "million pairs": len(found.pairs) / 1e6,
        "peak memory, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "of which the embeddings, GiB": embeddings.nbytes / 2**30,
    }


def _faiss(n: int, d: int) -> dict[str, float]:
    embeddings = embeddings_with_copies(n, d)
    faiss.normalize_L2(embeddings)
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.index_factory(d, f"IVF{CLUSTERS},Flat", faiss.METRIC_INNER_PRODUCT)
    faiss.extract_index_ivf(index).nprobe = PROBES

    def fill() -> None:
        index.train(embeddings[:: max(1, n // (64 * CLUSTERS))])
        index.add(embeddings)

    _, _, filling = _timed(fill)
    some = np.random.default_rng(1).choice(n, min(n, FAISS_QUERIES), replace=False)
    _, _, searching = _timed(lambda: index.range_search(embeddings[some], THRESHOLD))
    return {"faiss IVF: processor seconds": filling + searching * n / len(some)}


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return a result, and the seconds that it took by the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def queries_of_a_file(n: int = 1_000_000, d: int = 256) -> dict[str, float]:
    """Eight queries by name against a file of embeddings: a command, and a call.

    faiss reads an IVF index from a file and searches it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/embeddings.parquet"
        names = [f"folder/{row:07}.jpg" for row in range(n)]
        embeddings = embeddings_with_copies(n, d)
        write_embedding_table(path, EmbeddingTable(embeddings, names))
        queries = names[:QUERIES]
        command = [sys.executable, "-m", "nearfar", "search", path, "--query", *queries]

        def run() -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603

        run()  # from here on, the file is in memory
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _, command_wall, _ = _timed(run)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        _, wall, processor = _timed(lambda: search_stored(path, queries, count=10))

        faiss.normalize_L2(embeddings)
        index = faiss.index_factory(d, f"IVF{CLUSTERS},Flat", faiss.METRIC_INNER_PRODUCT)
        index.train(embeddings[:: max(1, n // (64 * CLUSTERS))])
        index.add(embeddings)
        faiss.write_index(index, f"{folder}/index.faiss")
        del index

        def search() -> None:
            index = faiss.read_index(f"{folder}/index.faiss")
            faiss.extract_index_ivf(index).nprobe = PROBES
            index.search(embeddings[:QUERIES], 10)

        search()
        _, faiss_wall, faiss_processor = _timed(search)
    used = sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime"))
    figures = {
        "command: seconds": command_wall,
        "command: processor seconds": used,
        "search_stored: seconds": wall,
        "search_stored: processor seconds": processor,
        "faiss IVF, read and searched: seconds": faiss_wall,
        "faiss IVF, read and searched: processor seconds": faiss_processor,
        "speed ÷ faiss IVF's": faiss_processor / processor,
    }
    start = f"{QUERIES} queries, file of n={n:,} d={d}"
    return {f"{start}: {name}": value for name, value in figures.items()}


def embeddings_with_copies(n: int, d: int) -> npt.NDArray[np.float32]:
    """Embeddings around a thousand centers; the last tenth are altered copies of the first."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(1000, d, generator=generator)
    embeddings = torch.empty(n, d)
    for rows in torch.arange(n).split(65_536):
        places = torch.randint(1000, (len(rows),), generator=generator)
        embeddings[rows] = centers[places] + torch.randn(len(rows), d, generator=generator)
    copies = round(COPIES * n)
    spread = embeddings[:copies].norm(dim=1, keepdim=True) * (1 / LIKENESS**2 - 1) ** 0.5 / d**0.5
    noise = torch.randn(copies, d, generator=generator)
    embeddings[n - copies :] = embeddings[:copies] + spread * noise
    return embeddings.numpy()


def all_of_pairs() -> dict[str, float]:
    """Return all figures."""
    return {**all_pairs(), **queries_of_a_file()}
