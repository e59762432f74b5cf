"""``nearfar reproduce``, and the tables of digits and photographs from end to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nearfar import runs
from nearfar.cli import reproduce as cli_reproduce
from nearfar.config import ConvNet, flatten
from nearfar.evaluation import scores
from nearfar.experiments import ablation, defenses, detectors, recipes, table1, table2
from nearfar.experiments.digits import for_testing
from nearfar.experiments.metrics import task_on
from nearfar.experiments.rows import train_for
from nearfar.models import build_network
from program import run


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        ("table1 --quick --rows autoencoder simclr", "'simclr'"),
        ("table1 --quick --seeds 0", "seeds=0"),
        ("claims --quick --seeds -1", "seeds=-1"),
        ("table1 --quick --epochs 1", "epochs=1"),
        ("table1 --quick --rows autoencoder --epochs 0 2", "epochs=0: expected at least 1"),
        ("table1 --quick --rbf-samples 3", "rbf_samples=3"),
        ("table1 --quick --epochs four", "four"),
        ("figure1 --data-root nowhere", "nowhere"),
        ("table9", "table9"),
        ("table2 --rows BiGAN", "'BiGAN'"),
        ("ablation --quick --rows T=11", "'T=11' is unknown: expected some of autoencoder,"),
        ("table2 --quick --epochs 0", "epochs=0"),
    ],
)
def test_reproduce_reports_mistakes_in_one_line(arguments, culprit, tmp_path, capsys):
    assert run("reproduce", *arguments.split(), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    said = [line for line in error.splitlines() if line.startswith("nearfar: ")]
    assert len(said) == 1
    assert culprit in said[0]
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists(), "nothing half-written"


def is_picture(path: Path) -> bool:
    return bool(np.asarray(Image.open(path).convert("L")).std() > 1)


def untrained(split_brain: bool) -> float:
    """Return the linear SVM accuracy of untrained encoders of table 1, over two seeds."""
    learned, tested = for_testing(None, quick=True)
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = build_network(ConvNet(), learned.shape, split_brain=split_brain).eval()
        found.append(scores.linear_svm(task_on(network.encoder, learned, tested, seed)).mean)
    return float(np.mean(found))


@pytest.mark.slow
def test_table1(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert run("reproduce", "table1", "--out", out, "--quick") == 0
    written = read(out / "table1.json")
    assert len(written["cells"]) == 1 + 2 * 2 * (len(table1.ROWS) - 1)
    assert written["settings"]["train"]["images"] == 4000
    judged = written["summary"].pop("NRE − autoencoder")
    assert {column["above_noise"] for column in judged.values()} <= {"yes", "no", "undecided"}
    for row, columns in written["summary"].items():
        assert len(columns) == (4 if row == "pixels" else 6)
        for cell in columns.values():
            assert len(cell["seeds"]) == (1 if row == "pixels" else 2)
        if row != "pixels":
            assert columns["L-SVM, 5 epochs"]["mean"] > untrained(row == "split-brain") + 0.01
    shown = (out / "table1.md").read_text()
    assert shown.strip() in capsys.readouterr().out
    assert is_picture(out / "table1.png")
    assert not list(out.rglob(runs.EMBEDDINGS))

    # The same command again measures nothing.
    for name in ("linear_svm", "rbf_svm"):
        monkeypatch.setattr(scores, name, None)
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert run("reproduce", "table1", "--out", out, "--quick") == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()} == before
    assert (out / "table1.md").read_text() == shown

    # Other choices are refused.
    assert run("reproduce", "table1", "--out", out, "--quick", "--epochs", 2) == 2
    assert "epochs=[2, 5], not [2]" in capsys.readouterr().err
    assert run("reproduce", "claims", "--out", out, "--quick") == 2


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("table1", table1.ROWS),
        ("table2", table2.ROWS),
        ("table3", defenses.ROWS),
        ("table4", [*detectors.ROWS, *detectors.ABLATION_ROWS]),
        ("recipes", recipes.ROWS),
    ],
)
def test_help_names_every_row(command, rows):
    names = re.findall(r"[\w.-]*\w", getattr(cli_reproduce, command).__doc__)
    assert [row for row in rows if row not in names] == []


@pytest.mark.slow
def test_killed_table_is_continued(tmp_path):
    out = tmp_path / "out"
    command = "table1 --quick --rows autoencoder NRE --seeds 1 --epochs 2 --rbf-samples 500".split()
    process = subprocess.Popen(
        [sys.executable, "-m", "nearfar", "reproduce", *command, "--out", str(out)]
    )
    while not (out / "runs" / "NRE-2-seed-0" / runs.CHECKPOINT).is_file():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*.json")}
    assert {path.stem for path in done} == {"pixels-seed-0", "autoencoder-2-seed-0"}
    assert run("reproduce", *command, "--out", out) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(read(out / "table1.json")["cells"]) == 3


@pytest.mark.slow
def test_figure4(tmp_path):
    assert run("reproduce", "figure4", "--out", tmp_path, "--quick", "--seeds", 1) == 0
    summary = read(tmp_path / "figure4.json")["summary"]
    assert 0 < summary["autoencoder"]["pixel_error"]["mean"] < 0.1
    assert is_picture(tmp_path / "figure4.png")


@pytest.mark.slow
def test_figure1(data_root, tmp_path):
    options = ("--out", tmp_path, "--quick", "--seeds", 1, "--data-root", data_root)
    assert run("reproduce", "figure1", *options) == 0
    written = read(tmp_path / "figure1.json")
    assert {"linear_svm", "knn"} <= written["settings"].keys()
    summary = written["summary"]
    assert all(0.5 < row["linear_svm"]["mean"] <= 1 for row in summary.values())
    assert is_picture(tmp_path / "figure1.png")


def test_rows_of_the_ablation_change_what_they_say():
    paper = flatten(train_for(ablation.ROWS["paper"].config, 2))
    for row, value in ablation.ROWS.items():
        other = flatten(train_for(value.config, 2))
        changed = {name for name in {**paper, **other} if paper.get(name) != other.get(name)}
        said = 0 if row == "paper" else len(re.split(",(?=[a-zT])", row))
        plain = row.startswith("autoencoder")
        assert ({"pretrain_epochs", "epochs"} <= changed) == plain
        assert len(changed - {"pretrain_epochs", "epochs"}) == said - plain, row


@pytest.mark.slow
def test_ablation(tmp_path):
    assert run("reproduce", "ablation", "--out", tmp_path, "--quick", "--seeds", 1) == 0
    written = read(tmp_path / "ablation.json")
    assert "test" not in written["settings"]
    assert {"linear_svm", "rbf_svm", "knn"} <= written["settings"].keys()
    assert list(written["summary"]) == list(ablation.ROWS)
    assert is_picture(tmp_path / "ablation.png")
