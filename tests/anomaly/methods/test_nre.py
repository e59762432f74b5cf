"""Reconstruction error and embedding distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clips import QUICK, scores_of
from nearfar.anomaly import (
    DetectorConfig,
    EmbeddingDistance,
    Grid,
    fit_detector,
    open_clips,
)


@pytest.mark.parametrize(
    "config",
    [
        DetectorConfig.paper(patch=16, stride=16),
        DetectorConfig(
            methods=("embedding-distance",),
            patch=16,
            stride=8,
            frames=1,
            smoothing=0.0,
            independent_frames=True,
            bank_size=50,
        ),
        DetectorConfig(methods=("embedding-distance", "reconstruction"), patch=16, frames=2),
        DetectorConfig(
            methods=("embedding-distance", "reconstruction"), patch=16, frames=2, scale_by_row=True
        ),
    ],
    ids=["paper", "stills", "both", "by row"],
)
def test_nre_detector_reads_back_its_scores(config, normal, abnormal, tmp_path):
    made = fit_detector(open_clips(normal), tmp_path / "run", config, QUICK)
    (clip,) = open_clips(abnormal)
    scores = [scored.score for scored in made.score(clip)]
    np.testing.assert_array_equal(scores, scores_of(tmp_path / "run", clip))
    assert np.isfinite(scores).all()
    assert min(scores) >= 0
    assert not list((tmp_path / "run").rglob("*.npy"))


def test_embedding_distance_of_normal_patches_is_zero():
    encoder = torch.nn.Flatten()
    window = np.random.default_rng(0).integers(0, 256, (1, 16, 16), dtype=np.uint8)
    grid = Grid((16, 16), 8, 8)
    bank = torch.from_numpy(grid.extract(window)).float().flatten(1) / 255
    np.testing.assert_allclose(EmbeddingDistance(encoder, bank).score(window, grid), 0, atol=1e-2)
    moved = EmbeddingDistance(encoder, bank[:1] + 1).score(window, grid)
    assert moved[0, 0] == pytest.approx(8, rel=1e-4)


def test_score_converts_one_batch_of_patches_at_a_time():
    class Whole(torch.nn.Flatten):
        def forward(self, patches):
            assert patches.untyped_storage().nbytes() == patches.nbytes
            return super().forward(patches)

    window = np.zeros((1, 40, 40), np.uint8)
    grid = Grid((40, 40), 8, 1)
    distances = EmbeddingDistance(Whole(), torch.zeros(1, 64)).score(window, grid)
    assert distances.shape == (33, 33)
    assert not distances.any()
