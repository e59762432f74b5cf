"""Tables as values: rows of one's own, columns, and the division of epochs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nearfar.config import recipe
from nearfar.errors import NearfarError
from nearfar.experiments import Row, read_rows, run
from nearfar.experiments.cells import Column, Key, Results
from nearfar.experiments.configs import AUTOENCODER, NEARFAR, PAPER
from nearfar.experiments.rows import train_for
from nearfar.experiments.table1 import TABLE1
from nearfar.experiments.table3 import TABLE3
from nearfar.experiments.trained_table import MINUTES, PIXEL_ERROR
from program import run as program

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")


# --- epochs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [2, 5, 40, 100])
def test_train_for_divides_epochs_between_the_phases(epochs):
    both = train_for(PAPER, epochs).optim
    assert both.pretrain_epochs + both.epochs == epochs
    assert 0 <= both.pretrain_epochs - both.epochs <= 1
    assert train_for(AUTOENCODER, epochs).optim.pretrain_epochs == epochs
    assert train_for(NEARFAR, epochs).optim.epochs == epochs
    thirds = train_for(recipe("paper", pretrain_epochs=10, epochs=20), 3 * epochs).optim
    assert (thirds.pretrain_epochs, thirds.epochs) == (epochs, 2 * epochs)


def test_train_for_refuses_too_few_epochs():
    with pytest.raises(NearfarError, match="epochs=1: expected at least 2"):
        train_for(PAPER, 1)
    with pytest.raises(NearfarError, match="nothing to train"):
        train_for(NEARFAR, 0)


def test_train_for_changes_options():
    config = train_for(PAPER, 4, seed=7, batch_size=32)
    assert (config.seed, config.optim.batch_size) == (7, 32)
    assert config.objective == PAPER.objective


# --- columns -------------------------------------------------------------------------------------


def test_best_of_a_column_is_bold():
    accuracy, error = Column("knn", "5-NN", best=max), Column("e", "e", PIXEL_ERROR.show, best=min)
    assert accuracy.texts({"a": [0.9, 0.92], "b": [0.91001], "c": [0.5], "d": []}) == {
        "a": "**91.00 ± 1.41**",
        "b": "**91.00**",
        "c": "50.00",
        "d": "–",
    }
    assert error.texts({"a": [0.1], "b": [0.02]}) == {"a": "0.1000", "b": "**0.0200**"}
    assert accuracy.texts({}) == {}


def test_values_within_the_spread_of_the_best_are_bold_too():
    values = {"a": [0.99, 0.991], "b": [0.9901, 0.9903], "c": [0.9890, 0.9891], "d": [0.97, 1.0]}
    texts = Column("knn", "5-NN", best=max).texts(values)
    assert [row for row, text in texts.items() if text.startswith("**")] == ["a", "b", "d"]


def test_column_shows_the_papers_number():
    column = Column("auc", "AUC")
    assert column.texts({"a": [0.5], "b": []}, {"a": 0.75, "b": 0.25}) == {
        "a": "50.00 (75.0)",
        "b": "(25.0)",
    }
    assert MINUTES.texts({"a": [60.0, 120.0]}) == {"a": "1.5"}


def test_results_are_those_of_a_row_and_part():
    cells = {
        Key("pixels", 0): {"result": {"knn": 0.5}},
        Key("NRE", 0, 40): {"result": {"knn": 0.6, "error": None}},
        Key("NRE", 0, 100): {"result": {"knn": 0.7, "error": 1.0}},
        Key("NRE", 1, 40): {"result": {"knn": 0.8, "error": 2.0}},
        Key("NRE", 1, 100): {"result": {"knn": 0.9, "error": 2.0}},
    }
    results = Results(cells)
    assert results.values("NRE", "knn", 40) == [0.6, 0.8]
    assert results.values("NRE", "error", 100) == [1.0, 2.0]
    assert results.values("NRE", "error", 40) == [], "undefined for one seed"
    assert results.values("pixels", "knn", 40) == [0.5], "the same for all parts"
    assert results.values("pixels", "error", 40) == []
    assert results.seeds == 2


# --- rows ----------------------------------------------------------------------------------------


def test_rows_are_added_to_a_table():
    mine = {"mine": Row(config=recipe("nearfar", temperature=0.1))}
    table = TABLE1 | mine
    assert list(table.rows) == [*TABLE1.rows, "mine"]
    assert "mine" not in TABLE1.rows
    assert list(table.choose(["mine"]).rows) == ["pixels", "mine"]
    assert list(table.choose([]).rows) == list(table.rows)


@pytest.mark.parametrize("label", ["a/b", "..", "", "a\nb"])
def test_table_refuses_labels_that_name_no_file(label):
    with pytest.raises(NearfarError, match="expected a label that can name a file"):
        TABLE1 | {label: Row(config=PAPER)}


def test_table_refuses_rows_of_another_table():
    with pytest.raises(NearfarError, match="'mine' of table3: expected a DefenseRow, not Row"):
        TABLE3 | {"mine": Row(config=PAPER)}


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("rows = {}", "expected ROWS"),
        ("ROWS = [1]", "expected ROWS"),
        ("ROWS = {1: 2}", "expected ROWS"),
        ("import no_such_module", "cannot be imported .*no_such_module"),
        ("ROWS = {", "cannot be imported"),
    ],
)
def test_read_rows_names_what_is_wrong(text, culprit, tmp_path):
    path = tmp_path / f"rows_{abs(hash(text))}.py"
    path.write_text(text)
    with pytest.raises(NearfarError, match=culprit) as refused:
        read_rows(path)
    assert path.name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_read_rows_names_a_missing_file_and_a_taken_name(tmp_path):
    with pytest.raises(NearfarError, match=r"nowhere\.py': expected a Python file"):
        read_rows(tmp_path / "nowhere.py")
    taken = tmp_path / "json.py"
    taken.write_text("ROWS = {}")
    with pytest.raises(NearfarError, match="a module json exists already"):
        read_rows(taken)


def test_rows_from_a_file_of_another_table_are_refused(tmp_path, capsys):
    path = tmp_path / "rows_of_table1.py"
    path.write_text("from nearfar.experiments import Row\nROWS = {'mine': Row()}\n")
    call = ("reproduce", "table3", "--quick", "--rows-from", path, "--out", tmp_path / "out")
    assert program(*call) == 2
    assert "expected a DefenseRow" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def documented(kind: str) -> str:
    """Return the first block of code of a kind in the section on rows of one's own."""
    section = DOCUMENT[DOCUMENT.index("## Your own rows") :]
    found = re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.slow
def test_documented_rows_are_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rows.py").write_text(documented("python"))
    words = documented("console").split()[2:]
    fast = ("--quick", "--seeds", "1", "--epochs", "2", "--rbf-samples", "500")
    assert program(*words, *fast) == 0
    (out,) = (Path(words[words.index("--out") + 1]),)
    written = json.loads((out / "table1.json").read_text())
    assert list(written["summary"]) == ["pixels", "autoencoder", "mine"]
    config = json.loads((out / "cells" / "mine-2-seed-0.json").read_text())["settings"]["config"]
    assert config["objective"]["temperature"] == 0.1
    assert config["optim"]["epochs"] == 2


@pytest.mark.slow
def test_row_with_an_objective_of_ones_own_is_recorded_by_name(tmp_path):
    from nearfar.experiments.two_autoencoders import SparseReconstruction

    config = recipe("paper", objective=SparseReconstruction, pretrain_epochs=0)
    table = TABLE1 | {"sparse": Row(config=config)}
    run(table, tmp_path, rows=["sparse"], seeds=1, quick=True, epochs=(1,), rbf_samples=500)
    saved = json.loads((tmp_path / "cells" / "sparse-1-seed-0.json").read_text())
    name = "nearfar.experiments.two_autoencoders.SparseReconstruction"
    assert saved["settings"]["config"]["objective"] == {"custom": name}
