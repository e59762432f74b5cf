"""Batches of images, read by worker processes where reading costs something."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nearfar.data.arrays import as_index
from nearfar.data.images import Images
from nearfar.errors import NearfarError

Batch = tuple[Tensor, Tensor]

MOST_WORKERS = 8


def load(
    images: Images,
    batches: Iterable[Sequence[int]] | Iterable[Tensor],
    *,
    workers: int | None = None,
) -> DataLoader[Batch]:
    """Read images batch by batch.

    Parameters
    ----------
    images : Images
        The images.
    batches : iterable of sequences of int, or of int64[b] or int64[b, 2]
        The numbers of the images in each batch. Iterated once per iteration of the loader.
    workers : int, optional
        Processes that read ahead. The default is none for images in memory, and otherwise one for
        each processor, at most 8; the training processes of a machine divide its processors.

    Returns
    -------
    DataLoader
        Of pairs (indices, pixels), int64[b] and [b, c, h, w], or int64[b, 2] and [b, 2, c, h, w],
        for which no image is read twice. Draws nothing from torch's global random numbers.
    """
    if workers is None:
        processors = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = 0 if images.in_memory else max(1, min(processors, MOST_WORKERS))
    return _Loader(
        _Batches(images),
        sampler=batches,
        batch_size=None,  # the sampler gives whole batches
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_set_apart,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def in_order(rows: range, batch_size: int) -> list[range]:
    """Consecutive rows in batches."""
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


class _Batches(Dataset[Batch]):
    """Images with their numbers, a batch at a time."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, indices: Sequence[int] | Tensor) -> Batch | NearfarError:  # type: ignore[override]
        indices = as_index(indices)
        try:
            if indices.ndim == 1:
                return indices, self.images.batch(indices)
            different, places = indices.unique(return_inverse=True)
            return indices, self.images.batch(different)[places]
        except NearfarError as error:
            return error


class _Loader(DataLoader[Batch]):
    """Raises errors as they were: torch would put a worker's traceback into the message."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, NearfarError):
                try:
                    raise batch
                finally:
                    del batch  # which would keep itself, and the workers, alive by its traceback
            indices, pixels = batch
            yield indices, pixels


def _set_apart(worker: int) -> None:
    """Out of reach of signals to the group, such as Ctrl-C: stopping is up to the parent."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
