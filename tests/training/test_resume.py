"""Resume: bit for bit what an uninterrupted training gives, or a refusal."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from interruption import StopAt, crash_at
from nearfar import runs
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.neighbors import DiskBank
from nearfar.training import Interrupted, train
from trainings import QUICK, assert_same_weights, changed, linear_network, quick, weights

# --- bit for bit ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"finder": "exact"},
        {"search_every": "step"},
        {"bank": "disk"},
        {"relative_to": "image"},
        {"refresh_reference_every": 2, "epochs": 4},
        {"weight_schedule": "cosine", "end_weights": (0.2, 0.4, 0.4)},
        {
            "objective": "contrastive",
            "batch_norm": True,
            "refresh_neighbors_every": 1,
            "lr_schedule": "one-cycle",
        },
        {"objective": "contrastive", "batch_norm": True, "hidden": 512, "identity_prob": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("step", [3, 10, 12, 18, 20])
def test_resume_gives_the_weights_of_an_uninterrupted_run(tmp_path, images, options, step):
    """With 5 steps per epoch: in the first phase, at its end, in the second, at an epoch's end."""
    config = quick(**options)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(images, config, folder=whole)
    with pytest.raises(Interrupted):
        train(images, config, folder=parts, track=StopAt(step))
    assert not runs.is_finished(parts)
    train(images, config, folder=parts, resume=True)
    assert_same_weights(weights(whole), weights(parts))
    timeless = [
        [{k: v for k, v in line.items() if "second" not in k} for line in runs.read_log(run)]
        for run in (whole, parts)
    ]
    for line, again in zip(*timeless, strict=True):
        rank, rank_again = line.pop("effective_rank"), again.pop("effective_rank")
        assert line == pytest.approx(again)
        assert rank == pytest.approx(rank_again, rel=0.5), (
            "of the embeddings since the interruption"
        )
    assert not (parts / runs.CHECKPOINT).exists()
    assert not (parts / "bank").exists()


def test_resume_continues_the_random_draws_of_a_network(tmp_path, images):
    config = quick(network=linear_network(9, torch.nn.Dropout()))
    train(images, config, folder=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(images, config, folder=tmp_path / "parts", track=StopAt(12))
    train(images, config, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


# --- after a crash -------------------------------------------------------------------------------


def test_resume_after_a_kill_in_the_middle_of_an_epoch(tmp_path, digits):
    data, whole, parts = tmp_path / "digits.npy", tmp_path / "whole", tmp_path / "parts"
    np.save(data, digits[:400])
    options = (
        "--pretrain-epochs 2 --epochs 12 --batch-size 8 --embedding-size 12 --device cpu".split()
    )
    command = [sys.executable, "-m", "nearfar", "train", str(data), *options, "--out"]
    subprocess.run([*command, whole], check=True, capture_output=True)

    process = subprocess.Popen([*command, parts], stderr=subprocess.PIPE)
    log = parts / runs.LOG
    while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < 5):
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not runs.is_finished(parts), "killed too late to show anything"
    subprocess.run([*command, parts, "--resume"], check=True, capture_output=True)
    assert_same_weights(weights(whole), weights(parts))


@pytest.mark.parametrize("bank", ["memory", "disk"])
@pytest.mark.parametrize("step", [0, 3, 8, 13])
def test_crash_costs_at_most_the_epoch(tmp_path, images, bank, step):
    config = quick(bank=bank)
    train(images, config, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train(images, config, folder=tmp_path / "parts", track=crash_at(step))
    train(images, config, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_crash_in_the_first_epoch_costs_that_epoch(tmp_path, images):
    train(images, QUICK, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train(images, QUICK, folder=tmp_path / "parts", track=crash_at(1, "pretrain"))
    train(images, QUICK, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_crash_between_log_and_checkpoint_leaves_no_line_twice(tmp_path, images):
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="crash"):
        train(images, QUICK, folder=run, track=crash_at(0))
    runs.write_log(run, [*runs.read_log(run), {"phase": "train", "epoch": 1}])
    train(images, QUICK, folder=run, resume=True)
    lines = [(line["phase"], line["epoch"]) for line in runs.read_log(run)]
    assert lines == [("pretrain", 1), ("pretrain", 2), *(("train", i) for i in (1, 2, 3))]


def test_bank_is_on_the_disk_before_the_checkpoint_that_relies_on_it(tmp_path, images, monkeypatch):
    done = []
    flush, write = DiskBank.flush, runs.RunFolder.write_checkpoint
    monkeypatch.setattr(DiskBank, "flush", lambda bank: done.append("bank") or flush(bank))
    monkeypatch.setattr(
        runs.RunFolder,
        "write_checkpoint",
        lambda self, checkpoint: done.append(checkpoint.phase) or write(self, checkpoint),
    )
    train(images, quick(bank="disk"), folder=tmp_path / "run")
    # Before the first epoch of the second phase nothing was found that has to be kept.
    assert done[4:] == [*("bank", "bank", "train")] * 3


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "culprit"),
    [({"embedding_size": 7}, "embedding_size=12, not 7"), ({"seed": 3}, "seed=0")],
)
def test_resume_refuses_other_settings(tmp_path, images, change, culprit):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(7))
    with pytest.raises(NearfarError, match=culprit):
        train(images, quick(**change), folder=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("step", "change", "culprit"),
    [
        (8, {"pretrain_epochs": 1}, "epoch 2 of 'pretrain', but 1 are requested"),
        (13, {"pretrain_epochs": 0}, "has had 2 epochs of pre-training, not 0"),
        (13, {"pretrain_epochs": 4}, "has had 2 epochs of pre-training, not 4"),
        (17, {"epochs": 1}, "epoch 2 of 'train', but 1 are requested"),
        (17, {"epochs": 0}, "epoch 2 of 'train', but 0 are requested"),
    ],
)
def test_resume_refuses_fewer_epochs_than_are_trained(tmp_path, images, step, change, culprit):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(step))
    with pytest.raises(NearfarError, match=culprit):
        train(images, quick(**change), folder=tmp_path / "run", resume=True)
    again = {**{"pretrain_epochs": 2, "epochs": 3}, **{name: 4 for name in change if step != 13}}
    log = train(images, quick(**again), folder=tmp_path / "run", resume=True).log
    phases = [line["phase"] for line in log]
    assert phases.count("pretrain") == again["pretrain_epochs"]
    assert phases.count("train") == again["epochs"]


@pytest.mark.parametrize("step", [3, 12])
@pytest.mark.parametrize(
    ("other", "culprit"),
    [
        ({"network": linear_network(6)}, "of another network"),
        ({"network": "convnet"}, "started with network="),
    ],
    ids=["another size", "none given"],
)
def test_resume_refuses_another_network(tmp_path, images, step, other, culprit):
    run = tmp_path / "run"
    config = quick(network=linear_network(5))
    with pytest.raises(Interrupted):
        train(images, config, folder=run, track=StopAt(step))
    before = (run / runs.CONFIG).read_bytes()
    with pytest.raises(NearfarError, match=culprit) as caught:
        train(images, changed(config, **other), folder=run, resume=True)
    assert "\n" not in str(caught.value)
    assert (run / runs.CONFIG).read_bytes() == before


@pytest.mark.parametrize("step", [3, 12])
@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.popitem(),
        lambda tensors: tensors.pop("adam.0.exp_avg"),
        lambda tensors: tensors.update({"metrics.sums": torch.zeros(2)}),
        lambda tensors: tensors["network.encoder.0.weight"].view(-1)[0].add_(1),
    ],
    ids=["a tensor less", "no Adam", "another shape", "another number"],
)
def test_resume_refuses_a_damaged_checkpoint(tmp_path, images, step, damage):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=run, track=StopAt(step))
    path = run / runs.CHECKPOINT
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path, metadata)
    with pytest.raises(NearfarError, match=r"is damaged: checkpoint\.safetensors") as caught:
        train(images, QUICK, folder=run, resume=True)
    assert "\n" not in str(caught.value)


def test_resume_refuses_other_images(tmp_path, images, digits):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(7))
    with pytest.raises(NearfarError, match="images=300, not 299"):
        train(ArrayImages(digits[:299, None]), QUICK, folder=tmp_path / "run", resume=True)
    with pytest.raises(NearfarError, match="started with images other than 'others'"):
        others = ArrayImages(digits[300:600, None], name="others")
        train(others, QUICK, folder=tmp_path / "run", resume=True)


def test_resume_refuses_a_finished_run(tmp_path, images):
    train(images, QUICK, folder=tmp_path / "run")
    with pytest.raises(NearfarError, match="is finished"):
        train(images, QUICK, folder=tmp_path / "run", resume=True)
