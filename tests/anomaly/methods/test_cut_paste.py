"""Near and far examples, and the network trained on them."""

from __future__ import annotations

import numpy as np
import pytest

from nearfar.anomaly import ArrayClip, DetectorConfig, as_frames, fit_detector
from nearfar.anomaly.methods import CutPaste
from nearfar.anomaly.methods.cut_paste import CutPasteTraining, change
from textures import textures


@pytest.mark.parametrize("seed", range(20))
def test_change_marks_what_differs_and_keeps_the_rest(seed):
    generator = np.random.default_rng(seed)
    image, donor = (generator.integers(60, 200, (112, 112, 3)).astype(np.uint8) for _ in range(2))
    before = image.copy()
    example = change(image, donor, np.random.default_rng(seed))
    np.testing.assert_array_equal(image, before)
    differs = np.abs(example.image.astype(int) - image).mean(2)
    assert (differs[example.mask] > 9).all()
    assert (differs[~example.mask] < 11).all()
    assert example.mask.mean() < 0.5


def test_changes_reach_from_scars_to_patches_anywhere():
    generator = np.random.default_rng(0)
    image, donor = np.full((112, 112, 3), 90, np.uint8), np.full((112, 112, 3), 250, np.uint8)
    masks = [change(image, donor, generator).mask for _ in range(400)]
    shares = np.array([mask.mean() for mask in masks])
    assert np.quantile(shares, 0.1) < 0.002
    assert np.quantile(shares, 0.9) > 0.04
    everywhere = np.mean(masks, axis=0)
    assert everywhere.min() > 0
    again = np.random.default_rng(0)
    np.testing.assert_array_equal(change(image, donor, again).mask, masks[0])


def test_painted_block_raises_the_score(tmp_path, monkeypatch):
    training = CutPasteTraining(tiles=40, side=64, epochs=2, steps=50, batch_size=16)
    monkeypatch.setattr(CutPaste, "training", training)
    config = DetectorConfig.stills(methods=("cut-paste",), false_alarms=0.3)
    normal = textures(12)
    detector = fit_detector([ArrayClip(normal)], tmp_path / "run", config)
    (image,) = textures(1, seed=2)
    painted = image.copy()
    painted[24:36, 85:97] = 255
    plain, block = detector.score(as_frames([image, painted], photographs=True))
    assert block.score > plain.score + 3
    assert block.score > detector.threshold
    row, column = np.unravel_index(block.heat.argmax(), block.heat.shape)
    assert 18 <= row < 42
    assert 79 <= column < 103
