"""Networks kept after some of the epochs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interruption import StopAt
from nearfar import runs
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.experiments.configs import AUTOENCODER, PAPER
from nearfar.experiments.rows import train_for
from nearfar.training import Interrupted, Snapshots, train
from trainings import assert_same_weights

SMALL = {"batch_size": 64, "embedding_size": 12, "device": "cpu"}


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:300, None])


def snapshot(folder, epochs):
    return runs.read_snapshot(folder, epochs).state_dict()


def test_snapshot_is_the_network_of_a_shorter_training(tmp_path, images):
    config, keep = train_for(AUTOENCODER, 4, **SMALL), [Snapshots([1, 2, 4])]
    train(images, config, folder=tmp_path / "long", callbacks=keep)
    short = train(images, train_for(AUTOENCODER, 2, **SMALL)).network.state_dict()
    assert_same_weights(snapshot(tmp_path / "long", 2), short)
    last = snapshot(tmp_path / "long", 4)
    assert not all(torch.equal(last[name], short[name]) for name in short)
    with pytest.raises(NearfarError, match="no snapshot after 3 epochs"):
        runs.read_snapshot(tmp_path / "long", 3)


def test_snapshot_survives_an_interrupt(tmp_path, images):
    config, keep = train_for(AUTOENCODER, 4, **SMALL), [Snapshots([2])]  # five steps per epoch
    train(images, config, folder=tmp_path / "whole", callbacks=keep)
    with pytest.raises(Interrupted):
        train(images, config, folder=tmp_path / "run", callbacks=keep, track=StopAt(12))
    assert_same_weights(snapshot(tmp_path / "run", 2), snapshot(tmp_path / "whole", 2))


def test_snapshot_of_a_network_in_another_memory_layout(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), dtype=np.uint8)
    images, config = ArrayImages(pixels), train_for(AUTOENCODER, 1, **SMALL)
    trained = train(images, config, folder=tmp_path / "run")
    weights = trained.network.to(memory_format=torch.channels_last).state_dict()
    assert not all(tensor.is_contiguous() for tensor in weights.values())
    runs.write_snapshot(tmp_path / "run", 1, weights)
    assert_same_weights(snapshot(tmp_path / "run", 1), weights)


def test_snapshots_count_the_epochs_of_both_phases(tmp_path, images):
    config, keep = train_for(PAPER, 3, **SMALL), [Snapshots([2, 3])]
    trained = train(images, config, folder=tmp_path / "run", callbacks=keep)
    assert_same_weights(snapshot(tmp_path / "run", 2), trained.initial.state_dict())
    assert_same_weights(snapshot(tmp_path / "run", 3), trained.network.state_dict())
