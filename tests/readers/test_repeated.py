"""A file that is read again gives the same numbers, bit for bit, whatever threads read it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nearfar.anomaly import open_clips
from nearfar.data import open_images
from readers.targets_anomaly import prepare_videos
from readers.targets_images import write_images

TIMES = 6


def images_of(folder: Path) -> bytes:
    images = open_images(folder, size=40)
    return bytes(images.batch(range(len(images))).numpy())


def frames_of(folder: Path) -> bytes:
    return b"".join(frame.pixels.tobytes() for clip in open_clips(folder) for frame in clip)


def frames_as_images(folder: Path) -> bytes:
    images = open_images(folder, size=40, frame_rate=10)
    return bytes(images.batch(range(len(images))).numpy())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("read", [images_of, frames_of, frames_as_images])
def test_reading_again_gives_the_same(read, tmp_path):
    if read is images_of:
        write_images(tmp_path)
    else:
        prepare_videos(tmp_path, tmp_path)
    one_by_one = [read(tmp_path) for _ in range(TIMES)]
    with ThreadPoolExecutor(TIMES) as pool:
        at_once = list(pool.map(read, [tmp_path] * TIMES))
    assert len(one_by_one[0]) > 0
    assert np.unique([hash(each) for each in one_by_one + at_once]).size == 1
