"""``nearfar train``: its options, help pages, files of options, and mistakes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nearfar.cli.train import describe_epoch, describe_estimate
from nearfar.config import KINDS, configure, recipe, train_options
from nearfar.runs import read_config, read_run
from nearfar.training import Estimate
from program import QUICK, run
from trainings import assert_same_weights, weights

# --- help ----------------------------------------------------------------------------------------


def page(capsys, *arguments):
    """Return a help page without its frames, on one line."""
    assert run("train", *arguments) == 0
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())


def shown_options(text):
    return set(re.findall(r"(?<=\s)--[a-z][a-z-]+(?= (?:INT|FLOAT|CHOICE|STR|PATH|BOOL|\[))", text))


def flags(names):
    return {"--" + name.replace("_", "-") for name in names}


def test_front_help_page_shows_a_dozen_options_of_training(capsys):
    text = page(capsys, "--help")
    training = text.partition(" Training ")[2] or text[text.index("Training --epochs") :]
    options = {flag for flag in flags(o.name for o in train_options()) if f"{flag} " in training}
    options |= {flag for flag in flags(KINDS) if f"{flag} " in training}
    assert len(options) == 12
    assert {"--epochs", "--loss-weights", "--neighbors", "--objective", "--backbone"} <= options
    assert "--temperature" not in text
    assert "nearfar train --help-all" in text
    assert "[default: auto]" in text


def test_full_help_page_shows_every_option_in_groups(capsys):
    text = page(capsys, "--help-all")
    for flag in flags(option.name for option in train_options()) | {"--objective", "--pretext"}:
        assert f"{flag} " in text, flag
    for title in (
        *("--objective relational", "--objective contrastive", "Search for near and far samples"),
        *("--pretext denoising", "Network: convnet", "Network: backbone", "Training"),
    ):
        assert title in text, title


@pytest.mark.parametrize("name", ["paper", "nearfar"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_help_shows_the_values_of_the_recipe(capsys, name, order):
    given = ["--recipe", name]
    text = page(capsys, *(["--help", *given] if order == "before" else [*given, "--help"]))
    config = recipe(name)
    expected = {
        "--epochs": config.optim.epochs,
        "--pretrain-epochs": config.optim.pretrain_epochs,
        "--batch-size": config.optim.batch_size,
        "--lr": config.optim.lr,
        "--embedding-size": config.network.embedding_size,
        "--neighbors": config.objective.neighbors,
        "--objective": config.objective.kind,
    }
    for flag, value in expected.items():
        assert f"[default: {value}]" in text[text.index(f"{flag} ") :].partition(" --")[0], flag
    assert ("[default: 60]" in text) == (name == "nearfar")


def test_full_help_page_shows_the_values_of_the_recipe(capsys):
    text = page(capsys, "--recipe", "nearfar", "--help-all")
    for flag, value in {
        "--temperature": 0.2,
        "--hidden": 512,
        "--lr-schedule": "one-cycle",
    }.items():
        assert f"[default: {value}]" in text[text.index(f"{flag} ") :].partition(" --")[0], flag


def test_help_has_examples(capsys):
    assert (
        "nearfar train photos --out run --resume" in page(capsys, "--help").split("For example")[1]
    )


# --- options -------------------------------------------------------------------------------------


def test_options_are_recorded_in_their_sections(trained):
    config = read_config(trained).train
    assert (config.optim.pretrain_epochs, config.optim.epochs) == (2, 2)
    assert config.network.embedding_size == 12
    assert config.objective.search.clusters == 4


def test_recipe_is_trained_with_options_that_override_it(folder, tmp_path):
    options = "--recipe nearfar --epochs 1 --clusters 4 --batch-norm=false --hidden 0 --device cpu"
    assert run("train", folder, "--out", tmp_path / "run", *options.split()) == 0
    found = read_run(tmp_path / "run")
    assert found.method == "nearfar"
    network = found.config.train.network
    assert (network.batch_norm, network.embedding_size) == (False, 256)


def test_configuration_file_is_overridden_by_options(folder, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "pretrain-epochs: 1\nepochs: 2\nembedding-size: 5\n"
        "loss_weights: [0.6, 0.4, 0]\ndevice: cpu\n"
    )
    (tmp_path / "run.json").write_text(json.dumps({"pretrain_epochs": 1, "epochs": 1}))
    out = tmp_path / "run"
    options = ["--config", tmp_path / "run.yaml", "--epochs", "1"]
    assert run("train", folder, "--out", out, *options) == 0
    train = read_config(out).train
    assert (train.optim.epochs, train.network.embedding_size) == (1, 5)
    assert train.objective.weights == (0.6, 0.4, 0)
    options = ["--config", tmp_path / "run.json", "--device", "cpu", "--overwrite"]
    assert run("train", folder, "--out", out, *options) == 0
    assert read_config(out).train.optim.epochs == 1


def test_configuration_file_in_sections_is_the_same_as_flat(folder, tmp_path):
    (tmp_path / "sections.yaml").write_text(
        "objective:\n  kind: relational\n  neighbors: 2\n  search:\n    finder: exact\n"
        "network:\n  kind: convnet\n  embedding_size: 7\n"
        "optim:\n  epochs: 1\n  pretrain_epochs: 1\ndevice: cpu\nseed: 3\n"
    )
    (tmp_path / "flat.yaml").write_text(
        "neighbors: 2\nfinder: exact\nembedding_size: 7\nepochs: 1\npretrain_epochs: 1\n"
        "device: cpu\nseed: 3\n"
    )
    for name in ("sections", "flat"):
        options = ["--config", tmp_path / f"{name}.yaml"]
        assert run("train", folder, "--out", tmp_path / name, *options) == 0
    sections, flat = (read_config(tmp_path / name).train for name in ("sections", "flat"))
    assert sections == flat
    assert (flat.objective.neighbors, flat.objective.search.finder) == (2, "exact")


@pytest.mark.parametrize("name", ["paper", "nearfar", "backbone"])
def test_record_of_a_run_is_a_configuration_file(folder, tmp_path, name):
    config = (
        recipe("paper", backbone="timm:resnet18", epochs=0, pretrain_epochs=1)
        if name == "backbone"
        else recipe(name, epochs=1, clusters=4)
    )
    config = configure({"device": "cpu", "batch_size": 50}, base=config)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    options = ["--config", tmp_path / "config.json", "--size", 32]
    assert run("train", folder, "--out", tmp_path / "run", *options) == 0
    recorded = read_config(tmp_path / "run").train
    assert configure({"widths": None}, base=recorded).optim == config.optim
    assert recorded.objective.kind == config.objective.kind
    assert recorded.network.kind == config.network.kind
    assert recorded.method == config.method


def test_dry_run_prints_an_estimate_and_writes_nothing(tmp_path, digits, capsys):
    np.save(tmp_path / "digits.npy", digits[:100])
    arguments = ["train", tmp_path / "digits.npy", "--out", tmp_path / "run"]
    assert run(*arguments, "--epochs", "3", "--bank", "disk", "--dry-run") == 0
    said = capsys.readouterr().err
    for name in ("pre-training", "with one process", "embeddings of reconstructions", "free"):
        assert name in said
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").write_text("dear")
    assert run(*arguments, "--epochs", "3", "--dry-run") == 2


def test_lines_of_an_estimate_are_readable():
    lines = describe_estimate(Estimate({"a": 7.25, "b": 86_400}, 3 * 2**30, {"c": 2**20}, 2**40))
    assert "  time         7.2 s  a" in lines
    assert "  time   24 h 00 min  together" in lines
    assert "memory       3.0 GiB  with one process" in lines
    assert "  disk       1.0 MiB  c" in lines


def test_line_of_an_epoch_shows_the_terms_of_its_objective():
    line = {
        **{"phase": "train", "epoch": 3, "loss": 1.5, "pixel_l1": 0.25, "dead_units": 0},
        **{"effective_rank": 2.04, "seconds": 1.0, "images_per_second": 99.7},
    }
    assert describe_epoch(line) == "   train   3  pixel_l1 0.2500  rank 2.0  100 images/s"
    assert describe_epoch({**line, "seconds": 60.0}, 10).endswith(" images/s  7 min left")


def test_tensorboard(folder, tmp_path):
    pytest.importorskip("tensorboard")
    assert run("train", folder, "--out", tmp_path / "run", *QUICK, "--tensorboard") == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_unreadable_files_are_skipped_and_counted(folder, tmp_path, capsys):
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
    data = read_config(tmp_path / "run").data
    assert (data.images, data.skipped) == (40, 3)
    assert run("train", bad, "--out", tmp_path / "strict", *QUICK, "--strict") == 2
    assert not (tmp_path / "strict").exists()


# --- resume --------------------------------------------------------------------------------------


def test_resume_uses_the_settings_of_the_run(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = [*QUICK, "--size", "10", "--lr", "0.002"]
    assert run("train", folder, "--out", whole, *options) == 0
    too_high = [*QUICK, "--size", "10", "--lr", "1e30"]
    assert run("train", folder, "--out", parts, *too_high) == 2
    assert run("train", folder, "--out", parts, "--resume", "--lr", "0.002") == 0
    assert_same_weights(weights(whole), weights(parts))


def test_resume_refuses_another_objective(folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("train", folder, "--out", out, *QUICK, "--lr", "1e30") == 2
    other = ["--objective", "contrastive", "--clusters", 5]
    assert run("train", folder, "--out", out, "--resume", *other) == 2
    assert "started with objective=relational, not contrastive" in capsys.readouterr().err


def test_configuration_file_may_ask_to_resume(folder, tmp_path):
    out = tmp_path / "run"
    assert run("train", folder, "--out", out, *QUICK, "--size", "10", "--lr", "1e30") == 2
    description = {"data": str(folder), "out": str(out), "resume": True, "lr": 0.002}
    (tmp_path / "run.json").write_text(json.dumps(description))
    assert run("train", "--config", tmp_path / "run.json") == 0


def test_ctrl_c_leaves_a_run_that_can_be_resumed(folder, tmp_path, capsys):
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
    assert run("train", folder, "--out", out, *QUICK) == 2
    assert "continue its training with --resume" in capsys.readouterr().err
    advice = said.splitlines()[-1].partition("continue with nearfar ")[2]
    assert run(*shlex.split(advice), *QUICK) == 0


def test_resume_of_a_damaged_run_takes_one_line(trained, folder, tmp_path, capsys):
    damaged = tmp_path / "run"
    shutil.copytree(trained, damaged)
    text = (damaged / "config.json").read_text()
    (damaged / "config.json").write_text(text.replace('"lr": ', '"speed": '))
    assert run("train", folder, "--out", damaged, "--resume") == 2
    error = capsys.readouterr().err
    assert error.count("nearfar: ") == 1
    assert "Traceback" not in error


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("{nowhere} --out {out}", "nowhere"),
        ("{void} --out {out}", "void"),
        ("{broken} --out {out}", "broken"),
        ("{nan} --out {out}", "NaN"),
        ("{pickled} --out {out}", "pickle"),
        ("{nowhere} --out {trained}", "--overwrite"),
        ("{nowhere} --out {folder} --overwrite", "exists already"),
        ("{folder} --out {out} --loss-weights 0.5 0.5 0.5", "sum to 1.5"),
        ("{folder} --out {out} --loss-weights=-1 1 1", "nonnegative"),
        ("{folder} --out {out} --neighbors 250", "neighbors=250"),
        ("{folder} --out {out} --neighbors 40 --clusters 10", "clusters=10"),
        ("{folder} --out {out} --embedding-size 0", "embedding_size=0"),
        ("{folder} --out {out} --size 7", "7"),
        ("{folder} --out {out} --finder fast", "fast"),
        (
            "{folder} --out {out} --recipe paper --temperature 0.1",
            "belongs to objective contrastive",
        ),
        (
            "{folder} --out {out} --recipe nearfar --loss-weights 1 0 0",
            "belongs to objective relational",
        ),
        ("{folder} --out {out} --recipe soup", "soup"),
        ("{nowhere} --out {out} --device abacus", "abacus"),
        ("{folder} --out {out} --resume", "out"),
        ("{folder} --out {trained} --resume", "finished"),
        ("{folder} --out {out} --config {nowhere}", "nowhere"),
        ("{folder} --out {out} --config {list}", "expected options"),
        ("{folder} --out {out} --config {unknown}", "epoch"),
        ("{folder} --out {out} --config {own}", "custom"),
        ("--config {numbered}", "out=2024: expected text"),
        ("{folder} --out {out} --frobnicate", "frobnicate"),
        ("mnist:validation --out {out}", "mnist:validation"),
        ("{folder} --out {out} --seed 4294967296", "seed"),
        ("{folder} --out {out} --embedding-size 100000000000", "embedding_size=100000000000"),
        ("{folder} --out {out} --epochs 2.5", "--epochs: expected a whole number, not 2.5"),
        ("{folder} --out {out} --widths 8 16.5", "--widths: expected a whole number, not 16.5"),
        ("{folder} --out {out} --config {fraction}", "epochs=2.5: expected a whole number"),
        ("{folder} --out {out} --config {nested}", "lr"),
    ],
)
def test_mistake_takes_one_line(arguments, culprit, trained, folder, tmp_path, digits, capsys):
    places = {
        name: tmp_path / file
        for name, file in {
            **{"nowhere": "nowhere", "out": "out", "void": "void", "broken": "broken"},
            **{"nan": "nan.npy", "pickled": "pickled.npy"},
            **{name: f"{name}.yaml" for name in ("list", "unknown", "fraction", "nested")},
            **{"numbered": "numbered.yaml", "own": "own.yaml"},
        }.items()
    } | {"trained": trained, "folder": folder}
    for name in ("void", "broken"):
        places[name].mkdir()
    (places["broken"] / "empty.png").touch()
    np.save(places["nan"], np.full((20, 8, 8), np.nan))
    np.save(places["pickled"], np.array([{}] * 20), allow_pickle=True)
    places["list"].write_text("- 1\n- 2\n")
    places["unknown"].write_text("epoch: 3\n")
    places["fraction"].write_text("epochs: 2.5\n")
    places["nested"].write_text("lr: {a: 1}\n")
    places["numbered"].write_text("out: 2024\n")
    places["own"].write_text("objective: {custom: lab.Rotation}\n")

    code = run("train", *(part.format(**places) for part in arguments.split(" ")))
    error = capsys.readouterr().err
    assert code == 2
    said = [line for line in error.splitlines() if line.startswith("nearfar: ")]
    assert len(said) == 1
    assert culprit in said[0]
    assert "Traceback" not in error
    assert not places["out"].exists(), "nothing half-written"
