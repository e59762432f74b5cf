"""A finished run."""

from __future__ import annotations

import pytest

from nearfar.config import recipe
from nearfar.data import ArrayImages
from nearfar.training import train

CONFIG = recipe("paper", pretrain_epochs=1, epochs=1, embedding_size=6, clusters=3, device="cpu")


@pytest.fixture
def config():
    return CONFIG


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:100, None])


@pytest.fixture
def run(tmp_path, images):
    """The folder of a run."""
    folder = tmp_path / "run"
    train(images, CONFIG, folder=folder)
    return folder
