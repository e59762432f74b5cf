"""The folder of a run: complete or absent, never half, and held by one process."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from filelock import FileLock

from interruption import StopAt
from nearfar import runs
from nearfar.errors import NearfarError
from nearfar.files import LEFTOVER
from nearfar.runs.layout import BANK, LOCK, SNAPSHOTS, hold
from nearfar.training import Interrupted, Snapshots, train
from trainings import changed

FINISHED = {"config.json", "model.safetensors", "embeddings.npy", "log.jsonl"}

# --- what is replaced ----------------------------------------------------------------------------


def test_existing_run_is_replaced_only_on_request(run, images, config):
    with pytest.raises(NearfarError, match="--overwrite"):
        train(images, config, folder=run)
    train(images, changed(config, embedding_size=9), folder=run, overwrite=True)
    assert runs.read_run(run).embeddings.shape == (100, 9)


def test_nothing_of_a_replaced_run_is_left(run, images, config):
    for name in (runs.CHECKPOINT, runs.EVALUATION):
        (run / name).touch()
    (run / BANK).mkdir()
    (run / BANK / "bank.npy").touch()
    train(images, config, folder=run, overwrite=True)
    assert {path.name for path in run.iterdir()} == FINISHED


def test_folder_that_is_not_a_run_is_never_replaced(tmp_path, images, config):
    precious = tmp_path / "photos" / "wedding.jpg"
    precious.parent.mkdir()
    precious.write_text("dear")
    with pytest.raises(NearfarError, match="exists already: it is not a run, so choose another$"):
        train(images, config, folder=precious.parent, overwrite=True)
    assert precious.read_text() == "dear"


@pytest.mark.parametrize("config", ['{"model_type": "vit"}', "[", "3", "[" * 100_000])
def test_model_of_another_library_is_never_replaced(run, config):
    (run / runs.CONFIG).write_text(config)
    with pytest.raises(NearfarError, match="it is not a run"):
        runs.claim_folder(run, overwrite=True)
    assert (run / runs.MODEL).is_file()


def test_rest_of_a_run_that_was_removed_halfway_is_still_a_run(run, monkeypatch):
    removed = []
    there, unlink = Path.iterdir, Path.unlink
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(there(path))))
    monkeypatch.setattr(Path, "unlink", lambda path: removed.append(path.name) or unlink(path))
    runs.claim_folder(run, overwrite=True)
    assert len(removed) == 4
    assert removed[-1] == runs.CONFIG


def test_run_is_not_replaced_by_one_that_cannot_start(run, images, config):
    with pytest.raises(NearfarError, match="neighbors=1000"):
        train(images, changed(config, neighbors=1000), folder=run, overwrite=True)
    runs.read_run(run)


# --- who holds it --------------------------------------------------------------------------------


def test_two_trainings_of_one_run_are_kept_apart(tmp_path, images, config):
    run = tmp_path / "run"
    refused = []

    def again(items, description, total):
        for item in items:
            if description == "train" and not refused:
                for choice in ("resume", "overwrite"):
                    with pytest.raises(NearfarError, match="trained by another process"):
                        train(images, config, folder=run, **{choice: True})
                    refused.append(choice)
            yield item

    train(images, config, folder=run, track=again)
    assert refused == ["resume", "overwrite"]
    assert {path.name for path in run.iterdir()} == FINISHED


def test_folder_without_permission_to_lock_is_refused(tmp_path):
    (tmp_path / LOCK).symlink_to(LOCK)  # nobody can open it
    with (
        pytest.raises(NearfarError, match="cannot write .*lock': "),
        hold(tmp_path),
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
def test_disk_without_locks_is_warned_of_and_its_files_stay(tmp_path, monkeypatch, refusal):
    def acquire(*_args, **_options):
        raise refusal

    (tmp_path / LOCK).write_text("another's")
    monkeypatch.setattr(FileLock, "acquire", acquire)  # there is no such disk here
    with pytest.warns(UserWarning, match="has no locks"), hold(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == "another's"


def test_unfinished_files_are_removed_on_resume_and_at_the_end(tmp_path, images, config):
    run, left = tmp_path / "run", f"{LEFTOVER}1-{runs.CHECKPOINT}"
    config = changed(config, pretrain_epochs=2, epochs=3, batch_size=20)
    with pytest.raises(Interrupted):
        train(images, config, folder=run, track=StopAt(7), callbacks=[Snapshots([1])])
    (run / left).touch()
    (run / SNAPSHOTS / left).touch()
    with pytest.raises(Interrupted):
        train(images, config, folder=run, track=StopAt(2), resume=True)
    assert list(run.rglob(f"{LEFTOVER}*")) == []
    (run / left).touch()
    runs.remove_checkpoint(run)
    assert not (run / left).exists()
