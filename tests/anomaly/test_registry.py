"""Methods of a user's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from clips import scene
from nearfar.anomaly import (
    ArrayClip,
    DetectorConfig,
    Method,
    fit_detector,
    read_detector,
    register_method,
)
from nearfar.anomaly.registry import METHODS, find_method
from nearfar.errors import NearfarError

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "anomaly.md"


@pytest.fixture
def registry(monkeypatch):
    """The registry, restored after the test."""
    monkeypatch.setattr("nearfar.anomaly.registry.METHODS", dict(METHODS))


class Refusing(Method):
    """A method that uses no clips."""

    name = "refusing"

    @classmethod
    def fit(cls, clips, context):
        raise NearfarError("these clips are of no use")

    def score(self, window, grid):
        raise AssertionError

    def write(self, folder):
        raise AssertionError

    @classmethod
    def read(cls, folder, config):
        raise AssertionError


def test_example_of_the_guide_runs(registry, tmp_path, monkeypatch):
    (example,) = re.findall(
        r"```python\n(from pathlib[^`]*register_method[^`]*)```", GUIDE.read_text()
    )
    monkeypatch.chdir(tmp_path)
    normal = [ArrayClip(scene(1, 40, seed=seed)) for seed in range(4)]
    names: dict[str, object] = {"clips": normal}
    exec(example, names)  # noqa: S102 (the example of our own guide)
    detector = read_detector("brightness")
    odd = ArrayClip(np.clip(scene(1, 20, seed=9).astype(int) + 60, 0, 255).astype(np.uint8))
    assert all(frame.score > detector.threshold for frame in detector.score(odd))


def test_register_method_refuses_invalid_and_taken_names(registry):
    class Spaced(Refusing):
        name = "my method"

    class Taken(Refusing):
        name = "motion"

    with pytest.raises(NearfarError, match=r"Spaced\.name='my method': expected lowercase"):
        register_method(Spaced)
    with pytest.raises(NearfarError, match="'motion' is Motion already"):
        register_method(Taken)
    assert register_method(register_method(Refusing)) is find_method("refusing")


def test_config_refuses_an_unknown_method():
    with pytest.raises(NearfarError, match=r"methods has 'patchcore', which is unknown: expected"):
        DetectorConfig(methods=("patchcore",))


def test_read_detector_names_an_unregistered_method(tmp_path):
    config = DetectorConfig(methods=("appearance",), patch=16, stride=8, smoothing=0)
    fit_detector([ArrayClip(scene(1, 20))], tmp_path / "run", config)
    saved = json.loads((tmp_path / "run" / "detector.json").read_text())
    saved["config"]["methods"] = ["mine"]
    (tmp_path / "run" / "detector.json").write_text(json.dumps(saved))
    with pytest.raises(NearfarError, match="has 'mine', which is unknown.*register_method"):
        read_detector(tmp_path / "run")


@pytest.mark.parametrize("methods", [("refusing",), ("appearance", "refusing")])
def test_refused_fit_leaves_no_folder(registry, methods, tmp_path):
    register_method(Refusing)
    config = DetectorConfig(methods=methods, patch=16, stride=8, smoothing=0)
    clips = [ArrayClip(scene(1, 20))]
    with pytest.raises(NearfarError, match="of no use"):
        fit_detector(clips, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(NearfarError, match="of no use"):
        fit_detector(clips, tmp_path / "run", config)
    assert not list((tmp_path / "run").iterdir())


def test_full_disk_leaves_a_detector_to_resume(registry, monkeypatch, tmp_path):
    register_method(Refusing)

    def fail(cls, clips, context):
        raise NearfarError("no room on the disk") from OSError(28, "No space left")

    monkeypatch.setattr(Refusing, "fit", classmethod(fail))
    config = DetectorConfig(methods=("appearance", "refusing"), patch=16, stride=8, smoothing=0)
    with pytest.raises(NearfarError, match="no room"):
        fit_detector([ArrayClip(scene(1, 20))], tmp_path / "run", config)
    assert (tmp_path / "run" / "methods" / "appearance").is_dir()
    with pytest.raises(NearfarError, match="unfinished"):
        read_detector(tmp_path / "run")
