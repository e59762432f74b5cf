"""Clips and patches of UCSD Ped2, on small clips of its layout."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nearfar.anomaly import open_clips
from nearfar.errors import NearfarError
from nearfar.experiments.ped2 import FOLDER, Reading
from nearfar.progress import silent

HEIGHT, WIDTH = 60, 80


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for part, number in (("Train", 1), ("Train", 2), ("Test", 1)):
        folder = tmp_path / FOLDER / part / f"{part}{number:03}"
        folder.mkdir(parents=True)
        for frame in range(6):
            pixels = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
            Image.fromarray(pixels).save(folder / f"{frame + 1:03}.png")
    masks = tmp_path / FOLDER / "Test" / "Test001_gt"
    masks.mkdir()
    for frame in range(6):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[5 * frame : 5 * frame + 5] = 255  # a line that sinks
        Image.fromarray(mask).save(masks / f"{frame + 1:03}.png")
    return tmp_path


def test_rows_are_cropped_with_their_masks(root):
    (cropped,) = Reading(rows=(15, 55)).open(root, "Test")
    (whole,) = open_clips(root / FOLDER / "Test")
    for frame, of_whole in zip(cropped, whole, strict=True):
        np.testing.assert_array_equal(frame.pixels, of_whole.pixels[15:55])
    masks = [cropped.mask(number, cropped.name, (40, WIDTH)) for number in range(6)]
    assert [mask.any() for mask in masks] == [False, False, False, True, True, True]
    assert masks[4].sum() == 5 * WIDTH
    assert masks[4][5:10].all()


def test_patches_of_random_frames(root):
    reading = Reading(rows=(15, 55), frames=5, stride=10)
    normal = reading.open(root, "Train")
    patches = reading.patches(normal, 1, silent)
    assert patches.shape == (1, 30, 30)
    assert len(patches) == 5 * 2 * 6  # two rows of six patches per frame
    frames = [frame.pixels for clip in normal for frame in clip]
    corner = patches[0].numpy()[0]
    assert sum(np.array_equal(corner, frame[:30, :30]) for frame in frames) == 1


def test_missing_data_set_is_named(tmp_path):
    with pytest.raises(NearfarError, match="put UCSD Ped2 there"):
        Reading().open(tmp_path, "Train")
