"""ImageNet's scale: a bank on disk, growth with n, decoding, and the step of an AlexNet."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.finders import blobs
from benchmarks.training import context, epoch_seconds
from benchmarks.turns import in_turns, ratio, seconds
from nearfar.config import recipe
from nearfar.data import ArrayImages, FolderImages, load_batches
from nearfar.neighbors import ClusteredFinder, DiskBank, ExactFinder, bank_chunks, fit_similarity
from nearfar.runs import make_network
from nearfar.training import Objective, Reconstruction, Relational
from nearfar.training.distributed import SEARCH_SIZE
from nearfar.training.estimate import peak_memory

IMAGENET = 1_281_167
ROUNDS = 3
SAMPLE = 1000
PIECE = 65_536


def bank_on_disk(n: int = IMAGENET, d: int = 4096, clusters: int = 400) -> dict[str, float]:
    """The clustered finder on a bank on disk, in a process of its own; in TMPDIR, 2·n·d bytes."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        measured = process.submit(_bank_on_disk, n, d, clusters).result()
    return {f"on disk, n={n:,} d={d} K={clusters}: {k}": v for k, v in measured.items()}


class _Timed(ClusteredFinder):
    """Says how long each stage takes."""

    seconds: dict[str, float]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - begun

    def _learn_centers(self, *args: Any) -> Tensor:
        with self._timed("k-means on a sample, seconds"):
            return super()._learn_centers(*args)

    def _assign(self, *args: Any) -> Tensor:
        with self._timed("assignment, seconds"):
            return super()._assign(*args)

    def _near(self, *args: Any) -> Tensor:
        with self._timed("near search for all, seconds"):
            return super()._near(*args)

    def _far(self, *args: Any) -> Tensor:
        with self._timed("far search for all, seconds"):
            return super()._far(*args)


def _bank_on_disk(n: int, d: int, clusters: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        DiskBank.create(Path(folder) / "bank", n, d)
        bank = DiskBank(Path(folder) / "bank", n, d)
        _fill(bank)
        writing = time.perf_counter() - begun
        finder = _Timed(1, clusters)
        finder.seconds = {}
        begun = time.perf_counter()
        finder.fit(bank, fit_similarity("cosine", bank))
        for places in finder.query_order().split(SEARCH_SIZE // d):
            finder.search(bank[places], places)
        whole = time.perf_counter() - begun
        rows = torch.randint(n, (256,), generator=torch.Generator().manual_seed(1))
        begun = time.perf_counter()
        _ = bank[rows]
        reading = time.perf_counter() - begun
        return {
            "making and writing the embeddings, seconds": writing,
            **finder.seconds,
            "all of this but writing, with reading the embeddings as queries, seconds": whole,
            "reading 256 rows anywhere, milliseconds": reading * 1000,
            "peak memory, GiB": peak_memory() / 2**30,
            "of the bank in single precision, GiB": bank.nbytes / 2**30,
        }


def _fill(bank: DiskBank, centers: int = 1000) -> None:
    """Embeddings around some centers."""
    n, d = bank.shape
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(centers, d, generator=generator)
    for rows in bank_chunks(bank):
        places = torch.arange(n)[rows]
        around = middles[torch.randint(centers, (len(places),), generator=generator)]
        noise = torch.randn(around.shape, generator=generator)
        bank[places] = around.add_(noise, alpha=0.7).relu_()


def growth(sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000), d: int = 64) -> dict[str, float]:
    """The clustered finder and faiss's IVF with as many clusters, √n, each visiting one: n^1.5."""
    results: dict[str, float] = {}
    for n in sizes:
        bank = blobs(n, d)
        keys = normalize(bank).numpy()
        clusters = round(n**0.5)
        own, some = torch.arange(n), torch.linspace(0, n - 1, SAMPLE).long()
        similarity = fit_similarity("cosine", bank)
        right = ExactFinder(1).fit(bank, similarity).search(bank[some], some).near

        begun = time.perf_counter()
        finder = ClusteredFinder(1).fit(bank, similarity)
        fitting = time.perf_counter() - begun
        begun = time.perf_counter()
        near = torch.cat([finder.search(bank[rows], rows).near for rows in own.split(PIECE)])
        searching = time.perf_counter() - begun

        begun = time.perf_counter()
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, clusters, faiss.METRIC_INNER_PRODUCT)
        index.train(keys)
        index.add(keys)
        their_fitting = time.perf_counter() - begun
        begun = time.perf_counter()
        found = torch.from_numpy(index.search(keys, 2)[1])
        their_searching = time.perf_counter() - begun
        theirs = torch.where(found[:, :1] == own[:, None], found[:, 1:], found[:, :1])

        figures = {
            "fit, seconds": fitting,
            "fit, seconds of faiss IVF": their_fitting,
            "search for all, near and far, seconds": searching,
            "search for all, near only, seconds of faiss IVF": their_searching,
            "recall@1": _recall(near[some], right),
            "recall@1 of faiss IVF": _recall(theirs[some], right),
        }
        results |= {f"growth, n={n:,} d={d} K={clusters}: {k}": v for k, v in figures.items()}
    return results


def _recall(found: Tensor, right: Tensor) -> float:
    return (found == right).float().mean().item()


def decoding(count: int = 2000, workers: int = 2) -> dict[str, float]:
    """Photographs from files to batches, beside torchvision's data set with torch's loader."""
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        _photographs(Path(folder) / "one class", count)
        for size in (64, 224):
            ours = FolderImages(Path(folder), size=size, channels=3)
            ours.in_memory = False  # as if there were millions
            steps = [transforms.Resize(size), transforms.CenterCrop(size)]
            theirs = DataLoader(
                ImageFolder(folder, transforms.Compose([*steps, transforms.PILToTensor()])),
                batch_size=256,
                num_workers=workers,
            )
            batches = torch.arange(count).split(256)
            loaders = {"ours": load_batches(ours, batches, workers=workers), "theirs": theirs}
            taken = in_turns(
                {name: partial(seconds, _read, loader) for name, loader in loaders.items()},
                ROUNDS,
                unmeasured=1,
            )
            title = f"decoding 500×375 to {size}×{size}: images/s"
            results |= {
                title: count / median(taken["ours"]),
                f"{title} ÷ torchvision's": ratio(taken["theirs"], taken["ours"]),
            }
    return results


def _read(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def _photographs(folder: Path, count: int) -> None:
    """JPEG files of ImageNet's usual size: smooth color, with some noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-20, 21, smooth.shape, np.int16)
        pixels = noisy.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06}.jpg", quality=90)


def alexnet(count: int = 512, batch: int = 64, size: int = 64) -> dict[str, float]:
    """An epoch of NRE with AlexNet and its mirror, as a ratio to one of the plain autoencoder."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)
    images = ArrayImages(pixels)
    config = recipe(
        "paper", backbone="alexnet", embedding_size=4096, device="cpu", batch_size=batch, epochs=1
    )
    network = make_network(config, images.shape)
    surroundings = context(images, config)
    kinds: dict[str, Objective] = {
        "plain": Reconstruction(surroundings),
        "relational": Relational(surroundings),
    }
    taken = in_turns(
        {name: partial(epoch_seconds, network, kind) for name, kind in kinds.items()},
        ROUNDS,
        unmeasured=1,
    )
    title = f"AlexNet, {size}×{size}, batches of {batch}"
    return {
        f"{title}: NRE step ÷ autoencoder step": ratio(taken["relational"], taken["plain"]),
        f"{title}: autoencoder, images/s": count / median(taken["plain"]),
    }
