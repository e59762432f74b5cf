"""What the documents say was measured is what the measured cells in `results` say."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from nearfar.reproduce.detectors import ROWS
from program import run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.iterdir()))
def test_tables_in_the_documents_are_those_of_the_cells(name, data_root, tmp_path):
    out = shutil.copytree(RESULTS / name, tmp_path / name)
    before = sorted(out.rglob("*"))
    cells = [json.loads(path.read_text())["settings"] for path in (out / "cells").iterdir()]
    of_row = Counter(cell["row"] for cell in cells)
    once = {row for row, how in ROWS.items() if not how.seeded} if name == "table4" else set()
    seeds = min(of_row[row] for row in of_row if row not in once)  # others have been begun
    options = ("--data-root", data_root, "--out", out, "--seeds", seeds, "--rows", *of_row)
    assert run("reproduce", name, *options) == 0
    written = (out / f"{name}.md").read_text().splitlines()
    documented = (ROOT / "docs" / "reproduction.md").read_text().splitlines()
    assert [line for line in written if line.startswith("|") and line not in documented] == []
    assert {path.parent.name for path in set(out.rglob("*")) - set(before)} <= {name}, (
        "all was measured before"
    )
