"""Checks before a training starts: nothing is written, and no earlier run is lost."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from nearfar import runs
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import Autoencoder
from nearfar.training import EpochFunction, train
from trainings import QUICK, linear_network, quick


def test_folder_is_needed_for_resume_and_a_bank_on_disk(images):
    with pytest.raises(NearfarError, match="without a folder"):
        train(images, quick(bank="disk"))
    with pytest.raises(NearfarError, match="without a folder"):
        train(images, QUICK, resume=True)


@pytest.mark.parametrize(
    "options", [{"pretext": "inpainting"}, {"objective": "contrastive", "augmentation": "shapes"}]
)
def test_features_are_not_cut_or_bent(options):
    features = ArrayImages(np.random.default_rng(0).random((60, 1, 1, 12), np.float32))
    with pytest.raises(NearfarError, match="expected at least 8x8 pixels"):
        train(features, quick(**options))


def test_network_that_does_not_fit_is_refused(images):
    def train_network(*parts):
        train(images, quick(network=Autoencoder(*parts)))

    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(63, 5))
    with pytest.raises(NearfarError, match=r"\(1, 8, 8\)"):
        train_network(encoder, torch.nn.Linear(5, 64))
    encoder[1] = torch.nn.Linear(64, 5)
    with pytest.raises(NearfarError, match="expected .* the same"):
        train_network(encoder, torch.nn.Linear(5, 64))
    for broken in (torch.nn.BatchNorm1d(1), torch.nn.GRU(8, 5), torch.nn.Flatten(0)):
        with pytest.raises(NearfarError, match="the network does not take images"):
            train_network(broken, torch.nn.Linear(5, 64))
    with pytest.raises(NearfarError, match=r"Sequential: pass it, as nearfar\.models\.Autoencoder"):
        train(images, quick(network=encoder))


@pytest.mark.parametrize("size", [10**15, 10**20])
def test_network_that_no_memory_can_hold_is_refused(images, size):
    with pytest.raises(NearfarError, match=f"no memory for a network with embedding_size={size}"):
        train(images, quick(embedding_size=size))


def test_earlier_run_is_kept_if_the_new_network_does_not_fit(tmp_path, images):
    train(images, QUICK, folder=tmp_path / "run")
    wrong = Autoencoder(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3))
    with pytest.raises(NearfarError, match="does not take"):
        train(images, quick(network=wrong), folder=tmp_path / "run", overwrite=True)
    runs.read_run(tmp_path / "run")


@pytest.mark.parametrize("finder", ["exact", "clustered"])
def test_more_neighbors_than_images_are_refused_before_any_epoch(images, finder):
    lines = []
    callbacks = [EpochFunction(lines.append)]
    with pytest.raises(NearfarError, match="neighbors=300"):
        train(images, quick(neighbors=300, finder=finder), callbacks=callbacks)
    assert not lines


def test_missing_disk_space_is_noticed_before_the_work_starts(tmp_path, images, monkeypatch):
    free = shutil._ntuple_diskusage(10**9, 10**9, 10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(NearfarError, match=r"bank, embeddings and checkpoints need"):
        train(images, quick(bank="disk"), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("n", "parts"), [(8, {"batch_size": 1}), (8, {"accumulate": 4}), (5, {"batch_size": 2})]
)
def test_batch_normalization_of_one_small_image_is_refused(n, parts, tmp_path):
    pixels = np.zeros((n, 3, 32, 32), np.uint8)
    config = quick(**{"batch_size": 4, "clusters": 1, "backbone": "timm:resnet18"} | parts)
    with pytest.raises(NearfarError, match="single image of 32x32 pixels"):
        train(ArrayImages(pixels), config, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 1}, {"batch_size": 8, "accumulate": 8}, {"batch_size": 64, "accumulate": 40}],
    ids=str,
)
def test_contrastive_parts_of_one_image_are_refused(images, options, tmp_path):
    config = quick(objective="contrastive", pretrain_epochs=0, **options)
    with pytest.raises(NearfarError, match=r"batch_size=\d+ with accumulate=\d+ .* two images"):
        train(images, config, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_own_network_may_be_given_in_training_mode(images):
    network = linear_network(5, torch.nn.BatchNorm1d(5)).train()
    assert train(images, quick(network=network, epochs=1)).embeddings.shape == (300, 5)
