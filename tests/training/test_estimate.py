"""What a training will take is said before it begins."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nearfar.training.config import TrainConfig
from nearfar.training.needs import disk_needs, memory_needs
from nearfar.training.plan import Plan, _fit_cost, peak_memory, plan
from torch import nn

from nearfar.cli.main import main
from nearfar.cli.train import describe_plan
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.models import Architecture
from nearfar.training.train import train

CONFIG = TrainConfig(batch_size=32, clusters=7, device="cpu", embedding_size=16, bank="disk")


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:, None])


def test_every_part_is_there_and_nothing_is_written(images, tmp_path):
    planned = plan(images, CONFIG, tmp_path / "no" / "run")
    assert list(planned.seconds) == [
        *("pre-training", "relational training", "bank", "clusters and neighbors", "embeddings")
    ]
    assert min(planned.seconds.values()) > 0
    assert planned.disk["bank"] == 2 * 1797 * 16
    assert planned.disk["embeddings of reconstructions"] == 2 * planned.disk["bank"]
    assert planned.disk["embeddings"] == 4 * 1797 * 16
    assert planned.memory > 100 * 2**20
    assert planned.free_disk > 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_done_takes_nothing(images, tmp_path):
    planned = plan(images, replace(CONFIG, epochs=0, bank="memory"), tmp_path)
    assert list(planned.seconds) == ["pre-training", "embeddings"]
    assert "bank" not in planned.disk


def test_neighbors_of_images_need_no_codes_of_reconstructions(images):
    network = Architecture(images.shape, 16).build().eval()
    ends = [replace(CONFIG, relative_to=end) for end in ("reconstruction", "image")]
    assert [
        "embeddings of reconstructions" in disk_needs(end, images, network) for end in ends
    ] == [*(True, False)]
    most, least = (memory_needs(replace(end, bank="memory"), images, network) for end in ends)
    assert most - least == 4 * 1797 * 16
    alone = replace(CONFIG, weights=(1.0, 0.0, 0.0))
    assert "embeddings of reconstructions" not in disk_needs(alone, images, network)


def test_the_bank_is_that_of_the_reference(images, tmp_path):
    reference = nn.Sequential(nn.Flatten(), nn.Linear(64, 100))
    planned = plan(images, CONFIG, tmp_path, reference=reference)
    assert planned.disk["bank"] == 2 * 1797 * 100
    memory = plan(images, replace(CONFIG, bank="memory"), tmp_path, reference=reference)
    assert "bank" not in memory.disk


def test_time_is_that_of_the_training(images, tmp_path):
    """Four steps are made, and 57 of each epoch are reckoned."""
    config = replace(CONFIG, pretrain_epochs=3, epochs=1)

    class Slow(nn.Flatten):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            import time

            time.sleep(0.03)
            return super().forward(pixels)

    reference = nn.Sequential(Slow(), nn.Linear(64, 8))
    seconds = plan(images, config, tmp_path, reference=reference).seconds
    assert 1.0 < 57 * 0.03 <= seconds["relational training"] < 6
    assert seconds["pre-training"] < 3


def test_our_recipe_can_be_planned(images, tmp_path):
    config = TrainConfig(
        relation="embeddings",
        network="normalized",
        refresh=2,
        epochs=5,
        batch_size=32,
        clusters=9,
        device="cpu",
    )
    assert min(plan(images, config, tmp_path).seconds.values()) > 0


@pytest.mark.parametrize(
    ("choices", "numbers"),
    [
        ({"bank": "disk"}, 16),  # keys
        ({"bank": "memory"}, 16 + 16 + 16),  # bank, keys, embeddings of reconstructions
        ({"bank": "memory", "search": "step"}, 16 + 16),
        ({"bank": "memory", "epochs": 0}, 16),  # embeddings
        ({"bank": "memory", "relation": "embeddings", "refresh": 2}, 64 + 64 + 64),
        ({"bank": "memory", "relation": "embeddings", "refresh": 2, "embedding_size": 200}, 200),
    ],
)
def test_memory_is_that_of_the_codes_that_are_held_at_once(images, choices, numbers):
    config = replace(CONFIG, **choices)
    network = Architecture(images.shape, config.embedding_size).build()
    assert memory_needs(config, images, network) == 4 * len(images) * numbers


def test_checkpoints_hold_what_was_found(images):
    network = Architecture(images.shape, 16).build()
    config = replace(CONFIG, bank="memory", neighbors=3)
    least = disk_needs(replace(config, epochs=0), images, network)["checkpoints"]
    with_neighbors = disk_needs(config, images, network)["checkpoints"]
    assert with_neighbors - least == 2 * len(images) * (2 * 8 * 3 + 4 * 16)


def test_memory_has_room_for_the_copy_that_a_checkpoint_is(images, tmp_path):
    planned = plan(images, replace(CONFIG, bank="memory"), tmp_path / "run")
    beside = planned.memory - peak_memory()
    assert beside == planned.disk["checkpoints"] // 2 + 4 * len(images) * 3 * 16


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process begins with nothing")
def test_the_memory_of_the_process_that_began_this_one_does_not_count():
    whole = torch.ones(2**28, dtype=torch.uint8)
    script = "from nearfar.training.plan import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert int(done.stdout) < peak_memory() - whole.nbytes // 2


def test_what_is_free_is_what_is_free_in_the_folder(images, tmp_path):
    """Which may be on another disk than the one around it, as `/dev/shm` is."""
    there = Path("/dev/shm")  # noqa: S108
    if not there.is_dir() or shutil.disk_usage(there) == shutil.disk_usage("/"):
        pytest.skip("there is no folder with a disk of its own")
    (tmp_path / "run").symlink_to(tempfile.mkdtemp(dir=there))
    try:
        planned = plan(images, replace(CONFIG, epochs=0), tmp_path / "run")
    finally:
        (tmp_path / "run").resolve().rmdir()
    free = shutil.disk_usage(there).free
    assert abs(planned.free_disk - free) < abs(planned.free_disk - shutil.disk_usage(tmp_path).free)


def test_as_many_clusters_are_reckoned_as_there_will_be():
    """Of 25 images with five neighbors four, which have room for six each."""
    costs = [_fit_cost(replace(CONFIG, neighbors=5, clusters=k), 25, 16) for k in (None, 4, 3)]
    assert costs[0] == costs[1] > costs[2]


def test_enough_images_are_tried_for_the_neighbors(images, tmp_path):
    few = ArrayImages(images.batch(range(12)))
    config = replace(CONFIG, batch_size=1, neighbors=4, clusters=None)
    assert plan(few, config, tmp_path / "run").seconds["relational training"] > 0


def test_a_folder_that_training_would_refuse_is_refused(images, tmp_path):
    run = tmp_path / "run"
    short = replace(CONFIG, pretrain_epochs=1, epochs=0, bank="memory")
    train(images, short, folder=run)
    before = sorted(run.iterdir())
    with pytest.raises(NearfarError, match="exists already"):
        plan(images, short, run)
    with pytest.raises(NearfarError, match="is finished"):
        plan(images, short, run, resume=True)
    with pytest.raises(NearfarError, match="does not exist"):
        plan(images, short, tmp_path / "none", resume=True)
    plan(images, short, run, overwrite=True)
    assert sorted(run.iterdir()) == before
    (run / "notes.txt").touch()
    with pytest.raises(NearfarError, match=r"holds 'notes\.txt'"):
        plan(images, short, run, overwrite=True)


def test_choices_that_do_not_fit_are_refused(images, tmp_path):
    with pytest.raises(NearfarError, match="too small for backbone='alexnet'"):
        plan(images, replace(CONFIG, backbone="alexnet"), tmp_path)
    with pytest.raises(NearfarError, match="clusters=5000 is too many"):
        plan(images, replace(CONFIG, clusters=5000), tmp_path)


def test_the_command_prints_it_and_writes_nothing(tmp_path, digits, capsys):
    np.save(tmp_path / "digits.npy", digits[:100])
    arguments = ["train", str(tmp_path / "digits.npy"), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--epochs", "3", "--bank", "disk", "--dry-run"])
    assert not done.value.code
    said = capsys.readouterr().err
    for name in ("pre-training", "with one process", "embeddings of reconstructions", "free"):
        assert name in said
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").write_text("dear")
    with pytest.raises(SystemExit) as refused:
        main([*arguments, "--epochs", "3", "--dry-run"])
    assert refused.value.code == 2


def test_lines_are_readable():
    lines = describe_plan(Plan({"a": 7.25, "b": 86_400}, 3 * 2**30, {"c": 2**20}, 2**40))
    assert "  time         7.2 s  a" in lines
    assert "  time   24 h 00 min  together" in lines
    assert "memory       3.0 GiB  with one process" in lines
    assert "  disk       1.0 MiB  c" in lines
