"""The command line, from end to end."""

from __future__ import annotations

import json
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from nearfar.cli.options import bars
from nearfar.data import ArrayImages, open_images
from nearfar.errors import NearfarError
from nearfar.evaluation import evaluate_run
from nearfar.runs import read_run
from program import run

QUICK = (
    "--pretrain-epochs 2 --epochs 2 --embedding-size 12 --clusters 4 --batch-size 64 --device cpu"
).split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits, digit_labels) -> Path:
    """Digits as image files in a folder for each class."""
    root = tmp_path_factory.mktemp("data") / "digits"
    for row in range(250):
        path = root / f"digit {digit_labels[row]}" / f"{row:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[row]).save(path)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, folder) -> Path:
    """A run on these."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run("train", folder, "--out", out, *QUICK) == 0
    return out


# --- what each command does ----------------------------------------------------------------------


def test_encode_to_npz(trained, folder, tmp_path):
    assert run("encode", trained, folder, "--out", tmp_path / "embeddings.npz") == 0
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as written:
        assert written["embeddings"].shape == (250, 12)
        assert written["names"][0] == "digit 0/000.png"
        assert written["classes"][written["labels"][0]] == "digit 0"
        np.testing.assert_allclose(
            written["embeddings"], np.load(trained / "embeddings.npy"), rtol=1e-4
        )


def test_letters_that_the_terminal_does_not_know_do_not_end_a_command(
    trained, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), encoding="ascii"))
    assert run("encode", trained, folder, "--out", tmp_path / "ε.npz") == 0
    sys.stdout.seek(0)
    assert r"\u03b5.npz" in sys.stdout.read()


def test_encode_to_parquet(trained, folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("encode", trained, folder, "--out", tmp_path / "embeddings.parquet") == 0
    table = parquet.read_table(tmp_path / "embeddings.parquet").to_pydict()
    assert table["name"][0] == "digit 0/000.png"
    assert table["label"][0] == "digit 0"
    np.testing.assert_allclose(table["embedding"], np.load(trained / "embeddings.npy"), rtol=1e-4)


def test_reconstruct(trained, folder, tmp_path):
    assert run("reconstruct", trained, folder, "--out", tmp_path / "out") == 0
    pictures = sorted((tmp_path / "out").rglob("*.png"))
    assert len(pictures) == 250
    with Image.open(tmp_path / "out" / "digit 0" / "000.png.png") as picture:
        assert picture.size == (8, 8)
        assert picture.mode == "L"


def test_neighbors(trained, folder, tmp_path):
    query = folder / "digit 0" / "000.png"
    out = tmp_path / "near"
    assert run("neighbors", trained, folder, "--query", query, "7", "--out", out, "--count", 3) == 0
    written = json.loads((out / "neighbors.json").read_text())
    first, second = written["queries"]
    for answer in (first, second):
        for side in ("near", "far"):
            assert len(answer[side]) == 3
    near, far = ([s["similarity"] for s in first[side]] for side in ("near", "far"))
    assert near == sorted(near, reverse=True)
    assert far == sorted(far)
    assert min(near) > max(far)
    assert "digit 0/000.png" not in [s["name"] for s in first["near"]], "itself is left out"
    assert 7 not in [s["row"] for s in second["near"]]
    with Image.open(out / "neighbors.png") as picture:
        picture.verify()


def test_neighbors_of_a_folder_and_of_an_array(trained, folder, digits, tmp_path):
    np.save(tmp_path / "some.npy", digits[300:303])
    few = folder / "digit 0"
    ours = sorted(few.iterdir())
    for path in ours[4:]:
        path.rename(tmp_path / path.name)
    try:
        queries = ["--query", few, tmp_path / "some.npy"]
        assert run("neighbors", trained, folder, *queries, "--out", tmp_path / "near") == 0
    finally:
        for path in ours[4:]:
            (tmp_path / path.name).rename(path)
    answers = json.loads((tmp_path / "near" / "neighbors.json").read_text())["queries"]
    assert [answer["query"] for answer in answers] == [
        *(f"digit 0/{path.name}" for path in ours[:4]),
        *(f"{tmp_path / 'some.npy'}: {row}" for row in range(3)),
    ]
    for answer in answers:
        assert answer["query"] not in [found["name"] for found in answer["near"]], "not itself"


def test_a_query_by_another_path_does_not_find_itself(trained, folder, digits, tmp_path):
    Image.fromarray(digits[300]).save(tmp_path / "elsewhere.png")
    link, to_linked = folder / "digit 0" / "link.png", tmp_path / "to linked.png"
    link.symlink_to(tmp_path / "elsewhere.png")
    to_linked.symlink_to(folder / "digit 0" / "000.png")
    out = tmp_path / "near"
    queries = [link, tmp_path / "elsewhere.png", to_linked, folder / ".." / "digits" / "digit 0"]
    try:
        for query, name in zip(queries, ["link", "link", "000", "000"], strict=True):
            options = ("--query", query, "--out", out, "--overwrite")
            assert run("neighbors", trained, folder, *options) == 0
            answer = json.loads((out / "neighbors.json").read_text())["queries"][0]
            assert answer["query"] == f"digit 0/{name}.png"
            assert answer["query"] not in [found["name"] for found in answer["near"]]
    finally:
        link.unlink()


def test_evaluate(trained, folder, tmp_path, capsys):
    assert run("evaluate", trained, "--train", folder, "--json", tmp_path / "scores.json") == 0
    written = json.loads((tmp_path / "scores.json").read_text())
    assert list(written["rows"]) == ["pixels", "autoencoder", "NRE"]
    for scores in written["rows"].values():
        assert scores["linear_svm"]["mean"] > 0.2, "above the 0.1 of chance"
    assert "autoencoder" in capsys.readouterr().out


def test_scores_are_not_lost_where_the_run_cannot_be_written_to(trained, folder, tmp_path, capsys):
    kept = shutil.copytree(trained, tmp_path / "run", ignore=lambda *_: ["evaluation.json"])
    (kept / "evaluation.json").mkdir()  # even root cannot write there
    scores = tmp_path / "scores.json"
    assert run("evaluate", kept, "--train", folder, "--json", scores) == 2
    assert list(json.loads(scores.read_text())["rows"]) == ["pixels", "autoencoder", "NRE"]
    assert "autoencoder" in capsys.readouterr().out


def test_labels_are_looked_for_before_anything_is_encoded(trained, folder, digits):
    def track(items, description, total):
        pytest.fail(description)

    images, unlabeled = open_images(folder), ArrayImages(digits[:50, None])
    with pytest.raises(NearfarError, match="no labels"):
        evaluate_run(read_run(trained), images, unlabeled, device=torch.device("cpu"), track=track)


def test_a_network_that_was_never_trained_is_called_so(folder, tmp_path):
    options = ("--epochs", 1, "--pretrain-epochs", 0, "--embedding-size", 12, "--device", "cpu")
    assert run("train", folder, "--out", tmp_path / "run", *options) == 0
    assert run("evaluate", tmp_path / "run", "--train", folder) == 0
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(written["rows"]) == ["pixels", "untrained", "NRE"]
    assert run("report", tmp_path / "run", "--out", tmp_path / "report") == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "the untrained network" in page
    assert "plain autoencoder" not in page


def test_report(trained, folder, tmp_path):
    assert run("evaluate", trained, "--train", folder) == 0
    assert run("report", trained, "--out", tmp_path / "report") == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<img") >= 4
    assert "linear SVM" in page


def test_a_report_of_few_images(trained, digits, tmp_path):
    for count, pictures in ((4, 3), (1, 2)):
        np.save(tmp_path / f"{count}.npy", digits[:count])
        out = tmp_path / f"report {count}"
        assert run("report", trained, "--data", tmp_path / f"{count}.npy", "--out", out) == 0
        page = (out / "report.html").read_text()
        assert page.count("<img") == pictures
        assert "No map: it needs at least 5 images" in page


def test_a_run_with_a_report_can_be_replaced_and_one_with_a_note_not(folder, tmp_path):
    out = tmp_path / "run"
    assert run("train", folder, "--out", out, *QUICK) == 0
    assert run("report", out) == 0
    assert run("train", folder, "--out", out, *QUICK, "--overwrite") == 0
    assert not (out / "report").exists()
    (out / "note.txt").write_text("dear")
    assert run("train", folder, "--out", out, *QUICK, "--overwrite") == 2
    assert (out / "note.txt").read_text() == "dear"
    assert run("encode", out, folder, "--out", tmp_path / "embeddings.npz") == 0


def test_a_configuration_file_that_options_override(folder, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "pretrain-epochs: 1\nepochs: 2\ncode-size: 5\nweights: [0.6, 0.4, 0]\ndevice: cpu\n"
    )
    (tmp_path / "run.json").write_text(json.dumps({"pretrain_epochs": 1, "epochs": 1}))
    out = tmp_path / "run"
    options = ["--config", tmp_path / "run.yaml", "--epochs", "1"]
    assert run("train", folder, "--out", out, *options) == 0
    saved = json.loads((out / "config.json").read_text())["train"]
    assert (saved["epochs"], saved["embedding_size"], saved["weights"]) == (1, 5, [0.6, 0.4, 0])
    options = ["--config", tmp_path / "run.json", "--device", "cpu", "--overwrite"]
    assert run("train", folder, "--out", out, *options) == 0
    assert json.loads((out / "config.json").read_text())["train"]["epochs"] == 1


def test_resuming_takes_the_choices_of_the_run(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    choices = [*QUICK, "--size", "10", "--lr", "0.002"]
    assert run("train", folder, "--out", whole, *choices) == 0
    too_high = [*QUICK, "--size", "10", "--lr", "1e30"]
    assert run("train", folder, "--out", parts, *too_high) == 2
    assert run("train", folder, "--out", parts, "--resume", "--lr", "0.002") == 0
    a, b = load_file(whole / "model.safetensors"), load_file(parts / "model.safetensors")
    assert all((a[name] == b[name]).all() for name in a)


def test_a_configuration_file_may_ask_to_resume(folder, tmp_path):
    out = tmp_path / "run"
    assert run("train", folder, "--out", out, *QUICK, "--size", "10", "--lr", "1e30") == 2
    description = {"data": str(folder), "out": str(out), "resume": True, "lr": 0.002}
    (tmp_path / "run.json").write_text(json.dumps(description))
    assert run("train", "--config", tmp_path / "run.json") == 0


def test_long_names_of_images_are_cut(folder, trained, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for ending in "ab":
        source = next(folder.rglob("*.png"))
        (images / ("画" * 83 + ending + ".png")).write_bytes(source.read_bytes())
    assert run("reconstruct", trained, images, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_ctrl_c_leaves_a_run_that_can_be_resumed(folder, tmp_path):
    out = tmp_path / "my run"
    endless = [option if option != "2" else "5000" for option in QUICK]
    command = [sys.executable, "-m", "nearfar", "train", folder, "--out", out, *endless]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (out / "log.jsonl").exists() or not (out / "log.jsonl").read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    advice = said.splitlines()[-1].partition("continue with nearfar ")[2]
    assert run(*shlex.split(advice), *QUICK) == 0


def test_tensorboard(folder, tmp_path):
    pytest.importorskip("tensorboard")
    assert run("train", folder, "--out", tmp_path / "run", *QUICK, "--tensorboard") == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_help_is_quick():
    """Without torch, which takes seconds; counted is work, not waiting for a busy machine."""
    program = [sys.executable, "-X", "importtime", "-m", "nearfar", "--help"]
    asked = subprocess.run(program, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in asked.stderr.splitlines()}
    assert "nearfar.cli.train" in imported
    assert not imported & {"torch", "sklearn", "matplotlib", "scipy", "pandas"}

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "nearfar", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.9


def test_help_has_examples(capsys):
    commands = "train encode reconstruct denoise inpaint neighbors evaluate report demo"
    for command in commands.split():
        run(command, "--help")
        assert f"nearfar {command}" in capsys.readouterr().out.split("For example")[1]


def test_a_folder_of_photographs_of_mixed_sizes_and_modes(data_root, tmp_path):
    photographs = data_root / "caltech101" / "101_ObjectCategories"
    if not photographs.is_dir():
        pytest.skip(f"no {photographs}")
    out = tmp_path / "run"
    choices = ["--size", "32", "--pretrain-epochs", "1", "--epochs", "1", "--device", "cpu"]
    assert run("train", photographs, "--out", out, *choices) == 0
    assert run("evaluate", out, "--train", photographs, "--json", tmp_path / "scores.json") == 0
    rows = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert all(score is not None for key, score in rows["NRE"].items() if key != "probe_100")


def test_real_digits(data_root, tmp_path):
    out = tmp_path / "run"
    choices = ["--pretrain-epochs", "1", "--epochs", "1", "--device", "cpu"]
    root = ["--data-root", data_root]
    assert run("train", "mnist:test", "--out", out, *root, *choices) == 0
    assert run("neighbors", out, "mnist:test", "--query", "0", "--out", tmp_path / "n", *root) == 0
    labels = open_images("mnist:test", data_root=data_root).labels
    answer = json.loads((tmp_path / "n" / "neighbors.json").read_text())["queries"][0]
    assert sum(labels[found["row"]] == labels[0] for found in answer["near"]) >= 4


# --- what it says to a mistake -------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path) -> Path:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "empty.png").touch()
    return tmp_path / "broken"


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("train {nowhere} --out {out}", "nowhere"),
        ("train {void} --out {out}", "void"),
        ("train {broken} --out {out}", "broken"),
        ("train {nan} --out {out}", "NaN"),
        ("train {pickled} --out {out}", "pickle"),
        ("train {nowhere} --out {trained}", "--overwrite"),
        ("train {nowhere} --out {folder} --overwrite", "exists already"),
        ("train {folder} --out {out} --weights 0.5 0.5 0.5", "sum to 1.5"),
        ("train {folder} --out {out} --weights=-1 1 1", "not negative"),
        ("train {folder} --out {out} --neighbors 250", "neighbors=250"),
        ("train {folder} --out {out} --neighbors 40 --clusters 10", "clusters=10"),
        ("train {folder} --out {out} --embedding-size 0", "embedding_size=0"),
        ("train {folder} --out {out} --size 7", "7"),
        ("train {folder} --out {out} --finder fast", "fast"),
        ("train {nowhere} --out {out} --device abacus", "abacus"),
        ("train {folder} --out {out} --resume", "out"),
        ("train {folder} --out {trained} --resume", "finished"),
        ("train {folder} --out {out} --config {nowhere}", "nowhere"),
        ("train {folder} --out {out} --config {list}", "expected options"),
        ("train {folder} --out {out} --config {unknown}", "epoch"),
        ("train --config {numbered}", "out=2024: expected text"),
        ("train {folder} --out {out} --frobnicate", "frobnicate"),
        ("train mnist:validation --out {out}", "mnist:validation"),
        ("encode {nowhere} {folder} --out {out}.npz", "nowhere"),
        ("encode {folder} {folder} --out {out}.npz", "not a run"),
        ("encode {trained} {folder} --out {out}.txt", ".npz"),
        ("encode {trained} {folder} --out {list}", "list"),
        ("reconstruct {trained} {folder} --out {folder}", "exists already"),
        ("neighbors {trained} {folder} --query 250 --out {out}", "250"),
        ("neighbors {trained} {folder} --out {out} --query", "query"),
        ("encode {trained} {folder} --out {void}.npz", "is a folder"),
        ("report {trained} --seed -1", "seed"),
        ("train {folder} --out {out} --seed 4294967296", "seed"),
        ("train {folder} --out {out} --embedding-size 100000000000", "embedding_size=100000000000"),
        ("neighbors {trained} {folder} --query {nowhere} --out {out}", "nowhere"),
        ("neighbors {trained} {folder} --query {folder} --out {out}", "at most 32"),
        ("neighbors {trained} {folder} --query {unlabeled} --out {out}", "at most 32"),
        ("train {folder} --out {out} --epochs 2.5", "--epochs: expected a whole number, not 2.5"),
        (
            "train {folder} --out {out} --widths 8 16.5",
            "--widths: expected a whole number, not 16.5",
        ),
        (
            "train {folder} --out {out} --config {fraction}",
            "epochs=2.5: expected a whole number",
        ),
        ("train {folder} --out {out} --config {nested}", "lr"),
        ("neighbors {trained} {folder} --query 0 --count 250 --out {out}", "250"),
        ("evaluate {trained} --train {unlabeled}", "no labels"),
        ("evaluate {trained} --train {folder} --test {other}", "digit 77"),
        ("report {nowhere}", "nowhere"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments, culprit, trained, folder, broken, tmp_path, digits, capsys
):
    places = {
        "nowhere": tmp_path / "nowhere",
        "out": tmp_path / "out",
        "void": tmp_path / "void",
        "nan": tmp_path / "nan.npy",
        "pickled": tmp_path / "pickled.npy",
        "unlabeled": tmp_path / "unlabeled.npy",
        "list": tmp_path / "list.yaml",
        "unknown": tmp_path / "unknown.yaml",
        "fraction": tmp_path / "fraction.yaml",
        "nested": tmp_path / "nested.yaml",
        "numbered": tmp_path / "numbered.yaml",
        "other": tmp_path / "other",
        "trained": trained,
        "folder": folder,
        "broken": broken,
    }
    places["void"].mkdir()
    (tmp_path / "void.npz").mkdir()
    np.save(places["nan"], np.full((20, 8, 8), np.nan))
    np.save(places["pickled"], np.array([{}] * 20), allow_pickle=True)
    np.save(places["unlabeled"], digits[:50])
    places["list"].write_text("- 1\n- 2\n")
    places["unknown"].write_text("epoch: 3\n")
    places["fraction"].write_text("epochs: 2.5\n")
    places["nested"].write_text("lr: {a: 1}\n")
    places["numbered"].write_text("out: 2024\n")
    (places["other"] / "digit 77").mkdir(parents=True)
    Image.fromarray(digits[0]).save(places["other"] / "digit 77" / "a.png")

    code = run(*(part.format(**places) for part in arguments.split(" ")))
    error = capsys.readouterr().err
    assert code == 2
    said = [line for line in error.splitlines() if line.startswith("nearfar: ")]
    assert len(said) == 1
    assert culprit in said[0]
    assert "Traceback" not in error
    assert not places["out"].exists(), "nothing half-written"


@pytest.mark.parametrize(
    "command",
    [
        "encode {trained} {folder} --out {there}/embeddings.npz",
        "reconstruct {trained} {folder} --out {there}",
        "neighbors {trained} {folder} --query 0 --out {there}",
        "evaluate {trained} --train {folder} --json {there}/scores.json",
        "report {trained} --out {there}",
    ],
)
def test_nothing_is_replaced_unasked(command, trained, folder, tmp_path, capsys):
    there = tmp_path / "there"
    there.mkdir()
    for name in ("embeddings.npz", "scores.json", "neighbors.json", "neighbors.png", "report.html"):
        (there / name).write_text("dear")
    places = {"trained": trained, "folder": folder, "there": there}
    assert run(*(part.format(**places) for part in command.split(" "))) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert all(path.read_text() == "dear" for path in there.iterdir())


def test_of_several_processes_the_first_speaks(folder, tmp_path, monkeypatch, capsys):
    for rank, spoken in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        bars().progress.console.print("the run is there")
        assert ("the run is there" in capsys.readouterr().err) == spoken


def test_a_damaged_run_is_told_in_one_line_by_every_command(trained, folder, tmp_path, capsys):
    harms = {
        "config.json": lambda text: text.replace('"lr": ', '"speed": '),
        "log.jsonl": lambda text: text + "3\n",
        "evaluation.json": lambda text: "[]",
    }
    commands = {
        "config.json": ["train {folder} --out {run} --resume"],
        "log.jsonl": ["report {run}"],
        "evaluation.json": ["report {run}"],
    }
    for name, harm in harms.items():
        damaged = tmp_path / name
        shutil.copytree(trained, damaged)
        path = damaged / name
        path.write_text(harm(path.read_text() if path.exists() else ""))
        for command in commands[name]:
            arguments = [part.format(folder=folder, run=damaged) for part in command.split(" ")]
            assert run(*arguments) == 2
            error = capsys.readouterr().err
            assert error.count("nearfar: ") == 1
            assert "Traceback" not in error


def test_files_that_cannot_be_read_are_skipped_and_counted(folder, tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()
    for row, path in enumerate(sorted(folder.rglob("*.png"))[:40]):
        (bad / f"{row}.png").write_bytes(path.read_bytes())
    (bad / "zero.png").touch()
    (bad / "text.png").write_text("not an image")
    whole = (bad / "1.png").read_bytes()
    (bad / "truncated.png").write_bytes(whole[: len(whole) // 2])
    assert run("train", bad, "--out", tmp_path / "run", *QUICK) == 0
    said = capsys.readouterr().err
    for name in ("zero.png", "text.png", "truncated.png"):
        assert name in said
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (saved["data"]["images"], saved["data"]["skipped"]) == (40, 3)
    assert run("train", bad, "--out", tmp_path / "strict", *QUICK, "--strict") == 2
    assert not (tmp_path / "strict").exists()
