"""Callbacks: what they are told, and when."""

from __future__ import annotations

import sys

import pytest
import torch

from interruption import StopAt
from nearfar import runs
from nearfar.errors import MissingExtraError
from nearfar.training import Callback, EpochFunction, Interrupted, Snapshots, TensorBoard, train
from trainings import QUICK, assert_same_weights, quick


def test_callbacks_get_the_trainer_and_the_log_line_of_each_epoch(images):
    class Both(Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_end(self, trainer, metrics):
            self.seen.append((trainer.phase, len(trainer.run.log), metrics))

    both, lines = Both(), []
    run = train(images, QUICK, callbacks=[both, EpochFunction(lines.append)])
    assert lines == run.log == [metrics for _, _, metrics in both.seen]
    assert [seen[:2] for seen in both.seen] == [
        *(("pretrain", 1), ("pretrain", 2), ("train", 3), ("train", 4), ("train", 5))
    ]


def test_snapshots_hold_the_network_of_a_shorter_training(images, tmp_path):
    long, short = tmp_path / "long", quick(pretrain_epochs=1, epochs=0)
    run = train(images, QUICK, folder=long, callbacks=[Snapshots([1, 5])])
    assert [runs.has_snapshot(long, epochs) for epochs in (1, 2, 5)] == [True, False, True]
    first = runs.read_snapshot(long, 1).state_dict()
    assert_same_weights(first, train(images, short).network.state_dict())
    assert_same_weights(runs.read_snapshot(long, 5).state_dict(), run.network.state_dict())


def test_snapshots_of_a_resumed_run_are_counted_from_its_start(images, tmp_path):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(13), callbacks=[Snapshots([3])])
    train(images, QUICK, folder=tmp_path / "run", resume=True, callbacks=[Snapshots([3, 4])])
    assert runs.has_snapshot(tmp_path / "run", 3)
    assert runs.has_snapshot(tmp_path / "run", 4)
    assert not torch.equal(
        *(next(runs.read_snapshot(tmp_path / "run", k).parameters()) for k in (3, 4))
    )


def test_tensorboard_that_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"nearfar\[tensorboard\]"):
        TensorBoard(tmp_path)
