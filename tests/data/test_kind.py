"""The kind of images, told by their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nearfar.data import ArrayImages, Subset, images_from_array, kind_of, open_images


def surfaces(channels: int) -> np.ndarray:
    """Noise with a vignette, as gray surfaces under a lamp have it: uint8[20, 32, 32, channels]."""
    random = np.random.default_rng(0)
    lamp = np.hypot(*np.mgrid[-1:1:32j, -1:1:32j])
    gray = 150 - 60 * lamp + random.normal(0, 12, (20, 32, 32))
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], channels, axis=3)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_surfaces_are_photographs(channels):
    assert kind_of(images_from_array(surfaces(channels))) == "gray photographs"


def test_color_makes_photographs():
    colored = surfaces(3)
    colored[..., 2] //= 2
    assert kind_of(images_from_array(colored)) == "photographs"


@pytest.mark.parametrize("dark_on_light", [False, True])
def test_digits_are_shapes(digits, dark_on_light):
    shown = 255 - digits if dark_on_light else digits
    assert kind_of(images_from_array(shown)) == "shapes"


def test_features_are_no_images():
    assert kind_of(ArrayImages(torch.rand(5, 1, 1, 30))) == "features"


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("elpv", "gray photographs"),
        ("flowers", "photographs"),
        ("imagenette/val", "photographs"),
        ("bccd/JPEGImages", "photographs"),
    ],
)
def test_kinds_of_real_images(data_root, folder, kind):
    images = open_images(data_root / folder, size=64)
    assert kind_of(Subset(images, np.arange(0, len(images), 7))) == kind
