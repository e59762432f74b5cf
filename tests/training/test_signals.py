"""Stop signals and checkpoints within an epoch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from threading import Event, Timer
from typing import ClassVar

import numpy as np
import pytest
from torch.utils.data import get_worker_info

from interruption import StopAt, crash_at
from nearfar import runs
from nearfar.data import ArrayImages
from nearfar.runs import Cursor
from nearfar.training import Interrupted, train
from nearfar.training.batch_sampler import EpochSampler
from nearfar.training.trainer import PHASE_NUMBERS
from trainings import QUICK, TORCHRUN, assert_same_weights, weights


def test_termination_stops_like_an_interrupt(tmp_path, images):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(7, signal.SIGTERM))
    checkpoint = runs.read_checkpoint(tmp_path / "run")
    assert (checkpoint.phase, checkpoint.cursor) == ("pretrain", Cursor(1, 2))


def test_checkpoints_within_an_epoch_survive_a_crash(tmp_path, images, monkeypatch):
    monkeypatch.setattr("nearfar.training.signals.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("nearfar.training.signals.CHECK_EVERY", 2)
    train(images, QUICK, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train(images, QUICK, folder=tmp_path / "parts", track=crash_at(8))
    checkpoint = runs.read_checkpoint(tmp_path / "parts")
    assert (checkpoint.phase, checkpoint.cursor) == ("train", Cursor(1, 2))
    train(images, QUICK, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


class Hanging(ArrayImages):
    """Images that workers read, until one of them hangs at a batch; not even SIGTERM ends it.

    A stopped process (SIGSTOP) could keep the lock of the pipe, and so hold back earlier batches.
    """

    in_memory = False
    stop_at: ClassVar[list[int]] = []

    def batch(self, indices):
        if get_worker_info() is not None and list(indices) == self.stop_at:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            Event().wait()
        return super().batch(indices)


@pytest.mark.parametrize("phase", ["pretrain", "train"])
@pytest.mark.parametrize("moment", ["while waiting", "just before"])
def test_termination_ends_a_wait_for_images(tmp_path, digits, monkeypatch, phase, moment):
    """The run continues as if it had not been interrupted."""
    images = Hanging(digits[:300, None])
    train(images, QUICK, folder=tmp_path / "whole")
    order = EpochSampler(300, 64, (QUICK.seed, PHASE_NUMBERS[phase]))
    order.epoch, order.first_step = 1, 3
    monkeypatch.setattr(images, "stop_at", next(iter(order)).tolist(), raising=False)

    def track(items, description, total):
        for number, item in enumerate(items):
            if (description, number, moment) == (phase, 5, "while waiting"):
                Timer(3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            yield item
            if (description, number, moment) == (phase, 7, "just before"):
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "parts", track=track)
    checkpoint = runs.read_checkpoint(tmp_path / "parts")
    assert checkpoint.phase == phase
    assert Cursor(1, 1) <= checkpoint.cursor <= Cursor(1, 3)
    monkeypatch.undo()
    train(images, QUICK, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_processes_are_interrupted_together(tmp_path, digits, number):
    data, run = tmp_path / "digits.npy", tmp_path / "run"
    np.save(data, np.tile(digits, (4, 1, 1)))
    options = "--pretrain-epochs 5000 --epochs 1 --batch-size 4 --device cpu".split()
    command = [*TORCHRUN, "-m", "nearfar", "train", data, "--out", run, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (run / runs.CHECKPOINT).exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert runs.read_checkpoint(run).cursor.step > 0, "within an epoch"
    assert said.count("continue with nearfar train") == 1
    assert "SIGKILL" not in said
    assert "nearfar/training" not in said, "no traceback of ours"
    resume = [sys.executable, "-m", "nearfar", "train", data, "--out", run, "--resume"]
    subprocess.run([*resume, "--pretrain-epochs", "1"], check=True, capture_output=True)
