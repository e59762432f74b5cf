"""Synthetic clips, and quick settings of detectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from nearfar.anomaly import DetectorConfig, Frame, read_detector
from nearfar.config import configure

SMALL = DetectorConfig(patch=16, stride=8, frames=3, smoothing=1.0)
QUICK = configure(
    {"pretrain_epochs": 1, "epochs": 1, "batch_size": 32, "embedding_size": 8, "device": "cpu"}
)


def scene(speed: float, frames: int = 40, seed: int = 0) -> np.ndarray:
    """Bright blocks that walk over a noisy background; all seeds share the background."""
    background = np.random.default_rng(0).integers(40, 60, (48, 64)).astype(np.uint8)
    generator = np.random.default_rng(seed)
    clip = np.repeat(background[None], frames, axis=0)
    for row in (6, 26):
        start = generator.integers(64)
        for number in range(frames):
            left = int(start + speed * number) % 56
            clip[number, row : row + 12, left : left + 6] = 220
    return clip


def write_clip(folder: Path, clip: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(clip):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def scores_of(folder: Path, frames: Iterable[Frame]) -> np.ndarray:
    """Scores of frames by a detector that is read from a folder."""
    return np.array([scored.score for scored in read_detector(folder).score(frames)])


class Stop(KeyboardInterrupt):
    """Interrupt by the user."""


def stop_at(description: str, number: int):
    """Return a `Track` that stops before an item of the task with this description."""

    def track(items, described, total):
        for done, item in enumerate(items):
            if described.startswith(description) and done == number:
                raise Stop
            yield item

    return track
