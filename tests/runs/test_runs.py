"""The run folder: complete or absent, never half, and never a pickle."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nearfar.training.config import TrainConfig

from nearfar import NRE, runs
from nearfar.data import ArrayImages
from nearfar.errors import NearfarError
from nearfar.evaluation import read_scores
from nearfar.files import atomic_path, claim_output, write_json
from nearfar.training.train import train

CONFIG = TrainConfig(pretrain_epochs=1, epochs=1, embedding_size=6, clusters=3, device="cpu")


@pytest.fixture
def run(tmp_path, digits):
    folder = tmp_path / "run"
    train(ArrayImages(digits[:100, None]), CONFIG, folder=folder)
    return folder


def change_config(folder, **changes):
    path = folder / runs.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_data(folder, **changes):
    saved = json.loads((folder / runs.CONFIG).read_text())
    change_config(folder, data=saved["data"] | changes)


def test_a_run_comes_back_as_it_was(tmp_path, digits):
    images = ArrayImages(digits[:100, None])
    trained = train(images, CONFIG, folder=tmp_path / "run")
    run = runs.read_run(tmp_path / "run")
    for ours, theirs in (
        (trained.autoencoder, run.autoencoder),
        (trained.pretrained, run.pretrained),
    ):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name])
    np.testing.assert_array_equal(run.embeddings, trained.embeddings)
    assert TrainConfig.from_dict(run.config.train) == CONFIG
    assert replace(run.config, train={}) == replace(trained.config, train={})
    assert runs.read_log(tmp_path / "run") == trained.log
    assert not run.autoencoder.training


def test_lists_of_numbers_take_one_line_of_json(tmp_path):
    value = {
        "scores": [0.5, -1e-30, 12345678901234567890, 3],
        "nested": [[1, 2], [3.25, float("inf")], []],
        "words": ["[\n1,\n 2]", "[1, 2]", None, True],
    }
    write_json(tmp_path / "some.json", value)
    text = (tmp_path / "some.json").read_text()
    assert json.loads(text) == value
    assert "[0.5, -1e-30, 12345678901234567890, 3]" in text
    assert "[1, 2],\n" in text


def test_a_run_holds_what_the_documents_say_and_nothing_else(run):
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "model.safetensors",
        "embeddings.npy",
        "log.jsonl",
    }


def test_files_have_the_usual_permissions(run, tmp_path):
    (tmp_path / "usual").touch()
    usual = (tmp_path / "usual").stat().st_mode
    assert {path.stat().st_mode for path in run.iterdir()} == {usual}


@pytest.mark.parametrize(
    ("harm", "culprit"),
    [
        (lambda run: (run / "config.json").unlink(), "is not a run"),
        (lambda run: (run / "config.json").write_text("{"), "is damaged"),
        (lambda run: (run / "config.json").write_text("[]"), "is damaged"),
        (lambda run: change_config(run, pixel_range=None), "is damaged"),
        (lambda run: change_config(run, data={}), "is damaged"),
        (lambda run: change_config(run, data=[]), "is damaged"),
        (lambda run: change_data(run, shape=[1, 8, "8"]), "shape=.*whole number"),
        (lambda run: change_data(run, shape=[1, 16, 16]), r"network for \(1, 8, 8\)"),
        (lambda run: change_data(run, images=0), "expected 1 or more"),
        (lambda run: change_data(run, images=99), "instead of float32"),
        (lambda run: change_data(run, source=3), "source=3: expected str"),
        (lambda run: change_data(run, layout="round"), "layout='round'"),
        (lambda run: change_data(run, wings=2), "wings"),
        (lambda run: change_config(run, pixel_range=[0, "1"]), "pixel_range"),
        (lambda run: change_config(run, format="new"), "is damaged"),
        (
            lambda run: change_config(run, architecture={"shape": [1, 8, 8]}),
            "weights of another network",
        ),
        (
            lambda run: change_config(
                run, architecture={"shape": [1, 8, 8], "embedding_size": 6, "widths": [1.5]}
            ),
            "widths=.*whole number",
        ),
        (lambda run: (run / "config.json").write_text("[" * 100_000), "is damaged"),
        (lambda run: change_config(run, train=None), "is damaged"),
        (lambda run: (run / "embeddings.npy").write_bytes(b""), "is damaged"),
        (lambda run: np.save(run / "embeddings.npy", np.zeros((3, 4))), "float64"),
        (lambda run: change_config(run, format=runs.FORMAT + 1), "install a newer"),
        (lambda run: (run / "model.safetensors").unlink(), "no trained model"),
        (lambda run: (run / "model.safetensors").write_bytes(b"x" * 100), "is damaged"),
        (
            lambda run: (run / "model.safetensors").write_bytes(
                (run / "model.safetensors").read_bytes()[:-9]
            ),
            "is damaged",
        ),
        (lambda run: (run / "embeddings.npy").unlink(), "is damaged"),
        (
            lambda run: change_config(
                run, architecture={"shape": [1, 8, 8], "embedding_size": 7, "widths": [16, 32]}
            ),
            "of another network",
        ),
        (lambda run: change_config(run, architecture=None), "give its encoder and decoder"),
    ],
)
def test_runs_that_cannot_be_read(run, harm, culprit):
    harm(run)
    with pytest.raises(NearfarError, match=culprit) as caught:
        runs.read_run(run)
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(NearfarError, match="does not exist"):
        runs.read_run(tmp_path / "nowhere")


def test_codes_with_pickled_objects_are_refused(run):
    np.save(run / "embeddings.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(NearfarError, match="is damaged"):
        runs.read_run(run)


def test_a_log_cut_short_by_a_crash_loses_only_its_last_line(run):
    whole = runs.read_log(run)
    path = run / runs.LOG
    path.write_text(path.read_text()[:-10])
    assert runs.read_log(run) == whole[:-1]


@pytest.mark.parametrize(
    "line",
    [
        "3",
        '"x"',
        "[]",
        "null",
        '{"epoch": 1}',
        '{"phase": "pretrain"}',
        '{"phase": 3, "epoch": 1}',
        '{"phase": "pretrain", "epoch": "1"}',
        '{"phase": "pretrain", "epoch": 1, "pixel": [0.1]}',
        "[" * 100_000,
    ],
)
def test_a_log_with_something_else_than_epochs(run, line):
    with (run / runs.LOG).open("a") as log:
        log.write(line + "\n")
    with pytest.raises(NearfarError, match=r"is damaged: log\.jsonl") as caught:
        runs.read_log(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "3",
        '{"columns": {"knn": "k-NN"}, "rows": {"NRE": {"knn": 0}}, "settings": {}, "notes": []}',
        '{"columns": {"knn": "k-NN"}, "rows": {"NRE": {"knn": {"mean": "a"}}}, "settings": {}, '
        '"notes": []}',
        "[" * 100_000,
    ],
)
def test_scores_of_another_form(run, text):
    (run / runs.EVALUATION).write_text(text)
    with pytest.raises(NearfarError, match=r"is damaged: evaluation\.json") as caught:
        read_scores(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [{"lr": "fast"}, {"lr": None}, {"weights": 1}, {"speed": 1}])
def test_choices_of_another_form(run, damage):
    saved = json.loads((run / runs.CONFIG).read_text())
    change_config(run, train=saved["train"] | damage)
    with pytest.raises(NearfarError, match=r"is damaged: config\.json") as caught:
        NRE.load(run)
    assert next(iter(damage)) in str(caught.value)


def test_an_existing_run_is_replaced_only_when_asked(run, digits):
    images = ArrayImages(digits[:100, None])
    with pytest.raises(NearfarError, match="--overwrite"):
        train(images, CONFIG, folder=run)
    train(images, replace(CONFIG, embedding_size=9), folder=run, overwrite=True)
    assert runs.read_run(run).embeddings.shape == (100, 9)


def test_nothing_of_a_replaced_run_is_left(run, digits):
    for name in (runs.CHECKPOINT, runs.EVALUATION):
        (run / name).touch()
    (run / runs.BANK).mkdir()
    (run / runs.BANK / "bank.npy").touch()
    train(ArrayImages(digits[:100, None]), CONFIG, folder=run, overwrite=True)
    left = {path.name for path in run.iterdir()}
    assert left == {"config.json", "model.safetensors", "embeddings.npy", "log.jsonl"}


def test_what_is_not_a_run_is_never_replaced(tmp_path, digits):
    precious = tmp_path / "photos" / "wedding.jpg"
    precious.parent.mkdir()
    precious.write_text("dear")
    with pytest.raises(NearfarError, match="exists already: it is not a run, so choose another$"):
        train(ArrayImages(digits[:100, None]), CONFIG, folder=precious.parent, overwrite=True)
    assert precious.read_text() == "dear"


@pytest.mark.parametrize("config", ['{"model_type": "vit"}', "[", "3", "[" * 100_000])
def test_a_model_of_another_library_is_never_replaced(run, config):
    (run / runs.CONFIG).write_text(config)
    with pytest.raises(NearfarError, match="it is not a run"):
        runs.claim_folder(run, overwrite=True)
    assert (run / runs.MODEL).is_file()


def test_what_is_left_of_a_run_taken_away_halfway_is_still_a_run(run, monkeypatch):
    removed = []
    there, unlink = Path.iterdir, Path.unlink
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(there(path))))
    monkeypatch.setattr(Path, "unlink", lambda path: removed.append(path.name) or unlink(path))
    runs.claim_folder(run, overwrite=True)
    assert len(removed) == 4
    assert removed[-1] == runs.CONFIG


def test_a_run_is_not_replaced_by_one_that_cannot_begin(run, digits):
    impossible = replace(CONFIG, neighbors=1000)
    with pytest.raises(NearfarError, match="neighbors=1000"):
        train(ArrayImages(digits[:100, None]), impossible, folder=run, overwrite=True)
    runs.read_run(run)


def test_a_failed_write_leaves_the_good_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("good")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "像" * 83 + ".png", "a." + "x" * 253])
def test_files_may_have_the_longest_names(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "no room"), (errno.EACCES, "permission denied")]
)
def test_a_disk_that_cannot_be_written_is_said_in_one_line(tmp_path, number, said):
    path = tmp_path / "file"
    path.write_text("good")
    with pytest.raises(NearfarError, match=said), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert path.read_text() == "good"


def test_outputs_are_claimed_only_when_free(tmp_path):
    claim_output(tmp_path / "new" / "file", overwrite=False)
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(NearfarError, match="exists already"):
        claim_output(tmp_path / "file", overwrite=False)
    claim_output(tmp_path / "file", overwrite=True)
    with pytest.raises(NearfarError, match="cannot create"):
        claim_output(tmp_path / "file" / "under", overwrite=False)
