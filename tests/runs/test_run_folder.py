"""`RunFolder` and runs that start from another run's snapshot."""

from __future__ import annotations

import pytest

from nearfar import runs
from nearfar.errors import NearfarError
from nearfar.runs import RunConfig, RunData, RunFolder, fork_run
from nearfar.training import Snapshots, train
from trainings import assert_same_weights, changed, weights


def test_folder_without_a_path_keeps_its_log_in_memory(images, config):
    with RunFolder.open(None, RunConfig(RunData.of(images), config)) as folder:
        folder.append_log({"phase": "pretrain", "epoch": 1})
        folder.write_checkpoint(runs.Checkpoint())
    assert folder.log == [{"phase": "pretrain", "epoch": 1}]
    assert folder.bank is None


def test_forked_run_is_the_run_that_shares_the_pretraining(tmp_path, images, config):
    first, second = config, changed(config, loss_weights=(1, 0, 0))
    train(images, first, folder=tmp_path / "first", callbacks=[Snapshots([1])])
    whole = train(images, second, folder=tmp_path / "whole")
    fork_run(tmp_path / "first", 1, tmp_path / "forked", whole.config.train)
    run = train(images, second, folder=tmp_path / "forked", resume=True)
    assert_same_weights(weights(tmp_path / "whole"), weights(tmp_path / "forked"))
    assert [line["phase"] for line in run.log] == ["pretrain", "train"]


def test_fork_refuses_a_run_without_the_snapshot(run, tmp_path, config):
    with pytest.raises(NearfarError, match="no snapshot after 1 epochs"):
        fork_run(run, 1, tmp_path / "forked", config)
    assert not (tmp_path / "forked").exists()
