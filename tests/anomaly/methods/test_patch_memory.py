"""Memory of normal patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from clips import Stop, stop_at
from nearfar.anomaly import ArrayClip, DetectorConfig, Grid, as_frames, fit_detector, read_detector
from nearfar.anomaly.methods import PatchMemory
from nearfar.anomaly.methods.memory import (
    PatchEncoder,
    choose_centers,
    has_default_encoder,
)
from nearfar.errors import NearfarError
from textures import textures

needs_weights = pytest.mark.skipif(
    not has_default_encoder(), reason="no weights of EfficientNet-lite0"
)


def colors(tiles: torch.Tensor) -> torch.Tensor:
    """Mean color of each cell."""
    return torch.nn.functional.avg_pool2d(tiles, 8).permute(0, 2, 3, 1)


@pytest.mark.parametrize("seed", range(4))
def test_centers_are_the_farthest_points_one_after_another(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(300, 8, generator=generator) ** 3
    chosen = choose_centers(points, 40, seed=seed)
    assert len(set(chosen.tolist())) == 40
    distances = torch.cdist(points, points[chosen]).double()
    for i in range(1, 40):
        reach = distances[:, :i].amin(1)
        assert float(reach[chosen[i]]) == pytest.approx(float(reach.max()), rel=1e-3)
    # No set of 40 centers reaches all points within less than half of this distance.
    apart = torch.cdist(points[chosen], points[chosen]).fill_diagonal_(torch.inf).min()
    assert distances.amin(1).max() <= apart + 1e-3


def test_centers_cover_better_than_a_sample_through_the_projection():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2000, 6, generator=generator) ** 3 @ torch.randn(
        6, 152, generator=generator
    )
    chosen = choose_centers(points, 100)
    reach = torch.cdist(points, points[chosen]).amin(1).max()
    assert reach < torch.cdist(points, points[:100]).amin(1).max()


def test_centers_are_distinct_among_equal_points():
    assert sorted(choose_centers(torch.zeros(5, 3), 4).tolist())[-1] < 5
    assert len(set(choose_centers(torch.zeros(5, 3), 4).tolist())) == 4
    assert sorted(choose_centers(torch.zeros(3, 2), 9).tolist()) == [0, 1, 2]


def test_distance_equals_that_of_sklearn():
    generator = torch.Generator().manual_seed(0)
    bank, features = (torch.randn(n, 152, generator=generator) for n in (500, 196))
    distances = PatchMemory(colors, bank).distances(features.view(4, 7, 7, 152))
    expected, _ = NearestNeighbors(n_neighbors=1).fit(bank.numpy()).kneighbors(features.numpy())
    np.testing.assert_allclose(distances.flatten().numpy(), expected[:, 0], rtol=1e-5)


def test_score_depends_on_color():
    method = PatchMemory(colors, torch.tensor([[0.5, 0.5, 0.5], [0.4, 0.4, 0.4]]))
    image = np.full((1, 50, 90, 3), 127, np.uint8)
    assert method.score(image, Grid((50, 90), 1, 1)).max() < 0.01
    image[0, 20:30, 40:50] = (200, 93, 110)  # the same brightness
    heat = method.score(image, Grid((50, 90), 1, 1))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert heat.max() > 0.1
    assert 20 <= row < 30
    assert 40 <= column < 50


def test_encoder_refuses_a_run_without_feature_maps(tmp_path):
    with pytest.raises(NearfarError, match="no such"):
        PatchEncoder.open(str(tmp_path / "no such"))


@needs_weights
def test_painted_block_raises_the_score_on_long_thin_images_of_any_size(tmp_path):
    normal = [*textures(6), *textures(6, (70, 200), seed=1)]
    config = DetectorConfig.stills(bank_size=500, false_alarms=0.3)
    assert config.methods == ("patch-memory",)
    fit_detector([ArrayClip(normal)], tmp_path / "run", config)
    detector = read_detector(tmp_path / "run")
    assert detector.calibrated_on == 12
    (image,) = textures(1, (60, 180), seed=2)
    for left in (2, 85, 168):
        painted = image.copy()
        painted[24:34, left : left + 10] = 255
        plain, block = detector.score(as_frames([image, painted], photographs=True))
        assert block.heat.shape == (60, 180)
        assert block.score > 1.5 * plain.score
        assert block.score > detector.threshold
        row, column = np.unravel_index(block.heat.argmax(), block.heat.shape)
        assert 20 <= row < 38
        assert left - 5 <= column < left + 15


def test_normal_images_are_scored_against_all_others():
    generator = torch.Generator().manual_seed(0)
    bank = torch.rand(60, 3, generator=generator)
    frames = torch.arange(60) // 20
    method = PatchMemory(colors, bank, frames)
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    grid = Grid((224, 224), 1, 1)
    for number in range(3):
        others = PatchMemory(colors, bank[frames != number])
        expected = others.score(image[None], grid)
        np.testing.assert_allclose(method.score_left_out(image[None], grid, number), expected)
    with pytest.raises(NearfarError, match="bank_size=20: nearly all normal patches are from one"):
        PatchMemory(colors, bank[:20], frames[:20]).score_left_out(image[None], grid, 0)


@needs_weights
def test_threshold_is_that_of_images_left_out_of_the_memory(tmp_path):
    """Also after an interruption, when the memory is read again."""
    normal = ArrayClip(textures(9))
    config = DetectorConfig.stills(bank_size=700)
    detector = fit_detector([normal], tmp_path / "run", config)
    (method,) = detector.methods
    assert sorted(set(method.frames.tolist())) == list(range(9))
    with pytest.raises(Stop):
        fit_detector([normal], tmp_path / "again", config, track=stop_at("threshold", 3))
    again = fit_detector([normal], tmp_path / "again", config, resume=True)
    assert again.threshold == detector.threshold
    inside = [scored.score for scored in detector.score(normal.as_photographs())]
    assert max(inside) < detector.threshold, "images in the memory are near themselves"
    assert read_detector(tmp_path / "run").expected_false_alarms == config.false_alarms == 0.05
