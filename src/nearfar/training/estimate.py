"""Estimation of the time, memory and disk space of a training run from a few steps."""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nearfar.config import TrainConfig, flatten
from nearfar.data import Images, Subset
from nearfar.files import free_space
from nearfar.models import apply, resolve_device
from nearfar.progress import Track, silent
from nearfar.runs import Run, RunConfig, RunData, check_folder, check_resumable
from nearfar.training.distributed import launch
from nearfar.training.footprint import checkpoint_footprint, disk_footprint, memory_footprint
from nearfar.training.objectives import Context, make_objective
from nearfar.training.train import resolve_config, train

#: Steps to time, after as many steps to warm up.
STEPS = 4

#: Size of the matrices whose product is timed.
SIDE = 2048


@dataclass(frozen=True)
class Estimate:
    """Estimated time, memory and disk space of a training run.

    Parameters
    ----------
    seconds : dict of float
        Time of each activity with one process, in seconds, by name of the activity.
    memory : int
        Peak memory, in bytes. For training on a GPU, this is GPU memory; otherwise, main memory.
    disk : dict of int
        Disk space in the run folder, in bytes, by purpose.
    free_disk : int
        Free space on the disk of the run folder, in bytes.

    Examples
    --------
    >>> Estimate({"training": 60.0}, 2**30, {"embeddings": 2**20}, 2**40).disk
    {'embeddings': 1048576}
    """

    seconds: dict[str, float]
    memory: int
    disk: dict[str, int]
    free_disk: int


def estimate(
    images: Images,
    config: TrainConfig,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: Track = silent,
) -> Estimate:
    """Estimate the time, memory and disk space of a training run from a trial on a few images.

    Search time is estimated from the measured throughput of matrix multiplication. If the bank is
    on a slow disk, searches take longer than estimated.

    Parameters
    ----------
    images, config, overwrite, track
        See `train`.
    folder : str or path
        Run folder. Nothing is written to this folder.
    resume : bool
        Whether the run in `folder` is to be resumed; an error is raised if this is impossible. The
        estimate is for the whole training run, including the completed part.

    Raises
    ------
    NearfarError
        If the settings do not suit the images or the folder cannot be used, see `train`.

    Examples
    --------
    >>> from nearfar.data import ArrayImages
    >>> images = ArrayImages(torch.rand(40, 1, 8, 8))
    >>> estimated = estimate(images, TrainConfig(), "no-such-run")
    >>> list(estimated.seconds)
    ['pre-training', 'training', 'bank', 'clusters and neighbors', 'embeddings']
    """
    folder = Path(folder)
    if resume:
        check_resumable(folder, RunConfig(RunData.of(images), resolve_config(config, images)))
    else:
        check_folder(folder, overwrite=overwrite)
    n, optim, device = len(images), config.optim, resolve_device(config.device)
    context = Context(images, config, launch(config), track=track)
    objective = make_objective(context)
    sample, tried = _try(images, config, track)
    network = tried.network
    disk = disk_footprint(context, network, objective)
    encoding = n * _encoding_seconds(network.to(device).encoder, sample, device)
    rate = {line["phase"]: line["images_per_second"] for line in tried.log}
    seconds = {}
    if optim.pretrain_epochs:
        seconds["pre-training"] = optim.pretrain_epochs * n / rate["pretrain"]
    if optim.epochs:
        seconds["training"] = optim.epochs * n / rate["train"]
        per_multiplication = _seconds_per_multiplication(device)
        seconds |= {
            name: work.encodings * encoding + work.multiplications * per_multiplication
            for name, work in objective.work(network).items()
        }
    seconds["embeddings"] = encoding
    memory = memory_footprint(context, network, objective)
    if device.type == "cuda":
        memory += torch.cuda.max_memory_allocated(device)
    else:
        memory += peak_memory() + checkpoint_footprint(context, network, objective)
    return Estimate(seconds, memory, disk, free_space(folder))


def _try(images: Images, config: TrainConfig, track: Track) -> tuple[Images, Run]:
    """Train for two epochs per phase on a few images, and return these images and the run."""
    least = flatten(config).get("neighbors", 1) + 1
    count = min(len(images), max(STEPS * config.optim.batch_size, least))
    sample = Subset(images, np.linspace(0, len(images) - 1, count).astype(np.int64))
    return sample, train(sample, config.for_trial(), track=track)


def _seconds_per_multiplication(device: torch.device) -> float:
    """Return the time per multiplication, in seconds, measured in a large matrix product."""
    one, other = torch.rand(2, SIDE, SIDE, device=device)
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        (one @ other).sum().item()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / SIDE**3


def _encoding_seconds(encoder: nn.Module, images: Images, device: torch.device) -> float:
    """Return the time for encoding one image, in seconds, measured on `images`."""
    encoder.eval()
    began = time.perf_counter()
    seen = 0
    embeddings: Tensor
    for number, (rows, embeddings) in enumerate(apply(encoder, images, device=device)):
        embeddings.sum().item()  # wait for the GPU
        if number == 0 and len(rows) < len(images):
            began = time.perf_counter()  # exclude worker startup
        else:
            seen += len(rows)
    return (time.perf_counter() - began) / seen


def peak_memory() -> int:
    """Return the peak main memory of this process so far, in bytes."""
    # On Linux, getrusage's peak starts at the memory of the parent process.
    with suppress(OSError), Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
