"""Loading of batches, in this process and in workers."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import get_worker_info

from nearfar.data import (
    ArrayImages,
    FolderImages,
    Images,
    arrays,
    load_batches,
    open_images,
    sequential_batches,
)
from nearfar.errors import NearfarError

COUNT = 23


@pytest.fixture
def kept() -> Images:
    pixels = torch.randint(0, 256, (COUNT, 1, 9, 8), dtype=torch.uint8)
    return ArrayImages(pixels)


@pytest.fixture
def on_disk(tmp_path: Path, kept: Images, monkeypatch: pytest.MonkeyPatch) -> Images:
    """The same images in files, which are not kept."""
    for number, image in enumerate(kept.batch(range(COUNT))):
        Image.fromarray(image[0].numpy()).save(tmp_path / f"{number:02}.png")
    monkeypatch.setattr(arrays, "IN_MEMORY_BYTES", 0)
    return open_images(tmp_path)


@given(count=st.integers(0, 300), batch_size=st.integers(1, 100))
def test_in_order_covers_every_image_once(count: int, batch_size: int) -> None:
    batches = sequential_batches(range(7, 7 + count), batch_size)
    assert [number for batch in batches for number in batch] == list(range(7, 7 + count))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, tuple])
def test_load_yields_batches_with_their_numbers(kept: Images, kind: type) -> None:
    batches = [kind([3, 1, 22]), kind([0])]
    loader = load_batches(kept, batches)
    assert loader.num_workers == 0
    assert len(loader) == 2
    for _ in range(2):
        (first, pixels), (second, _) = loader
        assert (first.tolist(), second.tolist()) == ([3, 1, 22], [0])
        assert first.dtype == torch.int64
        torch.testing.assert_close(pixels, kept.batch([3, 1, 22]))


def test_load_reads_no_image_of_pairs_twice(kept: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = torch.tensor([[3, 3], [1, 22], [22, 0]])
    expected = kept.batch(pairs.flatten()).unflatten(0, (3, 2))
    read: list[int] = []

    def spy(indices: torch.Tensor) -> torch.Tensor:
        read.extend(indices.tolist())
        return ArrayImages.batch(kept, indices)  # type: ignore[arg-type]

    monkeypatch.setattr(kept, "batch", spy)
    ((rows, pixels),) = load_batches(kept, [pairs])
    assert torch.equal(rows, pairs)
    torch.testing.assert_close(pixels, expected)
    assert sorted(read) == [0, 1, 3, 22]


def test_workers_read_what_this_process_reads(kept: Images, on_disk: Images) -> None:
    assert not on_disk.in_memory
    loader = load_batches(on_disk, sequential_batches(range(COUNT), 5))
    assert loader.num_workers > 0
    for _ in range(2):
        pixels = torch.cat([batch for _, batch in loader])
        torch.testing.assert_close(pixels, kept.batch(range(COUNT)))


def test_this_process_decodes_in_threads_and_a_worker_does_not(
    on_disk: Images, tmp_path: Path
) -> None:
    def read(path: Path, shape: tuple[int, int, int]) -> torch.Tensor:
        return torch.full(shape, threading.current_thread() is threading.main_thread())

    images = FolderImages(tmp_path, read=read)
    assert not images.batch(range(COUNT)).any()
    for _, pixels in load_batches(images, [range(COUNT)], workers=1):
        assert pixels.all()


def test_workers_can_be_spawned(kept: Images, on_disk: Images) -> None:
    loader = load_batches(on_disk, sequential_batches(range(COUNT), 10), workers=1)
    loader.multiprocessing_context = "spawn"
    pixels = torch.cat([batch for _, batch in loader])
    torch.testing.assert_close(pixels, kept.batch(range(COUNT)))


@pytest.mark.parametrize("workers", [0, 1])
def test_load_raises_errors_of_one_line(on_disk: Images, tmp_path: Path, workers: int) -> None:
    (tmp_path / "07.png").unlink()
    loader = load_batches(on_disk, sequential_batches(range(COUNT), 5), workers=workers)
    with pytest.raises(NearfarError, match=r"07\.png' can no longer be read") as raised:
        list(loader)
    assert "\n" not in str(raised.value)


def test_load_leaves_global_random_numbers_alone(kept: Images) -> None:
    before = torch.get_rng_state()
    list(load_batches(kept, sequential_batches(range(COUNT), 5)))
    assert torch.equal(torch.get_rng_state(), before)


def test_signals_to_the_group_do_not_reach_the_workers(kept):
    """Ctrl-C in a terminal: training needs its images until the present step is done."""
    before = multiprocessing.active_children()
    loader = load_batches(kept, [range(10), range(10, 20)], workers=2)
    assert len(list(loader)) == 2, "both have begun to work"
    workers = [child for child in multiprocessing.active_children() if child not in before]
    assert len(workers) == 2
    assert os.getpgrp() not in {os.getpgid(worker.pid) for worker in workers}


class Reading(ArrayImages):
    """Images that workers read, and in a worker something happens at the given image."""

    in_memory = False

    def __init__(self, pixels: torch.Tensor, at: int, act: Callable[[], object]) -> None:
        super().__init__(pixels)
        self.at, self.act = at, act

    def batch(self, indices: Sequence[int] | torch.Tensor) -> torch.Tensor:
        if get_worker_info() is not None and self.at in list(indices):
            self.act()
        return super().batch(indices)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("at", [0, 22])
def test_load_ends_with_one_line_when_a_worker_is_killed(kept: Images, at: int) -> None:
    loader = load_batches(
        Reading(kept.batch(range(COUNT)), at, die), sequential_batches(range(COUNT), 2), workers=2
    )
    with pytest.raises(NearfarError, match=r"died \(signal 9\), .*smaller batches") as raised:
        list(loader)
    assert "\n" not in str(raised.value)


def test_killed_workers_raise_where_batches_are_awaited(kept: Images) -> None:
    """torch raises in a signal handler: anywhere in the program."""
    loader = load_batches(
        Reading(kept.batch(range(COUNT)), 22, die), sequential_batches(range(COUNT), 6), workers=1
    )
    batches = iter(loader)
    next(batches)
    until = time.monotonic() + 1
    while time.monotonic() < until:
        pass
    with pytest.raises(NearfarError, match="died"):
        list(batches)


HANGING = """
import threading
import torch
from nearfar.data import ArrayImages, load_batches

class Hanging(ArrayImages):
    in_memory = False

    def batch(self, indices):
        print("reading", flush=True)
        threading.Event().wait()

images = Hanging(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
list(load_batches(images, [[0], [1]], workers=2))
"""


def test_killed_process_leaves_no_worker_behind() -> None:
    """Not even one that hangs: it would keep the output open, which it shares."""
    process = subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == ["reading\n"] * 2
    process.kill()
    process.communicate(timeout=30)


def test_closed_iteration_leaves_no_worker_behind(kept: Images) -> None:
    """Not even one that hangs, and ignores SIGTERM."""

    def hang() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait()

    before = multiprocessing.active_children()
    images = Reading(kept.batch(range(COUNT)), 22, hang)
    batches = iter(load_batches(images, sequential_batches(range(COUNT), 12), workers=2))
    next(batches)
    time.sleep(0.2)
    began = time.monotonic()
    batches.close()
    while set(multiprocessing.active_children()) - set(before):
        assert time.monotonic() < began + 3
    del batches


def test_load_names_shared_memory_that_is_full(
    kept: Images, on_disk: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(os, "memfd_create", full)
    pixels = torch.cat(
        [
            batch
            for _, batch in load_batches(on_disk, sequential_batches(range(COUNT), 5), workers=1)
        ]
    )
    torch.testing.assert_close(pixels, kept.batch(range(COUNT)))
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(
        NearfarError, match=r"no room .* in /dev/shm: use smaller batches"
    ) as raised:
        list(load_batches(on_disk, sequential_batches(range(COUNT), 5), workers=1))
    assert "\n" not in str(raised.value)


def test_load_raises_one_line_if_memory_runs_out(kept: Images) -> None:
    images = Reading(kept.batch(range(COUNT)), 0, lambda: torch.empty(2**60))
    with pytest.raises(NearfarError, match="no memory to read a batch of 5 images") as raised:
        list(load_batches(images, sequential_batches(range(COUNT), 5), workers=1))
    assert "\n" not in str(raised.value)


LARGE = """
import sys, numpy as np, torch
from nearfar.data import arrays, sequential_batches, load_batches, open_images
arrays.IN_MEMORY_BYTES = 0
images = open_images(sys.argv[1], size=512, channels=3)
loader = load_batches(images, sequential_batches(range(len(images)), 4), workers=2)
for _ in range(2):
    print(sum(len(rows) for rows, _ in loader), loader.num_workers)
"""


def with_dev_shm(options: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Run a command with a /dev/shm of its own."""
    script = f"mount -t tmpfs -o {options} tmpfs /dev/shm && exec {shlex.join(map(str, command))}"
    unshare = [shutil.which("unshare") or "unshare", "-rm", "sh", "-c", script]
    return subprocess.run(unshare, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(
    not shutil.which("unshare") or with_dev_shm("size=1m", "true").returncode != 0,
    reason="no permission to mount a /dev/shm",
)
@pytest.mark.parametrize(("options", "workers"), [("size=1m", 2), ("nr_inodes=1", 0)])
def test_load_needs_no_room_in_dev_shm(tmp_path: Path, options: str, workers: int) -> None:
    """A batch takes 3 MB. Without an inode there are no semaphores, so this process reads."""
    for number in range(20):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number:02}.jpg")
    done = with_dev_shm(options, sys.executable, "-c", LARGE, tmp_path)
    assert (done.stdout, done.stderr) == (2 * f"20 {workers}\n", "")
