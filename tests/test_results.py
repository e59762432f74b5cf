"""What the documents say was measured is what the measured cells in `results` say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nearfar.reproduce.detectors import ROWS
from nearfar.reproduce.summary import PIXELS
from program import run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


@pytest.mark.parametrize("name", sorted(path.name for path in RESULTS.iterdir()))
def test_tables_in_the_documents_are_those_of_the_cells(name, data_root, tmp_path):
    out = shutil.copytree(RESULTS / name, tmp_path / name)
    before = sorted(out.rglob("*"))
    cells = [json.loads(path.read_text())["settings"] for path in (out / "cells").iterdir()]
    options = ("--data-root", data_root, "--out", out, *_whole(name, cells))
    assert run("reproduce", name, *options) == 0
    written = (out / f"{name}.md").read_text().splitlines()
    documented = (ROOT / "docs" / "reproduction.md").read_text().splitlines()
    assert [line for line in written if line.startswith("|") and line not in documented] == []
    assert {path.parent.name for path in set(out.rglob("*")) - set(before)} <= {name}, (
        "all was measured before"
    )


def _whole(name: str, cells: list[dict[str, Any]]) -> list[Any]:
    """Return the options that ask for all rows, and for the seeds that all of them have."""
    once = {PIXELS, *(row for row, how in ROWS.items() if name == "table4" and not how.seeded)}
    seeds: dict[str | None, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.get("row"), set()).add(cell.get("seed", 0))
    rows = [row for row in seeds if row is not None]
    fewest = min(len(found) for row, found in seeds.items() if row not in once)
    return ["--seeds", fewest, *(["--rows", *rows] if rows else [])]
