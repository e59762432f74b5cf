"""Operations that combine the results of all training processes.

With a single process, no data is exchanged.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nearfar.config import TrainConfig
from nearfar.data import Images
from nearfar.errors import NearfarError, reason
from nearfar.models import apply, resolve_device
from nearfar.neighbors import Bank, Finder, Neighbors, Workers
from nearfar.progress import Track, silent

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Source location at the start of gloo's error messages.
_SOURCE = re.compile(r"^\[\S+\] ")

#: Maximum time for which processes wait for each other.
TIMEOUT = timedelta(minutes=30)

#: Maximum number of values in the queries of a search; many queries at once are efficient.
SEARCH_SIZE = 2**24

_PRECISION: dict[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}


def launch(config: TrainConfig) -> Fabric:
    """Return a launched Fabric: the device, the precision and the processes of a training run.

    The processes are those started by torchrun or ``fabric run``, otherwise this process alone.
    """
    fabric = _launched(config)
    if fabric.world_size > 1:
        atexit.register(_leave)
    return fabric


def _launched(config: TrainConfig) -> Fabric:
    # Imported when training starts, since it brings matplotlib and other large packages along.
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    precision = _PRECISION[config.precision]
    if os.environ.get("LT_CLI_USED") == "1":
        return Fabric(precision=precision)  # already launched
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    device = resolve_device(config.device)
    if device.index is not None and local * nodes > 1:
        raise NearfarError(
            f"device={config.device!r} for {local * nodes} processes: expected {device.type!r}, "
            "with one device per process"
        )
    devices = local if device.index is None or device.type == "cpu" else [device.index]
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=nodes,
        precision=precision,
        strategy=DDPStrategy(timeout=TIMEOUT) if local * nodes > 1 else "auto",
    )
    fabric.launch()
    return fabric


def _leave() -> None:
    """Destroy the process group. Otherwise, gloo threads may abort a process when it exits."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def explain_lost_processes(fabric: Fabric) -> Iterator[None]:
    """Context manager that raises a one-line error if contact with another process is lost."""
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, dist.DistError) or "gloo" in str(error)  # of no class of its own
        if fabric.world_size == 1 or not lost:
            raise
        why = _SOURCE.sub("", reason(error))
        raise NearfarError(
            f"process {fabric.global_rank} lost contact with another process, which was killed "
            f"or is on an unreachable machine ({why}): resume the run"
        ) from error


def rank_rows(fabric: Fabric, n: int) -> range:
    """Return the part of ``range(n)`` that this process handles."""
    rank, size = fabric.global_rank, fabric.world_size
    return range(n * rank // size, n * (rank + 1) // size)


def all_sum(fabric: Fabric, values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    if fabric.world_size == 1:
        return values
    total = cast(Tensor, fabric.all_reduce(values.clone(), reduce_op="sum"))  # works in place
    return total.to(values.device)


def all_max(fabric: Fabric, values: Tensor) -> Tensor:
    """Return the elementwise maximum of a tensor over all processes."""
    if fabric.world_size == 1:
        return values
    most = cast(Tensor, fabric.all_reduce(values.clone(), reduce_op="max"))
    return most.to(values.device)


def fill_bank(
    bank: Bank,
    function: Callable[[Tensor], Tensor],
    images: Images,
    fabric: Fabric,
    track: Track = silent,
) -> None:
    """Fill a bank with the embeddings of all images. Each process computes a share of the rows.

    Parameters
    ----------
    bank : Bank
        Bank of zeros (float[n, d]). A bank on disk is shared by all processes.
    function : callable
        Function that takes images (float[b, c, h, w]) and returns embeddings (float[b, d]).
    images : Images
        Images to encode.
    fabric : Fabric
        Device and processes.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    """
    rows = rank_rows(fabric, len(images))
    for indices, embeddings in apply(
        function, images, device=fabric.device, rows=rows, track=track
    ):
        bank[indices.to(bank.device)] = embeddings.to(bank.device)
    if isinstance(bank, Tensor) and fabric.world_size > 1:
        bank.copy_(all_sum(fabric, bank))
    fabric.barrier()


def search_all(
    finder: Finder, queries: Bank, count: int, draw: int, fabric: Fabric, track: Track = silent
) -> Neighbors:
    """Return the near and far rows of all images. Each process searches for a share of the images.

    Parameters
    ----------
    finder : Finder
        Finder that was fitted to a bank.
    queries : Bank
        Query embeddings (float[n, d]), one for each row of the bank.
    count : int
        Number T of near rows and of far rows per query.
    draw : int
        Index of the draw, see `Finder.search`.
    fabric : Fabric
        Processes.
    track : Track
        Progress display, see `nearfar.progress.Track`.
    """
    mine = rank_rows(fabric, len(queries))
    table = torch.zeros(2, len(queries), count, dtype=torch.int64, device=queries.device)
    at_once = max(1, SEARCH_SIZE // queries.shape[1])
    starts = range(mine.start, mine.stop, at_once)
    order = finder.query_order()
    for start in track(starts, "searching", len(starts)):
        rows = order[start : min(start + at_once, mine.stop)]
        found = finder.search(queries[rows], rows, draw)
        table[0, rows], table[1, rows] = found.near, found.far
    return Neighbors(*all_sum(fabric, table))


def gather_rows(fabric: Fabric, values: Tensor) -> Tensor:
    """Return the concatenated rows of all processes, with gradients for every process."""
    if fabric.world_size == 1:
        return values
    counts = cast(Tensor, fabric.all_gather(torch.tensor(len(values)))).tolist()
    missing = values.new_zeros(max(counts) - len(values), *values.shape[1:])
    parts = cast(Tensor, fabric.all_gather(torch.cat([values, missing]), sync_grads=True))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def workers(fabric: Fabric) -> Workers:
    """Return the functions by which `Finder.fit` divides work among the processes."""
    return Workers(partial(rank_rows, fabric), partial(all_sum, fabric))


def broadcast_buffers(fabric: Fabric, module: nn.Module) -> None:
    """Copy buffers, such as batch normalization statistics, from the first process to all others.

    DDP copies the buffers before every forward pass, but each pass changes them again.
    """
    if fabric.world_size > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
