"""Images to train on."""

from __future__ import annotations

import pytest

from nearfar.data import ArrayImages


@pytest.fixture
def images(digits):
    """Five batches of `trainings.QUICK`."""
    return ArrayImages(digits[:300, None])
