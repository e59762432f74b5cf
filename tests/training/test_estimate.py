"""Estimates of time, memory and disk, from a few steps."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from nearfar.config import configure, recipe
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.training import Reconstruction, Work, estimate, train
from nearfar.training.estimate import peak_memory
from trainings import changed

CONFIG = recipe("paper", batch_size=32, clusters=7, device="cpu", embedding_size=16, bank="disk")
CLUSTERLESS = recipe("paper", batch_size=32, device="cpu", embedding_size=16)


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:, None])


def test_every_part_is_estimated_and_nothing_is_written(images, tmp_path):
    estimated = estimate(images, CONFIG, tmp_path / "no" / "run")
    assert list(estimated.seconds) == [
        *("pre-training", "training", "bank", "clusters and neighbors", "embeddings")
    ]
    assert min(estimated.seconds.values()) > 0
    assert estimated.disk["bank"] == 2 * 1797 * 16
    assert estimated.disk["embeddings of reconstructions"] == 2 * estimated.disk["bank"]
    assert estimated.disk["embeddings"] == 4 * 1797 * 16
    assert estimated.memory > 100 * 2**20
    assert estimated.free_disk > 0
    assert list(tmp_path.iterdir()) == []


def test_phases_without_epochs_take_nothing(images, tmp_path):
    estimated = estimate(images, changed(CONFIG, epochs=0, bank="memory"), tmp_path)
    assert list(estimated.seconds) == ["pre-training", "embeddings"]
    assert "bank" not in estimated.disk


def test_bank_is_that_of_the_reference(images, tmp_path):
    config = changed(CONFIG, reference=nn.Sequential(nn.Flatten(), nn.Linear(64, 100)))
    assert estimate(images, config, tmp_path).disk["bank"] == 2 * 1797 * 100
    assert "bank" not in estimate(images, changed(config, bank="memory"), tmp_path).disk


def test_seconds_are_those_of_the_training(images, tmp_path):
    """Four steps are made, and 57 of each epoch are estimated."""

    class Slow(nn.Flatten):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            time.sleep(0.03)
            return super().forward(pixels)

    reference = nn.Sequential(Slow(), nn.Linear(64, 8))
    config = changed(CONFIG, pretrain_epochs=3, epochs=1, reference=reference)
    seconds = estimate(images, config, tmp_path).seconds
    assert seconds["training"] >= 57 * 0.03
    assert set(seconds) >= {"pre-training", "training"}


def test_our_recipe_can_be_estimated(images, tmp_path):
    config = recipe(
        "nearfar",
        hidden=0,
        embedding_size=16,
        pretrain_epochs=20,
        refresh_neighbors_every=2,
        epochs=5,
        batch_size=32,
        clusters=9,
        device="cpu",
    )
    seconds = estimate(images, config, tmp_path).seconds
    assert "clusters and neighbors" in seconds
    assert min(seconds.values()) > 0


def test_distillation_sees_enlarged_images(tmp_path):
    photos = ArrayImages(torch.randint(256, (40, 3, 56, 112), dtype=torch.uint8))
    config = recipe("continue", backbone="timm:tf_efficientnet_lite0", clusters=2, device="cpu")
    estimated = estimate(photos, config, tmp_path / "run")
    ratio = estimated.seconds["distillation"] / estimated.seconds["embeddings"]
    assert ratio == pytest.approx(16)  # 224 pixels for the shorter side


def test_work_that_an_objective_states_is_estimated(images, tmp_path):
    class Encoding(Reconstruction):
        def work(self, network):
            return {"teachers": Work(encodings=3)}

    config = recipe("paper", objective=Encoding, pretrain_epochs=0, epochs=1, device="cpu")
    seconds = estimate(images, config, tmp_path / "run").seconds
    assert seconds["teachers"] == pytest.approx(3 * seconds["embeddings"])


def test_memory_has_room_for_the_copy_that_a_checkpoint_is(images, tmp_path):
    estimated = estimate(images, changed(CONFIG, bank="memory"), tmp_path / "run")
    beside = estimated.memory - peak_memory()
    assert beside == estimated.disk["checkpoints"] // 2 + 4 * len(images) * 3 * 16


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process begins with nothing")
def test_peak_memory_excludes_that_of_the_parent_process():
    whole = torch.ones(2**28, dtype=torch.uint8)
    script = "from nearfar.training.estimate import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert int(done.stdout) < peak_memory() - whole.nbytes // 2


def test_free_disk_is_that_of_the_folder(images, tmp_path):
    """Which may be on another disk than the one around it, as `/dev/shm` is."""
    there = Path("/dev/shm")  # noqa: S108
    if not there.is_dir() or shutil.disk_usage(there) == shutil.disk_usage("/"):
        pytest.skip("there is no folder with a disk of its own")
    (tmp_path / "run").symlink_to(tempfile.mkdtemp(dir=there))
    try:
        estimated = estimate(images, changed(CONFIG, epochs=0), tmp_path / "run")
    finally:
        (tmp_path / "run").resolve().rmdir()
    free = shutil.disk_usage(there).free
    assert abs(estimated.free_disk - free) < abs(
        estimated.free_disk - shutil.disk_usage(tmp_path).free
    )


def test_search_is_estimated_for_as_many_clusters_as_there_will_be(digits, tmp_path, monkeypatch):
    """Of 25 images with five neighbors four, which have room for six each."""
    module = sys.modules["nearfar.training.estimate"]  # the package has a function of this name
    monkeypatch.setattr(module, "_seconds_per_multiplication", lambda _: 1.0)
    images = ArrayImages(digits[:25, None])

    def cost(**options):
        config = configure({"neighbors": 5, **options}, base=CLUSTERLESS)
        return estimate(images, config, tmp_path / "run").seconds["clusters and neighbors"]

    assert cost() == cost(clusters=4) != cost(clusters=3)
    assert cost(finder="exact") == 20 * 25 * 25 * 16


def test_enough_images_are_tried_for_the_neighbors(images, tmp_path):
    few = ArrayImages(images.batch(range(12)))
    config = changed(CONFIG, batch_size=1, neighbors=4, clusters=2)
    assert estimate(few, config, tmp_path / "run").seconds["training"] > 0


def test_folder_that_training_would_refuse_is_refused(images, tmp_path):
    run = tmp_path / "run"
    short = changed(CONFIG, pretrain_epochs=1, epochs=0, bank="memory")
    train(images, short, folder=run)
    before = sorted(run.iterdir())
    with pytest.raises(NearfarError, match="exists already"):
        estimate(images, short, run)
    with pytest.raises(NearfarError, match="is finished"):
        estimate(images, short, run, resume=True)
    with pytest.raises(NearfarError, match="does not exist"):
        estimate(images, short, tmp_path / "none", resume=True)
    estimate(images, short, run, overwrite=True)
    assert sorted(run.iterdir()) == before
    (run / "notes.txt").touch()
    with pytest.raises(NearfarError, match=r"'notes\.txt'"):
        estimate(images, short, run, overwrite=True)


def test_settings_that_do_not_fit_are_refused(images, tmp_path):
    with pytest.raises(NearfarError, match="too small for backbone='alexnet'"):
        estimate(images, changed(CONFIG, backbone="alexnet"), tmp_path)
    with pytest.raises(NearfarError, match="clusters=5000 is too many"):
        estimate(images, changed(CONFIG, clusters=5000), tmp_path)
