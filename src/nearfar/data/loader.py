"""Batches of images, prefetched by worker processes if images are not in memory."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from nearfar.data.arrays import as_index
from nearfar.data.images import Images
from nearfar.errors import NearfarError

Batch = tuple[Tensor, Tensor]

MAX_WORKERS = 8

#: Error message from reading if memory runs out.
_NO_MEMORY = "can't allocate memory"
#: Errors left behind by a dead worker: torch's report, or a refused or broken connection.
_SIGNS_OF_DEATH = (RuntimeError, OSError, EOFError, multiprocessing.AuthenticationError)
#: Seconds to wait until the system reports the end of a worker.
_END_SECONDS = 1.0

_waiting = False


def is_waiting_for_images() -> bool:
    """Return whether the main thread is waiting for workers, so that signals may interrupt it.

    Examples
    --------
    >>> is_waiting_for_images()
    False
    """
    return _waiting


def load_batches(
    images: Images,
    batches: Iterable[Sequence[int]] | Iterable[Tensor],
    *,
    workers: int | None = None,
    before_wait: Callable[[], None] | None = None,
) -> DataLoader[Batch]:
    """Read images batch by batch.

    Parameters
    ----------
    images : Images
        Images to read.
    batches : iterable of sequence of int, or of int64[b] or int64[b, 2]
        Image indices of each batch. The iterable is iterated once per pass over the loader.
    workers : int, optional
        Number of worker processes. Default: none for images in memory, otherwise one per CPU core,
        at most 8. If several training processes run on a machine, they share its cores.
    before_wait : callable, optional
        Function to call before each wait for a batch, after `is_waiting_for_images` has become
        true. It may raise an exception, for example if a signal arrived shortly before.

    Returns
    -------
    DataLoader
        Loader that yields pairs (indices, pixels). Their shapes are [b] and [b, c, h, w]; or [b, 2]
        and [b, 2, c, h, w] for batches of pairs, where repeated images are read once. The loader
        does not change torch's global random state.

    Raises
    ------
    NearfarError
        During iteration: if an image can no longer be read, memory runs out, or a worker dies.

    Notes
    -----
    Workers send pixels in anonymous memory, which is not limited by the size of ``/dev/shm``. If
    worker processes cannot be started, images are read in the current process.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.data import images_from_array, sequential_batches
    >>> images = images_from_array(np.zeros((5, 8, 8), np.uint8))
    >>> for indices, pixels in load_batches(images, sequential_batches(range(5), batch_size=3)):
    ...     print(indices.tolist(), tuple(pixels.shape))
    [0, 1, 2] (3, 1, 8, 8)
    [3, 4] (2, 1, 8, 8)
    """
    if workers is None:
        processors = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = 0 if images.in_memory else max(1, min(processors, MAX_WORKERS))
    return _Loader(
        _Batches(images),
        before_wait,
        sampler=_Rows(batches),
        batch_size=None,  # the sampler yields whole batches
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_as_is,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def sequential_batches(rows: range, batch_size: int) -> list[range]:
    """Split consecutive rows into batches.

    Examples
    --------
    >>> sequential_batches(range(5), batch_size=3)
    [range(0, 3), range(3, 5)]
    """
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


class _Rows:
    """Indices of each batch as arrays.

    Arrays are sent to workers through a pipe; torch would send tensors through ``/dev/shm``.
    """

    def __init__(self, batches: Iterable[Sequence[int]] | Iterable[Tensor]) -> None:
        self.batches: Any = batches

    def __iter__(self) -> Iterator[Any]:
        return (as_index(batch).numpy() for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Batches(Dataset[Batch]):
    """Dataset that returns the images and indices of a batch."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, rows: Any) -> Any:
        try:
            pixels = self._read(torch.as_tensor(rows))
            return rows, pixels if get_worker_info() is None else _shared(pixels)
        except NearfarError as error:
            return error

    def _read(self, indices: Tensor) -> Tensor:
        try:
            if indices.ndim == 1:
                return self.images.batch(indices)
            distinct, places = indices.unique(return_inverse=True)
            return self.images.batch(distinct)[places]
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and _NO_MEMORY not in str(error):
                raise
            raise NearfarError(
                f"no memory to read a batch of {len(indices)} images of shape "
                f"{list(self.images.shape)}: use smaller batches or images"
            ) from error


@dataclass(frozen=True)
class _SharedPixels:
    """Pixels in anonymous memory that a worker shares with its parent process."""

    handle: Any
    shape: torch.Size
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """Map the memory into this process and return the pixels. Call this once."""
        descriptor = self.handle.detach()
        try:
            memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        return torch.frombuffer(memory, dtype=self.dtype).view(self.shape)

    def pin_memory(self, device: str | None = None) -> Tensor:
        """Copy the pixels to page-locked memory. The loader calls this in a thread."""
        return self.tensor().pin_memory()


def _shared(pixels: Tensor) -> _SharedPixels | Tensor:
    """Move a worker's pixels to memory that the parent process can map.

    Memory is allocated here, since torch would allocate it in a thread, and errors in that thread
    would not reach the parent.
    """
    with suppress(OSError, AttributeError):  # a system without memfd_create
        descriptor = os.memfd_create("batch")
        with os.fdopen(descriptor, "wb") as file:
            file.write(pixels.contiguous().numpy().data)
            file.flush()
            return _SharedPixels(DupFd(descriptor), pixels.shape, pixels.dtype)
    try:
        return pixels.share_memory_()
    except (OSError, RuntimeError) as error:
        raise NearfarError(
            f"no room for a batch of {pixels.nbytes:,} bytes in /dev/shm: use smaller batches, or "
            "a larger /dev/shm (docker run --shm-size)"
        ) from error


class _Loader(DataLoader[Batch]):
    """Data loader that raises one-line errors, to which torch would add the worker's traceback."""

    def __init__(
        self, images: _Batches, before_wait: Callable[[], None] | None, **options: Any
    ) -> None:
        super().__init__(images, **options)
        self.before_wait = before_wait

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        try:
            for batch in self._batches():
                if isinstance(batch, NearfarError):
                    try:
                        raise batch
                    finally:
                        del batch  # the traceback would keep itself and the workers alive
                indices, pixels = batch
                yield torch.as_tensor(indices), pixels
        except BaseException:
            self._end_workers()
            raise

    def _batches(self) -> Iterator[Any]:
        """Yield the batches that workers send. Raise a one-line error if a worker dies."""
        batches = None
        while True:
            try:
                with _wait(self.num_workers > 0):
                    if self.before_wait is not None:
                        self.before_wait()
                    batches = self._start() if batches is None else batches
                    batch = next(batches)
                    if isinstance(batch, Sequence) and isinstance(batch[1], _SharedPixels):
                        batch = batch[0], batch[1].tensor()
            except StopIteration:
                return
            except _SIGNS_OF_DEATH as error:
                if (code := self._dead_worker()) is None:
                    raise
                cause = f"signal {-code}" if code < 0 else f"exit code {code}"
                raise NearfarError(
                    f"a process that reads images died ({cause}), probably for lack of "
                    "memory: use smaller batches or images, or free memory"
                ) from error
            yield batch

    def _start(self) -> Iterator[Any]:
        try:
            multiprocessing.Lock()  # torch's iterator would fail halfway through
            batches: Any = super().__iter__()
        except OSError:  # no semaphores, or no more processes
            self.num_workers = 0
            batches = super().__iter__()
        # A signal handler would raise errors of dead workers anywhere in the program. Workers are
        # also checked while waiting for a batch.
        if getattr(batches, "_worker_pids_set", False):
            torch._C._remove_worker_pids(id(batches))
            batches._worker_pids_set = False
        return cast(Iterator[Any], batches)

    def _workers(self) -> Sequence[Any]:
        return getattr(self._iterator, "_workers", ())

    def _dead_worker(self) -> int | None:
        """Return the exit code of a worker that died, or None if all are alive."""
        for worker in self._workers():
            worker.join(_END_SECONDS / len(self._workers()))
            if worker.exitcode is not None:
                return int(worker.exitcode)
        return None

    def _end_workers(self) -> None:
        """Kill the workers. torch would wait for them, even if some hang."""
        for worker in self._workers():
            worker.kill()
        self._iterator = None


@contextmanager
def _wait(for_workers: bool) -> Iterator[None]:
    global _waiting
    _waiting = for_workers and threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        _waiting = False


def _as_is(batch: Any) -> Any:
    return batch


def _start_worker(worker: int) -> None:
    """Shield a worker from signals to the process group, such as Ctrl-C.

    The parent process stops the workers. If it is killed, they end by themselves: torch's own check
    misses a parent that is killed while the worker starts, and does not run while an image is read.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
