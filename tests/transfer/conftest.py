"""A devkit of synthetic scenes."""

from __future__ import annotations

import pytest

from nearfar.transfer import Devkit, write_scenes


@pytest.fixture(scope="module")
def devkit(tmp_path_factory) -> Devkit:
    return Devkit.open(write_scenes(tmp_path_factory.mktemp("scenes"), 24))
