"""What a training will take, from a few steps of it."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nearfar import runs
from nearfar.data import Images, Subset
from nearfar.files import free_space
from nearfar.models import apply, resolve_device
from nearfar.neighbors import ClusteredFinder
from nearfar.neighbors.clustered import KMEANS_SAMPLE_NUMBERS, KMEANS_SAMPLE_PER_CLUSTER
from nearfar.neighbors.kmeans import KMEANS_ITERATIONS
from nearfar.progress import Track, silent
from nearfar.training.config import TrainConfig
from nearfar.training.needs import bank_size, checkpoint_bytes, disk_needs, memory_needs
from nearfar.training.reference import make_reference
from nearfar.training.relation import make_finder
from nearfar.training.train import check_continuation, train

#: Steps that are timed; as many are made before, which are slower.
STEPS = 4

#: Numbers in a row and a column of the product that tells how fast this machine multiplies.
SIDE = 2048


@dataclass(frozen=True)
class Plan:
    """What a training will take.

    Parameters
    ----------
    seconds : dict of float
        By what is done; estimates for one process.
    memory : int
        Bytes of main memory, or of the GPU's where the training is on one.
    disk : dict of int
        Bytes in the run folder, by what they are for.
    free_disk : int
        Bytes that are free there.
    """

    seconds: dict[str, float]
    memory: int
    disk: dict[str, int]
    free_disk: int


def plan(
    images: Images,
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reference: nn.Module | None = None,
    track: Track = silent,
) -> Plan:
    """Train on a few of the images, and reckon from that what all of them will take.

    Searches are reckoned from how fast this machine multiplies matrices; reading the bank from a
    slow disk comes on top of that.

    Parameters
    ----------
    images, config, resume, overwrite, reference
        As for `nearfar.training.train.train`; the plan of a run to resume is that of the whole.
    folder : Path
        The run folder; nothing is written to it.

    Raises
    ------
    NearfarError
        As `train`.
    """
    if resume:
        check_continuation(folder, images, config)
    else:
        runs.check_folder(folder, overwrite=overwrite)
    n = len(images)
    make_finder(config).check(n)
    reference = make_reference(config, reference, images)
    tried_on = min(n, max(STEPS * config.batch_size, config.neighbors + 1))
    some = np.linspace(0, n - 1, tried_on).astype(np.int64)
    sample = Subset(images, some)
    tried = train(
        sample,
        replace(
            config,
            reference=None,
            reference_weights=None,
            pretrain_epochs=2 * (config.pretrain_epochs > 0),
            epochs=2 * (config.epochs > 0),
            clusters=None,
            bank="memory",
            refresh=min(config.refresh, 1),
        ),
        reference=reference,
        track=track,
    )
    device = resolve_device(config.device)
    network = tried.autoencoder
    disk = disk_needs(config, images, network, reference)
    size = bank_size(config, images, network, reference)
    encoding = n * _encoding_seconds(network.to(device).encoder, sample, device)
    rate = {line["phase"]: line["images_per_second"] for line in tried.log}
    seconds = {}
    if config.pretrain_epochs:
        seconds["pre-training"] = config.pretrain_epochs * n / rate["pretrain"]
    if config.epochs:
        refreshes = (config.epochs - 1) // config.refresh if config.refresh else 0
        embeddings = config.relation == "embeddings"
        fits, searches = (refreshes, refreshes) if embeddings else (1 + refreshes, config.epochs)
        seconds["relational training"] = config.epochs * n / rate["relational"]
        seconds["bank"] = fits * encoding
        cost = fits * _fit_cost(config, n, size) + searches * _search_cost(config, n, size)
        seconds["clusters and neighbors"] = cost * _seconds_each(device)
    seconds["embeddings"] = encoding
    memory = memory_needs(config, images, network, reference)
    if device.type == "cuda":
        memory += torch.cuda.max_memory_allocated(device)
    else:
        memory += peak_memory() + checkpoint_bytes(config, images, network, reference)
    return Plan(seconds, memory, disk, free_space(folder))


def _clusters(config: TrainConfig, n: int) -> int:
    """K; for an exact search there is one cluster."""
    finder = make_finder(config)
    return finder.clusters_of(n) if isinstance(finder, ClusteredFinder) else 1


def _fit_cost(config: TrainConfig, n: int, d: int) -> int:
    """Multiplications for k-means on a sample, and for finding each row's cluster."""
    clusters = _clusters(config, n)
    sample = min(n, KMEANS_SAMPLE_PER_CLUSTER * clusters, KMEANS_SAMPLE_NUMBERS // d)
    return (KMEANS_ITERATIONS * sample + n) * clusters * d if clusters > 1 else 0


def _search_cost(config: TrainConfig, n: int, d: int) -> int:
    """Multiplications for searching the own cluster, for every image."""
    return n * (n // _clusters(config, n)) * d


def _seconds_each(device: torch.device) -> float:
    """How long a multiplication takes, among many."""
    one, other = torch.rand(2, SIDE, SIDE, device=device)
    taken = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        (one @ other).sum().item()
        taken.append(time.perf_counter() - begun)
    return min(taken) / SIDE**3


def _encoding_seconds(encoder: nn.Module, images: Images, device: torch.device) -> float:
    """How long encoding takes an image."""
    encoder.eval()
    begun = time.perf_counter()
    seen = 0
    embeddings: Tensor
    for number, (rows, embeddings) in enumerate(apply(encoder, images, device=device)):
        embeddings.sum().item()  # waits for the GPU
        if number == 0 and len(rows) < len(images):
            begun = time.perf_counter()  # without the time that workers need to start
        else:
            seen += len(rows)
    return (time.perf_counter() - begun) / seen


def peak_memory() -> int:
    """Return the most main memory that this process has had, in bytes."""
    # What getrusage says begins, on Linux, with the memory of the process that started this one.
    with suppress(OSError), Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
