"""Photographs of a striped texture."""

from __future__ import annotations

import numpy as np


def textures(count: int, size: tuple[int, int] = (60, 180), seed: int = 0) -> list[np.ndarray]:
    """Colored stripes with noise."""
    generator = np.random.default_rng(seed)
    columns = np.arange(size[1])
    images = []
    for _ in range(count):
        stripes = 120 + 40 * np.sin((columns + generator.uniform(0, 20)) / 4)
        color = stripes[None, :, None] * np.array([1.0, 0.9, 0.8])
        noisy = color + generator.normal(0, 6, (*size, 3))
        images.append(noisy.clip(0, 255).astype(np.uint8))
    return images
