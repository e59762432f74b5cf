"""Training: what it records, how it goes on after an interruption, and in several processes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from nearfar.training.config import TrainConfig
from nearfar.training.contrastive import CodeRelation
from nearfar.training.loop import Interrupted
from nearfar.training.needs import disk_needs
from nearfar.training.objective import Step
from nearfar.training.order import Order
from nearfar.training.processes import launch
from nearfar.training.record import Record, effective_rank
from nearfar.training.relation import Relation
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nearfar.__main__
from nearfar import runs
from nearfar.config.weights import WeightSchedule
from nearfar.data import ArrayImages, to_unit
from nearfar.errors import NearfarError
from nearfar.files import LEFTOVER
from nearfar.neighbors import DiskBank
from nearfar.training.train import train

#: On a free port: tests run beside each other.
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
    *("--nproc-per-node", "2"),
]
QUICK = TrainConfig(
    pretrain_epochs=2, epochs=3, batch_size=64, embedding_size=12, clusters=5, device="cpu", lr=1e-3
)


@pytest.fixture
def images(digits):
    return ArrayImages(digits[:300, None])


def weights(folder):
    return load_file(folder / runs.MODEL)


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


class StopAt:
    """A `Track` that interrupts the process, as Ctrl-C would, at one of the training steps."""

    def __init__(self, step, number=signal.SIGINT):
        self.left, self.number = step, number

    def __call__(self, items, description, total):
        for item in items:
            if description in ("pretrain", "relational"):
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), self.number)
            yield item


# --- what it does --------------------------------------------------------------------------------


def test_both_phases_lower_their_loss(images):
    log = train(images, replace(QUICK, pretrain_epochs=6, epochs=4)).log
    pretrain = [line["loss"] for line in log if line["phase"] == "pretrain"]
    relational = [line["loss"] for line in log if line["phase"] == "relational"]
    assert (len(pretrain), len(relational)) == (6, 4)
    assert pretrain[-1] < pretrain[0]
    assert relational[-1] < relational[0]


def test_relational_training_starts_from_the_pretrained_network(images):
    trained = train(images, replace(QUICK, lr=1e-12, epochs=1))
    after, before = trained.autoencoder.state_dict(), trained.pretrained.state_dict()
    for name in before:
        torch.testing.assert_close(after[name], before[name])


def test_a_line_of_the_log_says_what_happened(images):
    line = train(images, QUICK).log[-1]
    total = sum(w * line[k] for w, k in zip(QUICK.weights, ("own", "near", "far"), strict=True))
    assert line["loss"] == pytest.approx(total, rel=1e-5)
    assert line["epoch"] == 3
    assert 0 <= line["dead_units"] <= 12
    assert 1 <= line["effective_rank"] <= 12
    assert line["images_per_second"] > 0
    assert {"pixel", "zero_embeddings", "seconds"} <= line.keys()


def test_weights_1_0_0_do_not_search(images, monkeypatch):
    def no_search(*arguments, **options):
        raise AssertionError("searched")

    monkeypatch.setattr("nearfar.neighbors.ClusteredFinder.search", no_search)
    line = train(images, replace(QUICK, weights=(1, 0, 0))).log[-1]
    assert "near" not in line
    assert line["loss"] == pytest.approx(line["own"])


def test_pixel_weight_holds_the_reconstruction(images):
    config = replace(QUICK, pretrain_epochs=8, epochs=8, lr=3e-3)
    without = train(images, config).log[-1]["pixel"]
    held = train(images, replace(config, pixel_weight=10)).log[-1]["pixel"]
    assert held < without


def test_searching_each_epoch_is_searching_each_step_while_nothing_moves(images):
    still = replace(QUICK, finder="exact", lr=1e-12, epochs=2)
    by_step = train(images, replace(still, search="step")).log[-1]
    by_epoch = train(images, still).log[-1]
    for term in ("own", "near", "far"):
        assert by_epoch[term] == pytest.approx(by_step[term], rel=1e-3)


def test_scheduled_weights_move_evenly_from_start_to_end(images, monkeypatch):
    progress = []
    at = WeightSchedule.at
    monkeypatch.setattr(WeightSchedule, "at", lambda s, p: progress.append(p) or at(s, p))
    moving = {"weights": (1, 0, 0), "end_weights": (0, 1, 0), "weight_schedule": "linear"}
    log = train(images, replace(QUICK, **moving)).log
    assert progress == pytest.approx(np.arange(15) / 15)
    first, last = log[2], log[-1]
    assert abs(first["loss"] - first["own"]) < abs(first["loss"] - first["near"])
    assert abs(last["loss"] - last["near"]) < abs(last["loss"] - last["own"])


@pytest.mark.parametrize("search", ["epoch", "step"])
@pytest.mark.parametrize("finder", ["exact", "clustered"])
def test_a_sample_is_never_its_own_neighbor(images, monkeypatch, finder, search):
    found = []
    neighbors = Relation._neighbors

    def spy(self, rows, embeddings, epoch):
        answer = neighbors(self, rows, embeddings, epoch)
        found.append((rows, answer))
        return answer

    monkeypatch.setattr(Relation, "_neighbors", spy)
    train(images, replace(QUICK, finder=finder, search=search))
    assert len(found) == 15
    for rows, (near, far) in found:
        assert (near != rows[:, None]).all()
        assert (far != rows[:, None]).all()


def test_refreshing_the_reference_changes_what_is_learned(images):
    once, twice = (train(images, replace(QUICK, refresh=k)).embeddings for k in (0, 1))
    assert not torch.equal(once, twice)


def test_a_refreshed_bank_holds_the_codes_of_the_encoder_as_trained_so_far(images, monkeypatch):
    banks = []
    start = Relation.start_epoch

    def spy(self, epoch, encoder):
        start(self, epoch, encoder)
        with torch.no_grad():
            now = encoder(to_unit(images.batch(range(len(images)))))
        banks.append((self.bank.clone(), now))

    monkeypatch.setattr(Relation, "start_epoch", spy)
    train(images, replace(QUICK, refresh=1))
    for bank, now in banks:
        torch.testing.assert_close(bank, now)
    assert not torch.allclose(banks[0][0], banks[1][0])


@pytest.mark.parametrize("end", ["reconstruction", "image"])
def test_neighbors_are_those_of_the_end_that_is_asked_for(images, monkeypatch, end):
    """The images do not move from epoch to epoch; their reconstructions do."""
    found = []
    start = Relation.start_epoch

    def spy(self, epoch, encoder):
        start(self, epoch, encoder)
        found.append((self.bank.clone(), self.found.near))

    monkeypatch.setattr(Relation, "start_epoch", spy)
    trained = train(images, replace(QUICK, relative_to=end, finder="exact"))
    assert len(trained.log) == 5
    for bank, near in found:
        similarity = torch.nn.functional.normalize(bank, dim=1)
        similarity = (similarity @ similarity.T).fill_diagonal_(-1)
        is_own = (near.squeeze(1) == similarity.argmax(1)).float().mean()
        assert is_own == 1 or end == "reconstruction"
    assert torch.equal(found[0][1], found[2][1]) == (end == "image")


def test_far_samples_are_drawn_anew_each_epoch(images, monkeypatch):
    found = []
    start = Relation.start_epoch

    def spy(self, epoch, encoder):
        start(self, epoch, encoder)
        found.append(self.found)

    monkeypatch.setattr(Relation, "start_epoch", spy)
    train(images, replace(QUICK, lr=1e-12))
    _, (near, far), (near_again, far_again) = found
    assert (near == near_again).float().mean() > 0.5
    assert (far == far_again).float().mean() < 0.5


def test_a_network_of_the_callers_own(images):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.Dropout())
    decoder = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    trained = train(images, QUICK, encoder=encoder, decoder=decoder)
    assert trained.embeddings.shape == (300, 5)
    assert trained.autoencoder.encoder is not encoder


class Mirrored(torch.nn.Module):
    """A decoder with the weights of the encoder's layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, embeddings):
        return torch.sigmoid(embeddings @ self.layer.weight).unflatten(1, (1, 8, 8))


def test_a_network_that_shares_weights_still_shares_them_when_read(tmp_path, images):
    layer = torch.nn.Linear(64, 5)
    network = {
        "encoder": torch.nn.Sequential(torch.nn.Flatten(), layer),
        "decoder": Mirrored(layer),
    }
    train(images, QUICK, folder=tmp_path / "whole", **network)
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "parts", track=StopAt(12), **network)
    train(images, QUICK, folder=tmp_path / "parts", resume=True, **network)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    read = runs.read_run(tmp_path / "whole", **network).autoencoder
    assert read.encoder[1].weight is read.decoder.layer.weight
    saved = weights(tmp_path / "whole")
    assert torch.equal(saved["autoencoder.decoder.layer.weight"], read.encoder[1].weight)


def test_a_network_that_does_not_fit_is_refused(images):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(63, 5))
    with pytest.raises(NearfarError, match=r"\(1, 8, 8\)"):
        train(images, QUICK, encoder=encoder, decoder=torch.nn.Linear(5, 64))
    encoder[1] = torch.nn.Linear(64, 5)
    with pytest.raises(NearfarError, match="expected .* the same"):
        train(images, QUICK, encoder=encoder, decoder=torch.nn.Linear(5, 64))
    for broken in (torch.nn.BatchNorm1d(1), torch.nn.GRU(8, 5), torch.nn.Flatten(0)):
        with pytest.raises(NearfarError, match="the network does not take images"):
            train(images, QUICK, encoder=broken, decoder=torch.nn.Linear(5, 64))


def test_mixed_precision_learns_about_the_same(images):
    config = replace(QUICK, pretrain_epochs=6)
    full, mixed = (train(images, replace(config, precision=p)).log[-1] for p in ("32", "bf16"))
    for term in ("own", "near", "far", "pixel"):
        assert mixed[term] == pytest.approx(full[term], rel=0.2)
    assert mixed["own"] != full["own"]


def test_training_leaves_the_random_numbers_of_the_caller_alone(images):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(images, replace(QUICK, pretrain_epochs=1, epochs=1))
    assert torch.equal(torch.rand(3), expected)


# --- the order of the images ---------------------------------------------------------------------


@given(
    n=st.integers(4, 200),
    batch_size=st.integers(4, 70),
    processes=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_image_is_seen_once_an_epoch_whatever_the_processes(n, batch_size, processes, epoch):
    alone = Order(n, batch_size, (0, 1))
    alone.epoch = epoch
    together = [Order(n, batch_size, (0, 1), rank, processes) for rank in range(processes)]
    for order in together:
        order.epoch = epoch
    whole = list(alone)
    assert sorted(np.concatenate(whole)) == list(range(n))
    assert [len(batch) for batch in whole] == [alone.batch_size(i) for i in range(len(whole))]
    assert max(map(len, whole)) <= batch_size
    for batch, *parts in zip(whole, *together, strict=True):
        assert list(batch) == [row for part in parts for row in part]


def test_the_order_depends_on_seed_and_epoch():
    order = Order(50, 10, (0, 1))
    first = np.concatenate(list(order))
    order.epoch = 1
    assert not np.array_equal(first, np.concatenate(list(order)))
    assert not np.array_equal(first, np.concatenate(list(Order(50, 10, (1, 1)))))


# --- interruption --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"finder": "exact"},
        {"search": "step"},
        {"bank": "disk"},
        {"relative_to": "image"},
        {"refresh": 2, "epochs": 4},
        {"weight_schedule": "cosine", "end_weights": (0.2, 0.4, 0.4)},
        {
            "relation": "embeddings",
            "network": "normalized",
            "refresh": 1,
            "lr_schedule": "one-cycle",
        },
        {"relation": "embeddings", "network": "deep", "unchanged_share": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("step", [3, 10, 12, 18, 20])
def test_resuming_gives_the_weights_of_an_uninterrupted_run(tmp_path, images, changes, step):
    """With 5 steps an epoch: in the first phase, at its end, in the second, at an epoch's end."""
    config = replace(QUICK, **changes)
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
    assert not (parts / runs.BANK).exists()


def test_resuming_a_network_that_draws_random_numbers(tmp_path, images):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 9), torch.nn.Dropout())
    decoder = torch.nn.Sequential(torch.nn.Linear(9, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    network = {"encoder": encoder, "decoder": decoder}
    train(images, QUICK, folder=tmp_path / "whole", **network)
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "parts", track=StopAt(12), **network)
    train(images, QUICK, folder=tmp_path / "parts", resume=True, **network)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.parametrize("step", [3, 12])
def test_the_time_of_an_epoch_is_that_of_all_its_parts(tmp_path, images, step):
    class StopLateAt(StopAt):
        def __call__(self, items, description, total):
            for item in super().__call__(items, description, total):
                if self.left == 1:
                    time.sleep(1)
                yield item

    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopLateAt(step))
    time.sleep(1)
    log = train(images, QUICK, folder=tmp_path / "run", resume=True).log
    seconds = log[step // 5]["seconds"]
    assert 1 < seconds < 2, "without the break"
    assert log[step // 5]["images_per_second"] == pytest.approx(300 / seconds)


def test_the_time_of_the_first_epoch_has_the_making_of_its_objective(images):
    reference = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))

    def late(config, images, fabric):
        time.sleep(1)
        return Relation(config, reference, images, fabric)

    *_, first, second, third = train(images, QUICK, objective=late).log
    assert first["seconds"] > 1 > max(second["seconds"], third["seconds"])


def test_termination_is_an_interruption_too(tmp_path, images):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(7, signal.SIGTERM))
    assert runs.read_checkpoint(tmp_path / "run")[1] == {
        "phase": "pretrain",
        "epoch": 1,
        "step": 2,
    }


def test_killed_in_the_middle_of_an_epoch(tmp_path, digits):
    data, whole, parts = tmp_path / "digits.npy", tmp_path / "whole", tmp_path / "parts"
    np.save(data, digits[:400])
    choices = (
        "--pretrain-epochs 2 --epochs 12 --batch-size 8 --embedding-size 12 --device cpu".split()
    )
    command = [sys.executable, "-m", "nearfar", "train", str(data), *choices, "--out"]
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


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path, images):
    run = tmp_path / "run"
    with pytest.raises(NearfarError, match="no longer finite in epoch 1 of phase 'relational'"):
        train(images, replace(QUICK, lr=1e30), folder=run)
    saved, place = runs.read_checkpoint(run)
    assert place == {"phase": "relational", "epoch": 0, "step": 0}
    assert all(t.isfinite().all() for name, t in saved.items() if name.startswith("model."))
    train(images, QUICK, folder=run, resume=True)
    assert runs.is_finished(run)


def crash_at(step, phase="relational"):
    """A `Track` that fails at one of the training steps, without warning."""

    def track(items, description, total):
        for number, item in enumerate(items):
            if description == phase and number == step:
                raise RuntimeError("crash")
            yield item

    return track


@pytest.mark.parametrize("bank", ["memory", "disk"])
@pytest.mark.parametrize("step", [0, 3, 8, 13])
def test_a_crash_costs_at_most_the_epoch(tmp_path, images, bank, step):
    config = replace(QUICK, bank=bank)
    train(images, config, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train(images, config, folder=tmp_path / "parts", track=crash_at(step))
    train(images, config, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_crash_in_the_first_epoch(tmp_path, images):
    train(images, QUICK, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train(images, QUICK, folder=tmp_path / "parts", track=crash_at(1, "pretrain"))
    train(images, QUICK, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_checkpoints_within_an_epoch_are_good_for_a_crash(tmp_path, images, monkeypatch):
    monkeypatch.setattr("nearfar.training.watch.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("nearfar.training.watch.LOOK_EVERY", 2)
    train(images, QUICK, folder=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="crash"):
        train(images, QUICK, folder=tmp_path / "parts", track=crash_at(8))
    _, place = runs.read_checkpoint(tmp_path / "parts")
    assert place == {"phase": "relational", "epoch": 1, "step": 2}
    train(images, QUICK, folder=tmp_path / "parts", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_crash_between_log_and_checkpoint_leaves_no_line_twice(tmp_path, images):
    run = tmp_path / "run"
    with pytest.raises(RuntimeError, match="crash"):
        train(images, QUICK, folder=run, track=crash_at(0))
    runs.append_log(run, {"phase": "relational", "epoch": 1})
    train(images, QUICK, folder=run, resume=True)
    lines = [(line["phase"], line["epoch"]) for line in runs.read_log(run)]
    assert lines == [("pretrain", 1), ("pretrain", 2), *(("relational", i) for i in (1, 2, 3))]


def test_a_loss_that_is_not_finite_is_noticed_within_the_epoch(images, monkeypatch):
    monkeypatch.setattr("nearfar.training.watch.LOOK_EVERY", 1)
    steps = []

    def count(items, description, total):
        for item in items:
            steps.append(description)
            yield item

    with pytest.raises(NearfarError, match="no longer finite"):
        train(images, replace(QUICK, lr=1e30), track=count)
    assert steps.count("relational") < 5


@pytest.mark.parametrize(
    ("change", "culprit"),
    [({"embedding_size": 7}, "embedding_size=12, not 7"), ({"seed": 3}, "seed=0")],
)
def test_resuming_with_other_choices_is_refused(tmp_path, images, change, culprit):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(7))
    with pytest.raises(NearfarError, match=culprit):
        train(images, replace(QUICK, **change), folder=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("step", "change", "culprit"),
    [
        (8, {"pretrain_epochs": 1}, "epoch 2 of 'pretrain', which was to have 1"),
        (13, {"pretrain_epochs": 0}, "has had its 2 epochs of pre-training, not 0"),
        (13, {"pretrain_epochs": 4}, "has had its 2 epochs of pre-training, not 4"),
        (17, {"epochs": 1}, "epoch 2 of 'relational', which was to have 1"),
        (17, {"epochs": 0}, "epoch 2 of 'relational', which was to have 0"),
    ],
)
def test_what_was_trained_cannot_be_taken_back(tmp_path, images, step, change, culprit):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(step))
    with pytest.raises(NearfarError, match=culprit):
        train(images, replace(QUICK, **change), folder=tmp_path / "run", resume=True)
    again = {**{"pretrain_epochs": 2, "epochs": 3}, **{name: 4 for name in change if step != 13}}
    log = train(images, replace(QUICK, **again), folder=tmp_path / "run", resume=True).log
    phases = [line["phase"] for line in log]
    assert phases.count("pretrain") == again["pretrain_epochs"]
    assert phases.count("relational") == again["epochs"]


def test_what_needs_a_folder_is_refused_without_one(images):
    with pytest.raises(NearfarError, match="without a folder"):
        train(images, replace(QUICK, bank="disk"))
    with pytest.raises(NearfarError, match="without a folder"):
        train(images, QUICK, resume=True)


def test_features_are_not_taken_for_pictures(images):
    features = ArrayImages(np.random.default_rng(0).random((60, 1, 1, 12), np.float32))
    embeddings = TrainConfig(
        relation="embeddings", pretrain_epochs=0, epochs=2, batch_size=20, refresh=1, device="cpu"
    )
    for config in (replace(QUICK, pretext="context"), replace(embeddings, views="shapes")):
        with pytest.raises(NearfarError, match="expected at least 8x8 pixels"):
            train(features, config)
    assert train(features, embeddings).embeddings.isfinite().all()


def test_weights_that_the_last_step_spoiled_are_not_written(tmp_path, images):
    class Brittle(torch.nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) + (0 * self.weight.sum()).sqrt()  # whose slope is none

    encoder = torch.nn.Sequential(torch.nn.Flatten(), Brittle(64, 5))
    decoder = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.Unflatten(1, (1, 8, 8)))
    once = replace(QUICK, pretrain_epochs=1, epochs=0, batch_size=300)
    with pytest.raises(NearfarError, match="no longer finite after the last step"):
        train(images, once, folder=tmp_path / "run", encoder=encoder, decoder=decoder)
    assert not runs.is_finished(tmp_path / "run")


def linear(size):
    return {
        "encoder": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, size)),
        "decoder": torch.nn.Sequential(torch.nn.Linear(size, 64), torch.nn.Unflatten(1, (1, 8, 8))),
    }


@pytest.mark.parametrize("step", [3, 12])
@pytest.mark.parametrize("other", [linear(6), {}], ids=["another size", "none given"])
def test_resuming_with_another_network_is_refused(tmp_path, images, step, other):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=run, track=StopAt(step), **linear(5))
    before = (run / runs.CONFIG).read_bytes()
    with pytest.raises(NearfarError, match="of another network") as caught:
        train(images, QUICK, folder=run, resume=True, **other)
    assert "\n" not in str(caught.value)
    assert (run / runs.CONFIG).read_bytes() == before


@pytest.mark.parametrize("step", [3, 12])
@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.popitem(),
        lambda tensors: tensors.pop("adam.0.exp_avg"),
        lambda tensors: tensors.update({"record.sums": torch.zeros(2)}),
        lambda tensors: tensors["model.encoder.0.weight"].view(-1)[0].add_(1),
    ],
    ids=["a tensor less", "no Adam", "another shape", "another number"],
)
def test_resuming_from_a_damaged_checkpoint_is_refused(tmp_path, images, step, damage):
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


@pytest.mark.parametrize("size", [10**15, 10**20])
def test_a_network_that_no_memory_can_hold_is_refused(images, size):
    with pytest.raises(NearfarError, match=f"no memory for a network with embedding_size={size}"):
        train(images, replace(QUICK, embedding_size=size))


def test_a_run_is_kept_if_the_new_network_does_not_fit(tmp_path, images):
    train(images, QUICK, folder=tmp_path / "run")
    wrong = {"encoder": torch.nn.Linear(3, 4), "decoder": torch.nn.Linear(4, 3)}
    with pytest.raises(NearfarError, match="does not take"):
        train(images, QUICK, folder=tmp_path / "run", overwrite=True, **wrong)
    runs.read_run(tmp_path / "run")


def test_resuming_on_other_images_is_refused(tmp_path, images, digits):
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=tmp_path / "run", track=StopAt(7))
    with pytest.raises(NearfarError, match="images=300, not 299"):
        train(ArrayImages(digits[:299, None]), QUICK, folder=tmp_path / "run", resume=True)
    with pytest.raises(NearfarError, match="begun with other images than 'others'"):
        others = ArrayImages(digits[300:600, None], name="others")
        train(others, QUICK, folder=tmp_path / "run", resume=True)


def test_runs_of_before_there_was_a_checksum_can_be_resumed(tmp_path, images):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=run, track=StopAt(7))
    saved = json.loads((run / runs.CONFIG).read_text())
    assert saved["data"].pop("checksum")
    (run / runs.CONFIG).write_text(json.dumps(saved))
    train(images, QUICK, folder=run, resume=True)
    assert runs.read_config(run).data.checksum


def test_two_trainings_of_one_run_are_kept_apart(tmp_path, images):
    run = tmp_path / "run"
    refused = []

    def again(items, description, total):
        for item in items:
            if description == "relational" and not refused:
                for choice in ("resume", "overwrite"):
                    with pytest.raises(NearfarError, match="trained by another process"):
                        train(images, QUICK, folder=run, **{choice: True})
                    refused.append(choice)
            yield item

    train(images, QUICK, folder=run, track=again)
    assert refused == ["resume", "overwrite"]
    assert {path.name for path in run.iterdir()} == {
        *(runs.CONFIG, runs.MODEL, runs.EMBEDDINGS, runs.LOG)
    }


def test_a_run_that_cannot_be_locked_for_want_of_rights_is_refused(tmp_path):
    (tmp_path / runs.LOCK).symlink_to(runs.LOCK)  # nobody can open it
    with (
        pytest.raises(NearfarError, match="cannot be written to .*: choose another"),
        runs.hold(tmp_path),
    ):
        pytest.fail("held what cannot be written")


@pytest.mark.parametrize(
    "refusal",
    [
        OSError(errno.ENOLCK, "No locks available"),
        NotImplementedError("FileSystem does not appear to support flock"),  # of filelock 3
    ],
    ids=repr,
)
def test_a_disk_without_locks_is_told_and_its_files_stay(tmp_path, monkeypatch, refusal):
    def acquire(*_args, **_choices):
        raise refusal

    (tmp_path / runs.LOCK).write_text("another's")
    monkeypatch.setattr(FileLock, "acquire", acquire)  # there is no such disk here
    with pytest.warns(UserWarning, match="knows no locks"), runs.hold(tmp_path):
        pass
    assert (tmp_path / runs.LOCK).read_text() == "another's"


def test_nothing_stays_of_files_that_were_never_finished(tmp_path, images):
    run, left = tmp_path / "run", f"{LEFTOVER}1-{runs.CHECKPOINT}"
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=run, track=StopAt(7), snapshots=[1])
    (run / left).touch()
    (run / runs.SNAPSHOTS / left).touch()
    with pytest.raises(Interrupted):
        train(images, QUICK, folder=run, track=StopAt(2), resume=True)
    assert list(run.rglob(f"{LEFTOVER}*")) == []
    (run / left).touch()
    runs.remove_checkpoint(run)
    assert not (run / left).exists()


def test_resuming_a_finished_run_is_refused(tmp_path, images):
    train(images, QUICK, folder=tmp_path / "run")
    with pytest.raises(NearfarError, match="is finished"):
        train(images, QUICK, folder=tmp_path / "run", resume=True)


def test_images_in_parts_teach_what_they_do_together(images):
    config = replace(QUICK, pixel_weight=1.0, batch_size=60)
    whole, parts = (train(images, replace(config, accumulate=parts)) for parts in (1, 7))
    for one, other in zip(whole.log, parts.log, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    torch.testing.assert_close(whole.embeddings, parts.embeddings, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "choices", [{}, {"relation": "embeddings", "network": "normalized"}], ids=str
)
def test_a_refreshed_bank_does_not_stand_beside_the_old_one(images, monkeypatch, choices):
    kept = []
    for kind in (Relation, CodeRelation):

        def spy(self, *arguments, make_bank=kind._make_bank):
            assert all(reference() is None for reference in kept)
            return make_bank(self, *arguments)

        def seen(self, epoch, encoder, start=kind.start_epoch):
            start(self, epoch, encoder)
            if self.bank is not None:
                kept.extend(weakref.ref(each) for each in (self.bank, self.finder))

        monkeypatch.setattr(kind, "_make_bank", spy)
        monkeypatch.setattr(kind, "start_epoch", seen)
    train(images, replace(QUICK, refresh=1, **choices))
    assert len(kept) >= 4


# --- a bank on disk ---


def test_what_a_checkpoint_relies_on_is_on_the_disk_before_it(tmp_path, images, monkeypatch):
    done = []
    flush, write = DiskBank.flush, runs.write_checkpoint
    monkeypatch.setattr(DiskBank, "flush", lambda bank: done.append("bank") or flush(bank))
    monkeypatch.setattr(
        runs,
        "write_checkpoint",
        lambda *given: done.append(given[2]["phase"]) or write(*given),
    )
    train(images, replace(QUICK, bank="disk"), folder=tmp_path / "run")
    # Before the first relational epoch nothing was found that has to be kept.
    assert done[4:] == [*("bank", "bank", "relational")] * 3


def test_a_bank_on_disk_changes_no_more_than_its_precision(tmp_path, images):
    memory, disk = (
        train(images, replace(QUICK, bank=bank), folder=tmp_path / bank)
        for bank in ("memory", "disk")
    )
    for one, other in zip(memory.log, disk.log, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-3)
    torch.testing.assert_close(memory.embeddings, disk.embeddings, rtol=1e-2, atol=1e-2)
    with torch.no_grad():
        again = disk.autoencoder.eval().encoder(to_unit(images.batch(range(len(images)))))
    torch.testing.assert_close(disk.embeddings, again)
    np.testing.assert_array_equal(runs.read_run(tmp_path / "disk").embeddings, disk.embeddings)
    assert not runs.bank_folder(tmp_path / "disk").exists()


def test_no_room_for_the_bank_is_said_before_the_work_starts(tmp_path, images, monkeypatch):
    free = shutil._ntuple_diskusage(10**9, 10**9, 10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(NearfarError, match="no room for .* bank, embeddings and checkpoints need"):
        train(images, replace(QUICK, bank="disk"), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_more_disk_is_taken_than_was_said(tmp_path, images):
    config = replace(QUICK, bank="disk", refresh=1)
    most = 0

    def track(items, description="", total=None):
        nonlocal most
        for item in items:
            files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
            most = max(most, sum(path.stat().st_size for path in files))
            yield item

    trained = train(images, config, folder=tmp_path / "run", track=track)
    said = sum(disk_needs(config, images, trained.autoencoder).values())
    assert most < said + 20_000, "headers and the log"
    assert most > said / 3, "while no checkpoint is being replaced"


# --- several processes ---------------------------------------------------------------------------


@pytest.mark.parametrize("bank", ["memory", "disk"])
def test_two_processes_learn_what_one_does(tmp_path, digits, bank):
    data = tmp_path / "digits.npy"
    np.save(data, digits[:301])
    choices = f"--pretrain-epochs 2 --epochs 3 --batch-size 4 --bank {bank} --device cpu".split()
    choices += ["--accumulate", "3"] if bank == "disk" else []
    train_it = ["-m", "nearfar", "train", str(data), *choices, "--out"]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, *train_it, one], check=True, capture_output=True)
    subprocess.run([*TORCHRUN, *train_it, two], check=True, capture_output=True)
    for alone, together in zip(runs.read_log(one), runs.read_log(two), strict=True):
        for term in ("loss", "own", "near", "far", "pixel"):
            if term in alone:
                assert together[term] == pytest.approx(alone[term], rel=1e-3), (term, alone)
    a, b = weights(one), weights(two)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-2, atol=1e-3)
    embeddings = (runs.read_run(run).embeddings for run in (one, two))
    np.testing.assert_allclose(*embeddings, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_two_processes_train_a_backbone_on_another_reference(tmp_path):
    from torchvision.models import resnet18

    pixels = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), tmp_path / "resnet18.safetensors")
    choices = (
        "--backbone alexnet --widths 32 --embedding-size 16 --pretrain-epochs 1 --epochs 2 "
        "--batch-size 8 --accumulate 2 --bank disk --clusters 3 --device cpu --reference resnet18"
    ).split()
    weights_of_another = ["--reference-weights", tmp_path / "resnet18.safetensors"]
    train_it = ["-m", "nearfar", "train", tmp_path / "images.npy", *choices, *weights_of_another]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, *train_it, "--out", one], check=True, capture_output=True)
    subprocess.run([*TORCHRUN, *train_it, "--out", two], check=True, capture_output=True)
    for alone, together in zip(runs.read_log(one), runs.read_log(two), strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)
    alone, together = (np.asarray(runs.read_run(run).embeddings) for run in (one, two))
    # Adam makes a whole step of a gradient near zero, whichever sign rounding gives it.
    assert np.linalg.norm(together - alone) < 0.1 * np.linalg.norm(alone)


@pytest.mark.slow
def test_fabric_run_starts_processes_too(tmp_path, digits):
    pytest.importorskip("click")
    np.save(tmp_path / "digits.npy", digits[:301])
    fabric = [sys.executable, "-c", "from lightning_fabric.cli import _main; _main()", "run"]
    processes = ["--devices", "2", "--accelerator", "cpu", "--", nearfar.__main__.__file__]
    choices = "--pretrain-epochs 1 --epochs 1 --precision bf16".split()
    train_it = ["train", tmp_path / "digits.npy", "--out", tmp_path / "run", *choices]
    done = subprocess.run([*fabric, *processes, *train_it], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Starting with 2 processes" in done.stderr
    assert runs.is_finished(tmp_path / "run")


NORMALIZING = """
import sys
import numpy as np
import torch
from torch import nn
from safetensors.torch import save_file
from nearfar.data import ArrayImages, to_unit
from nearfar.training.config import TrainConfig
from nearfar.training.relation import Relation
from nearfar.training.train import train

data, out = sys.argv[1:]
images = ArrayImages(np.load(data)[:, None])
pixels = to_unit(images.batch(range(len(images))))
banks = {}
make_bank = Relation._make_bank

def spy(self):
    bank = make_bank(self)
    banks[f"bank {len(banks)}"] = bank.clone()
    banks[f"bank {len(banks)}"] = self.reference(pixels).detach()
    return bank

Relation._make_bank = spy
encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.BatchNorm1d(9), nn.ReLU())
decoder = nn.Sequential(nn.Linear(9, 64), nn.Unflatten(1, (1, 8, 8)))
config = TrainConfig(
    pretrain_epochs=2, epochs=2, refresh=1, batch_size=16, clusters=3, device="cpu"
)
trained = train(images, config, encoder=encoder, decoder=decoder)
kept = trained.autoencoder.state_dict() | trained.pretrained.state_dict(prefix="pretrained.")
with torch.no_grad():
    kept["embeddings again"] = trained.autoencoder.encoder(pixels)
tensors = kept | banks | {"embeddings": trained.embeddings}
save_file(tensors, f"{out}-{torch.distributed.get_rank()}")
"""


def test_batch_normalization_in_two_processes(tmp_path, digits):
    """Each sees other images: model, banks and embeddings are nevertheless of one network."""
    np.save(tmp_path / "digits.npy", digits[:101])
    (tmp_path / "script.py").write_text(NORMALIZING)
    arguments = [tmp_path / "script.py", tmp_path / "digits.npy", tmp_path / "rank"]
    subprocess.run([*TORCHRUN, *arguments], check=True, capture_output=True)
    first, second = (load_file(tmp_path / f"rank-{rank}") for rank in (0, 1))
    assert_same_weights(first, second)
    assert first["encoder.2.running_mean"].abs().max() > 0
    torch.testing.assert_close(first["embeddings"], first["embeddings again"])
    for made in (0, 2):
        torch.testing.assert_close(first[f"bank {made}"], first[f"bank {made + 1}"])


RELATING = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from torch import nn
from nearfar.data import ArrayImages
from nearfar.training import embeddings
from nearfar.training.config import TrainConfig
from nearfar.training.train import train

data, out = map(Path, sys.argv[1:])
embeddings.projection_head = lambda size: nn.Linear(size, 6)  # without batch normalization
config = TrainConfig(
    relation="embeddings", views="none", neighbor_share=0, neighbors=2, refresh=1, clusters=5,
    far_share=0.6, pixel_weight=1, pretrain_epochs=0, epochs=3, batch_size=9, lr=1e-3, device="cpu",
)
images = ArrayImages(np.load(data)[:, None])
train(images, config, folder=out)
train(images, replace(config, accumulate=3, epochs=1))
"""


def test_two_processes_relate_the_codes_of_the_whole_batch(tmp_path, digits):
    """Batches of nine are shared unevenly, and five and four images are seen in three parts."""
    np.save(tmp_path / "digits.npy", digits[:90])
    (tmp_path / "script.py").write_text(RELATING)
    arguments = [tmp_path / "script.py", tmp_path / "digits.npy"]
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run([sys.executable, *arguments, one], check=True, capture_output=True)
    subprocess.run([*TORCHRUN, *arguments, two], check=True, capture_output=True, timeout=60)
    for alone, together in zip(runs.read_log(one), runs.read_log(two), strict=True):
        for term in ("loss", "relation", "pixel"):
            assert together[term] == pytest.approx(alone[term], rel=1e-4), (term, alone)
    a, b = weights(one), weights(two)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_processes_are_interrupted_together(tmp_path, digits, number):
    data, run = tmp_path / "digits.npy", tmp_path / "run"
    np.save(data, np.tile(digits, (4, 1, 1)))
    choices = "--pretrain-epochs 5000 --epochs 1 --batch-size 4 --device cpu".split()
    command = [*TORCHRUN, "-m", "nearfar", "train", data, "--out", run, *choices]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (run / runs.CHECKPOINT).exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    _, place = runs.read_checkpoint(run)
    assert place["step"] > 0, "within an epoch"
    assert said.count("continue with nearfar train") == 1
    assert "SIGKILL" not in said
    assert "nearfar/training" not in said, "no traceback of ours"
    resume = [sys.executable, "-m", "nearfar", "train", data, "--out", run, "--resume"]
    subprocess.run([*resume, "--pretrain-epochs", "1"], check=True, capture_output=True)


# --- choices that cannot be ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choices", "culprit"),
    [
        ({"neighbors": 0}, "neighbors=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"epochs": 2.5}, "epochs=2.5: expected a whole number"),
        ({"clusters": "3"}, "clusters='3': expected a whole number"),
        ({"embedding_size": 0}, "embedding_size=0"),
        ({"embedding_size": True}, "embedding_size=True: expected a whole number"),
        ({"lr": "fast"}, "lr='fast': expected a number"),
        ({"pixel_weight": None}, "pixel_weight=None: expected a number"),
        ({"device": 3}, "device=3: expected str"),
        ({"weights": 1}, "weights=1: expected 3 values"),
        ({"weights": (0.5, 0.5)}, "expected 3 values"),
        ({"widths": (8, 2.5)}, "widths=.*expected a whole number"),
        ({"widths": 8}, "widths=8: expected a list"),
        ({"finder": ["exact"]}, "expected clustered or exact"),
        ({"epochs": -1}, "epochs=-1"),
        ({"epochs": 0, "pretrain_epochs": 0}, "nothing to train"),
        ({"lr": 0}, "lr=0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"finder": "approximate"}, "finder='approximate': expected clustered or exact"),
        ({"precision": "16"}, "precision='16'"),
        ({"weights": (0.5, 0.5, 0.5)}, "sum to 1.5"),
        ({"end_weights": (0.5, 0.2, 0.3)}, "weight_schedule"),
        ({"relative_to": "image", "search": "step"}, "search='step' with relative_to='image'"),
        (
            {"relative_to": "image", "relation": "embeddings"},
            "relative_to=image with relation='embeddings'",
        ),
    ],
)
def test_choices_that_are_refused(choices, culprit):
    with pytest.raises(NearfarError, match=culprit):
        TrainConfig(**choices)


@pytest.mark.parametrize("finder", ["exact", "clustered"])
def test_more_neighbors_than_images_are_refused_before_anything_is_trained(images, finder):
    lines = []
    with pytest.raises(NearfarError, match="neighbors=300"):
        train(images, replace(QUICK, neighbors=300, finder=finder), on_epoch=lines.append)
    assert not lines


def test_a_configuration_survives_json():
    config = replace(QUICK, widths=(4, 8), end_weights=(1, 0, 0), weight_schedule="linear")
    assert TrainConfig.from_dict(json.loads(json.dumps(config.__dict__))) == config


def test_numbers_of_numpy_are_as_good_as_any():
    config = TrainConfig(
        epochs=np.int64(3), lr=np.float32(0.5), widths=np.array([4, 8]), weights=np.array([1, 0, 0])
    )
    assert config == TrainConfig(epochs=3, lr=0.5, widths=(4, 8), weights=(1.0, 0.0, 0.0))
    json.dumps(config.__dict__)


# --- what is measured ----------------------------------------------------------------------------


def test_dead_codes_are_those_that_never_change():
    record = Record(launch(QUICK))
    embeddings = torch.tensor([[0.0, -1.0, 2.0, -3.0], [0.0, -2.0, 0.0, -3.0]])
    for some in embeddings.split(1):
        record.add(Step(torch.tensor(1.0), some, {}))
    assert record.dead_units() == 2, "the first and the last; negative ones may be alive"


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(4000, 6, generator=generator)
    assert effective_rank(wide) == pytest.approx(6, abs=0.05)
    assert effective_rank(wide[:, :1] * torch.ones(6)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.ones(10, 6)) == 0


@pytest.mark.parametrize(
    ("n", "parts"), [(8, {"batch_size": 1}), (8, {"accumulate": 4}), (5, {"batch_size": 2})]
)
def test_batch_normalization_of_one_small_image_is_refused_before_training(n, parts, tmp_path):
    pixels = np.zeros((n, 3, 32, 32), np.uint8)
    config = replace(QUICK, **{"batch_size": 4, "clusters": 1, "backbone": "resnet18"} | parts)
    with pytest.raises(NearfarError, match="one image of 32x32 pixels alone"):
        train(ArrayImages(pixels), config, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
