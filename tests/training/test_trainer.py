"""`Trainer`: steps, log lines, and losses that are no longer finite."""

from __future__ import annotations

import time

import numpy as np
import pytest

from interruption import StopAt
from nearfar import runs
from nearfar.errors import NearfarError
from nearfar.runs import Cursor
from nearfar.training import Interrupted, Reconstruction, train
from trainings import QUICK, quick


def test_log_line_holds_the_metrics_of_an_epoch(images):
    line = train(images, QUICK).log[-1]
    weights = QUICK.objective.weights
    total = sum(w * line[k] for w, k in zip(weights, ("own", "near", "far"), strict=True))
    assert line["loss"] == pytest.approx(total, rel=1e-5)
    assert (line["phase"], line["epoch"]) == ("train", 3)
    assert 0 <= line["dead_units"] <= 12
    assert 1 <= line["effective_rank"] <= 12
    assert line["images_per_second"] > 0
    assert {"pixel", "zero_embeddings", "seconds"} <= line.keys()


def test_accumulated_parts_teach_what_a_whole_batch_does(images):
    config = {"pixel_weight": 1.0, "batch_size": 60}
    whole, parts = (train(images, quick(**config, accumulate=parts)) for parts in (1, 7))
    for one, other in zip(whole.log, parts.log, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
    np.testing.assert_allclose(whole.embeddings, parts.embeddings, rtol=1e-2, atol=1e-2)


def test_layers_outside_the_encoder_have_their_own_learning_rate(images):
    """A rate of almost zero leaves the encoder as it was."""
    tiny = {"pretrain_epochs": 0, "epochs": 1, "pixel_weight": 1, "lr": 1e-12}
    for scale, moves in ((1e9, True), (1.0, False)):
        run = train(images, quick(**tiny, head_lr_scale=scale))
        for part in ("encoder", "decoder"):
            before, after = (getattr(each, part) for each in (run.initial, run.network))
            change = max(
                float((a - b).abs().max())
                for a, b in zip(before.parameters(), after.parameters(), strict=True)
            )
            assert (change > 1e-4) == (moves and part == "decoder"), (scale, part)


@pytest.mark.parametrize("step", [3, 12])
def test_seconds_of_an_epoch_are_those_of_all_its_parts(tmp_path, images, step):
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


def test_seconds_of_the_first_epoch_include_the_setup_of_its_objective(images):
    class Late(Reconstruction):
        def setup(self, network, state):
            time.sleep(1)
            return super().setup(network, state)

    *_, first, second, third = train(images, quick(objective=Late)).log
    assert first["seconds"] > 1 > max(second["seconds"], third["seconds"])


def test_nonfinite_loss_stops_with_the_last_good_checkpoint(tmp_path, images):
    run = tmp_path / "run"
    with pytest.raises(NearfarError, match="no longer finite in epoch 1 of phase 'train'"):
        train(images, quick(lr=1e30), folder=run)
    checkpoint = runs.read_checkpoint(run)
    assert (checkpoint.phase, checkpoint.cursor) == ("train", Cursor(0, 0))
    network = {k: v for k, v in checkpoint.tensors.items() if k.startswith("network.")}
    assert network
    assert all(each.isfinite().all() for each in network.values())
    train(images, QUICK, folder=run, resume=True)
    assert runs.is_finished(run)


def test_nonfinite_loss_is_noticed_within_the_epoch(images, monkeypatch):
    monkeypatch.setattr("nearfar.training.signals.CHECK_EVERY", 1)
    steps = []

    def count(items, description, total):
        for item in items:
            steps.append(description)
            yield item

    with pytest.raises(NearfarError, match="no longer finite"):
        train(images, quick(lr=1e30), track=count)
    assert steps.count("train") < 5
