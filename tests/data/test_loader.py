"""Loading of batches, in this process and in workers."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nearfar.data import ArrayImages, FolderImages, Images, arrays, in_order, load, open_images
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
    batches = in_order(range(7, 7 + count), batch_size)
    assert [number for batch in batches for number in batch] == list(range(7, 7 + count))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, tuple])
def test_load_yields_batches_with_their_numbers(kept: Images, kind: type) -> None:
    batches = [kind([3, 1, 22]), kind([0])]
    loader = load(kept, batches)
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
    ((rows, pixels),) = load(kept, [pairs])
    assert torch.equal(rows, pairs)
    torch.testing.assert_close(pixels, expected)
    assert sorted(read) == [0, 1, 3, 22]


def test_workers_read_what_this_process_reads(kept: Images, on_disk: Images) -> None:
    assert not on_disk.in_memory
    loader = load(on_disk, in_order(range(COUNT), 5))
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
    for _, pixels in load(images, [range(COUNT)], workers=1):
        assert pixels.all()


def test_workers_can_be_spawned(kept: Images, on_disk: Images) -> None:
    loader = load(on_disk, in_order(range(COUNT), 10), workers=1)
    loader.multiprocessing_context = "spawn"
    pixels = torch.cat([batch for _, batch in loader])
    torch.testing.assert_close(pixels, kept.batch(range(COUNT)))


@pytest.mark.parametrize("workers", [0, 1])
def test_load_raises_errors_of_one_line(on_disk: Images, tmp_path: Path, workers: int) -> None:
    (tmp_path / "07.png").unlink()
    loader = load(on_disk, in_order(range(COUNT), 5), workers=workers)
    with pytest.raises(NearfarError, match=r"07\.png' can no longer be read") as raised:
        list(loader)
    assert "\n" not in str(raised.value)


def test_load_leaves_global_random_numbers_alone(kept: Images) -> None:
    before = torch.get_rng_state()
    list(load(kept, in_order(range(COUNT), 5)))
    assert torch.equal(torch.get_rng_state(), before)


def test_signals_to_the_group_do_not_reach_the_workers(kept):
    """Ctrl-C in a terminal: training needs its images until the present step is done."""
    before = multiprocessing.active_children()
    loader = load(kept, [range(10), range(10, 20)], workers=2)
    assert len(list(loader)) == 2, "both have begun to work"
    workers = [child for child in multiprocessing.active_children() if child not in before]
    assert len(workers) == 2
    assert os.getpgrp() not in {os.getpgid(worker.pid) for worker in workers}
