"""Memory of moving objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clips import QUICK
from nearfar.anomaly import ArrayClip, DetectorConfig, Grid, fit_detector
from nearfar.anomaly.methods import ObjectMemory
from nearfar.anomaly.methods.memory import PatchEncoder, has_default_encoder
from nearfar.anomaly.methods.memory.object_memory import encode_patches
from nearfar.errors import NearfarError
from nearfar.models.backbones import FeatureGrid

needs_weights = pytest.mark.skipif(
    not has_default_encoder(), reason="no weights of EfficientNet-lite0"
)


class MeanColors(nn.Module):
    """Encoder with one feature map of stride 32: mean colors."""

    def feature_maps(self, images: torch.Tensor) -> dict[FeatureGrid, torch.Tensor]:
        return {FeatureGrid(stride=32): torch.nn.functional.avg_pool2d(images, 32)}


def walker(brightness: int, *, frames: int = 24) -> np.ndarray:
    video = np.full((frames, 192, 384), 100, np.uint8)
    for number, frame in enumerate(video):
        frame[32:160, 8 * number : 8 * number + 48] = brightness
    return video


@pytest.mark.parametrize("mirrored", [False, True])
def test_features_are_those_of_the_patch(mirrored):
    frame = np.zeros((128, 256), np.uint8)
    frame[:, 128:] = 255
    frame = frame[:, ::-1] if mirrored else frame
    grid = Grid(frame.shape, 128, 128)
    features = encode_patches(PatchEncoder(MeanColors(), "colors"), frame, np.array([0, 1]), grid)
    expected = [[1.0] * 3, [0.0] * 3] if mirrored else [[0.0] * 3, [1.0] * 3]
    assert features[:, :1].flatten().tolist() == pytest.approx([e[0] for e in expected], abs=0.2)


def test_unusual_objects_score_high_and_still_ones_zero():
    encoder, grid = PatchEncoder(MeanColors(), "colors"), Grid((192, 384), 128, 32)
    normal = [walker(level)[4:6] for level in (20, 40, 160)]
    bank = torch.cat(
        [
            encode_patches(encoder, each[-1], np.arange(grid.shape[0] * grid.shape[1]), grid)
            for each in normal
        ]
    )
    method = ObjectMemory(encoder, bank)
    usual, unusual = (method.score(walker(level)[4:6], grid) for level in (40, 250))
    assert usual.max() == pytest.approx(0, abs=1e-4)
    assert unusual.max() > 0.2
    assert not method.score(np.repeat(walker(250)[4:5], 2, 0), grid).any()


@needs_weights
def test_tall_objects_are_scored_by_it_and_small_ones_by_their_motion():
    tall = DetectorConfig.video([ArrayClip(walker(200), rate=25)])
    assert (tall.methods, tall.patch, tall.step, tall.zoom) == (("object-memory",), 128, 5, 1.0)
    assert tall.smoothing == 8.0
    small = walker(200)[:, ::4, ::4]
    assert DetectorConfig.video([ArrayClip(small, rate=25)]).methods == ("motion", "appearance")
    low = walker(200)[:, 32:144]
    assert DetectorConfig.video([ArrayClip(low, rate=25)]).methods == ("motion", "appearance")
    chosen = DetectorConfig.video([ArrayClip(walker(200), rate=25)], methods=("appearance",))
    assert (chosen.methods, chosen.patch) == (("appearance",), 48)


@needs_weights
def test_clips_without_motion_are_rejected(tmp_path):
    config = DetectorConfig(methods=("object-memory",), patch=64, stride=32, frames=2)
    still = ArrayClip(np.full((20, 128, 128), 100, np.uint8))
    with pytest.raises(NearfarError, match="nothing moves in the normal clips"):
        fit_detector([still], tmp_path / "run", config, QUICK)
    assert not (tmp_path / "run").exists()
