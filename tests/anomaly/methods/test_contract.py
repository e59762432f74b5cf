"""Contract of every registered method: fit, score, write and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clips import QUICK, Stop, scene, stop_at
from nearfar.anomaly import ArrayClip, DetectorConfig, FitContext, Grid, Method, windows
from nearfar.anomaly.methods import CutPaste
from nearfar.anomaly.methods.cut_paste import CutPasteTraining
from nearfar.anomaly.methods.memory import has_default_encoder
from nearfar.anomaly.registry import METHODS, find_method

CLIPS = [ArrayClip(scene(1, 30, seed=seed), name=f"clip{seed}") for seed in range(2)]
#: A description of progress in the middle of each fit, and the item to stop at.
INTERRUPTIONS = {
    "appearance": ("cutting patches", 1),
    "cut-paste": ("training on near and far examples", 5),
    "embedding-distance": ("train", 3),
    "image-memory": ("choosing patches", 5),
    "motion": ("training the motion classifier", 9),
    "object-memory": ("choosing patches", 5),
    "patch-memory": ("choosing patches", 5),
    "reconstruction": ("train", 3),
}


NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name.endswith("-memory") and not has_default_encoder(),
            reason="no weights of EfficientNet-lite0",
        ),
    )
    for name in sorted(METHODS)
]


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    training = CutPasteTraining(side=64, epochs=3, steps=3, batch_size=4)
    monkeypatch.setattr(CutPaste, "training", training)


def config_of(name: str) -> DetectorConfig:
    return DetectorConfig(methods=(name,), patch=16, stride=8, frames=2, bank_size=64)


def context_of(name: str, scratch: Path, **options) -> FitContext:
    scratch.mkdir(exist_ok=True)
    config = config_of(name)
    grid = Grid((48, 64), config.patch, config.stride)
    return FitContext(config, grid, QUICK, scratch, **options)


def score_all(method: Method, grid: Grid) -> np.ndarray:
    clip = ArrayClip(scene(2, 8, seed=7))
    return np.stack([method.score(window, grid) for _, window in windows(clip, 2)])


@pytest.mark.parametrize("name", NAMES)
def test_method_scores_every_patch(name, tmp_path):
    context = context_of(name, tmp_path / "scratch")
    scores = score_all(find_method(name).fit(CLIPS, context), context.grid)
    assert scores.shape == (8, *context.grid.shape)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scores.min() >= 0
    assert scores.max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_method_reads_back_its_scores_without_scratch(name, tmp_path):
    context = context_of(name, tmp_path / "scratch")
    method = find_method(name).fit(CLIPS, context)
    scores = score_all(method, context.grid)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    method.write(first)
    context.scratch.rename(tmp_path / "gone")
    read = find_method(name).read(first, context.config)
    np.testing.assert_array_equal(score_all(read, context.grid), scores)
    second.mkdir()
    read.write(second)
    again = find_method(name).read(second, context.config)
    np.testing.assert_array_equal(score_all(again, context.grid), scores)


@pytest.mark.parametrize("name", NAMES)
def test_method_fit_is_reproducible_and_leaves_inputs(name, tmp_path):
    frames = [frame.pixels.copy() for clip in CLIPS for frame in clip]
    contexts = [context_of(name, tmp_path / part) for part in ("one", "two")]
    one, two = (
        score_all(find_method(name).fit(CLIPS, context), context.grid) for context in contexts
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(frames, [frame.pixels for clip in CLIPS for frame in clip])


@pytest.mark.parametrize("name", NAMES)
def test_method_fit_continues_after_an_interruption(name, tmp_path):
    whole = context_of(name, tmp_path / "whole")
    scores = score_all(find_method(name).fit(CLIPS, whole), whole.grid)
    with pytest.raises(Stop):
        interrupted = context_of(name, tmp_path / "parts", track=stop_at(*INTERRUPTIONS[name]))
        find_method(name).fit(CLIPS, interrupted)
    resumed = find_method(name).fit(CLIPS, context_of(name, tmp_path / "parts"))
    np.testing.assert_array_equal(score_all(resumed, whole.grid), scores)
