"""The ONNX file of a detector computes what the detector does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.anomaly import (
    Detector,
    DetectorConfig,
    Grid,
    PatchMemory,
    as_frames,
    export_detector,
)
from nearfar.anomaly.methods import ImageMemory
from nearfar.anomaly.methods.memory import PatchEncoder
from nearfar.anomaly.methods.memory.image_memory import embed, feature_map
from nearfar.errors import NearfarError
from nearfar.models import pretrained_encoder

pytest.importorskip("timm")
pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")


def picture(size, seed: int) -> np.ndarray:
    """Smooth colors and noise."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, size[1])[None, :, None] + 20 * generator.normal(size=(*size, 3))
    return ramp.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def encoder() -> PatchEncoder:
    torch.manual_seed(0)
    network = pretrained_encoder("timm:resnet18", "random")
    return PatchEncoder(network, "timm:resnet18")


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((103, 289), id="enlarged"),
        pytest.param((500, 610), id="downscaled"),
    ],
)
def test_scores_heat_and_verdict_are_the_same(encoder, size, tmp_path):
    normal = torch.from_numpy(picture((224, 224), 0)).permute(2, 0, 1)[None] / 255
    method = PatchMemory(encoder, encoder(normal).flatten(0, 2)[::3])
    config = DetectorConfig.stills(methods=("patch-memory",))
    detector = Detector(config, Grid(size, 1, 1), [method])
    images = [picture(size, seed) for seed in range(3)]
    images[2][20:60, 30:80] = 255
    ours = list(detector.score(as_frames(images, photographs=True)))
    detector.threshold = (ours[0].score + ours[2].score) / 2
    export_detector(detector, tmp_path / "detector.onnx")
    session = runtime.InferenceSession(tmp_path / "detector.onnx")
    assert ours[2].score > 1.05 * ours[0].score
    for image, scored in zip(images, ours, strict=True):
        score, heat, defective = session.run(None, {"image": image})
        np.testing.assert_allclose(score, [scored.score], rtol=1e-4)
        np.testing.assert_allclose(heat, scored.heat, rtol=1e-3, atol=1e-3 * scored.score)
        assert defective.tolist() == [scored.score > detector.threshold]


@pytest.mark.parametrize("size", [(103, 289), (500, 400)])
def test_export_of_image_memory(encoder, size, tmp_path):
    config = DetectorConfig.stills(methods=("image-memory",))
    images = [picture(size, seed) for seed in range(4)]
    images[3][20:60, 30:80] = 255
    normal = [torch.from_numpy(picture((224, 224), seed)).permute(2, 0, 1) for seed in range(5, 9)]
    bank = torch.stack([embed(feature_map(encoder, image / 255)) for image in normal])
    detector = Detector(config, Grid(size, 1, 1), [ImageMemory(encoder, bank)])
    ours = list(detector.score(as_frames(images, photographs=True)))
    detector.threshold = (ours[0].score + ours[3].score) / 2
    export_detector(detector, tmp_path / "detector.onnx")
    session = runtime.InferenceSession(tmp_path / "detector.onnx")
    for image, scored in zip(images, ours, strict=True):
        score, heat, defective = session.run(None, {"image": image})
        np.testing.assert_allclose(score, [scored.score], atol=1e-4)
        np.testing.assert_allclose(heat, scored.heat, atol=1e-3 * scored.score)
        assert defective.tolist() == [scored.score > detector.threshold]


def test_detector_of_another_method_is_refused(tmp_path):
    class Brightness:
        def score(self, window, grid):
            return grid.means(window[-1].astype(np.float32))

    detector = Detector(DetectorConfig.paper(), Grid((30, 30), 30, 30), [Brightness()])
    with pytest.raises(NearfarError, match="patch-memory"):
        export_detector(detector, tmp_path / "detector.onnx")
    assert not list(tmp_path.iterdir())
