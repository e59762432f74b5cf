"""The command line, from end to end."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from io import BytesIO, TextIOWrapper

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar.cli.options import bars
from nearfar.data import ArrayImages, images_from_array, open_images
from nearfar.errors import NearfarError
from nearfar.evaluation import evaluate_run
from nearfar.report.run import _maps
from nearfar.runs import read_run
from program import QUICK, run

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
    assert table["file"][0] == "digit 0/000.png"
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
    assert any("Too few labels: class 'digit " in note for note in written["notes"])
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
    assert "5-NN accuracy on 250 labeled images: " in page
    assert "In both maps, colors are classes, so the separation of colors is meaningful." in page


def test_report_without_labels(trained, digits, tmp_path):
    np.save(tmp_path / "digits.npy", digits[:60])
    options = ("--data", tmp_path / "digits.npy", "--out", tmp_path / "report")
    assert run("report", trained, *options) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    first, last = (f"{line['effective_rank']:.1f}" for line in (log[0], log[-1]))
    assert "Without labels, it is unknown whether training improved the embeddings" in page
    assert f"from {first} to {last} (maximum 12" in page
    assert "In both maps, colors are clusters of the embeddings of NRE, which are therefore" in page


def test_all_maps_of_a_report_have_the_same_clusters(digits):
    images = images_from_array(digits[:60])
    embeddings = torch.from_numpy(digits[:60].reshape(60, -1) / np.float32(255))
    names = ("pixels", "NRE")
    browse, both = _maps("Maps", images, embeddings[:, :99], embeddings, names, "cosine", 0)
    clusters = browse.content.columns["cluster"]
    assert len(set(clusters)) == 8
    entries = [text.get_text() for text in both.content.legends[0].get_texts()]
    assert sorted(entries) == sorted(set(clusters))
    for axes in both.content.axes:
        colors = axes.collections[0].get_facecolors()
        shares = np.unique(colors, axis=0, return_counts=True)[1]
        assert sorted(shares) == sorted(np.unique(clusters, return_counts=True)[1])


def test_a_report_of_few_images(trained, digits, tmp_path):
    for count, pictures in ((4, 3), (1, 2)):
        np.save(tmp_path / f"{count}.npy", digits[:count])
        out = tmp_path / f"report {count}"
        assert run("report", trained, "--data", tmp_path / f"{count}.npy", "--out", out) == 0
        page = (out / "report.html").read_text()
        assert page.count("<img") == pictures
        assert "No map: at least 5 images are needed" in page


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


def test_long_names_of_images_are_cut(folder, trained, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for extension in "ab":
        source = next(folder.rglob("*.png"))
        (images / ("画" * 83 + extension + ".png")).write_bytes(source.read_bytes())
    assert run("reconstruct", trained, images, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


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


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("curate", "Default: a pretrained EfficientNet-lite0"),
        ("browse", "Default: the run's training images"),
        ("export", "Default: the run's training images"),
        ("report", "Default: the run's training images"),
    ],
)
def test_help_states_the_default(command, default, capsys):
    run(command, "--help")
    assert default in " ".join(capsys.readouterr().out.replace("│", " ").split())


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


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("encode {nowhere} {folder} --out {out}.npz", "nowhere"),
        ("encode {folder} {folder} --out {out}.npz", "not a run"),
        ("encode {trained} {folder} --out {out}.txt", ".npz"),
        ("encode {trained} {folder} --out {list}", "list"),
        ("reconstruct {trained} {folder} --out {folder}", "exists already"),
        ("neighbors {trained} {folder} --query 250 --out {out}", "250"),
        ("neighbors {trained} {folder} --out {out} --query", "no queries"),
        ("encode {trained} {folder} --out {void}.npz", "is a folder"),
        ("report {trained} --seed -1", "seed"),
        ("neighbors {trained} {folder} --query {nowhere} --out {out}", "nowhere"),
        ("neighbors {trained} {folder} --query {folder} --out {out}", "at most 32"),
        ("neighbors {trained} {folder} --query {unlabeled} --out {out}", "at most 32"),
        ("neighbors {trained} {folder} --query 0 --count 250 --out {out}", "250"),
        ("evaluate {trained} --train {unlabeled}", "no labels"),
        ("evaluate {trained} --train {folder} --test {other}", "digit 77"),
        ("report {nowhere}", "nowhere"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments, culprit, trained, folder, tmp_path, digits, capsys
):
    places = {
        "nowhere": tmp_path / "nowhere",
        "out": tmp_path / "out",
        "void": tmp_path / "void",
        "unlabeled": tmp_path / "unlabeled.npy",
        "list": tmp_path / "list.yaml",
        "other": tmp_path / "other",
        "trained": trained,
        "folder": folder,
    }
    places["void"].mkdir()
    (tmp_path / "void.npz").mkdir()
    np.save(places["unlabeled"], digits[:50])
    places["list"].write_text("- 1\n- 2\n")
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


def test_search_names_the_mistake(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = ("timm:resnet18", "--weights", "random", "--size", 32, "--device", "cpu")
    assert run("encode", *model, folder, "--out", "photos.parquet") == 0
    capsys.readouterr()
    for arguments, told in (
        (("photos.parquet", "--query", "typo.jpg"), "'typo.jpg' is not among the"),
        (("typo.parquet", "--query", "0"), "'typo.parquet' does not exist: expected a file"),
        (("photos.parquet", "--query", "0", "--out", "near.html"), "ends in .parquet"),
    ):
        assert run("search", *arguments) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "near.html").exists()


def test_of_several_processes_the_first_speaks(folder, tmp_path, monkeypatch, capsys):
    for rank, spoken in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        bars().progress.console.print("the run is there")
        assert ("the run is there" in capsys.readouterr().err) == spoken


def test_a_damaged_run_is_told_in_one_line_by_every_command(trained, folder, tmp_path, capsys):
    harms = {
        "log.jsonl": lambda text: text + "3\n",
        "evaluation.json": lambda text: "[]",
    }
    commands = {
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


def test_run_used_in_another_folder_says_that_data_helps(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    for number in range(12):
        Image.new("RGB", (16, 16), (20 * number, 200, 90)).save(tmp_path / f"photos/{number}.png")
    monkeypatch.chdir(tmp_path)
    options = "--pretrain-epochs 1 --epochs 0 --device cpu"
    assert run("train", "photos", "--out", "run", *options.split()) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert run("report", "../run", "--out", "report") == 2
    said = capsys.readouterr().err
    assert "'photos'" in said
    assert "--data" in said
    assert run("report", "../run", "--data", "../photos", "--out", "report") == 0


def test_interrupt_while_modules_are_imported_ends_in_one_line():
    # Imports take seconds; the signal comes with the first of the command line's modules.
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in background jobs
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'nearfar.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from nearfar.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "nearfar: interrupted\n")
