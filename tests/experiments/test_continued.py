"""The comparison of further trained encoders, from end to end on small photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from nearfar.config import DEFAULT_ENCODER
from nearfar.data import Subset, open_images, stratified_split
from nearfar.evaluation import scores
from nearfar.experiments.metrics import task_on
from nearfar.models import pretrained_encoder
from program import run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root whose flowers are parts of the left and right halves of a photograph."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    photo = load_sample_image("china.jpg")
    for name, start in (("left", 0), ("right", 280)):
        (root / "flowers" / name).mkdir(parents=True)
        for number in range(120):
            y, x = rng.integers(0, 340), start + rng.integers(0, 280)
            part = Image.fromarray(photo[y : y + 80, x : x + 80])
            part.save(root / "flowers" / name / f"{number:03}.png")
    return root


def test_rows_with_and_without_training(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightly", reason="the extra baselines is not installed")
    options = ("--data-root", root, "--quick", "--seeds", 1, "--rows", "continued", "SimCLR")
    assert run("reproduce", "continued", *options, "--out", tmp_path / "out") == 0
    summary = json.loads((tmp_path / "out" / "continued.json").read_text())["summary"]
    assert list(summary) == ["pretrained", "continued", "SimCLR"]

    images = open_images(root / "flowers", size=32, channels=3)
    some = Subset(images, np.arange(0, 240, 4))
    train, test = (Subset(some, rows) for rows in stratified_split(some, 0))
    task = task_on(pretrained_encoder(DEFAULT_ENCODER), train, test, 0)
    assert summary["pretrained"]["linear_svm"]["mean"] == pytest.approx(
        scores.linear_svm(task).mean
    )
    assert 0.5 < summary["pretrained"]["linear_svm"]["mean"] < 1, "a saturated one says nothing"
    assert summary["pretrained"]["knn"]["mean"] == pytest.approx(
        scores.nearest_neighbors(task).mean
    )
    for row in ("continued", "SimCLR"):
        assert summary[row]["training_seconds"]["mean"] > 0
        assert summary[row]["linear_svm"]["mean"] > 0.5
    log = (tmp_path / "out" / "runs" / "continued-seed-0" / "log.jsonl").read_text().splitlines()
    assert len(log) == 2
    assert "distillation" in log[-1]


def test_unknown_sets_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reproduce", "continued", "--data", "cars", "--out", tmp_path / "out") == 2
    assert "cars" in capsys.readouterr().err
