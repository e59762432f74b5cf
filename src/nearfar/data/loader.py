"""Batches of images, read ahead by worker processes where reading is slow."""

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

MAX_WORKERS = 8


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
        Images to read.
    batches : iterable of sequence of int, or of int64[b] or int64[b, 2]
        Image numbers of each batch. Iterated once per iteration of the loader.
    workers : int, optional
        Number of processes that read ahead. Default: none for images in memory, otherwise one per
        processor, at most 8; training processes on one machine share its processors.

    Returns
    -------
    DataLoader
        Pairs (indices, pixels): int64[b] and [b, c, h, w]; or int64[b, 2] and [b, 2, c, h, w],
        where repeated images are read once. Global random numbers of torch are unaffected.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array, in_order
    >>> images = images_from_array(np.zeros((5, 8, 8), np.uint8))
    >>> for indices, pixels in load(images, in_order(range(5), batch_size=3)):
    ...     print(indices.tolist(), tuple(pixels.shape))
    [0, 1, 2] (3, 1, 8, 8)
    [3, 4] (2, 1, 8, 8)
    """
    if workers is None:
        processors = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = 0 if images.in_memory else max(1, min(processors, MAX_WORKERS))
    return _Loader(
        _Batches(images),
        sampler=batches,
        batch_size=None,  # the sampler yields whole batches
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_leave_process_group,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def in_order(rows: range, batch_size: int) -> list[range]:
    """Split consecutive rows into batches.

    Examples
    --------
    >>> in_order(range(5), batch_size=3)
    [range(0, 3), range(3, 5)]
    """
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


class _Batches(Dataset[Batch]):
    """Batches of images with their numbers."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, indices: Sequence[int] | Tensor) -> Batch | NearfarError:  # type: ignore[override]
        indices = as_index(indices)
        try:
            if indices.ndim == 1:
                return indices, self.images.batch(indices)
            distinct, places = indices.unique(return_inverse=True)
            return indices, self.images.batch(distinct)[places]
        except NearfarError as error:
            return error


class _Loader(DataLoader[Batch]):
    """Data loader whose errors stay one line: torch would add the traceback of the worker."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, NearfarError):
                try:
                    raise batch
                finally:
                    del batch  # its traceback would keep itself, and the workers, alive
            indices, pixels = batch
            yield indices, pixels


def _leave_process_group(worker: int) -> None:
    """Shield a worker from signals to the group, such as Ctrl-C: the parent stops it."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
