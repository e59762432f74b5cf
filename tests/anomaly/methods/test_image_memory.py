"""Memory of whole normal images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.neighbors import NearestNeighbors

from nearfar.anomaly import ArrayClip, DetectorConfig, Grid, as_frames, fit_detector, read_detector
from nearfar.anomaly.methods import ImageMemory
from nearfar.anomaly.methods.memory import has_default_encoder
from textures import textures

needs_weights = pytest.mark.skipif(
    not has_default_encoder(), reason="no weights of EfficientNet-lite0"
)


class Colors:
    """Encoder whose features are the colors of 7×7 cells."""

    def maps(self, images, strides):
        return {32: torch.nn.functional.avg_pool2d(images, 32)}


def scenes(count: int, seed: int = 0) -> list[np.ndarray]:
    """Images that have little in common: many or few shapes of one kind, in one of many styles."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        image = Image.new("RGB", (128, 96), tuple(rng.integers(0, 256, 3)))
        draw, kind = ImageDraw.Draw(image), number % 5
        large = rng.uniform(4, 60)
        for _ in range(int(rng.uniform(2, 2000 / large))):
            left, top = rng.uniform(0, 128), rng.uniform(0, 96)
            box = [left, top, left + rng.uniform(1, large), top + rng.uniform(1, large)]
            color = tuple(rng.integers(0, 256, 3))
            if kind == 0:
                draw.rectangle(box, fill=color)
            elif kind == 1:
                draw.ellipse(box, outline=color, width=2)
            elif kind == 2:
                draw.line(box, fill=color, width=3)
            elif kind == 3:
                draw.text((left, top), chr(rng.integers(65, 91)), fill=color, font_size=large)
            else:
                draw.pieslice(box, 0, rng.uniform(20, 300), fill=color)
        images.append(np.asarray(image))
    return images


def test_score_is_the_distance_to_the_nearest_normal_image():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (7, 7, 3), np.uint8).repeat(32, 0).repeat(32, 1) for _ in "ab"]
    bank = torch.nn.functional.normalize(torch.rand(20, 3), dim=1)
    method, grid = ImageMemory(Colors(), bank), Grid((224, 224), 1, 1)
    means = np.stack([image.mean((0, 1)) for image in images])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected, _ = NearestNeighbors(n_neighbors=1).fit(bank.numpy()).kneighbors(means)
    scores = [method.score(image[None], grid).max() for image in images]
    np.testing.assert_allclose(scores, expected[:, 0], rtol=1e-4)


def test_normal_images_are_scored_against_all_others():
    bank = torch.nn.functional.normalize(torch.rand(6, 3), dim=1)
    method = ImageMemory(Colors(), bank)
    image, grid = np.full((1, 40, 60, 3), 90, np.uint8), Grid((40, 60), 1, 1)
    for number in range(6):
        rows = torch.arange(6) != number
        expected = ImageMemory(Colors(), bank[rows]).score(image, grid)
        np.testing.assert_allclose(method.score_left_out(image, grid, number), expected)


def test_heat_map_shows_the_part_that_is_unlike_the_nearest_image():
    red, blue = torch.tensor([1.0, 0.1, 0.1]), torch.tensor([0.5, 0.5, 0.9])
    method = ImageMemory(Colors(), torch.nn.functional.normalize(torch.stack([red, blue]), dim=1))
    image = np.full((120, 200, 3), (230, 20, 20), np.uint8)
    image[40:80, 150:] = (20, 230, 20)
    heat = method.score(image[None], Grid((120, 200), 1, 1))
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert heat.shape == (120, 200)
    assert 40 <= row < 80
    assert column >= 150
    assert heat[:, :100].max() < 0.5 * heat.max()
    even = method.score(np.full((1, 60, 60, 3), 200, np.uint8), Grid((60, 60), 1, 1))
    assert even.min() == even.max() > 0


@needs_weights
def test_method_follows_from_how_much_the_photographs_resemble_each_other():
    alike, different = ArrayClip(textures(20)), ArrayClip(scenes(10))
    assert DetectorConfig.stills([alike]).methods == ("patch-memory",)
    assert DetectorConfig.stills([different]).methods == ("image-memory",)
    assert DetectorConfig.stills([ArrayClip(scenes(7))]).methods == ("patch-memory",)
    assert DetectorConfig.stills([different], methods=("cut-paste",)).methods == ("cut-paste",)
    assert DetectorConfig.stills().methods == ("patch-memory",)


@needs_weights
def test_fitted_detector_finds_other_scenes(tmp_path):
    config = DetectorConfig.stills(methods=("image-memory",))
    fit_detector([ArrayClip(textures(30, (60, 90)))], tmp_path / "run", config)
    detector = read_detector(tmp_path / "run")
    assert detector.calibrated_on == 30
    normal, other = textures(8, (60, 90), seed=5), scenes(8)
    low, high = (
        [scored.score for scored in detector.score(as_frames(images, photographs=True))]
        for images in (normal, other)
    )
    assert max(low) < min(high)
    assert min(high) > detector.threshold
